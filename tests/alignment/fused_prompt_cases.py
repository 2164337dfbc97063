"""The prompt level's kernel against the plain solver: run under Triton's interpreter by ``test_fused.py``, and on a GPU
by ``tests/gpu/test_transport.py``.
"""

import pytest
import torch

from alignment import hierarchical_transport, prompt_plan
from tests.alignment.samples import tokens

# B, C, M, N
PROMPT_SHAPES = {
    "four by four": (2, 9, 4, 4),
    "more problems than a program takes": (3, 50, 4, 4),
    "nothing a power of two": (2, 3, 5, 3),
    "sixteen by sixteen": (1, 3, 16, 16),
    "one against many": (2, 3, 1, 7),
    "many against one": (2, 3, 6, 1),
    "local features of an image": (2, 3, 49, 4),
}


def costs(B, C, M, N, seed=0):
    """Costs of prompts that need few and of prompts that need many iterations."""
    x, y = tokens(B, M, 16, seed=seed), tokens(C, N, 16, seed=seed + 1)
    return (1 - torch.einsum("bmd,cnd->bcmn", x, y)) * torch.linspace(0.3, 2, C)[None, :, None, None]


def assert_plans_agree(cost, device, **options):
    fused, plain = (
        prompt_plan(cost.to(where), implementation=implementation, **options).cpu()
        for implementation, where in (("fused", device), ("plain", "cpu"))
    )
    torch.testing.assert_close(fused, plain, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("stop", ["problem", "release", "fixed"])
@pytest.mark.parametrize("shape", PROMPT_SHAPES.values(), ids=PROMPT_SHAPES.keys())
def test_prompt_shapes(shape, stop, device):
    assert_plans_agree(costs(*shape), device, stop=stop, max_iter=12)


@pytest.mark.parametrize("stop", ["problem", "release"])
@pytest.mark.parametrize("eps", [0.01, 0.05, 0.1, 1.0])
def test_prompt_stopping_rules(eps, stop, device):
    for options in ({"tol": 1e-1}, {"tol": 1e-2}, {"tol": 1e-4}, {"max_iter": 1}, {"max_iter": 2}):
        assert_plans_agree(costs(2, 5, 4, 4), device, eps=eps, stop=stop, **{"max_iter": 30, **options})


@pytest.mark.parametrize("eps", [0.02, 0.1])
def test_prompt_weights(eps, device):
    rows, cols = torch.rand(2, 3, 5), torch.rand(2, 3, 4)
    rows[0, :, 2] = cols[:, 1, 3] = 0
    cost = costs(2, 3, 5, 4)
    options = {"image_weights": rows, "text_weights": cols}
    for stop in ("problem", "release"):
        assert_plans_agree(cost, device, eps=eps, stop=stop, max_iter=20, **options)
    plan = prompt_plan(cost.to(device), implementation="fused", eps=eps, **options).cpu()
    assert (plan[0, :, 2] == 0).all()
    assert (plan[:, 1, :, 3] == 0).all()


def test_prompt_each_problem_stops_by_itself(device):
    cost = costs(2, 6, 4, 4)
    together = prompt_plan(cost.to(device), implementation="fused", tol=1e-4).cpu()
    for b in range(2):
        for c in range(6):
            alone = prompt_plan(cost[b : b + 1, c : c + 1], implementation="plain", tol=1e-4)
            torch.testing.assert_close(together[b, c], alone[0, 0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("together", [False, True])
def test_prompt_operator_passes_opcheck_and_compiles(together, device):
    from alignment.fused import prompt

    cost = costs(2, 3, 4, 5).to(device)
    masses = [torch.full(shape, 1 / shape[-1], device=device) for shape in ((2, 3, 4), (2, 3, 5))]
    arguments = (cost, *masses, 0.1, 20, 1e-2, together)
    torch.library.opcheck(prompt.prompt_plan, arguments)
    compiled = torch.compile(prompt.prompt_plan, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(*arguments), prompt.prompt_plan(*arguments))


@pytest.mark.parametrize("variant", ["paper", "release"])
def test_both_levels(variant, device):
    x, y = tokens(2, 2, 9, 16, seed=24), tokens(3, 2, 5, 16, seed=25)
    inputs = [x[:, :, 0], y[:, :, 0], x, y]
    for count in (2, 4):  # without tokens, with tokens
        results = []
        for implementation, where in (("auto", device), ("plain", "cpu")):
            leaves = [t.to(where).requires_grad_() for t in inputs[:count]]
            options = {"variant": variant, "implementation": implementation, "max_iter": 12}
            value = hierarchical_transport(*leaves, **options)
            value.square().sum().backward()
            results.append([value.detach().cpu(), *(t.grad.cpu() for t in leaves if t.grad is not None)])
        for ours, plain in zip(*results, strict=True):
            torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-5)
