"""The scaling iteration of ``alignment.sinkhorn`` in the registers of one program (Triton).

A program holds a stack of problems as a tensor (GROUP, COLS, ROWS): text side, image side. One warp holds up to 2048
numbers of a problem, so that no sum of an iteration leaves it: each thread adds up the text side of its own rows, and
the image side takes five exchanges between the lanes.

Scores come in units of log2, so that ``K = exp2(scores)``. For small eps ``K`` and the scalings leave the range of
fp32, and LOGARITHMS iterates theirs. Where not BALANCED, which wants LOGARITHMS, the updates take powers.
OF_LOGARITHMS says whether the change that stops is that of log r.
"""

import triton
import triton.language as tl

from alignment.fused.arithmetic import exp2, reciprocal


@triton.jit
def iterate(
    scores,  # (GROUP, COLS, ROWS), 0 where there is no such point
    u,  # (GROUP, ROWS) masses of the rows
    v,  # (GROUP, COLS) masses of the columns
    there,  # (GROUP,) whether there is such a problem
    count,  # (GROUP,) or scalar: rows that the mean of the stopping rule runs over
    start,  # r (logarithms: log2 r) before the first step
    threshold,  # of that mean; negative: make ``steps`` steps
    steps,  # most steps
    changes,  # (GROUP,) pointers: the i-th step writes the sum of its change to place i, and no problem stops; or None
    power_rows,  # of the updates
    power_cols,
    GROUP: tl.constexpr,
    LOGARITHMS: tl.constexpr,
    OF_LOGARITHMS: tl.constexpr,
    BALANCED: tl.constexpr,
    COUNT: tl.constexpr,  # the steps of each problem
):
    """K (logarithms: the scores), r, c and the c that entered the last step, per problem; how many steps it made, and
    whether it would make more.
    """
    kernel = scores if LOGARITHMS else exp2(scores)
    r = tl.where(u > 0, start, float("-inf") if LOGARITHMS else 0.0)
    c = first(v, LOGARITHMS, BALANCED)
    before = c
    running = there
    made = tl.where(there, 0, 0)
    i = 0
    while i < steps:
        r_new, c_new = step(kernel, u, v, c, start, power_rows, power_cols, LOGARITHMS, BALANCED)
        if LOGARITHMS and not OF_LOGARITHMS:
            change = tl.abs(exp2(r_new - start) - exp2(r - start))
            change = tl.where(change == change, change, float("inf"))  # inf - inf
        else:
            change = tl.abs(r_new - r)
        if LOGARITHMS:  # where a mass is zero this is inf - inf
            change = tl.where(u > 0, change, 0.0)
        change = tl.sum(change, axis=1)
        if COUNT:
            made += running.to(tl.int32)
        if changes is not None:
            tl.store(changes + i, change, mask=there)
            r, before, c = r_new, c, c_new
            i += 1
        else:
            if GROUP == 1:
                r, before, c = r_new, c, c_new
            else:  # a problem that has stopped keeps its scalings
                r = tl.where(running[:, None], r_new, r)
                before = tl.where(running[:, None], c, before)
                c = tl.where(running[:, None], c_new, c)
            running = running & (change / count >= threshold)
            i = tl.where(tl.max(running.to(tl.int32), axis=0) > 0, i + 1, steps)
    return kernel, r, c, before, made, running


@triton.jit
def first(v, LOGARITHMS: tl.constexpr, BALANCED: tl.constexpr):
    """c before the first step."""
    if not BALANCED:
        return tl.log2(v)
    if LOGARITHMS:
        return tl.where(v > 0, 0.0, float("-inf"))
    return tl.where(v > 0, 1.0, 0.0)


@triton.jit
def step(kernel, u, v, c, start, power_rows, power_cols, LOGARITHMS: tl.constexpr, BALANCED: tl.constexpr):
    """r = u / (K c), c = v / (K' r), or with powers of these divisors (and of the constant that K lacks)."""
    if not BALANCED:
        r = tl.log2(u) - power_rows * _log_sum(kernel + c[:, :, None], 1) + (1 - power_rows) * start
        c = tl.log2(v) - power_cols * _log_sum(kernel + r[:, None, :], 2)
    elif LOGARITHMS:
        r = tl.log2(u) - _log_sum(kernel + c[:, :, None], 1)
        c = tl.log2(v) - _log_sum(kernel + r[:, None, :], 2)
    else:
        r = u * reciprocal(tl.sum(kernel * c[:, :, None], axis=1))
        c = v * reciprocal(tl.sum(kernel * r[:, None, :], axis=2))
    return r, c


@triton.jit
def plan_of(kernel, r, c, LOGARITHMS: tl.constexpr):
    """diag(r) K diag(c)."""
    if LOGARITHMS:
        return exp2(kernel + r[:, None, :] + c[:, :, None])
    return kernel * r[:, None, :] * c[:, :, None]


@triton.jit
def _log_sum(x, axis: tl.constexpr):
    """log2 of the sum of exp2(x) along an axis."""
    top = tl.max(x, axis=axis)
    top = tl.where(top == float("-inf"), 0.0, top)
    return top + tl.log2(tl.sum(exp2(x - tl.expand_dims(top, axis)), axis=axis))
