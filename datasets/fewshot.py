"""The few-shot draw: a function of (split, shots, seed) and of nothing else.

The images of a class are ranked by SHA-256("<seed>:<path>"), with the path as the split writes it (relative
to the image folder, with ``/``), and the first ``shots`` of them are drawn. So the draw is the same on every
machine and with every version of Python; it does not depend on random states, on the order of the split, on
where the data lie or on which other classes there are; and the draw with s shots is part of that with s + 1.
"""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterable
from hashlib import sha256

from datasets.legacy_draw import load_legacy_draw
from datasets.split import PARTS, Item, Split, is_unicode, load_split, save_split

MAX_VAL_SHOTS = 4


def few_shot(split: Split, shots: int, seed: int, folder: str) -> Split:
    """The few-shot version of ``split``: a draw that is kept in ``folder``, or else one that is made here.

    ``folder/shot_<shots>-seed_<seed>.pkl``, left by CoOp's code, comes first: nothing here writes such a
    file, so whoever put it there wants it repeated. Next is ``shot_<shots>-seed_<seed>.json``; where there is
    neither, the draw is made and kept under that name. Either file must fit the split.

    Args:
        split: the whole data set.
        shots: training images per class; below 1 means all, and then nothing is drawn.
        seed: the run's seed.
        folder: the data set's ``split_fewshot`` folder.

    Returns:
        ``shots`` training and min(``shots``, 4) validation images per class (fewer where a class has fewer),
        and the whole test part.

    Raises:
        ValueError: when the file in ``folder`` does not fit the split.
    """
    if shots < 1:
        if shots == 0:
            print(
                f"Warning: DATASET.NUM_SHOTS is 0: all {len(split.train):,} training images are used, as by CoOp's code"
            )
        return split
    draw, source = find_draw(split, shots, seed, folder)
    _warn_small_classes(split, shots)
    if source:
        maker = " (made by CoOp's code)" if source.endswith(".pkl") else ""
        print(f"Few-shot draw: {source}{maker}")
    else:
        kept = os.path.join(folder, f"shot_{shots}-seed_{seed}.json")
        try:
            save_split(draw, kept)
            print(f"Few-shot draw: made and kept as {kept}")
        except OSError as error:  # a read-only data root; the next run makes the same draw again
            print(f"Few-shot draw: made, but not kept ({error})")
    return draw._replace(test=split.test)


def find_draw(split: Split, shots: int, seed: int, folder: str) -> tuple[Split, str]:
    """The draw that ``few_shot`` takes, without test images, and its file in ``folder`` ("": there is none)."""
    source = draw_file(folder, shots, seed)
    if not source:
        return draw_images(split, shots, seed), ""
    draw = load_legacy_draw(source, split) if source.endswith(".pkl") else load_split(source)
    check_draw(draw, split, shots, source)
    names = {item.label: item.classname for item in split.train}
    train, val = ([item._replace(classname=names[item.label]) for item in part] for part in draw[:2])
    return Split(train, val, []), source


def draw_file(folder: str, shots: int, seed: int) -> str:
    """The file in ``folder`` that holds the draw, CoOp's before our own; "" where there is none."""
    paths = (os.path.join(folder, f"shot_{shots}-seed_{seed}{ending}") for ending in (".pkl", ".json"))
    return next((path for path in paths if os.path.exists(path)), "")


def draw_images(split: Split, shots: int, seed: int) -> Split:
    """Draw ``shots`` training and min(``shots``, 4) validation images per class, and no test images."""
    return Split(_draw(split.train, shots, seed), _draw(split.val, min(shots, MAX_VAL_SHOTS), seed), [])


def _draw(items: Iterable[Item], shots: int, seed: int) -> list[Item]:
    classes: dict[int, list[Item]] = defaultdict(list)
    for item in items:
        classes[item.label].append(item)
    return [item for label in sorted(classes) for item in rank(classes[label], seed)[:shots]]


def rank(items: Iterable[Item], seed: int | str) -> list[Item]:
    """``items`` in the order of SHA-256("<seed>:<path>").

    Raises:
        ValueError: a path cannot be written as UTF-8.
    """
    items = list(items)
    for item in items:
        if not is_unicode(item.path):
            raise ValueError(f"the name of {item.path!r} is not written in UTF-8: rename the file")
    return sorted(items, key=lambda item: sha256(f"{seed}:{item.path}".encode()).digest())


def draw_hash(draw: Split) -> str:
    """SHA-256 (hex) of the paths and labels of a draw's training and validation images, in any order."""
    content = {part: sorted([item.path, item.label] for item in getattr(draw, part)) for part in PARTS[:2]}
    return sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()


def check_draw(draw: Split, split: Split, shots: int, source: str) -> None:
    """Check that a draw read from ``source`` has ``shots`` images per class, all from the split's own parts.

    Raises:
        ValueError: how many images are from elsewhere (and how many of these are test images), or which class
            has the wrong number of them. Only in a class with too few may an image be drawn twice, as CoOp does.
    """
    test = {item.path for item in split.test}
    for part, limit in (("train", shots), ("val", min(shots, MAX_VAL_SHOTS))):
        drawn, available = getattr(draw, part), getattr(split, part)
        label_of = {item.path: item.label for item in available}
        strange = [item.path for item in drawn if label_of.get(item.path) != item.label]
        if strange:
            leaked = sum(path in test for path in strange)
            raise ValueError(
                f"{source} does not fit: {len(strange)} of its {len(drawn)} {part} images are not in the"
                f" {part} part of the split under the same label ({leaked} are test images),"
                f" first: {strange[0]}; move the file away to draw anew"
            )
        counts = Counter(item.label for item in drawn)
        distinct = Counter(label_of[path] for path in {item.path for item in drawn})
        for label, there in sorted(Counter(label_of.values()).items()):
            count = counts[label]
            if not min(limit, there) <= count <= limit or (distinct[label] < count and there >= limit):
                raise ValueError(
                    f"{source} does not fit: it has {distinct[label]} {part} images of label {label} (in {count}"
                    f" places) where {limit} were asked for and {there} are there; move the file away to draw anew"
                )


def _warn_small_classes(split: Split, shots: int) -> None:
    names = {item.label: item.classname for item in split.train}
    counts = Counter(item.label for item in split.train)
    small = [f"{names[label]} ({count})" for label, count in sorted(counts.items()) if count < shots]
    if small:
        more = f" and {len(small) - 5} more" if len(small) > 5 else ""
        print(
            f"Warning: DATASET.NUM_SHOTS is {shots}, {len(small)} of {len(counts)} classes have fewer training images,"
            f" of which all are taken: {', '.join(small[:5])}{more}"
        )
