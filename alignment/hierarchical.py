"""Hierarchical transport: token transport in every cell of a prompt transport; MMTPA's similarity of image
and class."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from alignment import checks, traced
from alignment.arguments import MEMORY
from alignment.diagnostics import Diagnostics, LevelDiagnostics
from alignment.prompt import prompt_plan
from alignment.token import token_transport

STOPS = {"paper": "problem", "release": "release"}  # each variant's stopping rule


def hierarchical_transport(
    image_points: Tensor,
    text_points: Tensor,
    image_tokens: Tensor | None = None,
    text_tokens: Tensor | None = None,
    text_lengths: Tensor | None = None,
    *,
    variant: str = "paper",
    beta: float = 1.0,
    eps: float = 0.1,
    max_iter: int = 100,
    stop: str | None = None,
    tol: float = 1e-2,
    reach: float | tuple[float, float] = math.inf,
    mass: float = 1.0,
    token_reach: float | tuple[float, float] = math.inf,
    token_mass: float = 1.0,
    schedule: Sequence[float] = (),
    diagnostics: bool = False,
    normalize: bool = False,
    memory: int = MEMORY,
    implementation: str = "auto",
) -> Any:
    r"""Similarity of every image and class as sets of points that are sets of tokens.

    With prompt-level features x_m of an image, y_n of a class, :math:`s_{mn} = \cos(x_m, y_n)`, and, unless
    the tokens are left out, token transport in every cell (m, n):

    * ``"paper"``: :math:`C = 1 - s + \beta\, d^{tok}` with the token-level costs; the similarity is
      :math:`1 - \langle T^*, C \rangle`. Plans are constants for autograd, costs are not: the gradient
      reaches points and tokens.
    * ``"release"``: :math:`C = 1 - s + \beta \langle T^{tok}, \cos \rangle` (a similarity, with this sign);
      the result is :math:`\langle T^*, s \rangle`, so the token level only shapes the plan and gets no
      gradient.

    Without tokens the prompt level stands alone, ``C = 1 - s``: MMTPA's flat form and PLOT (points = local
    features of the image and the prompts of the class, ``variant="release"``).

    Where a level moves less than all of its mass (reach, mass), what stays counts as matched at a cosine of zero: with
    m the mass moved, :math:`\langle T^*, C \rangle + 1 - m` stands in the place of :math:`\langle T^*, C \rangle`.

    Weights and lengths of the image side, ``start``, ``value="regularised"`` and what else ``token_transport`` and
    ``prompt_plan`` take is had by calling these: ``prompt_plan(1 - s + beta * token_transport(...))``.

    Parameters
    ----------
    image_points : (B, M, d) features of unit norm.
    text_points : (C, N, d) features of unit norm.
    image_tokens : (B, M, P, d) features of unit norm, or None.
    text_tokens : (C, N, L, d) features of unit norm, or None.
    text_lengths : (C,) or (C, N) valid text tokens; best kept on the device of the tokens.
    beta : weight of the token level in the prompt cost.
    eps, max_iter, tol : of both levels.
    schedule : of both levels.
    reach, mass : of the prompt level, as in ``token_transport``: points that are far from all others, such as a
        background among local features, need not be matched.
    token_reach, token_mass : likewise of the token level.
    stop : of both levels; default ``"problem"`` in the paper variant and ``"release"`` in the other.
    diagnostics : return a pair, the similarities and ``LevelDiagnostics``.
    normalize : scale all features to unit norm first.
    memory : of the token level, as in ``token_transport``.
    implementation : ``"plain"``, ``"fused"`` or ``"auto"``, of both levels.

    Returns
    -------
    (B, C) fp32 (float64 of float64) similarities, to be multiplied by ``exp(logit_scale)``.

    Examples
    --------
    >>> x, y = torch.randn(2, 3, 64), torch.randn(5, 4, 64)
    >>> tokens, words = torch.randn(2, 3, 49, 64), torch.randn(5, 4, 8, 64)
    >>> hierarchical_transport(x, y, tokens, words, normalize=True).shape
    torch.Size([2, 5])
    >>> similarity, how = hierarchical_transport(x, y, normalize=True, mass=0.5, diagnostics=True)
    >>> how.prompts.mass.shape, how.tokens
    (torch.Size([2, 5]), None)

    References
    ----------
    D. Wang et al., Tuning multi-mode token-level prompt alignment across modalities, NeurIPS 2023,
    arXiv 2309.13847.

    G. Chen et al., PLOT: prompt learning with optimal transport for vision-language models, ICLR 2023,
    arXiv 2210.01253.
    """
    _check(image_points, text_points, image_tokens, text_tokens, variant)
    paper = variant == "paper"
    solver: dict[str, Any] = {"eps": eps, "max_iter": max_iter, "stop": stop or STOPS[variant], "tol": tol}
    more: dict[str, Any] = {"schedule": tuple(schedule), "diagnostics": diagnostics}
    with torch.autocast(image_points.device.type, enabled=False):
        dtype = torch.promote_types(torch.promote_types(image_points.dtype, text_points.dtype), torch.float32)
        x, y = image_points.to(dtype), text_points.to(dtype)
        if normalize:
            x, y = F.normalize(x, dim=-1), F.normalize(y, dim=-1)
        if traced.is_asked_for():
            for name, given, without in (
                ("reach", reach, math.inf),
                ("mass", mass, 1.0),
                ("token_reach", token_reach, math.inf),
                ("token_mass", token_mass, 1.0),
                ("schedule", more["schedule"], ()),
                ("diagnostics", diagnostics, False),
            ):
                if given != without:
                    raise ValueError(
                        f"{name} is {given} while a model is exported, which takes {without} alone"
                    )
            if normalize and image_tokens is not None and text_tokens is not None:
                image_tokens, text_tokens = (
                    F.normalize(image_tokens, dim=-1),
                    F.normalize(text_tokens, dim=-1),
                )
            options = {"variant": variant, "beta": beta, **solver}
            return traced.hierarchical_transport(x, y, image_tokens, text_tokens, text_lengths, **options)
        cosine = torch.einsum("bmd,cnd->bcmn", x, y)
        cost = 1 - cosine
        of_tokens: Diagnostics | None = None
        if image_tokens is not None and text_tokens is not None:
            # In the release the token level shapes the plan only, and no gradient passes a plan.
            with torch.set_grad_enabled(torch.is_grad_enabled() and paper):
                level = token_transport(
                    image_tokens,
                    text_tokens,
                    text_lengths,
                    value="similarity",
                    reach=token_reach,
                    mass=token_mass,
                    normalize=normalize,
                    memory=memory,
                    implementation=implementation,
                    **solver,
                    **more,
                )
            if diagnostics:
                level, of_tokens = level
            cost = cost + beta * (1 - level if paper else level)
        plan = prompt_plan(cost, reach=reach, mass=mass, implementation=implementation, **solver, **more)
        if diagnostics:
            plan, of_prompts = plan
        moved = 1 if mass == 1 and reach == math.inf else plan.sum((-2, -1))
        similarity = moved - (plan * cost).sum((-2, -1)) if paper else (plan * cosine).sum((-2, -1))
    return (similarity, LevelDiagnostics(of_prompts, of_tokens)) if diagnostics else similarity


def _check(image_points, text_points, image_tokens, text_tokens, variant) -> None:
    if variant not in STOPS:
        raise ValueError(f"variant is {variant!r}, expected one of {', '.join(STOPS)}")
    checks.check_rank("image_points", image_points, "(B, M, d)")
    checks.check_rank("text_points", text_points, "(C, N, d)")
    checks.check_same_width("image_points", image_points, "text_points", text_points)
    if (image_tokens is None) != (text_tokens is None):
        missing = "image_tokens" if image_tokens is None else "text_tokens"
        raise ValueError(f"{missing} is missing, expected both image_tokens and text_tokens or neither")
    for name, points, tokens_name, tokens in (
        ("image_points", image_points, "image_tokens", image_tokens),
        ("text_points", text_points, "text_tokens", text_tokens),
    ):
        if tokens is not None and tokens.shape[:2] != points.shape[:2]:
            raise ValueError(
                f"{tokens_name} has shape {tuple(tokens.shape)}, expected it to begin with "
                f"{tuple(points.shape[:2])} as {name} of shape {tuple(points.shape)} does"
            )
