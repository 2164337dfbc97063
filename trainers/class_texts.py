"""The one way from a method's prompts to the features of its class texts.

Of several processes each encodes its share of the classes and gets the features of the others (see data_parallel).

Of a large vocabulary, a training step may encode a sample only (see class_sample).

Classes go through the text tower in chunks when their activations would not fit: each chunk's are computed again in the
backward pass, so memory holds those of one chunk at a time, and the gradient stays exact.
"""

import math
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.random import fork_rng
from torch.utils.checkpoint import checkpoint
from yacs.config import CfgNode

from clip import NONE, Changes, TextFeatures, TextPrompts, TextTower, send
from foundation.keys.of_all_runs import of

from . import data_parallel

GIB = 2**30


class ClassTexts:
    """Encodes class texts within a memory budget.

    Attributes:
        classes: indices of the classes that are encoded, in ascending order, on the CPU; None: all.

    Args:
        tower: the text tower.
        cfg: its ``MODEL.TEXT_CHUNK`` is the number of classes that are encoded at once, 0: as many as
            ``MODEL.TEXT_MEMORY`` GiB of activations allow, 0 of these: half of the memory that is free.
    """

    def __init__(self, tower: TextTower, cfg: CfgNode) -> None:
        self.tower = tower
        self.chunk, self.memory = of(cfg, "MODEL.TEXT_CHUNK"), of(cfg, "MODEL.TEXT_MEMORY")
        self._classes: Tensor | None = None
        self._classes_there: Tensor | None = None  # the same on the device of the rows that are selected
        self._fitting: dict[tuple[bool, tuple[int, ...]], int] = {}

    @property
    def classes(self) -> Tensor | None:
        return self._classes

    @classes.setter
    def classes(self, classes: Tensor | None) -> None:
        self._classes, self._classes_there = classes, None

    def of_classes(self, rows: Tensor) -> Tensor:
        """Rows (C, ...) of all classes -> rows (S, ...) of the S ``classes``; all of them where that is None."""
        if self._classes is None:
            return rows
        if self._classes_there is None or self._classes_there.device != rows.device:
            self._classes_there = send(self._classes, rows.device)
        return rows.index_select(0, self._classes_there)

    def prompts_of_classes(self, prompts: TextPrompts) -> TextPrompts:
        """Prompts of all C classes -> those of the S ``classes``; all of them where that is None."""
        return prompts if self.classes is None else prompts.select(self.classes.tolist())

    def encode(self, prompts: TextPrompts, changes: Changes = NONE) -> TextFeatures:
        """Prompts of all C classes -> the text tower's features of the S ``classes``.

        Args:
            prompts: R for each class.
            changes: what a method changes in the tower, of all C classes where they differ by class.

        Returns:
            summaries (S, R, d), and tokens (S, R, L, d) or None.

        Raises:
            ValueError: the memory does not hold the texts of a single class.
        """
        prompts = self.prompts_of_classes(prompts)
        if self.classes is not None:
            changes = changes.select(self.classes.tolist())
        if not torch.is_grad_enabled():
            changes = self.tower.merged(changes)
        count = len(prompts.layout.branches)
        if not 1 < data_parallel.count() <= count:
            return self._encode(prompts, changes)
        part = data_parallel.share(count)
        own = self._encode(prompts.select(part), changes.select(part))
        if own.tokens is None:
            return TextFeatures(data_parallel.gather(own.summary, count), None)
        tokens = lengthen(own.tokens, max(prompts.layout.tokens))
        both = data_parallel.gather(torch.cat([own.summary[:, :, None], tokens], dim=2), count)
        return TextFeatures(both[:, :, 0], both[:, :, 1:])

    def _encode(self, prompts: TextPrompts, changes: Changes) -> TextFeatures:
        """In one process, in chunks where they are needed."""
        count = len(prompts.layout.branches)
        size = self.chunk or self._classes_that_fit(prompts, changes)
        if size >= count:
            return self.tower(prompts, changes)
        size = math.ceil(count / math.ceil(count / size))  # as equal as they can be
        parts = []
        for start in range(0, count, size):
            some = range(start, min(start + size, count))
            part = prompts.select(some), changes.select(some)
            if torch.is_grad_enabled():
                again = partial(checkpoint, use_reentrant=False, preserve_rng_state=changes.random)
                parts.append(again(self.tower, *part))
            else:
                parts.append(self.tower(*part))
        summary = torch.cat([part.summary for part in parts])
        tokens = [
            lengthen(part.tokens, max(prompts.layout.tokens)) for part in parts if part.tokens is not None
        ]
        return TextFeatures(summary, torch.cat(tokens) if tokens else None)

    def classes_at_once(self, training: bool) -> int:
        """Classes that are encoded at once; 0 while that has not been decided."""
        return self.chunk or min((n for (mode, _), n in self._fitting.items() if mode == training), default=0)

    def _classes_that_fit(self, prompts: TextPrompts, changes: Changes) -> int:
        """Decided once for each kind of roots, for training and for evaluation, so that a run's steps are alike."""
        training = torch.is_grad_enabled()
        kind = training, prompts.layout.roots
        if kind not in self._fitting:
            shared, each, longest = activation_bytes(self.tower, prompts, changes)
            if not training:  # two blocks' worth at a time
                shared, each, longest = (2 * part / self.tower.depth for part in (shared, each, longest))
            budget = self.memory * GIB or free_memory(prompts.root.device) / 2
            if shared + longest > budget:
                given = (
                    f"MODEL.TEXT_MEMORY is {self.memory} GiB" if self.memory else "half of the free memory"
                )
                raise ValueError(
                    f"{given}{'' if self.memory else f' is {budget / GIB:.3g} GiB'}, the texts of one class take "
                    f"{(shared + longest) / GIB:.3g} GiB: more memory, fewer prompts or a smaller backbone is needed"
                )
            self._fitting[kind] = int((budget - shared) / each)
        return max(1, self._fitting[kind])


