"""What ``alignment.facts`` says of a problem, in the registers of the program that has solved it (Triton)."""

import triton
import triton.language as tl

from alignment.fused.arithmetic import exp2, log2

LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
def store_facts(
    to,  # (1,) pointers to the first of a problem's facts
    plan,  # (1, COLS, ROWS)
    u,  # (1, ROWS)
    v,  # (1, COLS)
    log_r,  # (1, ROWS) log2 r
    scale,  # log2(e) / eps
    reach_rows,  # negative: infinite
    reach_cols,
    power_rows,
    made,  # (1,) iterations
    converged,  # (1,)
    BALANCED: tl.constexpr,
):
    a, b = tl.sum(plan, axis=1), tl.sum(plan, axis=2)
    mass = tl.sum(a, axis=1)
    entropy = tl.sum(tl.sum(_x_log(plan, plan), axis=1), axis=1)
    penalty = mass * 0
    wanted = u
    if not BALANCED:
        entropy += tl.sum(_x_log(u - a, u), axis=1) + tl.sum(_x_log(v - b, v), axis=1) + 1 - mass
        penalty = tl.where(reach_rows >= 0, reach_rows * _kl(a, u), 0.0)
        penalty += tl.where(reach_cols >= 0, reach_cols * _kl(b, v), 0.0)
        log_sum = tl.where(a > 0, log2(a) - log_r, 0.0)  # log2 K c of the last columns
        wanted = u * exp2((1 - power_rows) * (log_sum - scale))
    tl.store(to, mass)
    tl.store(to + 1, entropy)
    tl.store(to + 2, penalty)
    tl.store(to + 3, tl.sum(tl.abs(a - wanted), axis=1))
    tl.store(to + 4, made.to(tl.float32))
    tl.store(to + 5, converged)


@triton.jit
def weight_gradient(log, mass, scale, reach):
    """Derivative of the regularised optimum with respect to masses, whose scalings' log2 is ``log``."""
    eps = LOG2_E / scale
    # The instruction's power of two is good to 2^-22 of its value, which is about one.
    share = exp2(-eps / reach * (log - log2(mass))) - 1.0
    relaxed = log2(mass) / scale - (reach + eps) * share
    return tl.where(mass > 0, tl.where(reach >= 0, relaxed, log / scale), 0.0)


@triton.jit
def _x_log(x, y):
    """x log y, 0 where x is."""
    return tl.where((x != 0) & (y > 0), x * log2(y), 0.0) / LOG2_E


@triton.jit
def _kl(a, u):
    return tl.sum(_x_log(a, a) - _x_log(a, u) - a + u, axis=1)
