"""Token transport: the optimal transport between the tokens of every image prompt and every text prompt."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from alignment import checks, dense, plain
from alignment.choice import FLOAT64, choose
from alignment.convergence import Unfinished
from alignment.diagnostics import diagnostics_of
from alignment.facts import Fact
from alignment.marginals import marginals, valid_tokens
from alignment.problems import Problems
from alignment.rule import Rule

MEMORY = 256 * 2**20


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
    tol : threshold of the stopping rule. Below eps 0.05, and with a finite reach, of the change of log r.
    reach : rho > 0 in units of the cost, of both sides or of (image side, text side). Finite, that side's marginal may
        be missed at the price rho KL(T 1 | u): mass that would have to go much farther than that is not moved. The
        entropy is then relative to the product of the marginals, eps KL(T | u v').
    value : ``"cost"``: <T*, 1 - x y'>. Its gradient is that of the regularised optimum: left out is the derivative
        through the plan, <dT*, 1 - x y'>, and so that of weights and eps, which act through the plan alone.
        ``"regularised"``: the optimum itself, <T*, C> - eps H(T*) with H(T) = -sum(T log T) (``alignment.facts`` where
        ``reach`` is finite). Its gradients are complete: to features or costs T*, to weights eps log r and eps log c,
        centred since weights are scaled to sum to one (of weights that are zero: zero), to eps minus the entropy. They
        are those of a converged plan.
        ``"similarity"``: <T*, x y'> (the plan's mass, 1 if reach is infinite, minus the cost).
        ``"plan"``: see ``token_plan``.
    normalize : scale the features to unit norm first. Norms, and the gradient through them, are fp32; what is
        multiplied has the dtype of the features.
    memory : bytes that may be taken beside inputs, result and gradients (more if one image and one class need more).
        The fused solver bounds what holds a number for each pair of tokens by it; beside that it takes a column
        scaling for each problem, and copies of the features: where they are scaled, and their fp32 gradients.
    implementation : ``"plain"``, ``"fused"`` or ``"auto"``; see ``alignment.implementation_for``. float64, ``schedule``
        and ``start`` are the plain solver's. Under torch.func's transforms (vmap, grad ...) a third is taken, which
        holds all scores in memory and makes all iterations.
    allow_tf32 : let the fused solver multiply fp32 features with the mantissa of TF32: faster, cosines to 1e-3 only.
    check_finite : refuse non-finite features, and on a GPU look at the values of lengths and weights, and for problems
        that have not converged, too, which waits for the device. On a CPU all but the first is always done.
    logarithms : iterate those of the scalings, which no cost and no eps takes out of the range of numbers, and which
        are slower. Default: below eps 0.05, with a finite reach, in float64, and of given costs.
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
        features.

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

    References
    ----------
    D. Wang et al., Tuning multi-mode token-level prompt alignment across modalities, NeurIPS 2023,
    arXiv 2309.13847.

    L. Chizat et al., Scaling algorithms for unbalanced optimal transport problems, Mathematics of Computation 2018.
    """
    checks.check_value(value)
    problems, chosen = make_problems(
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
        normalize=normalize,
        memory=memory,
        implementation=implementation,
        check_finite=check_finite,
        logarithms=logarithms,
        schedule=schedule,
        start=start,
    )
    rule = problems.rule
    if value == "plan":
        if diagnostics:
            raise ValueError(
                "diagnostics go with a value of each problem, expected another value than 'plan'"
            )
        result = _plans(problems, chosen, allow_tf32)
        _check_result(result, check_finite)
        return result
    with_facts = diagnostics or check_finite or value == "regularised" or not rule.balanced
    if chosen == "dense":
        similarity, facts, potentials = dense.similarities(problems)
    elif chosen == "fused":
        from alignment.fused import token as fused

        similarity, facts, potentials = fused.similarities(problems, allow_tf32, with_facts)
    else:
        similarity, facts, potentials = plain.similarities(problems, with_facts)
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
    """
    return token_transport(image_tokens, text_tokens, text_lengths, value="plan", **options)


def _plans(problems: Problems, chosen: str, allow_tf32: bool) -> Tensor:
    if chosen == "dense":
        return dense.plans(problems)
    if chosen == "fused":
        from alignment.fused import token as fused

        return fused.plans(problems, allow_tf32)
    return plain.plans(problems)


def make_problems(
    image_tokens: Tensor | None,
    text_tokens: Tensor | None,
    text_lengths: Tensor | None,
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
    normalize: bool = False,
    memory: int = MEMORY,
    implementation: str = "auto",
    check_finite: bool = False,
    logarithms: bool | None = None,
    schedule: Sequence[float] = (),
    start: Tensor | None = None,
) -> tuple[Problems, str]:
    """What is asked for, checked, and which implementation gets it: "plain", "fused" or "dense"."""
    eps = float(eps.detach()) if isinstance(eps, Tensor) else float(eps)
    stopping = eps, max_iter, stop, tol
    schedule = tuple(schedule)
    reaches = (reach, reach) if isinstance(reach, (int, float)) else reach
    checks.check_solver(*stopping)
    checks.check_reach(reaches)
    checks.check_schedule(schedule, stopping[0])
    if cost is None:
        image, text = _check_features(image_tokens, text_tokens, check_finite)
        image_name, text_name = "image_tokens", "text_tokens"
        (B, M, P, _), (C, N, L, _) = image.shape, text.shape
    else:
        _check_costs(cost, image_tokens, text_tokens, normalize, check_finite)
        image = text = cost
        image_name = text_name = "cost"
        B, C, M, N, P, L = cost.shape
    valid = []
    for name, lengths, weights, tokens_name, tokens, shape in (
        ("image", image_lengths, image_weights, image_name, image, (B, M, P)),
        ("text", text_lengths, text_weights, text_name, text, (C, N, L)),
    ):
        if lengths is not None:
            checks.check_lengths(f"{name}_lengths", lengths, tokens_name, tokens, shape, check_finite)
        valid.append(valid_tokens(lengths, shape, image.device))
        if weights is not None:
            checks.check_weights(f"{name}_weights", weights, shape, valid[-1], check_finite)
    image_valid, text_valid = valid
    dtype = torch.promote_types(image.dtype, text.dtype)
    computed = torch.promote_types(dtype, torch.float32)
    image_mass = marginals(image_weights, image_valid, (B, M, P), image.device, computed)
    text_mass = marginals(text_weights, text_valid, (C, N, L), image.device, computed)
    if start is not None:
        checks.check_shape("start", start, (B, C, M, N, L), "(B, C, M, N, L)")

    why_plain = FLOAT64 if computed == torch.float64 else None
    if schedule or start is not None:
        why_plain = f"{'schedule' if schedule else 'start'} is given, which it has not"
    chosen = choose("token", image, P, L, implementation, why_plain)
    if dense.is_asked_for():
        chosen = "dense"
    rule = Rule.of(
        *stopping,
        dtype=computed,
        reach=(float(reaches[0]), float(reaches[1])),
        schedule=schedule,
        logarithms=True if chosen == "dense" else logarithms,
        any_cost=cost is not None,
    )
    padded = chosen != "fused"  # which does not look at padding
    features: tuple[Tensor | None, Tensor | None, Tensor | None] = (None, None, cost)
    if cost is not None:
        if padded:
            features = (None, None, _costs_without_padding(cost, *valid))
    else:
        image, text = image.to(dtype), text.to(dtype)
        if padded:
            image, text = _without_padding(image, image_valid), _without_padding(text, text_valid)
        features = (image, text, None)
    masses, lengths = (image_mass, text_mass), _class_lengths(text_lengths)
    return Problems(*features, *masses, lengths, rule, normalize, memory, start), chosen


def _without_padding(tokens: Tensor, valid: Tensor | None) -> Tensor:
    return tokens if valid is None else tokens.masked_fill(~valid[..., None], 0)


def _costs_without_padding(cost: Tensor, image_valid: Tensor | None, text_valid: Tensor | None) -> Tensor:
    if image_valid is not None:
        cost = cost.masked_fill(~image_valid[:, None, :, None, :, None], 0)
    if text_valid is not None:
        cost = cost.masked_fill(~text_valid[None, :, None, :, None], 0)
    return cost


def _class_lengths(text_lengths: Tensor | None) -> Tensor | None:
    """Length of the longest prompt of each class. None, which takes every class for as long as the longest, where they
    are on a GPU: to look at them is to wait for it.
    """
    if text_lengths is None or text_lengths.is_cuda or dense.is_asked_for():
        return None
    return text_lengths if text_lengths.ndim == 1 else text_lengths.amax(1)


def _check_features(
    image_tokens: Tensor | None, text_tokens: Tensor | None, check_finite: bool
) -> tuple[Tensor, Tensor]:
    if image_tokens is None or text_tokens is None:
        missing = "image_tokens" if image_tokens is None else "text_tokens"
        raise ValueError(f"{missing} is missing, expected image_tokens and text_tokens, or cost")
    for name, tokens, expected in (
        ("image_tokens", image_tokens, "(B, M, P, d)"),
        ("text_tokens", text_tokens, "(C, N, L, d)"),
    ):
        checks.check_rank(name, tokens, expected)
        checks.check_floating(name, tokens)
        checks.check_not_empty(name, tokens)
        if check_finite:
            checks.check_finite_tensor(name, tokens)
    checks.check_same_width("image_tokens", image_tokens, "text_tokens", text_tokens)
    checks.check_same_device("image_tokens", image_tokens, "text_tokens", text_tokens)
    return image_tokens, text_tokens


def _check_costs(cost: Tensor, image_tokens, text_tokens, normalize: bool, check_finite: bool) -> None:
    if image_tokens is not None or text_tokens is not None:
        raise ValueError("cost is given beside tokens, expected image_tokens and text_tokens, or cost")
    if normalize:
        raise ValueError("normalize is True and cost is given, expected features to scale")
    checks.check_rank("cost", cost, "(B, C, M, N, P, L)")
    checks.check_floating("cost", cost)
    checks.check_not_empty("cost", cost)
    if check_finite:
        checks.check_finite_tensor("cost", cost)


def _check_result(result: Tensor, check_finite: bool) -> None:
    if checks.can_look(result, check_finite) and not torch.isfinite(result).all():
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
