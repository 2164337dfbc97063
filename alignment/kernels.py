"""Triton kernels of the fused token transport (imported only where Triton is wanted).

One program of ``transport_kernel`` holds the kernels ``K = exp(S)`` of one image point (P rows, padded to a power of
two) and a group of text points (columns: prompt x token, each padded to a power of two) in registers: the matrix
product writes them there, the scaling loop runs there, and only one number per problem and its column scalings leave.
The gradient kernels compute tiles of the plans again from the features and the column scalings,

    r = u / (K before),    T = diag(r) K diag(after),

where a tile needs some rows only, since ``before`` and ``after``, the column scalings on either side of the last step,
are known. Each output element is summed up by one program in a fixed order.

A token of mass zero takes no part; it is padding, and its features are not read.
"""

import triton
import triton.language as tl

INTERPRETED = tl.constexpr(triton.knobs.runtime.interpret)


@triton.jit
def _dot(a, b, acc, PRECISION: tl.constexpr):
    if INTERPRETED:  # which would multiply the bits of bfloat16 as integers
        a, b = a.to(tl.float32), b.to(tl.float32)
    return tl.dot(a, b, acc, input_precision=PRECISION)


@triton.jit
def _scores(
    image,
    text,
    row_offsets,
    row_present,
    col_offsets,
    col_present,
    d,
    ROWS: tl.constexpr,
    COLS: tl.constexpr,
    BLOCK_K: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Similarities (ROWS, COLS) of the tokens at the offsets, fp32."""
    acc = tl.zeros((ROWS, COLS), tl.float32)
    for k in range(0, d, BLOCK_K):
        ks = k + tl.arange(0, BLOCK_K)
        x = tl.load(
            image + row_offsets[:, None] + ks[None, :],
            mask=row_present[:, None] & (ks < d)[None, :],
            other=0.0,
        )
        y = tl.load(
            text + col_offsets[None, :] + ks[:, None],
            mask=col_present[None, :] & (ks < d)[:, None],
            other=0.0,
        )
        acc = _dot(x, y, acc, PRECISION)
    return acc


@triton.jit
def _columns(text_mass, first, prompts, L, GROUP: tl.constexpr, L_PAD: tl.constexpr):
    """Text tokens of the prompts ``first ...`` as columns of a tile: index, counted from the first token of the first
    prompt; whether there is such a token; whether it has mass.
    """
    cols = tl.arange(0, GROUP * L_PAD)
    index = cols // L_PAD * L + cols % L_PAD
    inside = (first + cols // L_PAD < prompts) & (cols % L_PAD < L)
    return index, inside, tl.load(text_mass + first * L + index, mask=inside, other=0.0) > 0


@triton.jit
def _kernel(
    image,
    text,
    image_mass,
    text_mass,
    point,
    row_start,
    first,
    prompts,
    P,
    L,
    d,
    scale,
    ROWS: tl.constexpr,
    GROUP: tl.constexpr,
    L_PAD: tl.constexpr,
    BLOCK_K: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Masses (ROWS,) of an image point's tokens ``row_start ...``, and their K (ROWS, GROUP, L_PAD) with the prompts
    ``first ...``.
    """
    rows = row_start + tl.arange(0, ROWS)
    u = tl.load(image_mass + point * P + rows, mask=rows < P, other=0.0)
    col, _, col_present = _columns(text_mass, first, prompts, L, GROUP, L_PAD)
    scores = _scores(
        image + point * P * d,
        text + (first * L).to(tl.int64) * d,
        rows * d,
        u > 0,
        col * d,
        col_present,
        d,
        ROWS,
        GROUP * L_PAD,
        BLOCK_K,
        PRECISION,
    )
    return u, tl.reshape(tl.exp2(scores * scale), (ROWS, GROUP, L_PAD))


@triton.jit
def _problems(
    first,
    point,
    points_per_image,
    prompts_per_class,
    prompts,
    L,
    GROUP: tl.constexpr,
    L_PAD: tl.constexpr,
):
    """Problems of one image point with the prompts ``first ...``: place in (B, C, M, N) and whether there is one;
    their text tokens, counted from the first token of the first prompt, and whether there are any.
    """
    prompt = first + tl.arange(0, GROUP)
    tokens = tl.arange(0, L_PAD)
    there = prompt < prompts
    b, m = point // points_per_image, point % points_per_image
    c, n = prompt // prompts_per_class, prompt % prompts_per_class
    row = b * (prompts // prompts_per_class) * points_per_image + m  # of the problem with class 0 and n = 0
    problem = (row + c * points_per_image) * prompts_per_class + n
    token = tl.arange(0, GROUP)[:, None] * L + tokens[None, :]
    return problem, there, token, there[:, None] & (tokens < L)[None, :]


@triton.jit
def transport_kernel(
    image,  # (points, P, d)
    text,  # (prompts, L, d)
    image_mass,  # (points, P)
    text_mass,  # (prompts, L)
    similarity,  # (B, C, M, N)
    before,  # (points, prompts, L)
    after,  # (points, prompts, L)
    points_per_image,
    prompts_per_class,
    prompts,
    P,
    L,
    d,
    scale,  # log2(e) / eps
    unit,  # exp(-1 / eps)
    tol,
    max_iter,
    P_PAD: tl.constexpr,
    GROUP: tl.constexpr,
    L_PAD: tl.constexpr,
    BLOCK_K: tl.constexpr,
    PRECISION: tl.constexpr,
):
    groups = tl.cdiv(prompts, GROUP)
    point = (tl.program_id(0) // groups).to(tl.int64)
    first = (tl.program_id(0) % groups) * GROUP

    u, kernel = _kernel(
        image,
        text,
        image_mass,
        text_mass,
        point,
        0,
        first,
        prompts,
        P,
        L,
        d,
        scale,
        P_PAD,
        GROUP,
        L_PAD,
        BLOCK_K,
        PRECISION,
    )
    problem, there, token, inside = _problems(
        first, point, points_per_image, prompts_per_class, prompts, L, GROUP, L_PAD
    )
    v = tl.load(text_mass + first * L + token, mask=inside, other=0.0)
    count = tl.sum((u > 0).to(tl.float32), axis=0)
    r = tl.broadcast_to(tl.where(u > 0, unit, 0.0)[:, None], (P_PAD, GROUP))
    c = tl.where(v > 0, 1.0, 0.0)
    c_before = c
    running = there
    left = max_iter
    while left > 0:
        r_new = u[:, None] / tl.sum(kernel * c[None, :, :], axis=2)
        c_new = v / tl.sum(kernel * r_new[:, :, None], axis=0)
        change = tl.sum(tl.abs(r_new - r), axis=0) / count
        r = tl.where(running[None, :], r_new, r)
        c_before = tl.where(running[:, None], c, c_before)
        c = tl.where(running[:, None], c_new, c)
        running = running & (change >= tol)
        left = tl.where(tl.max(running.to(tl.int32), axis=0) > 0, left - 1, 0)

    # scores = log2(kernel) / scale: cheaper to take the logarithm than to keep the scores beside the kernel
    rowwise = tl.sum(kernel * tl.log2(kernel) * c[None, :, :], axis=2)
    value = tl.sum(rowwise * r, axis=0) / scale
    tl.store(similarity + problem, value, mask=there)
    tl.store(before + (point * prompts + first) * L + token, c_before, mask=inside)
    tl.store(after + (point * prompts + first) * L + token, c, mask=inside)


@triton.jit
def _flow(
    image,
    text,
    image_mass,
    text_mass,
    before,
    after,
    gradient,
    point,
    row_start,
    first,
    points_per_image,
    prompts_per_class,
    prompts,
    P,
    L,
    d,
    scale,
    ROWS: tl.constexpr,
    GROUP: tl.constexpr,
    L_PAD: tl.constexpr,
    BLOCK_K: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Rows ``row_start ...`` of the plans of one image point and a group of prompts, each times its gradient."""
    u, kernel = _kernel(
        image,
        text,
        image_mass,
        text_mass,
        point,
        row_start,
        first,
        prompts,
        P,
        L,
        d,
        scale,
        ROWS,
        GROUP,
        L_PAD,
        BLOCK_K,
        PRECISION,
    )
    problem, there, token, inside = _problems(
        first, point, points_per_image, prompts_per_class, prompts, L, GROUP, L_PAD
    )
    c_before = tl.load(before + (point * prompts + first) * L + token, mask=inside, other=0.0)
    c_after = tl.load(after + (point * prompts + first) * L + token, mask=inside, other=0.0)
    g = tl.load(gradient + problem, mask=there, other=0.0)

    total = tl.sum(kernel * c_before[None, :, :], axis=2)
    r = tl.where(total > 0, u[:, None] / total, 0.0)
    flow = kernel * r[:, :, None] * (c_after * g[:, None])[None, :, :]
    return tl.reshape(flow, (ROWS, GROUP * L_PAD))


@triton.jit
def image_gradient_kernel(
    image,
    text,
    image_mass,
    text_mass,
    before,
    after,
    gradient,  # (B, C, M, N), scaled so that products with the plan suit the features' dtype
    factor,  # (1,) what that scale has to be multiplied by afterwards
    image_gradient,  # (splits, points, P, d)
    points,
    points_per_image,
    prompts_per_class,
    prompts,
    P,
    L,
    d,
    scale,
    ROWS: tl.constexpr,
    GROUP: tl.constexpr,
    L_PAD: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_D: tl.constexpr,
    PRECISION: tl.constexpr,
):
    tiles = tl.cdiv(P, ROWS)
    chunk = tl.program_id(0) % tl.cdiv(d, BLOCK_D)
    tile = tl.program_id(0) // tl.cdiv(d, BLOCK_D) % tiles
    point = (tl.program_id(0) // tl.cdiv(d, BLOCK_D) // tiles).to(tl.int64)
    split, splits = tl.program_id(1), tl.num_programs(1)

    ds = chunk * BLOCK_D + tl.arange(0, BLOCK_D)
    acc = tl.zeros((ROWS, BLOCK_D), tl.float32)
    share = tl.cdiv(tl.cdiv(prompts, GROUP), splits)
    for group in range(split * share, tl.minimum((split + 1) * share, tl.cdiv(prompts, GROUP))):
        first = group * GROUP
        flow = _flow(
            image,
            text,
            image_mass,
            text_mass,
            before,
            after,
            gradient,
            point,
            tile * ROWS,
            first,
            points_per_image,
            prompts_per_class,
            prompts,
            P,
            L,
            d,
            scale,
            ROWS,
            GROUP,
            L_PAD,
            BLOCK_K,
            PRECISION,
        )
        col, _, present = _columns(text_mass, first, prompts, L, GROUP, L_PAD)
        y = tl.load(
            text + (first * L).to(tl.int64) * d + (col[:, None] * d + ds[None, :]),
            mask=present[:, None] & (ds < d)[None, :],
            other=0.0,
        )
        acc = _dot(flow.to(y.dtype), y, acc, PRECISION)
    rows = tile * ROWS + tl.arange(0, ROWS)
    target = image_gradient + (split.to(tl.int64) * points + point) * P * d
    tl.store(
        target + (rows[:, None] * d + ds[None, :]),
        acc * tl.load(factor),
        mask=(rows < P)[:, None] & (ds < d)[None, :],
    )


@triton.jit
def text_gradient_kernel(
    image,
    text,
    image_mass,
    text_mass,
    before,
    after,
    gradient,
    factor,
    text_gradient,  # (splits, prompts, L, d)
    points,
    points_per_image,
    prompts_per_class,
    prompts,
    P,
    L,
    d,
    scale,
    ROWS: tl.constexpr,
    GROUP: tl.constexpr,
    L_PAD: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_D: tl.constexpr,
    PRECISION: tl.constexpr,
):
    chunk = tl.program_id(0) % tl.cdiv(d, BLOCK_D)
    first = tl.program_id(0) // tl.cdiv(d, BLOCK_D) * GROUP
    split, splits = tl.program_id(1), tl.num_programs(1)

    ds = chunk * BLOCK_D + tl.arange(0, BLOCK_D)
    tiles = tl.cdiv(P, ROWS)
    acc = tl.zeros((GROUP * L_PAD, BLOCK_D), tl.float32)
    share = tl.cdiv(points * tiles, splits)
    for step in range(split * share, tl.minimum((split + 1) * share, points * tiles)):
        point = (step // tiles).to(tl.int64)
        row_start = step % tiles * ROWS
        flow = _flow(
            image,
            text,
            image_mass,
            text_mass,
            before,
            after,
            gradient,
            point,
            row_start,
            first,
            points_per_image,
            prompts_per_class,
            prompts,
            P,
            L,
            d,
            scale,
            ROWS,
            GROUP,
            L_PAD,
            BLOCK_K,
            PRECISION,
        )
        rows = row_start + tl.arange(0, ROWS)
        present = tl.load(image_mass + point * P + rows, mask=rows < P, other=0.0) > 0
        x = tl.load(
            image + point * P * d + (rows[:, None] * d + ds[None, :]),
            mask=present[:, None] & (ds < d)[None, :],
            other=0.0,
        )
        acc = _dot(tl.trans(flow.to(x.dtype)), x, acc, PRECISION)
    col, inside, _ = _columns(text_mass, first, prompts, L, GROUP, L_PAD)
    target = text_gradient + (split.to(tl.int64) * prompts + first) * L * d
    tl.store(
        target + (col[:, None] * d + ds[None, :]),
        acc * tl.load(factor),
        mask=inside[:, None] & (ds < d)[None, :],
    )
