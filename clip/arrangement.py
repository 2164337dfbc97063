"""Where the tokens of a forest stand in the text tower's batch: in one of two forms, each for its kind of device.

packed (CPU)
    A row for each root, its K tokens and behind them all branches, sorted by length. No token is computed twice or for
    nothing; attention is a few products for each length of branch.

groves (GPU)
    The branches of each root are dealt out to G groves of about as many tokens each, a row of the batch for each root
    and grove: the root's K tokens again, then the grove's branches. All attention is one call with a mask, which reads
    queries, keys and values where the projection left them and copies nothing. A row has ``ROW`` tokens. Shorter ones
    repeat the root more often (K / ROW of all tokens), longer ones compare more tokens that do not see each other
    (ROW / 6 w of a block's operations, w the width): at K = 5 and w = 512 that is 4 % each. Groves are filled up to the
    fullest one, by fewer tokens than a branch has.
"""

import heapq
import math
from collections import Counter
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .branch_attention import Groups
from .lookup import looked_up
from .sending import send
from .text_prompts import Layout
from .tokenizer import CONTEXT_LENGTH

ROW = 128  #: tokens of a row, if its root and one branch are not longer


class Arrangement(NamedTuple):
    """Index tensors on a device. A grove has T tokens, a row K + T; packed there is one grove."""

    order: Tensor  # (G T,) which of the branches' tokens stands there
    root_positions: Tensor  # (R, K) in the text
    branch_positions: Tensor  # (R, G T) in the text, or (1, G T) where roots are equally long
    summaries: (
        Tensor  # (C R,) where the ends of text stand among all rows' tokens; packed, without output tokens,
    )
    # where they stand among the ends alone
    tokens: Tensor | None  # (C R L,) where output tokens stand, if they are asked for
    # packed
    groups: Groups  # lengths of branches, as they stand
    padding: Tensor | None  # (R, K) of roots shorter than K
    ends: Tensor | None  # (C,) of the sorted classes' ends of text in a row
    # groves
    owner: (
        Tensor | None
    )  # (R G, K + T) whose a token is: 0 the root's, c + 1 the branch's of class c, others nobody's
    of_root: Tensor | None  # (R, L, 1) which output tokens are the root's, the same for all classes


@looked_up
def arrange(
    layout: Layout, device: torch.device, packed: bool, context_length: int = CONTEXT_LENGTH
) -> Arrangement:
    """The arrangement of a forest in one of the forms."""
    # what stands behind the end of text is needed only for its output
    lengths = np.array(layout.branches if layout.tokens else [end + 1 for end in layout.ends])
    n_roots, n_shared = len(layout.roots), layout.longest_root
    groves = [np.argsort(lengths, kind="stable")] if packed else _deal(lengths, n_shared)
    classes, loads = np.concatenate(groves), [lengths[grove].sum() for grove in groves]
    room = max(loads)
    row = n_shared + room

    # of each class, in the order in which they stand
    counts = lengths[classes]
    before = counts.cumsum() - counts
    grove = np.repeat(np.arange(len(groves)), [len(grove) for grove in groves])
    offset = before - (np.cumsum(loads) - loads)[grove]
    # of each token
    inside = np.arange(counts.sum()) - np.repeat(before, counts)
    there = np.repeat(grove * room + offset, counts) + inside
    order = np.zeros(len(groves) * room, dtype=np.int64)
    order[there] = np.repeat(layout.starts[classes], counts) + inside
    first = np.empty_like(lengths)  # of each class's tokens, in the rows of the first root
    first[classes] = grove * row + n_shared + offset

    positions = layout.positions(context_length)
    equal = len(set(layout.roots)) == 1
    rows_before = np.arange(n_roots) * len(groves) * row
    indices: dict[str, np.ndarray | None] = {
        "order": order,
        "root_positions": positions[:, :n_shared],
        "branch_positions": positions[: 1 if equal else None, n_shared + order],
        "summaries": ((first + layout.ends)[:, None] + rows_before).ravel(),
        "tokens": None,
        "padding": None,
        "ends": None,
        "owner": None,
        "of_root": None,
    }
    if packed:
        indices["ends"] = (first + layout.ends)[classes]
        if not layout.tokens:
            rank = np.argsort(classes)
            indices["summaries"] = (rank[:, None] + np.arange(n_roots) * len(rank)).ravel()
        if not equal:
            indices["padding"] = np.arange(n_shared) >= np.array(layout.roots)[:, None]
    else:
        owner = np.full(len(groves) * room, len(lengths) + 1)
        owner[there] = np.repeat(classes + 1, counts)
        of_roots = np.where(np.arange(n_shared) < np.array(layout.roots)[:, None], 0, -1)
        parts = (
            np.broadcast_to(of_roots[:, None], (n_roots, len(groves), n_shared)),
            np.broadcast_to(owner.reshape(len(groves), room), (n_roots, len(groves), room)),
        )
        indices["owner"] = np.concatenate(parts, axis=2).reshape(-1, row)
    if layout.tokens:
        place = np.empty(
            n_shared + len(there), dtype=np.int64
        )  # of the tokens K + T as the layout counts them
        place[:n_shared] = np.arange(n_shared)
        place[n_shared + order[there]] = there // room * row + n_shared + there % room
        tokens = place[layout.read_out()]  # (R, C, L)
        if not packed:
            step = np.arange(tokens.shape[2])
            of_root = (step < np.array(layout.roots)[:, None]) & (step < min(layout.tokens))
            tokens = np.where(
                of_root[:, None], first[:, None], tokens
            )  # not read; spread, for the gradient's sake
            indices["of_root"] = of_root[..., None]
        indices["tokens"] = (tokens + rows_before[:, None, None]).swapaxes(0, 1).ravel()
    groups = tuple((int(n), count) for n, count in Counter(counts.tolist()).items()) if packed else ()
    tensors = {
        name: None if index is None else send(torch.tensor(index), device) for name, index in indices.items()
    }
    return Arrangement(groups=groups, **tensors)  # type: ignore[arg-type]


def _deal(lengths: np.ndarray, n_shared: int) -> list[np.ndarray]:
    """Classes of each grove: the longest first, each to the grove with the fewest tokens."""
    room = _room(int(lengths.max()), n_shared)
    n_groves = math.ceil(lengths.sum() / room)
    while True:
        heap = [(0, g) for g in range(n_groves)]
        groves: list[list[int]] = [[] for _ in heap]
        for c in np.argsort(-lengths, kind="stable").tolist():
            load, g = heap[0]
            groves[g].append(c)
            heapq.heapreplace(heap, (load + int(lengths[c]), g))
        if max(heap)[0] <= room:
            return [np.array(grove) for grove in groves]
        n_groves += 1


def _room(longest: int, n_shared: int) -> int:
    """Most tokens of a grove."""
    return max(ROW - n_shared, longest)


def classes_of_a_row(layout: Layout, packed: bool) -> int:
    """Classes of the longest branch that a row is filled with; memory grows in these steps."""
    longest = max(layout.branches)
    return 1 if packed else _room(longest, layout.longest_root) // longest
