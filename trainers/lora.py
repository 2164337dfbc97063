"""Additions of low rank to the attention of both towers (LoRA), as CLIP-LoRA and 2SFS learn them.

Every chosen matrix W of every chosen block becomes W + (alpha / sqrt(r)) B A, with the scale of rsLoRA (Kalajdzievski,
arXiv 2312.03732); A is Kaiming-uniform and B zero at the start, and dropout acts on the input of B A.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from clip import CLIP, LowRank
from foundation.keys import Allowed, Key, at_least, between, one_of

#: Matrices -> their names in the releases.
MATRICES = {"q": "q_proj", "k": "k_proj", "v": "v_proj", "o": "proj"}
#: Of a tower of L blocks, as fractions of it; the releases count for 12.
POSITIONS = {
    "all": (0, 1),
    "bottom": (0, 1 / 3),
    "mid": (1 / 3, 2 / 3),
    "up": (2 / 3, 1),
    "half-up": (1 / 2, 1),
    "half-bottom": (0, 1 / 2),
    "top3": (3 / 4, 1),
}
_some = f"some of {', '.join(MATRICES)}"
PARAMS = Allowed(lambda names: bool(names) and set(names) <= set(MATRICES), f"{_some} are needed", _some)
#: The keys of a method that learns them.
KEYS = {
    "PARAMS": Key(("q", "k", "v"), "which matrices of attention", PARAMS),
    "POSITION": Key("all", "which blocks, the release's names", one_of(*POSITIONS)),
    "R": Key(2, "r, rank of an addition", at_least(1)),
    "ALPHA": Key(1.0, "an addition counts alpha / sqrt(r)"),
    "DROPOUT_RATE": Key(0.25, "of what enters an addition, in training", between(0, 1, below=True)),
}


class Addition(nn.Module):
    """A (r, width) and B (width, r) of one matrix."""

    def __init__(self, width: int, rank: int) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.empty(rank, width))
        self.up = nn.Parameter(torch.zeros(width, rank))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))


class Additions(nn.ModuleDict):
    """Those of one tower or both, by tower, block and matrix: "text_3_q".

    Args:
        towers: "text", "vision".
        options: with ``KEYS``.
    """

    def __init__(self, clip: CLIP, towers: tuple[str, ...], options: CfgNode) -> None:
        super().__init__()
        self.scale, self.rate = options.ALPHA / math.sqrt(options.R), options.DROPOUT_RATE
        for kind, tower in (("text", clip.text), ("vision", clip.image)):
            if kind not in towers:
                continue
            first, last = (round(part * tower.depth) for part in POSITIONS[options.POSITION])
            for block in range(first, last):
                for name in sorted(options.PARAMS, key=list(MATRICES).index):
                    self[f"{kind}_{block}_{name}"] = Addition(tower.width, options.R)

    def weights(self, kind: str, dropping: bool, cut: bool) -> dict[str, LowRank]:
        """What is added to the weights of a tower.

        Args:
            dropping: whether dropout acts.
            cut: where there is no dropout, no gradient goes through an addition to what enters it.
        """
        found = {}
        for key, addition in self.items():
            assert isinstance(addition, Addition)
            where, block, matrix = key.split("_")
            if where == kind:
                dropout, is_cut = self.rate if dropping else 0.0, cut and self.rate == 0
                change = LowRank(addition.down, addition.up, self.scale, dropout, is_cut)
                found[f"blocks.{block}.{matrix}.weight"] = change
        return found

    def of_release(self, layers: Mapping[str, Any]) -> dict[str, Tensor]:
        """What the release's file holds, {"layer_0": {"q_proj": {"w_lora_A": ...}}}, by ``released``'s names for it.

        Layers are counted over the blocks that have additions, those of the text tower first.
        """
        blocks = list(dict.fromkeys(key.rpartition("_")[0] for key in self))
        found = {}
        for number, place in enumerate(blocks):
            kind, block = place.split("_")
            matrices = layers.get(f"layer_{number}", {})
            for matrix, parts in matrices.items() if isinstance(matrices, Mapping) else ():
                for part, value in parts.items() if isinstance(parts, Mapping) else ():
                    found[f"{in_clip(kind, block, matrix)}.{part}"] = value
        others = layers.keys() - {f"layer_{number}" for number in range(len(blocks))}
        return found | {layer: layers[layer] for layer in others}

    def released(self, prefix: str) -> dict[str, str]:
        """Our names, behind those of the model's part -> CLIP's with the releases' endings."""
        names: dict[str, str] = {}
        for key in self:
            kind, block, matrix = key.split("_")
            theirs = f"{in_clip(kind, block, MATRICES[matrix])}.w_lora_"
            names |= {f"{prefix}.{key}.down": f"{theirs}A", f"{prefix}.{key}.up": f"{theirs}B"}
        return names


def in_clip(kind: str, block: str, matrix: str) -> str:
    """Where the releases have a matrix of attention."""
    return f"{'visual.' if kind == 'vision' else ''}transformer.resblocks.{block}.attn.{matrix}"
