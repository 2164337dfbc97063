"""Properties that hold for every problem."""

import itertools

import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from alignment import hierarchical_transport, prompt_plan, token_plan, token_transport
from tests.alignment.samples import tokens

sizes = st.integers(1, 9)
seeds = st.integers(0, 10_000)


@st.composite
def problems(draw):
    """x (B, M, P, d), y (C, N, L, d), text lengths."""
    B, C, M, N = (draw(st.integers(1, 3)) for _ in range(4))
    P, L, d = draw(st.integers(1, 21)), draw(sizes), draw(st.integers(2, 17))
    lengths = torch.tensor(draw(st.lists(st.integers(1, L), min_size=C, max_size=C)))
    seed = draw(seeds)
    return tokens(B, M, P, d, seed=seed), tokens(C, N, L, d, seed=seed + 1), lengths


@given(problems(), st.sampled_from(["problem", "release", "fixed"]))
def test_marginals_are_met(problem, stop):
    x, y, lengths = problem
    plan = token_plan(x, y, lengths, stop=stop, tol=1e-6, max_iter=2000)
    P = x.shape[2]
    assert (plan >= 0).all()
    torch.testing.assert_close(plan.sum(-1), torch.full(plan.shape[:-1], 1 / P), rtol=1e-3, atol=1e-7)
    for c, length in enumerate(lengths.tolist()):
        columns = plan[:, c].sum(-2)
        expected = torch.zeros_like(columns)
        expected[..., :length] = 1 / length
        torch.testing.assert_close(columns, expected, rtol=1e-5, atol=1e-7)


@given(problems())
def test_exchange_of_the_sides_changes_nothing(problem):
    x, y, lengths = problem
    fixed = {"stop": "fixed", "max_iter": 500}
    there = token_transport(x, y, lengths, **fixed)
    back = token_transport(y, x, image_lengths=lengths, **fixed)
    torch.testing.assert_close(there, back.permute(1, 0, 3, 2), rtol=1e-4, atol=1e-5)


@given(problems(), seeds)
def test_order_of_tokens_changes_nothing(problem, seed):
    x, y, lengths = problem
    generator = torch.Generator().manual_seed(seed)
    shuffled_x = x[:, :, torch.randperm(x.shape[2], generator=generator)]
    shuffled_y = y.clone()
    for c, length in enumerate(lengths.tolist()):
        shuffled_y[c, :, :length] = y[c, :, torch.randperm(length, generator=generator)]
    fixed = {"stop": "fixed", "max_iter": 8}
    torch.testing.assert_close(
        token_transport(x, y, lengths, **fixed),
        token_transport(shuffled_x, shuffled_y, lengths, **fixed),
        rtol=1e-5,
        atol=1e-6,
    )


@given(problems())
def test_result_of_an_image_and_a_class_does_not_depend_on_the_batch(problem):
    x, y, lengths = problem
    together = token_transport(x, y, lengths)
    for b in range(len(x)):
        for c in range(len(y)):
            alone = token_transport(x[b : b + 1], y[c : c + 1], lengths[c : c + 1])
            torch.testing.assert_close(alone[0, 0], together[b, c], rtol=1e-5, atol=1e-6)


@given(problems(), st.integers(1, 100_000))
def test_memory_budget_changes_nothing(problem, memory):
    x, y, lengths = problem
    for stop in ("problem", "release"):
        torch.testing.assert_close(
            token_transport(x, y, lengths, stop=stop, memory=memory),
            token_transport(x, y, lengths, stop=stop),
            rtol=1e-5,
            atol=1e-6,
        )


@given(problems())
def test_cost_and_similarity_add_up_to_one(problem):
    cost, similarity = (token_transport(*problem, value=value) for value in ("cost", "similarity"))
    torch.testing.assert_close(cost + similarity, torch.ones_like(cost))
    plan = token_plan(*problem)
    direct = (plan * (1 - torch.einsum("bmpd,cnld->bcmnpl", problem[0], problem[1]))).sum((-2, -1))
    torch.testing.assert_close(cost, direct, rtol=1e-5, atol=1e-6)


@given(problems())
def test_cost_grows_with_eps_up_to_that_of_the_product_coupling(problem):
    x, y, _ = problem
    costs = [token_transport(x, y, eps=eps, stop="fixed", max_iter=500) for eps in (0.1, 0.3, 1.0, 10.0, 1e4)]
    for lower, higher in itertools.pairwise(costs):
        assert (lower <= higher + 1e-5).all()
    product = 1 - torch.einsum("bmpd,cnld->bcmn", x, y) / (x.shape[2] * y.shape[2])
    torch.testing.assert_close(costs[-1], product, rtol=0, atol=1e-4)


@given(st.integers(2, 40), seeds)
def test_identical_one_token_sets_cost_nothing(d, seed):
    x = tokens(1, 1, 1, d, seed=seed)
    assert token_transport(x, x).abs().item() < 1e-6


