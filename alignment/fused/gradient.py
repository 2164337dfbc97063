"""``alignment::transport_gradient``, and with it the derivative of ``alignment::transport``, the plans held constant:

    d similarity / d x_j = sum_l T_jl y_l,    d similarity / d y_l = sum_j T_jl x_j

The scores are computed once more, a kernel writes plan times gradient in the features' dtype, and both sums are the
library's products again, added up over the chunks in fp32 and in a fixed order. So a forward pass costs one product
and a backward pass three, beside a few passes over the scores. The same kernel writes what the problems give to the
gradient of the masses. Where costs are given instead of features, a chunk of the flows is that of their gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor

from alignment.facts import Fact
from alignment.fused import sizes
from alignment.fused.device import on_device
from alignment.fused.features import finish
from alignment.fused.forward import transport
from alignment.fused.products import multiply
from alignment.fused.scored import Sets, scored
from alignment.fused.settings import EXACT, Settings
from alignment.fused.token_kernels import flow_kernel


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
    settings = Settings(eps, normalize, allow_tf32, memory, reach_rows, reach_cols, logarithms)
    sets = Sets(image, text, cost, image_mass, text_mass)
    (_, _, P), (_, _, L) = image_mass.shape, text_mass.shape
    of_cost = image_mass.new_empty(0) if cost is None else torch.empty_like(cost)
    image_sum, text_sum, masses = image_mass, text_mass, (image_mass.new_empty(0), text_mass.new_empty(0))
    dtype, d = torch.float32, 0
    factor = None
    if image is not None and text is not None:
        d, dtype = image.shape[-1], settings.dtype(image)
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
        # Of tokens without mass the scores are not read, but these products read everything.
        prepared, (image_norms, text_norms) = sets.prepared(settings)
        for chunk in scored(prepared, memory // (4 + dtype.itemsize)):
            if len(flows) == 0:  # the first chunk is the largest
                flows = flows.new_empty(chunk.scores.numel())
            flow = flows[: chunk.scores.numel()].view(chunk.scores.shape)
            shares: list[Tensor] = []
            if of_optimum is not None:
                points, prompts = chunk.arguments["points"], chunk.problems // chunk.arguments["points"]
                shares = [image_mass.new_empty(prompts, points * P), text_mass.new_empty(prompts * L, points)]
            flow_kernel[(chunk.problems,)](
                **chunk.arguments,
                **settings.of_kernels,
                before=before,
                gradient=gradient,
                factor=factor,
                flow=flow,
                of_optimum=of_optimum,
                image_flow=shares[0] if shares else None,
                text_flow=shares[1] if shares else None,
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
def _(_gradient, image, text, image_mass, text_mass, _before, *settings):
    _, _, _, _, of_image, of_text, *rest = settings
    cost = rest[0] if rest else None
    of_optimum = (
        rest[4] if len(rest) == 5 else None
    )  # torch leaves out what stands at the end and is the default
    masses = [mass.new_empty(mass.shape if of_optimum is not None else 0) for mass in (image_mass, text_mass)]
    if cost is not None:
        return torch.empty_like(cost), image_mass.new_empty(0), *masses
    return (
        torch.empty_like(image) if of_image else image.new_empty(0),
        torch.empty_like(text) if of_text else text.new_empty(0),
        *masses,
    )


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
