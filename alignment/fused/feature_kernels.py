"""Triton kernels of ``alignment.fused.features``: passes over the features of tokens, one launch each."""

import triton
import triton.language as tl

from alignment.fused.arithmetic import cast


@triton.jit
def prepare_kernel(
    tokens,  # (n, d)
    mass,  # (n,)
    prepared,  # (n, d)
    norms,  # (n,), or None: not scaled
    n,
    d,
    TOKENS: tl.constexpr,
    WIDTH: tl.constexpr,
):
    token, place, inside, there = _places(n, d, TOKENS, WIDTH)
    present = (tl.load(mass + token, mask=there, other=0.0) > 0)[:, None] & inside
    x = tl.load(tokens + place, mask=present, other=0.0).to(tl.float32)
    if norms is not None:
        norm = tl.maximum(tl.sqrt(tl.sum(x * x, axis=1)), 1e-12)
        tl.store(norms + token, norm, mask=there)
        x = x / norm[:, None]
    tl.store(prepared + place, cast(x, prepared.dtype.element_ty), mask=inside)


@triton.jit
def finish_kernel(
    total,  # (n, d) fp32: gradient of the prepared tokens, times ``factor``
    factor,  # (1,), or None
    tokens,  # (n, d)
    mass,  # (n,)
    norms,  # (n,), or None: they were not scaled
    result,  # (n, d): that of the tokens
    n,
    d,
    TOKENS: tl.constexpr,
    WIDTH: tl.constexpr,
):
    token, place, inside, there = _places(n, d, TOKENS, WIDTH)
    g = tl.load(total + place, mask=inside, other=0.0)
    if factor is not None:
        g = g / tl.load(factor)
    if norms is not None:
        present = (tl.load(mass + token, mask=there, other=0.0) > 0)[:, None] & inside
        norm = tl.load(norms + token, mask=there, other=1.0)[:, None]
        scaled = tl.load(tokens + place, mask=present, other=0.0).to(tl.float32) / norm
        g = (g - scaled * tl.sum(g * scaled, axis=1)[:, None]) / norm
    tl.store(result + place, cast(g, result.dtype.element_ty), mask=inside)


@triton.jit
def _places(n, d, TOKENS: tl.constexpr, WIDTH: tl.constexpr):
    """Tokens of this program, the places of their features, which of those and which of them there are."""
    token = tl.program_id(0).to(tl.int64) * TOKENS + tl.arange(0, TOKENS)
    column = tl.arange(0, WIDTH)
    there = token < n
    return token, token[:, None] * d + column[None, :], there[:, None] & (column < d)[None, :], there
