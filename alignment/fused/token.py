"""Token transport on a GPU: ``alignment::transport`` and its gradient, ``alignment::transport_gradient``.

The products of all tokens are the matrix library's, chunk by chunk into a buffer of scores that ``memory`` bounds; a
kernel then reads the scores of every problem once and solves it in registers. For the gradient (the plan held constant)

    d similarity / d x_j = sum_l T_jl y_l,    d similarity / d y_l = sum_j T_jl x_j

the scores are computed once more, a kernel writes plan times gradient in the features' dtype, and both sums are the
library's products again, added up over the chunks in fp32 and in a fixed order. So a forward pass costs one product
and a backward pass three, beside a few passes over the scores.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from alignment.fused import sizes
from alignment.fused.chunks import chunks, stride_of
from alignment.fused.device import on_device
from alignment.fused.features import finish, prepare
from alignment.fused.products import multiply
from alignment.fused.stopping import start_and_threshold, steps_until
from alignment.fused.token_kernels import flow_kernel, transport_kernel
from alignment.sinkhorn import SMALLEST_SCALING_EPS

FEW_STEPS = 16  # of problems that stop together: whoever needs more makes all, to see how many


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
    similarity, _ = transport(
        image.contiguous(),
        text.contiguous(),
        image_mass.contiguous(),
        text_mass.contiguous(),
        eps,
        max_iter,
        -1.0 if tol is None else tol,
        together,
        normalize,
        allow_tf32,
        memory,
    )
    return similarity


@torch.library.custom_op("alignment::transport", mutates_args=())
def transport(
    image: Tensor,
    text: Tensor,
    image_mass: Tensor,
    text_mass: Tensor,
    eps: float,
    max_iter: int,
    tol: float,
    together: bool,
    normalize: bool,
    allow_tf32: bool,
    memory: int,
) -> tuple[Tensor, Tensor]:
    """Similarities (B, C, M, N) and the column scalings that enter each problem's last step, (B, C, M, N, L)."""
    (_, M, P, _), (_, N, L, _) = image.shape, text.shape
    similarity, before = _results(image, text)
    start, threshold = start_and_threshold(eps, tol)
    together = together and tol >= 0
    dtype = _product_dtype(image, allow_tf32)
    x, y = image, text
    cells = memory * P * L // (4 * (P * L + (max_iter + FEW_STEPS if together else 0)))

    with on_device(image), torch.autocast(image.device.type, enabled=False):
        if normalize or dtype != image.dtype:
            x, _ = prepare(image, image_mass, normalize, dtype)
            y, _ = prepare(text, text_mass, normalize, dtype)
        for chunk in _scored(x, y, image_mass, text_mass, cells):

            def solve(
                threshold: float,
                steps: Tensor | None = None,
                changes: Tensor | None = None,
                chunk: _Chunk = chunk,
            ) -> None:
                transport_kernel[(chunk.problems,)](
                    **chunk.arguments,
                    similarity=similarity,
                    before=before,
                    changes=changes,
                    steps=steps,
                    known=FEW_STEPS,
                    scale=math.log2(math.e) / eps,
                    start=start,
                    threshold=threshold,
                    max_iter=max_iter if changes is None else changes.shape[-1],
                    LOGARITHMS=eps < SMALLEST_SCALING_EPS,
                    **sizes.launch(P, L),
                )

            if together:
                pairs = (len(text[chunk.classes]), N, len(image[chunk.images]), M)
                tokens = N * (image_mass[chunk.images] > 0).sum((1, 2))[:, None]
                # The iterations do not depend on where they end: see from their changes how many are wanted.
                steps = None
                for most in sorted({min(FEW_STEPS, max_iter), max_iter}):
                    changes = image_mass.new_empty(*pairs, most)
                    solve(-1.0, steps, changes)
                    found = steps_until(changes.sum((1, 3)) / tokens, threshold)
                    steps = found if steps is None else torch.where(steps < FEW_STEPS, steps, found)
                solve(-1.0, steps)
            else:
                solve(threshold)
    return similarity, before


@transport.register_fake
def _(image, text, image_mass, text_mass, eps, max_iter, tol, together, normalize, allow_tf32, memory):
    return _results(image, text)


