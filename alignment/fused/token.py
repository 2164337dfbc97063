"""Token transport on a GPU: ``alignment::transport`` and its gradient, ``alignment::transport_gradient``.

The products of all tokens are the matrix library's, chunk by chunk into a buffer of scores that ``memory`` bounds; a
kernel then reads the scores of every problem once and solves it in registers. For the gradient (the plan held constant)

    d similarity / d x_j = sum_l T_jl y_l,    d similarity / d y_l = sum_j T_jl x_j

the scores are computed once more, a kernel writes plan times gradient in the features' dtype, and both sums are the
library's products again, added up over the chunks in fp32 and in a fixed order. So a forward pass costs one product
and a backward pass three, beside a few passes over the scores. The same kernel writes the plans themselves, and what
the problems give to the gradient of the masses.

Where costs are given instead of features, a chunk of these is the scores, and of the flows the gradient.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from alignment.facts import Fact
from alignment.fused import sizes
from alignment.fused.chunks import chunks, stride_of
from alignment.fused.device import on_device
from alignment.fused.features import finish, prepare
from alignment.fused.products import multiply
from alignment.fused.stopping import start_and_threshold, steps_until
from alignment.fused.token_kernels import flow_kernel, transport_kernel
from alignment.problems import Problems
from alignment.rule import Rule

FEW_STEPS = 16  # of problems that stop together: whoever needs more makes all, to see how many
EXACT = -1.0  # the reach, for the operators, of a marginal that is met


def token_similarity(
    image: Tensor,
    text: Tensor,
    image_mass: Tensor,
    text_mass: Tensor,
    eps: float,
    max_iter: int,
    tol: float | None,
    together: bool,
    normalize: bool,
    allow_tf32: bool,
    memory: int,
) -> Tensor:
    """sum(T * <x, y>) of all problems, (B, C, M, N).

    ``image`` (B, M, P, d) and ``text`` (C, N, L, d) have one dtype, ``image_mass`` and ``text_mass`` are their fp32
    marginals; what tokens of mass zero hold does not matter. ``tol=None`` makes ``max_iter`` iterations; ``together``
    stops the M x N problems of a pair by their common mean.
    """
    stop = "fixed" if tol is None else "release" if together else "problem"
    rule = Rule.of(eps, max_iter, stop, 0.0 if tol is None else tol)
    problems = Problems(image, text, None, image_mass, text_mass, None, rule, normalize, memory)
    return similarities(problems, allow_tf32, with_facts=False)[0]


def similarities(problems: Problems, allow_tf32: bool, with_facts: bool) -> tuple[Tensor, Tensor, Tensor]:
    """As ``alignment.plain.similarities``."""
    similarity, _, facts, potentials = transport(*_arguments(problems, allow_tf32), with_facts)
    return similarity, facts, potentials


def plans(problems: Problems, allow_tf32: bool) -> Tensor:
    """The plans (B, C, M, N, P, L), from the stored column scalings."""
    return _plans(problems, allow_tf32, 0)[0]


def largest(problems: Problems, allow_tf32: bool, k: int) -> tuple[Tensor, Tensor]:
    """As ``alignment.plain.largest``."""
    return _plans(problems, allow_tf32, k)


@torch.no_grad()
def _plans(problems: Problems, allow_tf32: bool, k: int) -> tuple[Tensor, Tensor]:
    arguments = _arguments(problems, allow_tf32)
    _, before, _, _ = transport(*arguments, False)
    *tensors, eps, _, _, _, normalize, _, memory, cost, rows, cols, logarithms = arguments
    return transport_plans(
        *tensors, before, eps, normalize, allow_tf32, memory, k, cost, rows, cols, logarithms
    )


def _arguments(problems: Problems, allow_tf32: bool) -> tuple[Any, ...]:
    """Of the operators, all but the last."""
    rule = problems.rule
    image, text, cost, image_mass, text_mass = (
        None if t is None else t.contiguous() for t in problems.tensors
    )
    reach = (EXACT if rho == math.inf else rho for rho in rule.reach)
    return (
        image,
        text,
        image_mass,
        text_mass,
        rule.eps,
        rule.max_iter,
        -1.0 if rule.threshold is None else rule.threshold,
        rule.together,
        problems.normalize,
        allow_tf32,
        problems.memory,
        cost,
        *reach,
        rule.logarithms,
    )


def _rule(
    eps: float, max_iter: int, tol: float, together: bool, reach: tuple[float, float], logarithms: bool
):
    """Back from the operators' arguments."""
    rows, cols = (rho if rho >= 0 else math.inf for rho in reach)
    stop = "fixed" if tol < 0 else "release" if together else "problem"
    return Rule.of(eps, max_iter, stop, tol, reach=(rows, cols), logarithms=logarithms)