def lengthen(tokens: Tensor, length: int) -> Tensor:
    """Token sets (C, R, L, d) with the last token repeated up to ``length``, as the tower fills up shorter ones."""
    return torch.cat([tokens, tokens[:, :, -1:].expand(-1, -1, length - tokens.shape[2], -1)], dim=2)


def activation_bytes(tower: TextTower, prompts: TextPrompts, changes: Changes) -> tuple[float, float, float]:
    """What a training step keeps of the text tower's pass, measured on copies of the longest class.

    Returns:
        bytes of what the classes share, of an average class and of the longest one.
    """
    lengths = prompts.layout.branches
    longest = lengths.index(max(lengths))
    weights = {parameter.untyped_storage().data_ptr() for parameter in tower.parameters()}
    probe = replace(prompts, root=prompts.root.detach().requires_grad_(), branch=prompts.branch.detach())
    changes = changes.map(lambda tensor: tensor.detach().requires_grad_(tensor.requires_grad))
    kept, step = [], tower.classes_of_a_row(prompts.layout, changes)
    device = prompts.root.device
    for classes in ([longest] * step, [longest] * 2 * step):
        sizes: dict[int, int] = {}

        def note(tensor: Tensor, sizes: dict[int, int] = sizes) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in weights:
                sizes[storage.data_ptr()] = storage.nbytes()
            return tensor

        with (
            torch.enable_grad(),
            torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor),
            torch.compiler.set_stance("force_eager"),  # of these shapes there is one pass only
            fork_rng([device] if device.type == "cuda" else [], enabled=changes.random),
        ):
            features = tower.forward(probe.select(classes), changes.select(classes))
        kept.append(sum(sizes.values()))
        del features
    one = (kept[1] - kept[0]) / step
    return kept[0] - step * one, one * sum(lengths) / len(lengths) / max(lengths), one


def free_memory(device: torch.device) -> float:
    """Bytes that this process can still take on a device; infinitely many where the system does not tell.

    Processes share the main memory, but not a GPU.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    about = Path("/proc/meminfo")
    lines = about.read_text().splitlines() if about.is_file() else []
    for line in lines:
        if line.startswith("MemAvailable:"):
            return 1024.0 * int(line.split()[1]) / data_parallel.count()
    return math.inf
