"""The fused kernel against the plain solver: run under Triton's interpreter by ``test_fused.py``, and on a GPU by
``tests/gpu/test_transport.py``. (Not collected by itself: what it needs is set up there.)
"""

import warnings

import pytest
import torch

from alignment import (
    hierarchical_transport,
    implementation_for,
    token_matches,
    token_plan,
    token_transport,
)
from alignment.marginals import marginals
from tests.alignment.samples import tokens

FIXED = {"stop": "fixed", "max_iter": 5}


def both(x, y, device, seed=0, **options):
    """Values and gradients of the fused kernel on ``device`` and of the plain solver, on the CPU."""
    results = []
    for implementation, where in (("fused", device), ("plain", "cpu")):
        inputs = [t.detach().to(where).requires_grad_() for t in (x, y)]
        value = token_transport(*inputs, implementation=implementation, **options)
        g = torch.randn(value.shape, generator=torch.Generator().manual_seed(seed))
        (value * g.to(where)).sum().backward()
        results.append([value.detach().cpu(), *(t.grad.float().cpu() for t in inputs)])
    return results


def assert_agree(results, value_error=1e-5, gradient_error=1e-4):
    fused, plain = results
    torch.testing.assert_close(fused[0], plain[0], rtol=value_error, atol=1e-6)
    for f, p in zip(fused[1:], plain[1:]):
        assert (f - p).abs().max() <= gradient_error * p.abs().max()