def _relaxation(rule: Rule) -> dict[str, Any]:
    """Arguments of the kernels."""
    rows, cols = (EXACT if rho == math.inf else rho for rho in rule.reach)
    p, q = rule.powers
    return {
        "reach_rows": rows,
        "reach_cols": cols,
        "power_rows": p,
        "power_cols": q,
        "BALANCED": rule.balanced,
    }


@torch.library.custom_op("alignment::transport", mutates_args=())
def transport(
    image: Tensor | None,
    text: Tensor | None,
    image_mass: Tensor,
    text_mass: Tensor,
    eps: float,
    max_iter: int,
    tol: float,
    together: bool,
    normalize: bool,
    allow_tf32: bool,
    memory: int,
    cost: Tensor | None = None,
    reach_rows: float = EXACT,
    reach_cols: float = EXACT,
    logarithms: bool = False,
    with_facts: bool = False,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Similarities (B, C, M, N) and the column scalings that enter each problem's last step, (B, C, M, N, L); the facts
    (B, C, M, N, 6) and the potentials of the text tokens, (B, C, M, N, L), where wanted, or empty tensors.
    """
    (_, M, P), (_, N, L) = image_mass.shape, text_mass.shape
    similarity, before, facts, potentials = _results(image_mass, text_mass, with_facts)
    if with_facts:
        potentials.fill_(-math.inf)
    rule = _rule(eps, max_iter, tol, together, (reach_rows, reach_cols), logarithms)
    start, threshold = start_and_threshold(rule)
    x, y = image, text
    cells = memory * P * L // (4 * (P * L + (max_iter + FEW_STEPS if rule.together else 0)))

    with on_device(image_mass), torch.autocast(image_mass.device.type, enabled=False):
        if image is not None and text is not None:
            dtype = _product_dtype(image, allow_tf32)
            if normalize or dtype != image.dtype:
                x, _ = prepare(image, image_mass, normalize, dtype)
                y, _ = prepare(text, text_mass, normalize, dtype)
        for chunk in _scored(x, y, cost, image_mass, text_mass, cells):

            def solve(
                threshold: float,
                steps: Tensor | None = None,
                changes: Tensor | None = None,
                chunk: _Chunk = chunk,
            ) -> None:
                wanted = with_facts and changes is None
                transport_kernel[(chunk.problems,)](
                    **chunk.arguments,
                    **_relaxation(rule),
                    similarity=similarity,
                    before=before,
                    changes=changes,
                    steps=steps,
                    facts=facts if wanted else None,
                    potentials=potentials if wanted else None,
                    known=FEW_STEPS,
                    scale=math.log2(math.e) / eps,
                    start=start,
                    threshold=threshold,
                    max_iter=max_iter if changes is None else changes.shape[-1],
                    LOGARITHMS=rule.logarithms,
                    OF_LOGARITHMS=rule.of_logarithms,
                    **sizes.launch(P, L),
                )

            if rule.together:
                images, classes = chunk.images, chunk.classes
                pairs = (len(text_mass[classes]), N, len(image_mass[images]), M)
                tokens = N * (image_mass[images] > 0).sum((1, 2))[:, None]
                # The iterations do not depend on where they end: see from their changes how many are wanted.
                steps: Tensor | None = None
                below: Tensor | None = None
                for most in sorted({min(FEW_STEPS, max_iter), max_iter}):
                    changes = image_mass.new_empty(*pairs, most)
                    solve(-1.0, steps, changes)
                    mean = changes.sum((1, 3)) / tokens
                    found, fell = steps_until(mean, threshold), mean[..., -1] < threshold
                    steps = found if steps is None else torch.where(steps < FEW_STEPS, steps, found)
                    below = fell if below is None else below | fell
                solve(-1.0, steps)
                if with_facts:
                    assert steps is not None
                    assert below is not None
                    converged = (steps < max_iter) | below
                    facts[images, classes, ..., Fact.CONVERGED] = converged.T[..., None, None].to(facts.dtype)
            else:
                solve(threshold)
    return similarity, before, facts, potentials


@transport.register_fake
def _(
    image,
    text,
    image_mass,
    text_mass,
    eps,
    max_iter,
    tol,
    together,
    normalize,
    allow_tf32,
    memory,
    cost=None,
    reach_rows=EXACT,
    reach_cols=EXACT,
    logarithms=False,
    with_facts=False,
):
    return _results(image_mass, text_mass, with_facts)


def _results(
    image_mass: Tensor, text_mass: Tensor, with_facts: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    (B, M, _), (C, N, L) = image_mass.shape, text_mass.shape
    shape, new = (B, C, M, N), image_mass.new_empty
    if with_facts:
        return new(shape), new((*shape, L)), new((*shape, len(Fact))), new((*shape, L))
    return new(shape), new((*shape, L)), new(0), new(0)


@torch.library.custom_op("alignment::transport_gradient", mutates_args=())
def transport_gradient(
    gradient: Tensor,
    image: Tensor | None,
    text: Tensor | None,
    image_mass: Tensor,
    text_mass: Tensor,
    before: Tensor,
    eps: float,
    normalize: bool,
    allow_tf32: bool,
    memory: int,
    of_image: bool,
    of_text: bool,
    cost: Tensor | None = None,
    reach_rows: float = EXACT,
    reach_cols: float = EXACT,
    logarithms: bool = False,
    of_optimum: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of image and text from that of the similarities, fp32, or of the costs in the place of the image's; and
    of both masses from that of the regularised optimum (``alignment.facts``). Empty where not wanted.
    """
    (_, _, P), (_, _, L) = image_mass.shape, text_mass.shape
    rule = _rule(eps, 1, -1.0, False, (reach_rows, reach_cols), logarithms)
    of_cost = image_mass.new_empty(0) if cost is None else torch.empty_like(cost)
    image_sum, text_sum, masses = image_mass, text_mass, (image_mass.new_empty(0), text_mass.new_empty(0))
    x, y, dtype, d = image, text, torch.float32, 0
    factor = None
    if image is not None and text is not None:
        d, dtype = image.shape[-1], _product_dtype(image, allow_tf32)
        image_sum, text_sum = (
            torch.empty_like(t if wanted else t[:0], dtype=torch.float32)
            for t, wanted in ((image, of_image), (text, of_text))
        )
    if dtype != torch.float32:
        # A plan's entries are at most about 1 / P: bring plan times gradient to the order of one, where 16 bits
        # hold it.
        factor = P / gradient.abs().amax().clamp_min(torch.finfo(torch.float32).tiny)
    if of_optimum is not None:
        masses = torch.zeros_like(image_mass), torch.zeros_like(text_mass)

    flows = image_mass.new_empty(0, dtype=dtype)
    with on_device(image_mass), torch.autocast(image_mass.device.type, enabled=False):
        if image is not None and text is not None:
            # Of tokens without mass the scores are not read, but these products read everything.
            x, image_norms = prepare(image, image_mass, normalize, dtype)
            y, text_norms = prepare(text, text_mass, normalize, dtype)
        for chunk in _scored(x, y, cost, image_mass, text_mass, memory // (4 + dtype.itemsize)):
            if len(flows) == 0:  # the first chunk is the largest
                flows = flows.new_empty(chunk.scores.numel())
            flow = flows[: chunk.scores.numel()].view(chunk.scores.shape)
            shares: list[Tensor] = []
            if of_optimum is not None:
                points, prompts = chunk.arguments["points"], chunk.problems // chunk.arguments["points"]
                shares = [image_mass.new_empty(prompts, points * P), text_mass.new_empty(prompts * L, points)]
            flow_kernel[(chunk.problems,)](
                **chunk.arguments,
                **_relaxation(rule),
                before=before,
                gradient=gradient,
                factor=factor,
                flow=flow,
                of_optimum=of_optimum,
                image_flow=shares[0] if shares else None,
                text_flow=shares[1] if shares else None,
                scale=math.log2(math.e) / eps,
                LOGARITHMS=rule.logarithms,
                **sizes.launch(P, L),
            )
            for mass, share, there, dim in zip(masses, shares, (chunk.images, chunk.classes), (0, 1)):
                mass[there] += share.sum(dim).view_as(mass[there])
            if chunk.x is None or chunk.y is None:
                of_cost[chunk.images, chunk.classes] = -chunk.by_problem(flow)
                continue
            flow = flow[:, : len(chunk.x)]
            if of_image:
                target = image_sum[chunk.images].view(-1, d)
                _add_product(flow.T, chunk.y, target, first=chunk.classes.start == 0)
            if of_text:
                target = text_sum[chunk.classes].view(-1, d)
                _add_product(flow, chunk.x, target, first=chunk.images.start == 0)
        if image is None or text is None:
            return of_cost, image_mass.new_empty(0), *masses
        return (
            finish(image_sum, factor, image, image_mass, image_norms) if of_image else image.new_empty(0),
            finish(text_sum, factor, text, text_mass, text_norms) if of_text else text.new_empty(0),
            *masses,
        )


@transport_gradient.register_fake
def _(
    gradient,
    image,
    text,
    image_mass,
    text_mass,
    before,
    eps,
    normalize,
    allow_tf32,
    memory,
    of_image,
    of_text,
    cost=None,
    reach_rows=EXACT,
    reach_cols=EXACT,
    logarithms=False,
    of_optimum=None,
):
    masses = [mass.new_empty(mass.shape if of_optimum is not None else 0) for mass in (image_mass, text_mass)]
    if cost is not None:
        return torch.empty_like(cost), image_mass.new_empty(0), *masses
    return (
        torch.empty_like(image) if of_image else image.new_empty(0),
        torch.empty_like(text) if of_text else text.new_empty(0),
        *masses,
    )


@torch.library.custom_op("alignment::transport_plans", mutates_args=())
def transport_plans(
    image: Tensor | None,
    text: Tensor | None,
    image_mass: Tensor,
    text_mass: Tensor,
    before: Tensor,
    eps: float,
    normalize: bool,
    allow_tf32: bool,
    memory: int,
    k: int,
    cost: Tensor | None,
    reach_rows: float,
    reach_cols: float,
    logarithms: bool,
) -> tuple[Tensor, Tensor]:
    """Plans (B, C, M, N, P, L), and an empty tensor; or, where k > 0, their k largest entries (B, C, M, N, k) and the
    places of these, p * L + l.
    """
    values, places = _results_of_plans(image_mass, text_mass, k)
    rule = _rule(eps, 1, -1.0, False, (reach_rows, reach_cols), logarithms)
    x, y = image, text
    with on_device(image_mass), torch.autocast(image_mass.device.type, enabled=False):
        if image is not None and text is not None:
            dtype = _product_dtype(image, allow_tf32)
            x, _ = prepare(image, image_mass, normalize, dtype)
            y, _ = prepare(text, text_mass, normalize, dtype)
        flow = image_mass.new_empty(0)
        for chunk in _scored(x, y, cost, image_mass, text_mass, memory // 8):
            if flow.numel() < chunk.scores.numel():  # the first chunk is the largest
                flow = torch.empty_like(chunk.scores)
            plan = flow.view(-1)[: chunk.scores.numel()].view(chunk.scores.shape)
            flow_kernel[(chunk.problems,)](
                **chunk.arguments,
                **_relaxation(rule),
                before=before,
                gradient=None,
                factor=None,
                flow=plan,
                of_optimum=None,
                image_flow=None,
                text_flow=None,
                scale=math.log2(math.e) / eps,
                LOGARITHMS=rule.logarithms,
                **sizes.launch(image_mass.shape[2], text_mass.shape[2]),
            )
            there = chunk.images, chunk.classes
            if k == 0:
                values[there] = chunk.by_problem(plan)
            else:
                values[there], places[there] = chunk.by_problem(plan).flatten(4).topk(k, dim=-1)
    return values, places


@transport_plans.register_fake
def _(
    image,
    text,
    image_mass,
    text_mass,
    before,
    eps,
    normalize,
    allow_tf32,
    memory,
    k,
    cost,
    reach_rows,
    reach_cols,
    logarithms,
):
    return _results_of_plans(image_mass, text_mass, k)


def _results_of_plans(image_mass: Tensor, text_mass: Tensor, k: int) -> tuple[Tensor, Tensor]:
    (B, M, P), (C, N, L) = image_mass.shape, text_mass.shape
    shape = (B, C, M, N)
    places = image_mass.new_empty((*shape, k) if k else 0, dtype=torch.long)
    return image_mass.new_empty((*shape, k) if k else (*shape, P, L)), places


class _Chunk(NamedTuple):
    """Some images and classes, the matrices (tokens, d) of their features (of costs: None), and their scores (text,
    image).
    """

    images: slice
    classes: slice
    x: Tensor | None
    y: Tensor | None
    scores: Tensor
    problems: int
    arguments: dict[str, Any]  # of the kernels

    def by_problem(self, matrix: Tensor) -> Tensor:
        """A matrix like the scores, as (b, k, M, N, P, L)."""
        M, N, P, L, points = (self.arguments[name] for name in ("M", "N", "P", "L", "points"))
        cells = matrix[:, : points * P].unflatten(1, (-1, M, P)).unflatten(0, (-1, N, L))
        return cells.permute(3, 0, 4, 1, 5, 2)


def _scored(
    image: Tensor | None,
    text: Tensor | None,
    cost: Tensor | None,
    image_mass: Tensor,
    text_mass: Tensor,
    cells: int,
) -> Iterator[_Chunk]:
    """All problems in chunks of at most so many scores, which live until the next chunk."""
    (B, M, P), (C, N, L) = image_mass.shape, text_mass.shape
    buffer = None
    for images, classes in chunks(B, C, M * P, N * L, cells):
        points, prompts = M * (images.stop - images.start), N * (classes.stop - classes.start)
        stride = stride_of(points * P)
        if buffer is None:  # the first chunk is the largest
            buffer = image_mass.new_empty(prompts * L * stride)
        scores = buffer[: prompts * L * stride].view(prompts * L, stride)
        arguments = {
            "scores": scores,
            "image_mass": image_mass[images],
            "text_mass": text_mass[classes],
            "stride": stride,
            "points": points,
            "M": M,
            "N": N,
            "P": P,
            "L": L,
            "first_image": images.start,
            "first_class": classes.start,
            "classes": C,
        }
        x = y = None
        if image is not None and text is not None:
            x, y = image[images].view(points * P, -1), text[classes].view(prompts * L, -1)
            multiply(y, x.T, scores[:, : points * P])
        chunk = _Chunk(images, classes, x, y, scores, points * prompts, arguments)
        if cost is not None:
            torch.sub(1, cost[images, classes], out=chunk.by_problem(scores))
        yield chunk


def _product_dtype(tokens: Tensor, allow_tf32: bool) -> torch.dtype:
    """fp16 has the mantissa of TF32, and what is multiplied is at most about one."""
    return torch.float16 if allow_tf32 and tokens.dtype == torch.float32 else tokens.dtype


def _add_product(a: Tensor, b: Tensor, total: Tensor, first: bool) -> None:
    if first:
        multiply(a, b, total)
    else:
        total.add_(multiply(a, b, torch.empty_like(total)))


def _setup_context(ctx, inputs, output) -> None:
    image, text, image_mass, text_mass, eps, _, _, _, normalize, allow_tf32, memory, cost, *rest = inputs
    _, before, _, _ = output
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(image, text, image_mass, text_mass, before, cost)
    ctx.eps, ctx.options, ctx.relaxed = eps, (normalize, allow_tf32, memory), rest[:-1]


def _backward(ctx, gradient, _before, of_facts, _potentials):
    *tensors, before, cost = ctx.saved_tensors
    needed = ctx.needs_input_grad
    of_optimum = None
    if of_facts is not None and any(needed[2:4]):
        of_optimum = of_facts[..., Fact.PENALTY].contiguous()
    if gradient is None and of_optimum is None:
        return (None,) * 16
    if gradient is None:
        gradient = torch.zeros_like(of_optimum)
    first, text, *masses = transport_gradient(
        gradient.float().contiguous(),
        *tensors,
        before,
        ctx.eps,
        *ctx.options,
        *needed[:2],
        cost,
        *ctx.relaxed,
        of_optimum,
    )
    image = first if needed[0] else None
    masses = [m if wanted and of_optimum is not None else None for m, wanted in zip(masses, needed[2:4])]
    of_cost = first if cost is not None and needed[11] else None
    return image, text if needed[1] else None, *masses, *(None,) * 7, of_cost, *(None,) * 4


transport.register_autograd(_backward, setup_context=_setup_context)
