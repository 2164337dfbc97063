"""Triton kernels of ``alignment.fused.token``: one program, and as a rule one warp, for one problem.

The scores of a chunk of problems are in memory as a matrix (text tokens, image tokens) of a row stride; a problem is P
adjacent columns of L adjacent rows. A token of mass zero takes no part; its scores are not read.
"""

import triton
import triton.language as tl

from alignment.fused.arithmetic import cast, exp2, log2
from alignment.fused.scaling import iterate, plan_of, step

# They differ from chunk to chunk, and a kernel compiled for one of them would be compiled again for the next.
OF_CHUNK = ["points", "first_image", "first_class"]


@triton.jit(do_not_specialize=OF_CHUNK)
def transport_kernel(
    scores,  # (prompts * L, stride)
    image_mass,  # (points, P)
    text_mass,  # (prompts, L)
    similarity,  # (problems,), placed by ``_place``
    before,  # (problems, L) column scalings that enter the last step, placed likewise
    changes,  # (prompts, points, max_iter): sums of the changes, written instead of the results; or None
    steps,  # (classes, images) how many iterations to make, or None: ``max_iter``; with ``changes`` what is known of it
    known,  # steps below this number are final, and their changes not wanted
    stride,
    points,  # of the chunk, M of each image
    M,
    N,
    P,
    L,
    first_image,
    first_class,
    classes,  # of all
    scale,  # log2(e) / eps
    start,
    threshold,
    max_iter,
    GROUP: tl.constexpr,
    ROWS: tl.constexpr,
    COLS: tl.constexpr,
    LOGARITHMS: tl.constexpr,
):
    point, prompt = tl.program_id(0) % points, tl.program_id(0) // points
    most = max_iter
    if steps is not None:
        wanted = tl.load(steps + (prompt // N) * (points // M) + point // M)
        if changes is None:
            most = wanted
        elif wanted < known:
            return
    s, u, v, _, _, _ = _problem(scores, image_mass, text_mass, stride, point, prompt, P, L, ROWS, COLS)
    there = tl.full((1,), 1, tl.int1)
    count = tl.sum((u > 0).to(tl.float32), axis=1)
    if changes is not None:
        changes += (tl.program_id(0).to(tl.int64) + tl.arange(0, 1)) * max_iter
    kernel, r, c, c_before = iterate(
        s * scale, u, v, there, count, start, threshold, most, changes, 1, LOGARITHMS
    )
    if changes is None:
        if LOGARITHMS:
            value = tl.sum(plan_of(kernel, r, c, LOGARITHMS) * kernel, axis=1)
        else:  # it is cheaper to take the logarithm than to keep the scores beside the kernel
            value = tl.sum(kernel * log2(kernel) * c[:, :, None], axis=1) * r
        place = _place(point, prompt, M, N, first_image, first_class, classes)
        tl.store(similarity + place + tl.arange(0, 1), tl.sum(value, axis=1) / scale)
        col = tl.arange(0, COLS)[None, :]
        tl.store(before + place * L + col, c_before, mask=col < L)


@triton.jit(do_not_specialize=OF_CHUNK)
def flow_kernel(
    scores,  # (prompts * L, stride)
    image_mass,  # (points, P)
    text_mass,  # (prompts, L)
    before,  # (problems, L)
    gradient,  # (problems,) of the similarities
    factor,  # (1,) what to multiply it by, or None
    flow,  # (prompts * L, stride): the plans, each times its gradient
    stride,
    points,
    M,
    N,
    P,
    L,
    first_image,
    first_class,
    classes,
    scale,
    GROUP: tl.constexpr,
    ROWS: tl.constexpr,
    COLS: tl.constexpr,
    LOGARITHMS: tl.constexpr,
):
    point, prompt = tl.program_id(0) % points, tl.program_id(0) // points
    s, u, v, corner, cell, inside = _problem(
        scores, image_mass, text_mass, stride, point, prompt, P, L, ROWS, COLS
    )
    place = _place(point, prompt, M, N, first_image, first_class, classes)
    col = tl.arange(0, COLS)[None, :]
    c = tl.load(before + place * L + col, mask=col < L, other=0.0)
    g = tl.load(gradient + place)
    if factor is not None:
        g *= tl.load(factor)
    kernel = s * scale
    if LOGARITHMS:
        c = tl.where(v > 0, c, float("-inf"))
    else:
        kernel = exp2(kernel)
    r, c = step(kernel, u, v, c, LOGARITHMS)
    result = plan_of(kernel, r, c, LOGARITHMS) * g
    tl.store(flow + corner + cell, cast(result, flow.dtype.element_ty), mask=inside)


@triton.jit
def _problem(
    scores, image_mass, text_mass, stride, point, prompt, P, L, ROWS: tl.constexpr, COLS: tl.constexpr
):
    """Scores (1, COLS, ROWS) of a problem, its masses, and where its cells are: the first, the others from there,
    whether there are such.
    """
    row, col = tl.arange(0, ROWS)[None, :], tl.arange(0, COLS)[None, :]
    u = tl.load(image_mass + point * P + row, mask=row < P, other=0.0)
    v = tl.load(text_mass + prompt * L + col, mask=col < L, other=0.0)
    corner = (prompt * L).to(tl.int64) * stride + point * P
    cell = col[:, :, None] * stride + row[:, None, :]
    present = (u > 0)[:, None, :] & (v > 0)[:, :, None]
    s = tl.load(scores + corner + cell, mask=present, other=0.0)
    return s, u, v, corner, cell, (row < P)[:, None, :] & (col < L)[:, :, None]


@triton.jit
def _place(point, prompt, M, N, first_image, first_class, classes):
    """Of a problem in (B, C, M, N)."""
    b, c = first_image + point // M, first_class + prompt // N
    pair = b.to(tl.int64) * classes + c
    return (pair * M + point % M) * N + prompt % N
