"""Token transport on a GPU in one launch, as operators that autograd, torch.compile and autocast know.

    alignment::transport        features, marginals -> similarities (B, C, M, N) and the column scalings
    alignment::image_gradient   gradient of the similarities -> gradient of the image tokens
    alignment::text_gradient    likewise of the text tokens

No P x L matrix reaches global memory: see ``alignment.kernels``. The operators run where their tensors are: on a CUDA
device, or on the CPU under Triton's interpreter (TRITON_INTERPRET=1), which is how they are tested without a GPU.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import triton
from torch import Tensor

from alignment import kernels

LOG2E = math.log2(math.e)


MOST_CELLS = 16384  # of one problem, padded to powers of two: what a program holds in its registers


def unsupported(P: int, L: int) -> str | None:
    """Why these set sizes cannot be held in registers, or None."""
    cells = _padded(P) * triton.next_power_of_2(L)
    if cells > MOST_CELLS:
        return f"{P} x {L} tokens take {cells} registers when padded to powers of two, more than {MOST_CELLS}"
    return None


def _padded(n: int) -> int:
    return max(16, triton.next_power_of_2(n))


def transport_configuration(P: int, L: int, d: int, dtype: torch.dtype, capability: int) -> dict[str, Any]:
    """Tile sizes and launch options of ``kernels.transport_kernel``; tests of the compiled kernels bound spilling."""
    P_PAD, L_PAD = _padded(P), triton.next_power_of_2(L)
    full = dtype == torch.float32
    # A result that comes out of tensor memory takes more registers, and so do three products for one.
    cells = MOST_CELLS // (2 if full else 1) // (2 if _has_tensor_memory(capability) else 1)
    columns = max(16, min(128, cells // P_PAD))
    return {
        "P_PAD": P_PAD,
        "L_PAD": L_PAD,
        "GROUP": max(1, columns // L_PAD),
        # At least what one instruction multiplies; no more than leaves registers for the rest.
        "BLOCK_K": min(_padded(d), max(32, 32768 // P_PAD) // dtype.itemsize, 128 // dtype.itemsize),
        "num_warps": 16 if P_PAD >= 512 and not full else 8 if P_PAD >= 128 else 4,
        "num_stages": 2,
    }


def gradient_configuration(P: int, L: int, d: int, dtype: torch.dtype, capability: int) -> dict[str, Any]:
    """Likewise of ``kernels.image_gradient_kernel`` and ``kernels.text_gradient_kernel``."""
    L_PAD = triton.next_power_of_2(L)
    full = dtype == torch.float32
    return {
        "ROWS": min(32 if full else 128 if _has_tensor_memory(capability) else 64, _padded(P)),
        "L_PAD": L_PAD,
        "GROUP": max(1, (32 if full else 64) // L_PAD),
        "BLOCK_K": min(_padded(d), 128 // dtype.itemsize),
        "BLOCK_D": min(_padded(d), 128 if full else 256),
        "num_warps": 8,
        "num_stages": 2,
    }


def _has_tensor_memory(capability: int) -> bool:
    """Data-centre Blackwell, whose matrix unit leaves its result in a memory of its own."""
    return 100 <= capability < 120


def precision(dtype: torch.dtype, allow_tf32: bool) -> str:
    """How fp32 features are multiplied: as three TF32 products, whose sum is as exact as fp32; as one if allowed."""
    return "tf32" if dtype != torch.float32 or allow_tf32 else "tf32x3"


def token_similarity(
    image: Tensor,
    text: Tensor,
    image_mass: Tensor,
    text_mass: Tensor,
    eps: float,
    max_iter: int,
    tol: float | None,
    allow_tf32: bool,
) -> Tensor:
    """sum(T * <x, y>) of all problems, (B, C, M, N); ``tol=None`` makes ``max_iter`` iterations.

    ``image`` (B, M, P, d) and ``text`` (C, N, L, d) have one dtype, ``image_mass`` and ``text_mass`` are their fp32
    marginals; tokens of mass zero are not read.
    """
    similarity, _, _ = transport(
        image.contiguous(),
        text.contiguous(),
        image_mass.contiguous(),
        text_mass.contiguous(),
        eps,
        max_iter,
        -1.0 if tol is None else tol,
        allow_tf32,
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
    allow_tf32: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    (B, M, P, d), (C, N, L, _) = image.shape, text.shape
    similarity, before, after = _results(image, text)
    tiles = transport_configuration(P, L, d, image.dtype, _capability(image))
    unit = math.exp(-1 / eps)
    with _on_device(image):
        kernels.transport_kernel[(B * M * triton.cdiv(C * N, tiles["GROUP"]),)](
            image,
            text,
            image_mass,
            text_mass,
            similarity,
            before,
            after,
            M,
            N,
            C * N,
            P,
            L,
            d,
            LOG2E / eps,
            unit,
            tol * unit,
            max_iter,
            PRECISION=precision(image.dtype, allow_tf32),
            **tiles,
        )
    return similarity, before, after


@transport.register_fake
def _(image, text, image_mass, text_mass, eps, max_iter, tol, allow_tf32):
    return _results(image, text)


def _results(image: Tensor, text: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    (B, M, _, _), (C, N, L, _) = image.shape, text.shape
    similarity = image.new_empty((B, C, M, N), dtype=torch.float32)
    before, after = (image.new_empty((B * M, C * N, L), dtype=torch.float32) for _ in range(2))
    return similarity, before, after


def _gradient_operator(side: str):
    """Operator ``alignment::<side>_gradient``: from the gradient of the similarities to that of one side's tokens."""
    of_image = side == "image"
    kernel = kernels.image_gradient_kernel if of_image else kernels.text_gradient_kernel

    def launch(
        gradient: Tensor,
        image: Tensor,
        text: Tensor,
        image_mass: Tensor,
        text_mass: Tensor,
        before: Tensor,
        after: Tensor,
        eps: float,
        allow_tf32: bool,
    ) -> Tensor:
        (B, M, P, d), (C, N, L, _) = image.shape, text.shape
        like = image if of_image else text
        tiles = gradient_configuration(P, L, d, image.dtype, _capability(image))
        row_tiles, groups = B * M * triton.cdiv(P, tiles["ROWS"]), triton.cdiv(C * N, tiles["GROUP"])
        own, summed = (row_tiles, groups) if of_image else (groups, row_tiles)
        programs = own * triton.cdiv(d, tiles["BLOCK_D"])
        splits = _splits(image, programs, summed)
        # A plan's entries are at most about 1 / P: bring plan times gradient to the order of one, where 16 bits
        # hold it.
        largest = gradient.abs().amax().clamp_min(torch.finfo(torch.float32).tiny)
        dtype = like.dtype if splits == 1 else torch.float32
        result = like.new_empty((splits, *like.shape), dtype=dtype)
        with _on_device(image):
            kernel[programs, splits](
                image,
                text,
                image_mass,
                text_mass,
                before,
                after,
                gradient / largest * P,
                (largest / P).view(1),
                result,
                B * M,
                M,
                N,
                C * N,
                P,
                L,
                d,
                LOG2E / eps,
                PRECISION=precision(image.dtype, allow_tf32),
                **tiles,
            )
        return result[0] if splits == 1 else result.sum(0).to(like.dtype)

    operator = torch.library.custom_op(f"alignment::{side}_gradient", launch, mutates_args=())

    @operator.register_fake
    def _(gradient, image, text, image_mass, text_mass, before, after, eps, allow_tf32):
        return torch.empty_like(image if of_image else text)

    return operator


