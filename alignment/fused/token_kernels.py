"""Triton kernels of transport between sets of tokens: one program, and as a rule one warp, for one problem.

The scores of a chunk of problems are in memory as a matrix (text tokens, image tokens) of a row stride; a problem is P
adjacent columns of L adjacent rows. A token of mass zero takes no part; its scores are not read.
"""

import triton
import triton.language as tl

from alignment.fused.arithmetic import cast, exp2, log2
from alignment.fused.fact_kernels import store_facts, weight_gradient
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
    facts,  # (problems, 6) in the order of ``alignment.facts``, placed likewise, or None
    potentials,  # (problems, L) eps log c, placed likewise; with facts
    known,  # steps below this number are final, and their changes not wanted
    reach_rows,  # at which price a marginal may be missed; negative: at none
    reach_cols,
    power_rows,  # of the updates
    power_cols,
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
    OF_LOGARITHMS: tl.constexpr,
    BALANCED: tl.constexpr,
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
    kernel, r, c, c_before, made, running = iterate(
        *(s * scale, u, v, there, count, start, threshold, most, changes, power_rows, power_cols),
        GROUP=1,
        LOGARITHMS=LOGARITHMS,
        OF_LOGARITHMS=OF_LOGARITHMS,
        BALANCED=BALANCED,
        COUNT=facts is not None,
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
        if facts is not None:
            converged = tl.where(running & (threshold >= 0), 0.0, 1.0)
            plan = plan_of(kernel, r, c, LOGARITHMS)
            log_r = r if LOGARITHMS else log2(r)
            log_c = c if LOGARITHMS else log2(c)
            tl.store(potentials + place * L + col, log_c / scale, mask=(col < L) & (v > 0))
            to = facts + place * 6 + tl.arange(0, 1)
            store_facts(
                to, plan, u, v, log_r, scale, reach_rows, reach_cols, power_rows, made, converged, BALANCED
            )


@triton.jit(do_not_specialize=OF_CHUNK)
def flow_kernel(
    scores,  # (prompts * L, stride)
    image_mass,  # (points, P)
    text_mass,  # (prompts, L)
    before,  # (problems, L)
    gradient,  # (problems,) of the similarities; None: the plans themselves are wanted
    factor,  # (1,) what to multiply it by, or None
    flow,  # (prompts * L, stride): the plans, each times its gradient
    of_optimum,  # (problems,) gradient of the regularised optimum, for that of the masses; or None
    image_flow,  # (prompts, points * P) what each problem gives to that, with it
    text_flow,  # (prompts * L, points) likewise
    reach_rows,
    reach_cols,
    power_rows,
    power_cols,
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
    BALANCED: tl.constexpr,
):
    point, prompt = tl.program_id(0) % points, tl.program_id(0) // points
    s, u, v, corner, cell, inside = _problem(
        scores, image_mass, text_mass, stride, point, prompt, P, L, ROWS, COLS
    )
    place = _place(point, prompt, M, N, first_image, first_class, classes)
    col = tl.arange(0, COLS)[None, :]
    c = tl.load(before + place * L + col, mask=col < L, other=0.0)
    kernel = s * scale
    if LOGARITHMS:
        c = tl.where(v > 0, c, float("-inf"))
    else:
        kernel = exp2(kernel)
    r, c = step(kernel, u, v, c, -scale, power_rows, power_cols, LOGARITHMS, BALANCED)
    result = plan_of(kernel, r, c, LOGARITHMS)
    if gradient is not None:
        g = tl.load(gradient + place)
        if factor is not None:
            g *= tl.load(factor)
        result *= g
    if of_optimum is not None:
        g = tl.load(of_optimum + place)
        log_r = r if LOGARITHMS else log2(r)
        log_c = c if LOGARITHMS else log2(c)
        row = tl.arange(0, ROWS)[None, :]
        by_row = g * weight_gradient(log_r + scale, u, scale, reach_rows)
        by_col = g * weight_gradient(log_c, v, scale, reach_cols)
        width = points * P
        tl.store(image_flow + prompt.to(tl.int64) * width + point * P + row, by_row, mask=row < P)
        tl.store(text_flow + (prompt * L + col).to(tl.int64) * points + point, by_col, mask=col < L)
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