# B, M, P, C, N, L, d
SHAPES = {
    "powers of two": (1, 2, 16, 1, 2, 8, 32),
    "nothing a power of two": (2, 1, 19, 3, 1, 5, 40),
    "one text token": (2, 1, 7, 3, 2, 1, 24),
    "one image token": (3, 2, 1, 2, 2, 6, 24),
    "one token each": (2, 1, 1, 2, 1, 1, 16),
    "several row tiles": (1, 1, 70, 2, 1, 9, 16),
    "wide features": (1, 1, 17, 1, 2, 3, 300),
    "many prompts": (1, 1, 5, 7, 3, 3, 16),
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_shapes(shape, device):
    B, M, P, C, N, L, d = shape
    assert_agree(both(tokens(B, M, P, d, seed=1), tokens(C, N, L, d, seed=2), device))


def test_ragged_lengths_and_weights(device):
    x, y = tokens(2, 1, 13, 24, seed=3), tokens(4, 2, 6, 24, seed=4)
    generator = torch.Generator().manual_seed(5)
    weights = torch.rand(2, 1, 13, generator=generator)
    weights[:, :, 3] = 0
    lengths = torch.tensor([[6, 1], [3, 3], [5, 2], [1, 1]])
    # what is padding may hold anything
    x[0, :, 9:], y[3, :, 1:] = float("nan"), float("inf")
    options = {"image_lengths": torch.tensor([9, 13]), "image_weights": weights}
    assert_agree(both(x, y, device, text_lengths=lengths, **options))
    assert_agree(both(x, 2 * y, device, text_lengths=lengths, normalize=True, **options))
    assert_agree(both(x, y, device, text_lengths=lengths[:, 1], **options, **FIXED))


@pytest.mark.parametrize("eps", [0.05, 0.1, 1.0])
def test_stopping_rules(eps, device):
    x, y = tokens(1, 2, 9, 16, seed=6), tokens(2, 2, 4, 16, seed=7)
    for options in (
        FIXED,
        {"tol": 1e-2},
        {"tol": 1e-5, "max_iter": 30},
        {"stop": "fixed", "max_iter": 1},
        {"max_iter": 2},
    ):
        fused = token_transport(x.to(device), y.to(device), eps=eps, implementation="fused", **options)
        plain = token_transport(x, y, eps=eps, implementation="plain", **options)
        torch.testing.assert_close(fused.cpu(), plain, rtol=1e-5, atol=1e-6)


def test_each_problem_stops_by_itself(device):
    """A problem that needs many iterations beside one that needs few."""
    x = torch.cat([tokens(1, 1, 8, 16, seed=8, common=c) for c in (0.0, 5.0)])
    y = torch.cat([tokens(1, 1, 4, 16, seed=9, common=c) for c in (0.0, 5.0)])
    together = token_transport(x.to(device), y.to(device), implementation="fused", tol=1e-4).cpu()
    for b in range(2):
        for c in range(2):
            alone = token_transport(x[b : b + 1], y[c : c + 1], tol=1e-4, implementation="plain")
            torch.testing.assert_close(together[b, c], alone[0, 0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("dtype", "error"), [(torch.bfloat16, 8e-3), (torch.float16, 1e-3)])
def test_half_precision(dtype, error, device):
    x, y = tokens(1, 2, 21, 24, seed=10).to(dtype), tokens(3, 1, 5, 24, seed=11).to(dtype)
    assert_agree(both(x, y, device), gradient_error=error)
    # Scaled in the solver, to the same 16 bits in both.
    results = both(3 * x, 0.1 * y, device, normalize=True)
    assert_agree(results, gradient_error=error)


def test_tiny_and_huge_gradients_survive_half_precision(device):
    x, y = tokens(1, 1, 21, 16, seed=10), tokens(2, 1, 5, 16, seed=11)
    for dtype in (torch.float16, torch.bfloat16):
        grads = []
        for size in (1.0, 1e-3, 1e3):
            inputs = [t.to(device, dtype).requires_grad_() for t in (x, y)]
            value = token_transport(*inputs, implementation="fused")
            grads.append(torch.autograd.grad((size * value).sum(), inputs)[1].double() / size)
        for other in grads[1:]:
            torch.testing.assert_close(other, grads[0], rtol=2e-2, atol=2e-2 * grads[0].abs().max().item())


def test_zero_gradient_and_one_side_alone(device):
    x, y = tokens(1, 2, 9, 16, seed=12).to(device), tokens(2, 2, 3, 16, seed=13).to(device)
    a, b = x.clone().requires_grad_(), y.clone().requires_grad_()
    token_transport(a, b, implementation="fused").sum().backward()
    alone = x.clone().requires_grad_()
    token_transport(alone, y, implementation="fused").sum().backward()
    assert torch.equal(alone.grad, a.grad)
    zero = torch.autograd.grad((token_transport(a, b, implementation="fused") * 0).sum(), (a, b))
    assert all((g == 0).all() for g in zero)


def test_mixed_dtypes_and_strides(device):
    x, y = tokens(1, 9, 2, 16, seed=14).transpose(1, 2), tokens(3, 1, 4, 32, seed=15)[..., ::2]
    assert_agree(both(x, y, device, normalize=True))
    fused, plain = both(x.to(torch.bfloat16), y, device, normalize=True)
    assert_agree((fused, plain), gradient_error=1e-2)


@pytest.mark.parametrize(("normalize", "together"), [(False, False), (True, True)])
def test_operators_pass_opcheck(normalize, together, device):
    from alignment.fused import token as fused

    x, y = tokens(1, 1, 5, 16, seed=16).to(device), tokens(2, 1, 3, 16, seed=17).to(device)
    masses = [marginals(None, None, tuple(t.shape[:3]), t.device) for t in (x, y)]
    arguments = (
        x.requires_grad_(),
        y.requires_grad_(),
        *masses,
        0.1,
        20,
        1e-2,
        together,
        normalize,
        False,
        2**20,
    )
    torch.library.opcheck(fused.transport, arguments)
    similarity, before, _, _ = fused.transport(*arguments)
    for wanted in ((True, True), (False, True)):
        inputs = (torch.ones_like(similarity), x.detach(), y.detach(), *masses, before.detach(), 0.1)
        torch.library.opcheck(fused.transport_gradient, (*inputs, normalize, False, 2**20, *wanted))


def test_operators_of_costs_and_facts_pass_opcheck(device):
    from alignment.fused import token as fused

    cost = (
        torch.rand(1, 2, 1, 1, 5, 3, generator=torch.Generator().manual_seed(1)).to(device).requires_grad_()
    )
    masses = [torch.full(s, 1 / s[-1], device=device, requires_grad=True) for s in ((1, 1, 5), (2, 1, 3))]
    rule = (0.1, 20, 1e-2, False, False, False, 2**20)
    arguments = (None, None, *masses, *rule, cost, 0.5, -1.0, True, True)
    torch.library.opcheck(fused.transport, arguments)


#: What the plain solver has beside the balanced cost, each in as few problems as show it.
MORE_RULES = {
    "balanced": {},
    "logarithms": {"logarithms": True, "max_iter": 8},
    "small eps": {"eps": 0.02, "max_iter": 8},
    "relaxed": {"reach": 0.3},
    "relaxed texts": {"reach": (float("inf"), 0.5), "max_iter": 8},
    "together": {"stop": "release", "max_iter": 6},
}


@pytest.mark.parametrize(
    ("rule", "given"),
    [
        *((rule, "features") for rule in MORE_RULES.values()),
        ({}, "cost"),
        (MORE_RULES["relaxed texts"], "cost"),
    ],
    ids=str,
)
def test_regularised_optimum_diagnostics_and_plans(rule, given, device):
    """With gradients of features or costs, and of weights."""
    x, y = tokens(1, 2, 9, 16, seed=6), tokens(2, 1, 4, 16, seed=7)
    cost = 1 - torch.einsum("bmpd,cnld->bcmnpl", x, y)
    generator = torch.Generator().manual_seed(8)
    weights = torch.rand(9, generator=generator), torch.rand(2, 1, 4, generator=generator)
    weights[0][3] = 0
    results = []
    for implementation, where in (("fused", device), ("plain", "cpu")):
        leaves = [
            t.detach().to(where).requires_grad_()
            for t in (*weights, *([x, y] if given == "features" else [cost]))
        ]
        u, v, *rest = leaves
        problems = (
            {"image_tokens": rest[0], "text_tokens": rest[1]} if given == "features" else {"cost": rest[0]}
        )
        options = {
            "image_weights": u,
            "text_weights": v,
            "implementation": implementation,
            **problems,
            **rule,
        }
        options["text_lengths"] = torch.tensor([4, 2])
        value, how = token_transport(value="regularised", diagnostics=True, **options)
        plan = token_plan(**options)
        found = [value.detach(), *torch.autograd.grad(value.square().sum(), leaves)]
        results.append([t.cpu() for t in (*found, *how, plan)])
    for fused, plain in zip(*results, strict=True):
        torch.testing.assert_close(fused, plain, rtol=1e-4, atol=1e-5)


def test_largest_entries_of_plans(device):
    x, y = tokens(2, 1, 9, 16, seed=6).to(device), tokens(3, 1, 4, 16, seed=7).to(device)
    lengths = torch.tensor([4, 2, 3])
    found = token_matches(x, y, lengths, k=5, implementation="fused", memory=1)
    expected = token_matches(x.cpu(), y.cpu(), lengths, k=5, implementation="plain")
    for ours, plain in zip(found, expected):
        torch.testing.assert_close(ours.cpu(), plain)


def test_torch_compile_without_a_graph_break(device):
    x, y = tokens(1, 2, 9, 16, seed=18).to(device), tokens(3, 1, 4, 16, seed=19).to(device)
    from alignment.fused import token as fused

    masses = [marginals(None, None, tuple(t.shape[:3]), t.device) for t in (x, y)]

    def loss(x, y):
        return (2 * fused.token_similarity(x, y, *masses, 0.1, 100, 1e-2, False, True, False, 2**20)).sum()

    compiled = torch.compile(loss, fullgraph=True, backend="inductor" if device == "cuda" else "aot_eager")
    grads = []
    for f in (loss, compiled):
        inputs = [t.clone().requires_grad_() for t in (x, y)]
        f(*inputs).backward()
        grads.append([t.grad for t in inputs])
    for a, b in zip(*grads):
        torch.testing.assert_close(a, b)


def test_autocast_leaves_the_transport_alone(device):
    x, y = tokens(2, 2, 9, 16, seed=20).to(device), tokens(3, 2, 4, 16, seed=21).to(device)
    outside = token_transport(x, y, implementation="fused")
    with torch.autocast(device, torch.bfloat16):
        inside = token_transport(x, y, implementation="fused")
    assert inside.dtype == torch.float32
    assert torch.equal(inside, outside)


def test_gradient_is_deterministic(device):
    x, y = tokens(1, 2, 33, 16, seed=22), tokens(5, 1, 4, 16, seed=23)
    first, second = (both(x, y, device)[0] for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second))


def test_chunks_change_nothing(device):
    x, y = tokens(2, 2, 13, 24, seed=3), tokens(3, 1, 6, 24, seed=4)
    for stop in ("problem", "release"):
        options = {"text_lengths": torch.tensor([6, 1, 3]), "stop": stop, "max_iter": 5}
        whole, small = (both(x, y, device, memory=memory, **options)[0] for memory in (2**20, 2_000))
        for a, b in zip(whole, small):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("stop", ["problem", "release"])
def test_logarithms(stop, device):
    x, y = tokens(2, 1, 9, 16, seed=6), tokens(2, 2, 4, 16, seed=7)
    weights = torch.tensor([1.0, 0.0, 2.0, 1.0])
    assert_agree(both(x, y, device, eps=0.02, stop=stop, max_iter=12, text_weights=weights))


def test_release_stops_the_problems_of_a_pair_together(device):
    x = torch.stack([tokens(1, 8, 16, seed=8, common=c) for c in (0.0, 5.0)], dim=1)
    y = torch.stack([tokens(1, 4, 16, seed=9, common=c) for c in (0.0, 5.0)], dim=1)
    y = torch.cat([y, tokens(1, 2, 4, 16, seed=9)])
    options = {"stop": "release", "max_iter": 10}
    assert_agree(both(x, y, device, tol=1e-1, **options))
    more = torch.cat([x, tokens(1, 2, 8, 16, seed=3)])  # some pairs need more than 16 steps, some fewer
    assert_agree(both(more, y, device, tol=4e-3, stop="release", max_iter=25))
    lengths = torch.tensor([[4, 1], [2, 3]])
    assert_agree(both(x, y, device, text_lengths=lengths, image_lengths=torch.tensor([[8, 3]]), **options))


def test_tf32(device):
    """The mantissa of TF32, with fp32 features, gradients and results."""
    x, y = tokens(1, 2, 21, 24, seed=10), tokens(3, 1, 5, 24, seed=11)
    options = {"implementation": "fused", "allow_tf32": True}
    inputs = [t.clone().to(device).requires_grad_() for t in (x, y)]
    value = token_transport(*inputs, **options)
    value.sum().backward()
    exact = [t.clone().requires_grad_() for t in (x, y)]
    token_transport(*exact, implementation="plain").sum().backward()
    for ours, plain in zip(inputs, exact):
        assert ours.grad.dtype == torch.float32
        assert (ours.grad.cpu() - plain.grad).abs().max() <= 2e-3 * plain.grad.abs().max()


def test_hierarchy(device):
    x, y = tokens(1, 3, 9, 16, seed=24), tokens(2, 2, 5, 16, seed=25)
    arguments = [t.to(device) for t in (x[:, :, 0], y[:, :, 0], x, y)]
    fused, plain = (hierarchical_transport(*arguments, implementation=i) for i in ("fused", "plain"))
    torch.testing.assert_close(fused, plain, rtol=1e-5, atol=1e-6)
    assert torch.equal(hierarchical_transport(*arguments), fused)


def test_what_the_kernel_cannot_do_goes_to_the_plain_solver(device):
    x, y = tokens(1, 1, 3, 8, seed=26).to(device), tokens(1, 1, 2, 8, seed=27).to(device)
    assert implementation_for(x, y) == "fused"
    many = x.repeat(1, 1, 1000, 1), y.repeat(1, 1, 5, 1)
    with pytest.warns(RuntimeWarning, match="plain solver .* 3000 x 10 points"):
        assert implementation_for(*many) == "plain"
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a second one would be raised
        assert implementation_for(*many) == "plain"