image_gradient, text_gradient = _gradient_operator("image"), _gradient_operator("text")


def _setup_context(ctx, inputs, output) -> None:
    image, text, image_mass, text_mass, eps, _, _, allow_tf32 = inputs
    _, before, after = output
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(image, text, image_mass, text_mass, before, after)
    ctx.eps, ctx.allow_tf32 = eps, allow_tf32


def _backward(ctx, gradient, _before, _after):
    if gradient is None:
        return (None,) * 8
    arguments = (gradient.float().contiguous(), *ctx.saved_tensors, ctx.eps, ctx.allow_tf32)
    need_image, need_text = ctx.needs_input_grad[:2]
    return (
        image_gradient(*arguments) if need_image else None,
        text_gradient(*arguments) if need_text else None,
        *(None,) * 6,
    )


transport.register_autograd(_backward, setup_context=_setup_context)


def _splits(tensor: Tensor, programs: int, steps: int) -> int:
    """Into how many partial sums, added in order afterwards, to divide a sum so that the device is busy."""
    processors = (
        torch.cuda.get_device_properties(tensor.device).multi_processor_count if tensor.is_cuda else 1
    )
    return max(1, min(2 * processors // programs, steps, 16))


def _capability(tensor: Tensor) -> int:
    """10 x compute capability."""
    if not tensor.is_cuda:
        return 90
    major, minor = torch.cuda.get_device_capability(tensor.device)
    return 10 * major + minor


def _on_device(tensor: Tensor):
    return torch.cuda.device(tensor.device if tensor.is_cuda else -1)
