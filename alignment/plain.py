"""Token transport in plain torch: any device, memory within a stated budget.

The problems are worked off in blocks of (some images) x (some classes of equal length). In a block the
similarities are one product (``alignment.scores``, ``alignment.products``) with the text tokens as rows and the image
tokens as columns, so that the long axis (image tokens) is contiguous and every step of the Sinkhorn iteration is a
vectorised pass over

    scores (class prompts, L, image prompts, P)

which on a CPU stays in the cache. The gradient holds the plan constant (envelope theorem). For it the forward pass
keeps the plans that fit into the budget, and of every other problem the column scaling (L numbers) from which the
backward pass computes the plan again.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from alignment.convergence import Unfinished
from alignment.facts import Fact, facts_of, weight_gradients
from alignment.pair_blocks import Block, Blocks
from alignment.problems import Problems
from alignment.scores import OfCosts, OfFeatures
from alignment.sinkhorn import Solution, solve


@torch.compiler.disable  # how often it iterates depends on the values: a compiler would make a hundred graphs of it
def similarities(problems: Problems, with_facts: bool) -> tuple[Tensor, Tensor, Tensor]:
    """sum(T * S) of all problems, (B, C, M, N), and if wanted their facts, (B, C, M, N, 6), and the potentials of the
    text tokens, (B, C, M, N, L), each else empty.

    Differentiable in features and costs; the fact PENALTY in the masses (``alignment.facts``).
    """
    return _Transport.apply(*problems.tensors, problems, with_facts)


@torch.compiler.disable
@torch.no_grad()
def plans(problems: Problems) -> Tensor:
    """The plans themselves, (B, C, M, N, P, L), zero at padding."""
    solver, mass = _BlockSolver(problems), problems.image_mass
    result = torch.zeros(problems.sizes, device=mass.device, dtype=mass.dtype)
    with Unfinished(problems.rule) as unfinished:
        for block in solver.blocks:
            solution, _ = solver.solve(block)
            unfinished.look(solution, solver.masses(block)[0], 3, 1, solver.places(block))
            plan = solver.by_sides(solution.plan)  # (k, N, l, b, M, P)
            result[block.images, block.classes, ..., : block.length] = plan.permute(3, 0, 4, 1, 5, 2)
    return result


@torch.compiler.disable
@torch.no_grad()
def largest(problems: Problems, k: int) -> tuple[Tensor, Tensor]:
    """The k largest entries of every plan, (B, C, M, N, k), and their places p * L + l."""
    solver, mass = _BlockSolver(problems), problems.image_mass
    B, C, M, N, _, L = problems.sizes
    values = torch.zeros(B, C, M, N, k, device=mass.device, dtype=mass.dtype)
    places = torch.zeros(B, C, M, N, k, device=mass.device, dtype=torch.long)
    with Unfinished(problems.rule) as unfinished:
        for block in solver.blocks:
            solution, _ = solver.solve(block)
            unfinished.look(solution, solver.masses(block)[0], 3, 1, solver.places(block))
            plan = solver.by_sides(solution.plan).permute(3, 0, 4, 1, 5, 2).flatten(4)  # (b, k, M, N, P l)
            most, where = plan.topk(min(k, plan.shape[-1]), dim=-1)
            there = (block.images, block.classes, slice(None), slice(None), slice(most.shape[-1]))
            values[there] = most
            places[there] = where // block.length * L + where % block.length
    return values, places


class _Transport(torch.autograd.Function):
    @staticmethod
    def forward(ctx, image, text, cost, image_mass, text_mass, problems, with_facts):
        solver = _BlockSolver(problems)
        B, C, M, N, _, L = problems.sizes
        new = image_mass.new_empty
        similarity = new(B, C, M, N)
        facts = new((B, C, M, N, len(Fact)) if with_facts else 0)
        potentials = new((B, C, M, N, L)).fill_(-math.inf) if with_facts else new(0)
        # What is kept for the gradient is allocated first: between the temporary tensors it would leave holes.
        kept, is_plan = [], []
        if any(ctx.needs_input_grad[:5]):
            room = problems.memory - solver.blocks.workspace
            for block in solver.blocks:
                *points, P = solver.shape(block)
                room -= image_mass.itemsize * math.prod(points) * P
                # Of the masses the gradient takes the scalings, which a plan does not tell.
                is_plan.append(room >= 0 and not (with_facts and any(ctx.needs_input_grad[3:5])))
                kept.append(new(*points, P if is_plan[-1] else 1))
        with Unfinished(problems.rule) as unfinished:
            for i, block in enumerate(solver.blocks):
                solution, scores = solver.solve(
                    block, out=kept[i] if kept and is_plan[i] else None, count=with_facts
                )
                if kept and not is_plan[i]:
                    kept[i].copy_(solution.before)
                there = block.images, block.classes
                rows, cols = solver.masses(block)
                unfinished.look(solution, rows, 3, 1, solver.places(block))
                if with_facts:
                    found = facts_of(solution, rows, cols, problems.rule, 3, 1)  # (kN, 1, bM, 1, 6)
                    facts[there] = solver.by_problem(found[:, 0, :, 0])
                    c = solution.c if problems.rule.logarithms else solution.c.log()
                    c = solver.by_sides(c * problems.rule.eps)[..., 0]  # (k, N, l, b, M)
                    potentials[(*there, ..., slice(block.length))] = c.permute(3, 0, 4, 1, 2)
                value = scores.mul_(solution.plan).sum(3).sum(1).mul_(problems.rule.eps)
                similarity[there] = solver.by_problem(value)
        ctx.save_for_backward(image, text, cost, image_mass, text_mass, *kept)
        ctx.problems, ctx.is_plan = problems, is_plan
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(potentials)
        if not with_facts:
            ctx.mark_non_differentiable(facts)
        return similarity, facts, potentials

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient, of_facts, _potentials):
        problems = ctx.problems
        _, _, cost, image_mass, text_mass, *kept = ctx.saved_tensors
        solver, needed = _BlockSolver(problems), ctx.needs_input_grad
        of_scores = gradient is not None and any(needed[:3])
        of_masses = [
            torch.zeros_like(mass) if wanted and of_facts is not None else None
            for mass, wanted in zip((image_mass, text_mass), needed[3:5])
        ]
        solver.source.start_gradients(needed[2:3] if cost is not None else needed[:2])
        with torch.autocast(image_mass.device.type, enabled=False):
            for block, plan, is_plan in zip(solver.blocks, kept, ctx.is_plan):
                if not is_plan:
                    solution, _ = solver.solve(block, again_from=plan)
                    plan = solution.plan
                if of_facts is not None and not is_plan:
                    g = of_facts[block.images, block.classes, ..., Fact.PENALTY]
                    _add_mass_gradients(of_masses, solver, block, solution, solver.by_pair(g))
                if of_scores:
                    g = solver.by_pair(gradient[block.images, block.classes])
                    flow = torch.mul(plan, g, out=solver.buffer("work", plan.shape))
                    solver.source.add_gradient(block, flow)
        found: list[Tensor | None] = solver.source.gradients() if of_scores else [None] * 3
        of_tokens = [None, None, found[0]] if cost is not None else [*found[:2], None]
        return *of_tokens, *of_masses, None, None


def _add_mass_gradients(sums, solver: _BlockSolver, block: Block, solution: Solution, g: Tensor) -> None:
    of_image, of_text = sums
    rows, cols = solver.masses(block)
    by_row, by_col = weight_gradients(solution.r, solution.c, rows, cols, solver.rule)
    if of_image is not None:
        of_image[block.images] += (g * by_row).sum((0, 1)).view_as(of_image[block.images])
    if of_text is not None:
        share = (g * by_col).sum((2, 3)).unflatten(0, (-1, of_text.shape[1]))  # (k, N, l)
        if isinstance(block.classes, slice):
            of_text[block.classes, :, : block.length] += share
        else:
            of_text[:, :, : block.length].index_add_(0, block.classes, share)


class _BlockSolver:
    """Solves blocks in buffers that all of them share."""

    def __init__(self, problems: Problems) -> None:
        self.problems, self.rule = problems, problems.rule
        self._buffers: dict[str, Tensor] = {}
        mass = self.like = problems.image_mass
        self.source: OfFeatures | OfCosts
        width = 0
        if problems.cost is not None:
            self.source = OfCosts(problems.cost, mass.dtype)
        else:
            assert problems.image is not None
            assert problems.text is not None
            self.source = OfFeatures(problems.image, problems.text, problems.normalize, mass.dtype)
            width = problems.image.shape[-1]
        shapes = (*mass.shape, width), (*problems.text_mass.shape, width)
        self.blocks = Blocks.plan(
            *shapes, problems.class_lengths, problems.memory, mass.device, mass.itemsize
        )

    def shape(self, block: Block) -> tuple[int, int, int, int]:
        """(kN, L, bM, P) of the block's plans."""
        problems = self.problems
        b, M, P = problems.image_mass[block.images].shape
        k, N, _ = problems.text_mass[block.classes].shape
        return k * N, block.length, b * M, P

    def buffer(self, name: str, shape: tuple[int, ...]) -> Tensor:
        size = torch.Size(shape).numel()
        if name not in self._buffers or self._buffers[name].numel() < size:
            self._buffers[name] = self.like.new_empty(size)
        return self._buffers[name][:size].view(shape)

    def masses(self, block: Block) -> tuple[Tensor, Tensor]:
        """Marginals of the block's rows (1, 1, bM, P) and columns (kN, L, 1, 1), images' and texts' tokens."""
        problems, P = self.problems, self.problems.image_mass.shape[2]
        rows = problems.image_mass[block.images].reshape(1, 1, -1, P)
        return rows, problems.text_mass[block.classes, :, : block.length].reshape(-1, block.length, 1, 1)

    def by_sides(self, x: Tensor) -> Tensor:
        """(kN, ., bM, ...) as (k, N, ., b, M, ...)."""
        _, _, M, N, _, _ = self.problems.sizes
        return x.unflatten(2, (-1, M)).unflatten(0, (-1, N))

    def by_problem(self, x: Tensor) -> Tensor:
        """(kN, bM, ...) as (b, k, M, N, ...)."""
        _, _, M, N, _, _ = self.problems.sizes
        return x.unflatten(1, (-1, M)).unflatten(0, (-1, N)).permute(2, 0, 3, 1, *range(4, x.ndim + 2))

    def by_pair(self, g: Tensor) -> Tensor:
        """(b, k, M, N) as (kN, 1, bM, 1)."""
        g = g.to(self.like.dtype).permute(1, 3, 0, 2)
        return g.reshape(g.shape[0] * g.shape[1], 1, -1, 1)

    def places(self, block: Block) -> Callable[[int], tuple[int, ...]]:
        """From a number among the block's problems (kN, bM) to (b, c, m, n)."""
        _, _, bM, _ = self.shape(block)
        _, _, M, N, _, _ = self.problems.sizes

        def place(number: int) -> tuple[int, ...]:
            prompt, point = divmod(number, bM)
            of_block = prompt // N
            c = (
                block.classes.start + of_block
                if isinstance(block.classes, slice)
                else int(block.classes[of_block])
            )
            return block.images.start + point // M, c, point % M, prompt % N

        return place

    @torch.no_grad()
    def solve(
        self,
        block: Block,
        *,
        out: Tensor | None = None,
        again_from: Tensor | None = None,
        count: bool = False,
    ) -> tuple[Solution, Tensor]:
        """The block's solution, of plans (kN, L, bM, P), and its scores. The plans live until the next block unless
        they go to ``out``; ``again_from`` an earlier solution's ``before`` they are computed again in one step.
        """
        shape, rule = self.shape(block), self.rule
        _, _, M, N, _, _ = self.problems.sizes
        scores = self.source.scores(block, rule.eps)
        rows, cols = self.masses(block)
        with torch.autocast(scores.device.type, enabled=False):
            solution = solve(
                scores,
                rows,
                cols,
                rule,
                row_dim=3,
                col_dim=1,
                mean=_mean(rows > 0, M, N, together=rule.together),
                start=self._start(block) if again_from is None else again_from,
                once=again_from is not None,
                count=count,
                out=self.buffer("plan", shape) if out is None else out,
                work=self.buffer("work", shape),
            )
        return solution, scores

    def _start(self, block: Block) -> Tensor | None:
        """Column scalings, or their logarithms, of the potentials that were given."""
        if self.problems.start is None:
            return None
        start = self.problems.start[block.images, block.classes, ..., : block.length].permute(1, 3, 4, 0, 2)
        cols = self.masses(block)[1]
        log = (start.to(self.like.dtype) / self.rule.eps).flatten(3, 4).flatten(0, 1)[..., None]
        log = torch.where(cols > 0, log, -math.inf)  # (kN, l, bM, 1)
        return log if self.rule.logarithms else log.exp()


def _mean(present: Tensor, M: int, N: int, *, together: bool):
    """Mean of a change (kN, 1, bM, P) over the image tokens of a problem, or of a pair's M x N problems."""
    count = present.sum(-1, keepdim=True)  # (1, 1, bM, 1)

    def mean(change: Tensor) -> Tensor:
        total = change.sum(-1, keepdim=True)
        if not together:
            return total / count
        (kN, _, bM, _) = total.shape
        pair = total.view(-1, N, bM // M, M).sum((1, 3), keepdim=True)
        pair = pair / (count.view(1, 1, -1, M).sum(3, keepdim=True) * N)
        return pair.expand(-1, N, -1, M).reshape(kN, 1, bM, 1)

    return mean
