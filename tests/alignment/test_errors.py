"""What bad input gets: one line that names the argument, its shape and the expected one."""

import pytest
import torch

from alignment import hierarchical_transport, prompt_transport, token_transport
from tests.alignment.samples import tokens

X, Y = tokens(2, 3, 7, 8), tokens(4, 2, 5, 8, seed=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_tokens": X[0]}, r"image_tokens has shape \(3, 7, 8\), expected 4 dimensions \(B, M, P, d\)"),
        ({"text_tokens": Y[..., None]}, r"text_tokens has shape \(4, 2, 5, 8, 1\), expected 4 dimensions"),
        ({"text_tokens": Y[..., :6]}, r"image_tokens .*\(2, 3, 7, 8\).* text_tokens \(4, 2, 5, 6\).*8 and 6"),
        ({"image_tokens": X.long()}, "image_tokens has dtype torch.int64"),
        ({"image_tokens": X[:0]}, r"image_tokens has shape \(0, 3, 7, 8\)"),
        ({"text_lengths": torch.tensor([1, 5, 0, 2])}, r"text_lengths\[2\] is 0, expected 1 to 5"),
        ({"text_lengths": torch.tensor([1, 5, 6, 2])}, r"text_lengths\[2\] is 6, expected 1 to 5"),
        ({"text_lengths": torch.ones(3).long()}, r"text_lengths has shape \(3,\).*\(4,\) or \(4, 2\)"),
        ({"text_lengths": torch.ones(4)}, "text_lengths has shape .* dtype torch.float32, expected integers"),
        ({"image_lengths": torch.tensor([[7, 7, 0], [7, 7, 7]])}, r"image_lengths\[0, 2\] is 0"),
        ({"image_weights": torch.ones(2, 7)}, r"image_weights has shape \(2, 7\), expected \(2, 3, 7\)"),
        ({"text_weights": -torch.ones(5)}, r"text_weights of shape \(5,\) has negative entries"),
        ({"text_weights": torch.zeros(5)}, r"text_weights\[0, 0\] sums to 0.0"),
        (
            {"text_lengths": torch.tensor([1, 5, 5, 5]), "text_weights": torch.arange(5)},
            r"text_weights\[0, 0\] sums to 0.0 over the valid tokens",
        ),
        ({"eps": 0.0}, "eps is 0.0, expected a number > 0"),
        ({"eps": float("nan")}, "eps is nan"),
        ({"max_iter": 0}, "max_iter is 0"),
        ({"tol": -1.0}, "tol is -1.0"),
        ({"stop": "sometimes"}, "stop is 'sometimes', expected one of problem, release, fixed"),
        ({"value": "plans"}, "value is 'plans', expected one of cost, similarity, plan"),
        ({"value": "plan", "diagnostics": True}, "expected another value than 'plan'"),
        ({"reach": 0.0}, r"reach is \(0.0, 0.0\), expected numbers > 0"),
        ({"reach": (1.0, float("nan"))}, r"reach is \(1.0, nan\)"),
        ({"mass": 0.0}, "mass is 0.0, expected a number > 0 and at most 1"),
        (
            {"mass": 1.5},
            "mass is 1.5, expected a number > 0 and at most 1, which the weights of either side sum",
        ),
        ({"mass": float("nan")}, "mass is nan"),
        ({"mass": 0.5, "reach": 1.0}, r"mass is 0.5 and reach is \(1.0, 1.0\), expected one of them"),
        ({"mass": 0.5, "implementation": "fused"}, "mass is given, which it has not; 'auto' or 'plain' is"),
        ({"schedule": (0.5, 0.05)}, r"schedule is \(0.5, 0.05\), expected numbers above eps 0.1"),
        ({"start": torch.zeros(2, 4, 3, 2)}, r"start has shape .* expected .* \(2, 4, 3, 2, 5\)"),
        ({"cost": torch.rand(2, 4, 3, 2, 7, 5)}, "cost is given beside tokens"),
        ({"text_tokens": None}, "text_tokens is missing, expected image_tokens and text_tokens, or cost"),
        ({"image_tokens": X.double(), "implementation": "fused"}, "float64 is given; 'auto' or 'plain' is"),
        ({"image_tokens": None, "text_tokens": None, "cost": torch.rand(2, 4, 5)}, "cost has shape .* 6 dim"),
        ({"value": "plan", "text_tokens": Y.where(Y < 0.5, torch.nan)}, "non-finite numbers"),
        ({"image_tokens": X.where(X < 0.5, torch.nan), "check_finite": True}, "image_tokens .* non-finite"),
        ({"text_tokens": Y * torch.inf, "check_finite": True}, "text_tokens of shape .* non-finite"),
        ({"text_tokens": Y.where(Y < 0.5, torch.nan)}, "non-finite numbers: image_tokens or text_tokens"),
        ({"image_tokens": 100 * X}, "far from unit norm"),
    ],
)
def test_token_transport_refuses(change, message):
    with pytest.raises(ValueError, match=message) as refusal:
        token_transport(**{"image_tokens": X, "text_tokens": Y, **change})
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cost": torch.rand(3, 4)}, r"cost has shape \(3, 4\), expected 4 dimensions \(B, C, M, N\)"),
        ({"cost": torch.full((1, 1, 2, 2), torch.nan)}, "cost of shape .* non-finite"),
        ({"eps": -1.0}, "eps is -1.0"),
        ({"mass": 2.0}, "mass is 2.0"),
        ({"start": torch.zeros(1, 2)}, r"start has shape \(1, 2\), expected \(B, C, N\) = \(1, 1, 2\)"),
        ({"reach": 0.5, "implementation": "fused"}, "reach is given, which it has not for prompts; 'auto'"),
        ({"image_weights": torch.zeros(2)}, r"image_weights\[0, 0\] sums to 0.0"),
    ],
)
def test_prompt_transport_refuses(change, message):
    with pytest.raises(ValueError, match=message):
        prompt_transport(**{"cost": torch.rand(1, 1, 2, 2), **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_points": X}, r"image_points has shape .* expected 3 dimensions \(B, M, d\)"),
        ({"text_points": Y[:, :, 0, :5]}, "the last dimensions 8 and 5 differ"),
        ({"text_tokens": None}, "text_tokens is missing"),
        ({"image_tokens": X[:1]}, r"image_tokens has shape \(1, 3, 7, 8\), expected it to begin with \(2, 3"),
        ({"variant": "mixed"}, "variant is 'mixed', expected one of paper, release"),
    ],
)
def test_hierarchical_transport_refuses(change, message):
    good = {"image_points": X[:, :, 0], "text_points": Y[:, :, 0], "image_tokens": X, "text_tokens": Y}
    with pytest.raises(ValueError, match=message):
        hierarchical_transport(**{**good, **change})