def _results(image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
    (B, M, _, _), (C, N, L, _) = image.shape, text.shape
    similarity, before = (
        image.new_empty(shape, dtype=torch.float32) for shape in ((B, C, M, N), (B, C, M, N, L))
    )
    return similarity, before


@torch.library.custom_op("alignment::transport_gradient", mutates_args=())
def transport_gradient(
    gradient: Tensor,
    image: Tensor,
    text: Tensor,
    image_mass: Tensor,
    text_mass: Tensor,
    before: Tensor,
    eps: float,
    normalize: bool,
    allow_tf32: bool,
    memory: int,
    of_image: bool,
    of_text: bool,
) -> tuple[Tensor, Tensor]:
    """Gradients of image and text from that of the similarities, fp32; empty where not wanted."""
    P, L, d = image.shape[2], *text.shape[2:]
    dtype = _product_dtype(image, allow_tf32)
    image_sum, text_sum = (
        torch.empty_like(t if wanted else t[:0], dtype=torch.float32)
        for t, wanted in ((image, of_image), (text, of_text))
    )
    factor = None
    if dtype != torch.float32:
        # A plan's entries are at most about 1 / P: bring plan times gradient to the order of one, where 16 bits
        # hold it.
        factor = P / gradient.abs().amax().clamp_min(torch.finfo(torch.float32).tiny)

    flows = image.new_empty(0, dtype=dtype)
    with on_device(image), torch.autocast(image.device.type, enabled=False):
        # Of tokens without mass the scores are not read, but these products read everything.
        x, image_norms = prepare(image, image_mass, normalize, dtype)
        y, text_norms = prepare(text, text_mass, normalize, dtype)
        for chunk in _scored(x, y, image_mass, text_mass, memory // (4 + x.itemsize)):
            if len(flows) == 0:  # the first chunk is the largest
                flows = x.new_empty(chunk.scores.numel())
            flow = flows[: chunk.scores.numel()].view(chunk.scores.shape)
            flow_kernel[(chunk.problems,)](
                **chunk.arguments,
                before=before,
                gradient=gradient,
                factor=factor,
                flow=flow,
                scale=math.log2(math.e) / eps,
                LOGARITHMS=eps < SMALLEST_SCALING_EPS,
                **sizes.launch(P, L),
            )
            flow = flow[:, : len(chunk.x)]
            if of_image:
                target = image_sum[chunk.images].view(-1, d)
                _add_product(flow.T, chunk.y, target, first=chunk.classes.start == 0)
            if of_text:
                target = text_sum[chunk.classes].view(-1, d)
                _add_product(flow, chunk.x, target, first=chunk.images.start == 0)
        return (
            finish(image_sum, factor, image, image_mass, image_norms) if of_image else image.new_empty(0),
            finish(text_sum, factor, text, text_mass, text_norms) if of_text else text.new_empty(0),
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
):
    return (
        torch.empty_like(image) if of_image else image.new_empty(0),
        torch.empty_like(text) if of_text else text.new_empty(0),
    )


class _Chunk(NamedTuple):
    """Some images and classes, the matrices (tokens, d) of their features, and their scores (text, image)."""

    images: slice
    classes: slice
    x: Tensor
    y: Tensor
    scores: Tensor
    problems: int
    arguments: dict[str, Any]  # of the kernels


def _scored(
    image: Tensor, text: Tensor, image_mass: Tensor, text_mass: Tensor, cells: int
) -> Iterator[_Chunk]:
    """All problems in chunks of at most so many scores, which live until the next chunk."""
    (B, M, P, d), (C, N, L, _) = image.shape, text.shape
    buffer = None
    for images, classes in chunks(B, C, M * P, N * L, cells):
        x, y = image[images].view(-1, d), text[classes].view(-1, d)
        stride = stride_of(len(x))
        if buffer is None:  # the first chunk is the largest
            buffer = image_mass.new_empty(len(y) * stride)
        scores = buffer[: len(y) * stride].view(len(y), stride)
        multiply(y, x.T, scores[:, : len(x)])
        points, prompts = len(x) // P, len(y) // L
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
        yield _Chunk(images, classes, x, y, scores, points * prompts, arguments)


def _product_dtype(tokens: Tensor, allow_tf32: bool) -> torch.dtype:
    """fp16 has the mantissa of TF32, and what is multiplied is at most about one."""
    return torch.float16 if allow_tf32 and tokens.dtype == torch.float32 else tokens.dtype


def _add_product(a: Tensor, b: Tensor, total: Tensor, first: bool) -> None:
    if first:
        multiply(a, b, total)
    else:
        total.add_(multiply(a, b, torch.empty_like(total)))


def _setup_context(ctx, inputs, output) -> None:
    image, text, image_mass, text_mass, eps, _, _, _, *options = inputs
    _, before = output
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(image, text, image_mass, text_mass, before)
    ctx.eps, ctx.options = eps, options


def _backward(ctx, gradient, _before):
    if gradient is None:
        return (None,) * 11
    of_image, of_text = ctx.needs_input_grad[:2]
    image, text = transport_gradient(
        gradient.float().contiguous(), *ctx.saved_tensors, ctx.eps, *ctx.options, of_image, of_text
    )
    return (image if of_image else None, text if of_text else None, *(None,) * 9)


transport.register_autograd(_backward, setup_context=_setup_context)
