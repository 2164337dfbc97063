"""``alignment::transport_plans``: plans rebuilt from the column scalings that ``alignment::transport`` stores, whole or
the largest entries of each chunk.
"""

from __future__ import annotations

import torch
from torch import Tensor

from alignment.fused import sizes
from alignment.fused.device import on_device
from alignment.fused.scored import Sets, scored
from alignment.fused.settings import Settings
from alignment.fused.token_kernels import flow_kernel


@torch.library.custom_op("alignment::transport_plans", mutates_args=())
def transport_plans(
    image: Tensor | None,
    text: Tensor | None,
    image_mass: Tensor,
    text_mass: Tensor,
    before: Tensor,
    eps: float,
    normalize: bool,
    allow_tf32: bool,
    memory: int,
    k: int,
    cost: Tensor | None,
    reach_rows: float,
    reach_cols: float,
    logarithms: bool,
) -> tuple[Tensor, Tensor]:
    """Plans (B, C, M, N, P, L), and an empty tensor; or, where k > 0, their k largest entries (B, C, M, N, k) and the
    places of these, p * L + l.
    """
    settings = Settings(eps, normalize, allow_tf32, memory, reach_rows, reach_cols, logarithms)
    values, places = _results(image_mass, text_mass, k)
    with on_device(image_mass), torch.autocast(image_mass.device.type, enabled=False):
        sets, _ = Sets(image, text, cost, image_mass, text_mass).prepared(settings)
        flow = image_mass.new_empty(0)
        # A cell has its score and its plan, and where the largest are sought a copy of that, problem by problem.
        for chunk in scored(sets, memory // (12 if k else 8)):
            if flow.numel() < chunk.scores.numel():  # the first chunk is the largest
                flow = torch.empty_like(chunk.scores)
            plan = flow.view(-1)[: chunk.scores.numel()].view(chunk.scores.shape)
            flow_kernel[(chunk.problems,)](
                **chunk.arguments,
                **settings.of_kernels,
                before=before,
                gradient=None,
                factor=None,
                flow=plan,
                of_optimum=None,
                image_flow=None,
                text_flow=None,
                **sizes.launch(image_mass.shape[2], text_mass.shape[2]),
            )
            there = chunk.images, chunk.classes
            if k == 0:
                values[there] = chunk.by_problem(plan)
            else:
                values[there], places[there] = chunk.by_problem(plan).flatten(4).topk(k, dim=-1)
    return values, places


@transport_plans.register_fake
def _(_image, _text, image_mass, text_mass, _before, _eps, _normalize, _allow_tf32, _memory, k, *_relaxed):
    return _results(image_mass, text_mass, k)


def _results(image_mass: Tensor, text_mass: Tensor, k: int) -> tuple[Tensor, Tensor]:
    (B, M, P), (C, N, L) = image_mass.shape, text_mass.shape
    shape = (B, C, M, N)
    places = image_mass.new_empty((*shape, k) if k else 0, dtype=torch.long)
    return image_mass.new_empty((*shape, k) if k else (*shape, P, L)), places
