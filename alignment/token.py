"""Token transport: the optimal transport between the tokens of every image prompt and every text prompt."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from alignment import checks, plain
from alignment.choice import implementation_for
from alignment.marginals import marginals, valid_tokens

MEMORY = 256 * 2**20


def token_transport(
    image_tokens: Tensor,
    text_tokens: Tensor,
    text_lengths: Tensor | None = None,
    *,
    image_lengths: Tensor | None = None,
    image_weights: Tensor | None = None,
    text_weights: Tensor | None = None,
    eps: float = 0.1,
    max_iter: int = 100,
    stop: str = "problem",
    tol: float = 1e-2,
    value: str = "cost",
    normalize: bool = False,
    memory: int = MEMORY,
    implementation: str = "auto",
    allow_tf32: bool = False,
    check_finite: bool = False,
) -> Tensor:
    r"""Entropic optimal transport between every image's and every class's sets of tokens.

    For image b, image prompt m, class c, text prompt n, with tokens x_j (j < P) and y_l (l < L):

    .. math::
        T^* = \arg\min_{T \in U(u, v)} \langle T, 1 - x y^\top \rangle - \epsilon H(T), \qquad
        \text{cost} = \langle T^*, 1 - x y^\top \rangle, \quad
        \text{similarity} = \langle T^*, x y^\top \rangle

    by Sinkhorn's iteration (see ``alignment.sinkhorn``). Gradients reach both feature sets with the plan held
    constant (envelope theorem); the weights get none. The transport is computed in fp32 whatever the features
    are, also under autocast.

    Parameters
    ----------
    image_tokens : (B, M, P, d) features of unit norm, float32, bfloat16 or float16.
    text_tokens : (C, N, L, d) features of unit norm.
    text_lengths : (C,) or (C, N) integers, number of valid tokens of each class or each prompt; default all L.
        What stands behind them does not matter. Best kept on the device of the tokens: nothing waits for them
        there, and from the CPU they would have to be moved in every call.
    image_lengths : (B,) or (B, M), likewise; default all P.
    image_weights, text_weights : weights >= 0 of the tokens, broadcastable to (B, M, P) and (C, N, L), scaled to
        sum to one over the valid tokens. Default: uniform.
    eps : strength of the entropy, > 0, in units of the cost.
    max_iter : most iterations.
    stop : ``"problem"``: each problem stops when its own mean over the image tokens of ``|r - r_previous|`` falls
        below ``tol``; ``"release"``: the M x N problems of one image and class share that mean, as in MMTPA's
        released code; ``"fixed"``: ``max_iter`` iterations.
    tol : threshold of the stopping rule.
    value : ``"cost"``, ``"similarity"`` (= 1 - cost, since the plan's mass is one) or ``"plan"``, which the plain
        solver gives without gradient.
    normalize : scale the features to unit norm first. Norms, and the gradient through them, are fp32; what is
        multiplied has the dtype of the features.
    memory : bytes that may be taken beside inputs, result and gradients (more if one image and one class need more).
        The fused solver bounds what holds a number for each pair of tokens by it; beside that it takes a column
        scaling for each problem, and copies of the features: where they are scaled, and their fp32 gradients.
    implementation : ``"plain"``, ``"fused"`` or ``"auto"``; see ``alignment.implementation_for``.
    allow_tf32 : let the fused solver multiply fp32 features with the mantissa of TF32: faster, cosines to 1e-3 only.
    check_finite : refuse non-finite features, and on a GPU look at the values of lengths and weights too, which
        waits for the device. On a CPU these and a non-finite result are always refused.

    Returns
    -------
    (B, C, M, N) fp32; plans are (B, C, M, N, P, L), zero at padding.

    Raises
    ------
    ValueError
        wrong rank, different d, a class of zero length, eps <= 0, negative or massless weights, non-finite
        features.

    Examples
    --------
    >>> x, y = torch.randn(2, 3, 49, 64), torch.randn(5, 4, 8, 64)
    >>> token_transport(x, y, torch.tensor([8, 5, 6, 1, 8]), normalize=True).shape
    torch.Size([2, 5, 3, 4])

    References
    ----------
    D. Wang et al., Tuning multi-mode token-level prompt alignment across modalities, NeurIPS 2023,
    arXiv 2309.13847.
    """
    checks.check_solver(eps, max_iter, stop, tol)
    checks.check_value(value)
    _check(image_tokens, text_tokens, text_lengths, image_lengths, check_finite)
    image_mass, image_valid = _masses("image", image_tokens, image_lengths, image_weights, check_finite)
    text_mass, text_valid = _masses("text", text_tokens, text_lengths, text_weights, check_finite)
    if value == "plan":
        if implementation == "fused":
            raise ValueError(
                "implementation is 'fused', which writes no plans, expected 'auto' or 'plain' for value 'plan'"
            )
        implementation = "plain"
    chosen = implementation_for(image_tokens, text_tokens, wanted=implementation)
    dtype = torch.promote_types(image_tokens.dtype, text_tokens.dtype)
    dtype = torch.float32 if dtype == torch.float64 else dtype
    image, text = image_tokens.to(dtype), text_tokens.to(dtype)
    if chosen == "fused":  # padding is not looked at
        from alignment.fused import token as fused

        result = fused.token_similarity(
            image,
            text,
            image_mass,
            text_mass,
            eps,
            max_iter,
            None if stop == "fixed" else tol,
            stop == "release",
            normalize,
            allow_tf32,
            memory,
        )
    else:
        image, text = _without_padding(image, image_valid), _without_padding(text, text_valid)
        stopping = plain.Stopping(eps, max_iter, stop, tol)
        lengths = _class_lengths(text_lengths)
        solve = plain.token_plans if value == "plan" else plain.token_similarity
        result = solve(image, text, image_mass, text_mass, lengths, stopping, normalize, memory)
    if check_finite or not result.is_cuda:
        _check_result(result)
    return 1 - result if value == "cost" else result


def token_plan(
    image_tokens: Tensor, text_tokens: Tensor, text_lengths: Tensor | None = None, **options: Any
) -> Tensor:
    """The plans T* themselves, (B, C, M, N, P, L), zero at padding, without gradient; by the plain solver.

    Options and errors are those of ``token_transport``, of which this is ``value="plan"``.
    """
    return token_transport(image_tokens, text_tokens, text_lengths, value="plan", **options)


def _masses(side: str, tokens: Tensor, lengths: Tensor | None, weights: Tensor | None, check: bool):
    """Marginals of the tokens, and which tokens stand before the end of their set (None if all do)."""
    shape = tuple(tokens.shape[:3])
    valid = valid_tokens(lengths, shape, tokens.device)
    if weights is not None:
        checks.check_weights(f"{side}_weights", weights, shape, valid, check)
    return marginals(weights, valid, shape, tokens.device), valid


def _without_padding(tokens: Tensor, valid: Tensor | None) -> Tensor:
    return tokens if valid is None else tokens.masked_fill(~valid[..., None], 0)


def _class_lengths(text_lengths: Tensor | None) -> Tensor | None:
    """Length of the longest prompt of each class. None, which takes every class for as long as the longest, where they
    are on a GPU: to look at them is to wait for it.
    """
    if text_lengths is None or text_lengths.is_cuda:
        return None
    return text_lengths if text_lengths.ndim == 1 else text_lengths.amax(1)


def _check(image_tokens, text_tokens, text_lengths, image_lengths, check_finite) -> None:
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
    if text_lengths is not None:
        checks.check_lengths("text_lengths", text_lengths, "text_tokens", text_tokens, check_finite)
    if image_lengths is not None:
        checks.check_lengths("image_lengths", image_lengths, "image_tokens", image_tokens, check_finite)


def _check_result(result: Tensor) -> None:
    if not torch.isfinite(result).all():
        raise ValueError(
            "token_transport met non-finite numbers: image_tokens or text_tokens hold NaN or infinity, "
            "or are far from unit norm (normalize=True scales them)"
        )
