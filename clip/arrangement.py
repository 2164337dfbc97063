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


class _Dealt(NamedTuple):
    """Where classes stand in the rows: packed there is one grove."""

    lengths: np.ndarray  # (C,) tokens of each branch that are computed
    classes: np.ndarray  # (C,) in the order in which they stand
    grove: np.ndarray  # (C,) of each of these
    there: np.ndarray  # (sum of lengths,) of each of their tokens, in the groves of one root
    first: np.ndarray  # (C,) of each class's first token, in the rows of the first root
    n_groves: int
    room: int  # T, tokens of a grove
    row: int  # K + T


def _dealt(layout: Layout, packed: bool) -> _Dealt:
    # what stands behind the end of text is needed only for its output
    lengths = np.array(layout.branches if layout.tokens else [end + 1 for end in layout.ends])
    groves = [np.argsort(lengths, kind="stable")] if packed else _deal(lengths, layout.longest_root)
    classes, loads = np.concatenate(groves), [lengths[grove].sum() for grove in groves]
    room = int(max(loads))
    row = layout.longest_root + room
    # of each class, in the order in which they stand
    counts = lengths[classes]
    before = counts.cumsum() - counts
    grove = np.repeat(np.arange(len(groves)), [len(grove) for grove in groves])
    offset = before - (np.cumsum(loads) - loads)[grove]
    # of each token
    inside = np.arange(counts.sum()) - np.repeat(before, counts)
    there = np.repeat(grove * room + offset, counts) + inside
    first = np.empty_like(lengths)
    first[classes] = grove * row + layout.longest_root + offset
    return _Dealt(lengths, classes, grove, there, first, len(groves), room, row)


@looked_up
def arrange(
    layout: Layout,
    device: torch.device,
    packed: bool,
    context_length: int = CONTEXT_LENGTH,
    inserted: int = 0,
) -> Arrangement:
    """The arrangement of a forest in one of the forms, with room for tokens that are inserted into every root later."""
    embedded, layout = layout, layout.grown(inserted)
    dealt = _dealt(layout, packed)
    n_roots, n_shared, n_groves = len(layout.roots), layout.longest_root, dealt.n_groves
    counts = dealt.lengths[dealt.classes]
    inside = np.arange(counts.sum()) - np.repeat(counts.cumsum() - counts, counts)
    order = np.zeros(n_groves * dealt.room, dtype=np.int64)
    order[dealt.there] = np.repeat(layout.starts[dealt.classes], counts) + inside

    positions, n_embedded = embedded.positions(context_length), embedded.longest_root
    equal = len(set(layout.roots)) == 1
    rows_before = np.arange(n_roots) * n_groves * dealt.row
    first, there = dealt.first, dealt.there
    indices: dict[str, np.ndarray | None] = {
        "order": order,
        "root_positions": positions[:, :n_embedded],
        "branch_positions": positions[: 1 if equal else None, n_embedded + order],
        "summaries": ((first + layout.ends)[:, None] + rows_before).ravel(),
        "tokens": None,
        "padding": None,
        "ends": None,
        "owner": None,
        "of_root": None,
    }
    if packed:
        indices["ends"] = (first + layout.ends)[dealt.classes]
        if not layout.tokens:
            rank = np.argsort(dealt.classes)
            indices["summaries"] = (rank[:, None] + np.arange(n_roots) * len(rank)).ravel()
        if not equal:
            indices["padding"] = np.arange(n_shared) >= np.array(layout.roots)[:, None]
    else:
        owner = np.full(n_groves * dealt.room, len(dealt.lengths) + 1)
        owner[there] = np.repeat(dealt.classes + 1, counts)
        of_roots = np.where(np.arange(n_shared) < np.array(layout.roots)[:, None], 0, -1)
        parts = (
            np.broadcast_to(of_roots[:, None], (n_roots, n_groves, n_shared)),
            np.broadcast_to(owner.reshape(n_groves, dealt.room), (n_roots, n_groves, dealt.room)),
        )
        indices["owner"] = np.concatenate(parts, axis=2).reshape(-1, dealt.row)
    if layout.tokens:
        place = np.empty(
            n_shared + len(there), dtype=np.int64
        )  # of the tokens K + T as the layout counts them
        place[:n_shared] = np.arange(n_shared)
        place[n_shared + order[there]] = there // dealt.room * dealt.row + n_shared + there % dealt.room
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


class Split(NamedTuple):
    """From the arrangement of a forest to that of ``layout.split(start)``, where each class has a part of the roots for
    itself.
    """

    at: Arrangement
    source: Tensor  # (R G (K + T),) where each token of the new rows stands among those of the old ones
    own: Tensor  # (C R n,) where the tokens that differ by class stand among those of the new rows


@looked_up
def split(layout: Layout, device: torch.device, packed: bool, start: int, n: int, inserted: int = 0) -> Split:
    """The split of a forest, whose roots grew by ``inserted`` tokens, for n tokens from ``start`` on."""
    layout = layout.grown(inserted)
    after = layout.split(start)
    old, new = _dealt(layout, packed), _dealt(after, packed)
    n_roots, rest = len(layout.roots), layout.longest_root - start
    grove = np.empty_like(old.first)
    grove[old.classes] = old.grove

    counts = new.lengths[new.classes]
    inside = np.arange(counts.sum()) - np.repeat(counts.cumsum() - counts, counts)
    label = np.repeat(new.classes, counts)
    of_root = grove[label] * old.row + start + inside  # in the rows of the first root
    of_branch = old.first[label] + inside - rest
    rows = np.zeros((new.n_groves, new.row), dtype=np.int64)
    rows[:, :start] = np.arange(start)
    rows[new.there // new.room, start + new.there % new.room] = np.where(inside < rest, of_root, of_branch)
    roots = np.arange(n_roots)
    source = rows.ravel() + (roots * old.n_groves * old.row)[:, None]
    own = new.first[:, None] + roots * new.n_groves * new.row
    own = own[..., None] + np.arange(n)
    to_device = (send(torch.from_numpy(index.ravel()), device) for index in (source, own))
    return Split(arrange(after, device, packed), *to_device)


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
