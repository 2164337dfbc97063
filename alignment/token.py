"""Token transport: the optimal transport between the tokens of every image prompt and every text prompt."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from alignment import checks, solvers
from alignment.arguments import MEMORY, Arguments
from alignment.convergence import Unfinished
from alignment.diagnostics import diagnostics_of
from alignment.facts import Fact
from alignment.rule import Rule


def token_transport(
    image_tokens: Tensor | None = None,
    text_tokens: Tensor | None = None,
    text_lengths: Tensor | None = None,
    *,
    cost: Tensor | None = None,
    image_lengths: Tensor | None = None,
    image_weights: Tensor | None = None,
    text_weights: Tensor | None = None,
    eps: float | Tensor = 0.1,
    max_iter: int = 100,
    stop: str = "problem",
    tol: float = 1e-2,
    reach: float | tuple[float, float] = math.inf,
    mass: float = 1.0,
    value: str = "cost",
    normalize: bool = False,
    memory: int = MEMORY,
    implementation: str = "auto",
    allow_tf32: bool = False,
    check_finite: bool = False,
    logarithms: bool | None = None,
    schedule: Sequence[float] = (),
    start: Tensor | None = None,
    diagnostics: bool = False,
) -> Any:
    r"""Entropic optimal transport between every image's and every class's sets of tokens.

    For image b, image prompt m, class c, text prompt n, with tokens x_j (j < P) and y_l (l < L):

    .. math::
        T^* = \arg\min_{T \in U(u, v)} \langle T, 1 - x y^\top \rangle - \epsilon H(T), \qquad
        \text{cost} = \langle T^*, 1 - x y^\top \rangle, \quad
        \text{similarity} = \langle T^*, x y^\top \rangle

    by Sinkhorn's iteration (see ``alignment.sinkhorn``). Gradients reach both feature sets with the plan held
    constant (envelope theorem): they are the gradients of the regularised optimum. Everything is computed in fp32
    whatever the features are, also under autocast, and of float64 in float64.

    Parameters
    ----------
    image_tokens : (B, M, P, d) features of unit norm, float32, bfloat16, float16 or float64.
    text_tokens : (C, N, L, d) features of unit norm.
    text_lengths : (C,) or (C, N) integers, number of valid tokens of each class or each prompt; default all L.
        What stands behind them does not matter. Best kept on the device of the tokens: nothing waits for them
        there, and from the CPU they would have to be moved in every call.
    cost : (B, C, M, N, P, L) costs instead of features, of any size and sign; the similarity is 1 - cost. Gradients
        reach them.
    image_lengths : (B,) or (B, M), likewise; default all P.
    image_weights, text_weights : weights >= 0 of the tokens, broadcastable to (B, M, P) and (C, N, L), scaled to
        sum to one over the valid tokens. Default: uniform.
    eps : strength of the entropy, > 0, in units of the cost; a tensor of one number where ``value="regularised"`` is to
        be differentiated by it (on a GPU the host waits for it once).
    max_iter : most iterations.
    stop : ``"problem"``: each problem stops when its own mean over the image tokens of ``|r - r_previous|`` falls
        below ``tol``; ``"release"``: the M x N problems of one image and class share that mean, as in MMTPA's
        released code; ``"fixed"``: ``max_iter`` iterations.
    tol : threshold of the stopping rule. Below eps 0.05, with a finite reach or a mass below 1 of the change of log r.
    reach : rho > 0 in units of the cost, of both sides or of (image side, text side). Finite, that side's marginal may
        be missed at the price rho KL(T 1 | u): mass that would have to go much farther than that is not moved. The
        entropy is then relative to the product of the marginals, eps KL(T | u v').
    mass : in (0, 1], how much is moved of the mass, which is 1 on either side: T 1 <= u, T' 1 <= v, sum(T) = mass
        (``alignment.partial``). What is cheapest to move is, the rest stays; where ``reach`` sets a price, this sets an
        amount. 1: all. The plain solver's.
    value : ``"cost"``: <T*, 1 - x y'>. Its gradient is that of the regularised optimum: left out is the derivative
        through the plan, <dT*, 1 - x y'>, and so that of weights and eps, which act through the plan alone.
        ``"regularised"``: the optimum itself, <T*, C> - eps H(T*) with H(T) = -sum(T log T) (``alignment.facts`` where
        ``reach`` is finite). Its gradients are complete: to features or costs T*, to weights eps log r and eps log c,
        centred since weights are scaled to sum to one (of weights that are zero: zero), to eps minus the entropy. They
        are those of a converged plan.
        ``"similarity"``: <T*, x y'> (the plan's mass, 1 in balanced transport, minus the cost).
        ``"plan"``: see ``token_plan``.
    normalize : scale the features to unit norm first. Norms, and the gradient through them, are fp32; what is
        multiplied has the dtype of the features.
    memory : bytes that may be taken beside inputs, result and gradients (more if one image and one class need more).
        The fused solver bounds what holds a number for each pair of tokens by it; beside that it takes a column
        scaling for each problem, and copies of the features: where they are scaled, and their fp32 gradients.
    implementation : ``"plain"``, ``"fused"`` or ``"auto"``; see ``alignment.implementation_for``. float64, ``mass``,
        ``schedule`` and ``start`` are the plain solver's. Under torch.func's transforms (vmap, grad ...) a third is
        taken, which holds all scores in memory and makes all iterations, at once at the last eps of a schedule.
    allow_tf32 : let the fused solver multiply fp32 features with the mantissa of TF32: faster, cosines to 1e-3 only.
    check_finite : refuse non-finite features, and on a GPU look at the values of lengths and weights, and for problems
        that have not converged, too, which waits for the device. On a CPU all but the first is always done.
    logarithms : iterate those of the scalings, which no cost and no eps takes out of the range of numbers, and which
        are slower. Default: below eps 0.05, with a finite reach or a mass below 1, in float64, and of given costs.
    schedule : falling values of eps, all above it, to solve first, each from the potentials of the one before: where
        eps is small this needs fewer iterations. Each stage has the ``max_iter`` and ``tol`` of the last.
    start : (B, C, M, N, L) potentials eps log c of the text tokens to start from, as ``diagnostics`` give them: of the
        same problems a little earlier, or at another eps.
    diagnostics : return a pair, the value and ``alignment.Diagnostics``: iterations, errors of the rows, whether the
        ceiling was reached, masses and potentials.

    Returns
    -------
    (B, C, M, N) fp32 (float64 of float64); plans are (B, C, M, N, P, L), zero at padding.

    Raises
    ------
    ValueError
        wrong rank, different d, a class of zero length, eps <= 0, negative or massless weights, non-finite
        features, a mass beside a reach or above 1.

    Warns
    -----
    RuntimeWarning
        once for an eps and a max_iter: problems had used up their iterations and not converged. Not on a GPU, where it
        would have to wait, unless ``check_finite``.

    Examples
    --------
    >>> x, y = torch.randn(2, 3, 49, 64), torch.randn(5, 4, 8, 64)
    >>> token_transport(x, y, torch.tensor([8, 5, 6, 1, 8]), normalize=True).shape
    torch.Size([2, 5, 3, 4])
    >>> cost, how = token_transport(x, y, normalize=True, reach=0.3, diagnostics=True)
    >>> bool((how.mass < 1).all()), int(how.iterations.max()) <= 100
    (True, True)
    >>> half, how = token_transport(x, y, normalize=True, mass=0.5, diagnostics=True)
    >>> half.shape, how.mass.round(decimals=3).unique()
    (torch.Size([2, 5, 3, 4]), tensor([0.5000]))

    References
    ----------
    D. Wang et al., Tuning multi-mode token-level prompt alignment across modalities, NeurIPS 2023,
    arXiv 2309.13847.

    L. Chizat et al., Scaling algorithms for unbalanced optimal transport problems, Mathematics of Computation 2018.

    J.-D. Benamou et al., Iterative Bregman projections for regularized transportation problems, SIAM Journal on
    Scientific Computing 2015.
    """
    checks.check_value(value)
    problems, chosen = Arguments(
        image_tokens,
        text_tokens,
        text_lengths,
        cost=cost,
        image_lengths=image_lengths,
        image_weights=image_weights,
        text_weights=text_weights,
        eps=eps,
        max_iter=max_iter,
        stop=stop,
        tol=tol,
        reach=reach,
        mass=mass,
        normalize=normalize,
        memory=memory,
        implementation=implementation,
        check_finite=check_finite,
        logarithms=logarithms,
        schedule=schedule,
        start=start,
    ).problems()
    rule = problems.rule
    if value == "plan":
        if diagnostics:
            raise ValueError(
                "diagnostics go with a value of each problem, expected another value than 'plan'"
            )
        result = solvers.plans(problems, chosen, allow_tf32)
        _check_result(result, check_finite)
        return result
    with_facts = diagnostics or check_finite or value == "regularised" or not rule.balanced
    similarity, facts, potentials = solvers.similarities(problems, chosen, allow_tf32, with_facts)
    result = similarity
    if value != "similarity":
        result = (1 if rule.balanced else facts[..., Fact.MASS].detach()) - similarity
    if value == "regularised":
        result = result + eps * facts[..., Fact.ENTROPY].detach() + facts[..., Fact.PENALTY]
    _check_result(result, check_finite)
    if check_finite and chosen == "fused":
        _look_for_unfinished(facts, rule)
    return (result, diagnostics_of(facts, potentials)) if diagnostics else result


def token_plan(
    image_tokens: Tensor | None = None,
    text_tokens: Tensor | None = None,
    text_lengths: Tensor | None = None,
    **options: Any,
) -> Tensor:
    """The plans T* themselves, (B, C, M, N, P, L), zero at padding, without gradient.

    Options and errors are those of ``token_transport``, of which this is ``value="plan"``. Costs with these plans held
    constant, ``(token_plan(x, y) * cost).sum((-2, -1))``, have the gradient of ``token_transport``.

    Examples
    --------
    >>> plan = token_plan(torch.randn(2, 1, 9, 16), torch.randn(3, 1, 4, 16), torch.tensor([4, 2, 3]), normalize=True)
    >>> plan.shape, plan[0, 1].sum((0, 1, 2))
    (torch.Size([2, 3, 1, 1, 9, 4]), tensor([0.5000, 0.5000, 0.0000, 0.0000]))
    """
    return token_transport(image_tokens, text_tokens, text_lengths, value="plan", **options)


def _check_result(result: Tensor, check_finite: bool) -> None:
    # The ends of what is there are finite where all is, and take no memory, which plans have much of.
    if checks.can_look(result, check_finite) and not torch.stack(result.aminmax()).isfinite().all():
        raise ValueError(
            "token_transport met non-finite numbers: image_tokens or text_tokens (or cost) hold NaN or infinity, "
            "or are far from unit norm (normalize=True scales them)"
        )


def _look_for_unfinished(facts: Tensor, rule: Rule) -> None:
    with Unfinished(rule) as unfinished:
        error = facts[..., Fact.ROW_ERROR] * (1 - facts[..., Fact.CONVERGED])
        unfinished.note(
            error, lambda number: tuple(map(int, torch.unravel_index(torch.tensor(number), error.shape)))
        )
