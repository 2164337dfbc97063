"""Triton kernel of ``alignment.fused.prompt``: plans of problems whose costs are in memory."""

import triton
import triton.language as tl

from alignment.fused.scaling import iterate, plan_of


@triton.jit
def prompt_kernel(
    cost,  # (problems, M, N)
    image_mass,  # (problems, M)
    text_mass,  # (problems, N)
    plan,  # (problems, M, N)
    changes,  # (problems, max_iter): sums of the changes, written instead of the plans; or None
    steps,  # (1,) how many iterations to make, or None: ``max_iter``
    problems,
    M,
    N,
    scale,  # log2(e) / eps
    start,
    threshold,
    max_iter,
    GROUP: tl.constexpr,
    ROWS: tl.constexpr,
    COLS: tl.constexpr,
    LOGARITHMS: tl.constexpr,
):
    first = tl.program_id(0).to(tl.int64) * GROUP
    g, m, n = tl.arange(0, GROUP), tl.arange(0, ROWS), tl.arange(0, COLS)
    there = first + g < problems
    row_inside, col_inside = there[:, None] & (m < M)[None, :], there[:, None] & (n < N)[None, :]
    cell = (g * M * N)[:, None, None] + m[None, None, :] * N + n[None, :, None]
    inside = row_inside[:, None, :] & col_inside[:, :, None]
    u = tl.load(image_mass + first * M + (g[:, None] * M + m[None, :]), mask=row_inside, other=0.0)
    v = tl.load(text_mass + first * N + (g[:, None] * N + n[None, :]), mask=col_inside, other=0.0)
    scores = (1.0 - tl.load(cost + first * M * N + cell, mask=inside, other=1.0)) * scale
    most = max_iter
    if steps is not None:
        most = tl.load(steps)
    if changes is not None:
        changes += (first + g) * max_iter
    kernel, r, c, _, _, _ = iterate(
        *(scores, u, v, there, M, start, threshold, most, changes, 1.0, 1.0),
        GROUP=GROUP,
        LOGARITHMS=LOGARITHMS,
        OF_LOGARITHMS=LOGARITHMS,
        BALANCED=True,
        COUNT=False,
    )
    if changes is None:
        tl.store(plan + first * M * N + cell, plan_of(kernel, r, c, LOGARITHMS), mask=inside)