@given(st.integers(1, 12), sizes, st.sampled_from([0.001, 0.01, 0.05, 0.1, 1.0]), seeds)
def test_degenerate_problems_are_finite(P, L, eps, seed):
    """Identical tokens, all costs equal, opposite vectors."""
    one = tokens(1, 1, 1, 8, seed=seed)
    mixed = torch.cat([one, -one, one, -one], dim=2)
    cases = {
        0.0: (one.expand(1, 1, P, 8), one.expand(1, 1, L, 8)),
        2.0: (one.expand(1, 1, P, 8), -one.expand(1, 1, L, 8)),
        None: (mixed, mixed.flip(2)),
        1.0: (torch.eye(8)[None, None, :4], torch.eye(8)[None, None, 4:]),
    }
    for expected, (x, y) in cases.items():
        x, y = x.clone().requires_grad_(), y.clone().requires_grad_()
        cost = token_transport(x, y, eps=eps)
        cost.sum().backward()
        assert torch.isfinite(cost).all()
        assert torch.isfinite(x.grad).all()
        assert torch.isfinite(y.grad).all()
        if expected is not None:
            assert abs(cost.item() - expected) < 1e-5


@given(problems(), st.floats(0.1, 10))
def test_normalize_makes_the_scale_of_the_features_irrelevant(problem, scale):
    x, y, lengths = problem
    torch.testing.assert_close(
        token_transport(scale * x, y / scale, lengths, normalize=True, stop="fixed", max_iter=5),
        token_transport(x, y, lengths, stop="fixed", max_iter=5),
        rtol=1e-4,
        atol=1e-5,
    )


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 9), st.integers(1, 9), seeds)
def test_prompt_plans_meet_their_marginals(B, C, M, N, seed):
    cost = 2 * torch.rand(B, C, M, N, generator=torch.Generator().manual_seed(seed))
    plan = prompt_plan(cost, stop="fixed", max_iter=3000)
    torch.testing.assert_close(plan.sum(-2), torch.full((B, C, N), 1 / N), rtol=1e-4, atol=0)
    torch.testing.assert_close(plan.sum(-1), torch.full((B, C, M), 1 / M), rtol=1e-2, atol=0)


@given(problems())
def test_hierarchy_without_weight_of_the_tokens_is_flat(problem):
    x, y, lengths = problem
    points = (x[:, :, 0], y[:, :, 0])
    torch.testing.assert_close(
        hierarchical_transport(*points, x, y, lengths, beta=0.0), hierarchical_transport(*points)
    )


@given(problems())
def test_flat_variants_differ_in_their_stopping_rule_only(problem):
    points = (problem[0][:, :, 0], problem[1][:, :, 0])
    torch.testing.assert_close(
        hierarchical_transport(*points, variant="paper", stop="release"),
        hierarchical_transport(*points, variant="release"),
        rtol=1e-5,
        atol=1e-6,
    )


FEW = settings(max_examples=10)


@FEW
@given(problems())
def test_an_infinite_reach_is_the_limit(problem):
    x, y, lengths = problem[0].double(), problem[1].double(), problem[2]
    fixed = {"stop": "fixed", "max_iter": 200, "diagnostics": True}
    for value in ("cost", "regularised"):
        balanced, how = token_transport(x, y, lengths, value=value, **fixed)
        assume(how.row_error.max() < 1e-5)  # else the penalty of what is misplaced, times the reach, is seen
        far, far_how = token_transport(x, y, lengths, value=value, reach=1e4, **fixed)
        torch.testing.assert_close(far, balanced, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(far_how.mass, torch.ones_like(far), rtol=0, atol=1e-3)
        torch.testing.assert_close(how.mass, torch.ones_like(balanced))


@FEW
@given(problems())
def test_mass_and_optimum_grow_with_the_reach(problem):
    """Costs here are between 0 and 2: mass is destroyed and never made."""
    x, y, lengths = problem
    before, optimum_before = torch.zeros(()), torch.full((), -torch.inf)
    for reach in (0.01, 0.1, 1.0, 10.0):
        options = {"reach": reach, "stop": "fixed", "max_iter": 200, "diagnostics": True}
        optimum, how = token_transport(x, y, lengths, value="regularised", **options)
        assert (how.mass >= before - 1e-4).all()
        assert (how.mass <= 1 + 1e-5).all()
        assert (optimum >= optimum_before - 1e-4).all()
        before, optimum_before = how.mass, optimum


@FEW
@given(problems(), st.sampled_from([float("inf"), 0.5]))
def test_exchange_of_the_sides_changes_no_optimum(problem, reach):
    x, y, lengths = problem
    options = {"value": "regularised", "reach": reach, "stop": "fixed", "max_iter": 200}
    there = token_transport(x, y, lengths, **options)
    back = token_transport(y, x, image_lengths=lengths, **options)
    torch.testing.assert_close(there, back.permute(1, 0, 3, 2), rtol=1e-4, atol=1e-4)
