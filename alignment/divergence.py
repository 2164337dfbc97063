"""Debiased divergence between sets of tokens: zero between equal sets, and never negative."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from alignment.arguments import MEMORY
from alignment.facts import Fact, facts_of, weight_gradients
from alignment.marginals import marginals, valid_tokens
from alignment.rule import Rule
from alignment.sinkhorn import Solution
from alignment.token import token_transport

CELL_TENSORS = (
    8  # with a number for each pair of a set's tokens, that live at a time with those of the gradient
)


def token_divergence(
    image_tokens: Tensor,
    text_tokens: Tensor,
    text_lengths: Tensor | None = None,
    *,
    image_lengths: Tensor | None = None,
    image_weights: Tensor | None = None,
    text_weights: Tensor | None = None,
    normalize: bool = False,
    **options: Any,
) -> Tensor:
    r"""Sinkhorn divergence of every image's and every class's sets of tokens.

    .. math::
        S(x, y) = F(x, y) - \tfrac12 F(x, x) - \tfrac12 F(y, y)

    with the regularised optimum F (``token_transport``, ``value="regularised"``), which between equal sets is not zero.
    F(x, x) is computed once for each of the B M and C N sets, not for each pair. Gradients reach features, weights and
    eps.

    Parameters
    ----------
    image_tokens, text_tokens, text_lengths, image_lengths, image_weights, text_weights, normalize : as in
        ``token_transport``.
    options : its ``eps``, ``max_iter``, ``stop``, ``tol``, ``reach`` (the same for both sides), ``memory``,
        ``implementation``, ``logarithms``. A set against itself stops by itself whatever ``stop``, unless it is
        "fixed", by the change of log r, and is solved in plain torch, on a GPU without a wait.

    Returns
    -------
    (B, C, M, N), >= 0 up to the rest of the iterations.

    Examples
    --------
    >>> x = torch.randn(1, 2, 7, 16)
    >>> token_divergence(x, x, normalize=True, tol=1e-5)[0, 0].diagonal().abs().max() < 1e-4
    tensor(True)

    References
    ----------
    J. Feydy et al., Interpolating between optimal transport and MMD using Sinkhorn divergences, AISTATS 2019,
    arXiv 1810.08278; T. Sejourne et al., Sinkhorn divergences for unbalanced optimal transport, arXiv 1910.12958.
    """
    if options.get("mass", 1) != 1:
        raise ValueError(
            f"mass is {options['mass']}, expected 1: of what a set is from itself, a part is less"
        )
    if options.get("diagnostics"):
        raise ValueError("diagnostics is True, expected False: a divergence is of three problems")
    reach = options.get("reach", torch.inf)
    if not isinstance(reach, (int, float)) and len(set(reach)) > 1:
        raise ValueError(f"reach is {reach}, expected one for both sides: a divergence is symmetric")
    if normalize:
        image_tokens, text_tokens = (
            F.normalize(tokens.to(torch.promote_types(tokens.dtype, torch.float32)), dim=-1).to(tokens.dtype)
            for tokens in (image_tokens, text_tokens)
        )
    sides: dict[str, Any] = {
        "text_lengths": text_lengths,
        "image_lengths": image_lengths,
        "image_weights": image_weights,
        "text_weights": text_weights,
    }
    between = token_transport(image_tokens, text_tokens, **sides, value="regularised", **options)
    of_images = _self_terms(image_tokens, image_lengths, image_weights, **options)
    of_texts = _self_terms(text_tokens, text_lengths, text_weights, **options)
    return between - of_images[:, None, :, None] / 2 - of_texts[None, :, None, :] / 2


def _self_terms(
    tokens: Tensor,
    lengths: Tensor | None,
    weights: Tensor | None,
    *,
    eps: float | Tensor = 0.1,
    max_iter: int = 100,
    stop: str = "problem",
    tol: float = 1e-2,
    reach: Any = torch.inf,
    memory: int = MEMORY,
    **_others: Any,
) -> Tensor:
    """F(x, x) of sets (S, M, P, d): (S, M)."""
    S, M, P, _ = tokens.shape
    dtype = torch.promote_types(tokens.dtype, torch.float32)
    valid = valid_tokens(lengths, (S, M, P), tokens.device)
    mass = marginals(weights, valid, (S, M, P), tokens.device, dtype).flatten(0, 1)
    sets = tokens.to(dtype)
    if valid is not None:
        sets = sets.masked_fill(~valid[..., None], 0)
    sets = sets.flatten(0, 1)
    rho = float(reach if isinstance(reach, (int, float)) else reach[0])
    stop = "fixed" if stop == "fixed" else "problem"
    rule = Rule(_number(eps), max_iter, stop, tol, (rho, rho), logarithms=True)
    step = max(1, memory // (CELL_TENSORS * P * P * sets.itemsize))
    terms = [
        # What a chunk has computed is computed again for the gradient, so that no more than one is in memory.
        checkpoint(_optimum, sets[i : i + step], mass[i : i + step], eps, rule, use_reentrant=False)
        for i in range(0, S * M, step)
    ]
    return torch.cat(terms).view(S, M)


def _optimum(x: Tensor, mass: Tensor, eps: float | Tensor, rule: Rule) -> Tensor:
    """F(x, x) of sets (S, P, d) with masses (S, P)."""
    with torch.autocast(x.device.type, enabled=False):
        similarity = x @ x.mT
    u, v = mass.detach()[:, :, None], mass.detach()[:, None]
    solution = _solve(similarity.detach() / rule.eps, u, rule)
    facts = facts_of(solution, u, v, rule, 1, 2)[:, 0, 0]
    of_rows, of_cols = weight_gradients(solution.r, solution.c, u, v, rule)
    derivatives = of_rows.flatten(1) + of_cols.flatten(1)
    lagrangian = (derivatives * (mass - mass.detach())).sum(1)  # of value zero
    cost = facts[:, Fact.MASS] - (solution.plan * similarity).sum((1, 2))
    return cost + eps * facts[:, Fact.ENTROPY] + facts[:, Fact.PENALTY] + lagrangian


@torch.no_grad()
def _solve(scores: Tensor, mass: Tensor, rule: Rule) -> Solution:
    """Plans of symmetric problems (S, P, P), of which both scalings are one: log r is brought half the way to its
    update each time, which takes a few iterations where rows and columns in turn take very many [Feydy et al.].
    """
    scores, log_mass, present = scores - 1 / rule.eps, mass.log(), mass > 0
    p, _ = rule.powers
    r = torch.where(present, log_mass if rule.relaxed else 0.0, -math.inf)
    running = torch.ones_like(r[:, :1], dtype=torch.bool)
    for _ in range(rule.max_iter):
        new = (r + log_mass - p * (scores + r.mT).logsumexp(2, keepdim=True)) / 2
        change = torch.where(present, (new - r).abs(), 0.0).sum(1, keepdim=True) / present.sum(
            1, keepdim=True
        )
        r = torch.where(running, new, r)
        if rule.threshold is not None:
            running = running & (change >= rule.threshold)
            if not running.is_cuda and not running.any():
                break
    plan = (scores + r + r.mT).exp()
    return Solution(plan, r - 1 / rule.eps, r.mT, r.mT, None, 0.0)


def _number(eps: float | Tensor) -> float:
    return float(eps.detach()) if isinstance(eps, Tensor) else eps
