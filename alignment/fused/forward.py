"""``alignment::transport``: similarities of all problems, and what their plans can be rebuilt from.

The products of all tokens are the matrix library's, chunk by chunk into a buffer of scores that ``memory`` bounds
(``alignment.fused.scored``); a kernel then reads the scores of every problem once and solves it in registers.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from alignment.facts import Fact
from alignment.fused import sizes
from alignment.fused.device import on_device
from alignment.fused.scored import Chunk, Sets, scored
from alignment.fused.settings import EXACT, Settings
from alignment.fused.stopping import start_and_threshold, steps_until
from alignment.fused.token_kernels import transport_kernel

FEW_STEPS = 16  # of problems that stop together: whoever needs more makes all, to see how many


@torch.library.custom_op("alignment::transport", mutates_args=())
def transport(
    image: Tensor | None,
    text: Tensor | None,
    image_mass: Tensor,
    text_mass: Tensor,
    eps: float,
    max_iter: int,
    tol: float,
    together: bool,
    normalize: bool,
    allow_tf32: bool,
    memory: int,
    cost: Tensor | None = None,
    reach_rows: float = EXACT,
    reach_cols: float = EXACT,
    logarithms: bool = False,
    with_facts: bool = False,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Similarities (B, C, M, N) and the column scalings that enter each problem's last step, (B, C, M, N, L); the facts
    (B, C, M, N, 6) and the potentials of the text tokens, (B, C, M, N, L), where wanted, or empty tensors.
    """
    settings = Settings(
        eps, normalize, allow_tf32, memory, reach_rows, reach_cols, logarithms, max_iter, tol, together
    )
    sets, rule = Sets(image, text, cost, image_mass, text_mass), settings.rule
    (_, M, P), (_, N, L) = image_mass.shape, text_mass.shape
    similarity, before, facts, potentials = _results(image_mass, text_mass, with_facts)
    if with_facts:
        potentials.fill_(-math.inf)
    start, threshold = start_and_threshold(rule)
    cells = memory * P * L // (4 * (P * L + (max_iter + FEW_STEPS if rule.together else 0)))

    with on_device(image_mass), torch.autocast(image_mass.device.type, enabled=False):
        if image is not None and (normalize or settings.dtype(image) != image.dtype):
            sets, _ = sets.prepared(settings)
        for chunk in scored(sets, cells):

            def solve(
                threshold: float,
                steps: Tensor | None = None,
                changes: Tensor | None = None,
                chunk: Chunk = chunk,
            ) -> None:
                wanted = with_facts and changes is None
                transport_kernel[(chunk.problems,)](
                    **chunk.arguments,
                    **settings.of_kernels,
                    similarity=similarity,
                    before=before,
                    changes=changes,
                    steps=steps,
                    facts=facts if wanted else None,
                    potentials=potentials if wanted else None,
                    known=FEW_STEPS,
                    start=start,
                    threshold=threshold,
                    max_iter=max_iter if changes is None else changes.shape[-1],
                    OF_LOGARITHMS=rule.of_logarithms,
                    **sizes.launch(P, L),
                )

            if rule.together:
                images, classes = chunk.images, chunk.classes
                pairs = (len(text_mass[classes]), N, len(image_mass[images]), M)
                tokens = N * (image_mass[images] > 0).sum((1, 2))[:, None]
                # The iterations do not depend on where they end: see from their changes how many are wanted.
                steps: Tensor | None = None
                below: Tensor | None = None
                for most in sorted({min(FEW_STEPS, max_iter), max_iter}):
                    changes = image_mass.new_empty(*pairs, most)
                    solve(-1.0, steps, changes)
                    mean = changes.sum((1, 3)) / tokens
                    found, fell = steps_until(mean, threshold), mean[..., -1] < threshold
                    steps = found if steps is None else torch.where(steps < FEW_STEPS, steps, found)
                    below = fell if below is None else below | fell
                solve(-1.0, steps)
                if with_facts:
                    assert steps is not None
                    assert below is not None
                    converged = (steps < max_iter) | below
                    facts[images, classes, ..., Fact.CONVERGED] = converged.T[..., None, None].to(facts.dtype)
            else:
                solve(threshold)
    return similarity, before, facts, potentials


@transport.register_fake
def _(_image, _text, image_mass, text_mass, *settings):
    # torch leaves out what stands at the end and is the default.
    return _results(image_mass, text_mass, with_facts=len(settings) == 12 and settings[-1])


def _results(
    image_mass: Tensor, text_mass: Tensor, with_facts: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    (B, M, _), (C, N, L) = image_mass.shape, text_mass.shape
    shape, new = (B, C, M, N), image_mass.new_empty
    if with_facts:
        return new(shape), new((*shape, L)), new((*shape, len(Fact))), new((*shape, L))
    return new(shape), new((*shape, L)), new(0), new(0)
