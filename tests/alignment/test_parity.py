"""The release variant against the numbers that the released code gave."""

import json

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from alignment import hierarchical_transport, prompt_plan, token_transport

B, C, M, N = 4, 6, 4, 4


class Recording:
    def __init__(self, folder, case):
        t = load_file(folder / "parity" / "mmp" / f"{case}.safetensors")
        self.t = t
        self.meta = json.loads((folder / "parity" / "mmp" / f"{case}.json").read_text())
        image = F.normalize(t["eval.image_encoder"], dim=-1).unflatten(0, (B, M))
        self.image_points, self.image_tokens = image[:, :, 0], image[:, :, 1:]
        self.text_points = F.normalize(t["eval.text_encoder.0"], dim=-1).unflatten(0, (C, N))
        words = [t[f"eval.text_encoder.{c + 1}"] for c in range(C)]
        self.text_lengths = torch.tensor([w.shape[1] for w in words])
        # What stands behind a class's tokens must not matter.
        self.text_tokens = torch.full((C, N, 9, image.shape[-1]), float("nan"))
        for c, w in enumerate(words):
            self.text_tokens[c, :, : w.shape[1]] = w
        self.scale = 30.0


@pytest.fixture(params=["mmp_hier", "mmp_flat"])
def recording(request, shared):
    return Recording(shared, request.param)


def similarity(recording, **options):
    r = recording
    tokens = () if "eval.low_ot" not in r.t else (r.image_tokens, r.text_tokens, r.text_lengths)
    return hierarchical_transport(r.image_points, r.text_points, *tokens, **options)


def test_release_variant_gives_the_recorded_logits(recording):
    logits = recording.scale * similarity(recording, variant="release")
    torch.testing.assert_close(logits, recording.t["eval.logits"], atol=2e-5, rtol=1e-5)


def test_release_variant_without_early_stop_gives_the_recorded_logits(recording):
    logits = recording.scale * similarity(recording, variant="release", stop="fixed", max_iter=100)
    torch.testing.assert_close(logits, recording.t["eval.logits_100iter"], atol=2e-5, rtol=1e-5)


def test_release_variant_gives_the_recorded_plan(recording):
    r = recording
    cost = 1 - torch.einsum("bmd,cnd->bcmn", r.image_points, r.text_points)
    if "eval.low_ot" in r.t:
        cost += r.t["eval.low_ot"].unflatten(0, (B, C))
    plan = prompt_plan(cost, stop="release")
    torch.testing.assert_close(plan.flatten(0, 1), r.t["eval.T_prompt"], atol=1e-6, rtol=1e-5)


def test_token_level_gives_the_recorded_similarities(shared):
    r = Recording(shared, "mmp_hier")
    low = token_transport(r.image_tokens, r.text_tokens, r.text_lengths, stop="release", value="similarity")
    torch.testing.assert_close(low.flatten(0, 1), r.t["eval.low_ot"], atol=1e-6, rtol=1e-5)


def test_token_level_stops_where_the_release_stopped(shared):
    """The recorded number of iterations is the one that gives the early stop's result."""
    r = Recording(shared, "mmp_hier")
    recorded = r.meta["sinkhorn_iters_eval"]

    def low(**options):
        return token_transport(
            r.image_tokens, r.text_tokens, r.text_lengths, value="similarity", **options
        ).flatten(0, 1)

    stopped = low(stop="release")
    exact = {n: low(stop="fixed", max_iter=n) for n in range(1, 9)}
    for pair, iterations in enumerate(recorded[:-1]):
        assert torch.equal(stopped[pair], exact[iterations][pair])
        assert not torch.equal(stopped[pair], exact[iterations - 1][pair])


def test_prompt_level_alone_stops_on_the_whole_batch(shared):
    r = Recording(shared, "mmp_flat")
    cost = 1 - torch.einsum("bmd,cnd->bcmn", r.image_points, r.text_points)
    stopped = prompt_plan(cost, stop="release")
    (iterations,) = r.meta["sinkhorn_iters_eval"]
    assert torch.equal(stopped, prompt_plan(cost, stop="fixed", max_iter=iterations))
    assert not torch.equal(stopped, prompt_plan(cost, stop="fixed", max_iter=iterations - 1))
