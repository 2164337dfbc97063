"""A folder of one's own images, in one of three forms below the data root:

* ``train/<class>/<image>``, ``test/<class>/<image>`` and maybe ``val/<class>/<image>`` (``test`` alone to test only);
* ``<class>/<image>``: 50 % of each class to train, 20 % to validate and 30 % to test on, by ``SPLIT_SEED``;
* a CSV file with the columns ``path`` (relative to the data root), ``class`` and maybe ``split`` (train, val or
  test); without ``split``, the images are split as those of folders.

Labels follow the sorted names of the classes. Images in folders below a class's are of that class, as in torchvision's
ImageFolder.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator

from PIL import Image
from yacs.config import CfgNode

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import SplitDataset
from datasets.fewshot import draw_file, draw_hash, draw_images
from datasets.files import is_litter
from datasets.lists import look_up
from datasets.own_split import split_three_ways
from datasets.split import PARTS, Item, Split, load_split
from datasets.table import read_table
from foundation.keys import Key, declare
from foundation.template import check_template
from foundation.text import read_json

# The (path, class) of the images of each part; the part is "" when they are yet to be split.
Found = dict[str, list[tuple[str, str]]]

ENDINGS = tuple(Image.registered_extensions())
DRAWS = "split_fewshot"
#: What folders and the table's column call the parts, in capital or small letters.
PART_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}


@DATASET_REGISTRY.register()
class ImageFolder(SplitDataset):
    """The images in the data root itself; options in ``cfg.DATASET.IMAGE_FOLDER``."""

    keys = {
        "DATASET.IMAGE_FOLDER.TEMPLATE": Key(SplitDataset.template, "the prompt, with {} for the class name"),
        "DATASET.IMAGE_FOLDER.CLASS_NAMES": Key(
            "", "JSON file {folder: class name}; without one the folders' names", is_path=True
        ),
        "DATASET.IMAGE_FOLDER.CSV": Key(
            "", "CSV file of images and classes; without one they lie in folders", is_path=True
        ),
        "DATASET.IMAGE_FOLDER.ENCODING": Key(
            "", "of the CSV file; without one UTF-8, or what its byte-order mark says"
        ),
        "DATASET.IMAGE_FOLDER.NESTED": Key(True, "take the images in folders below a class's"),
        "DATASET.IMAGE_FOLDER.SPLIT_SEED": Key(0, "of the draw of validation and test images"),
    }

    @classmethod
    def extend_cfg(cls, cfg: CfgNode) -> None:
        declare(cfg, cls.keys)

    def __init__(self, cfg: CfgNode) -> None:
        self.options = cfg.DATASET.IMAGE_FOLDER
        self.template = self.options.TEMPLATE
        check_template(self.template, "DATASET.IMAGE_FOLDER.TEMPLATE")
        self.lists_folders = not self.options.CSV
        super().__init__(cfg)

    @property
    def draw_folder(self) -> str:
        """Of each split of these images its own: draws of one do not fit another."""
        options = self.options
        name = [os.path.splitext(os.path.basename(options.CSV))[0]] if options.CSV else []
        name += [f"split_seed_{options.SPLIT_SEED}"] if options.SPLIT_SEED else []
        name += ["not_nested"] if not options.NESTED and not options.CSV else []
        return os.path.join(self.dataset_dir, DRAWS, "-".join(name)).rstrip(os.sep)

    def read_split(self) -> Split:
        found = self._read_csv() if self.options.CSV else self._list_images()
        classes = sorted({name for rows in found.values() for _, name in rows})
        if len(classes) == 1:
            raise ValueError(
                f"{self.root} has one class only, {classes[0]!r}, and nothing to tell it from:"
                " the images of each class belong into a folder of their own"
            )
        label = {name: number for number, name in enumerate(classes)}
        names = self._read_class_names(classes)
        parts = {
            part: [Item(path, label[name], names[name]) for path, name in rows]
            for part, rows in found.items()
        }
        split = (
            split_three_ways(parts[""], self.options.SPLIT_SEED)
            if "" in parts
            else Split(*(parts.get(part, []) for part in PARTS))
        )
        _warn_untested(split)
        return split

    def _list_images(self) -> Found:
        found: Found = defaultdict(list)
        left_out: list[str] = []
        nested: list[str] = []
        seen: dict[tuple[int, int], str] = {_identity(self.image_dir): ""}
        for folder, part in (self._part_folders() or {"": ""}).items():
            classes, files = _list(os.path.join(self.image_dir, folder))
            seen[_identity(os.path.join(self.image_dir, folder))] = folder
            left_out += [f"{folder}/{file}".lstrip("/") for file in files if file.lower().endswith(ENDINGS)]
            for name in classes:
                if name == DRAWS:
                    continue
                place = f"{folder}/{name}".lstrip("/")
                there = sorted(_files_below(self.image_dir, place, self.options.NESTED, seen))
                there = [file[len(place) + 1 :] for file in there]
                images = [file for file in there if file.lower().endswith(ENDINGS)]
                if not images:
                    state = "has no images" if there else "is empty"
                    raise ValueError(f"class folder {os.path.join(self.image_dir, place)} {state}")
                found[part] += [(f"{place}/{file}", name) for file in images]
                nested += [f"{place}/{file}" for file in images if "/" in file]
                images_too = set(images)
                left_out += [f"{place}/{file}" for file in there if file not in images_too]
        if not found:
            raise ValueError(f"{self.image_dir} has no class folders")
        if nested:
            count = sum(map(len, found.values()))
            print(
                f"{len(nested)} of the {count} images lie in folders below their class's, first: {nested[0]}"
                " (DATASET.IMAGE_FOLDER.NESTED False leaves them out)"
            )
            _warn_of_sets([path for rows in found.values() for path, _ in rows])
        _warn_left_out(left_out)
        return found

    def _part_folders(self) -> dict[str, str]:
        """The folders that are parts, with the part that each is; none where the folders are classes."""
        # A part has class folders; a folder of that name without any may be a class ("train", among vehicles).
        folders, _ = _list(self.image_dir)
        parts = {
            name: PART_NAMES[name.lower()]
            for name in folders
            if name.lower() in PART_NAMES and _list(os.path.join(self.image_dir, name))[0]
        }
        for part in PARTS:
            same = [name for name, meant in parts.items() if meant == part]
            if len(same) > 1:
                raise ValueError(
                    f"{self.image_dir} has both {' and '.join(same)}, which mean the same part ({part}):"
                    " rename or move one of them away"
                )
        parts = dict(sorted(parts.items(), key=lambda item: PARTS.index(item[1])))
        others = [name for name in folders if name not in parts and name != DRAWS]
        if parts and others:
            shown = ", ".join(others[:10]) + (", ..." if len(others) > 10 else "")
            print(f"Warning: folders beside {', '.join(parts)} are left out, they are no part: {shown}")
        return parts

    def _read_csv(self) -> Found:
        return read_table(
            os.path.join(self.root, self.options.CSV), self.options.ENCODING, self.image_dir, PART_NAMES
        )

    def _read_class_names(self, classes: list[str]) -> dict[str, str]:
        if not self.options.CLASS_NAMES:
            return {name: name for name in classes}
        source = os.path.join(self.root, self.options.CLASS_NAMES)
        names = read_json(source)
        if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
            raise ValueError(f"{source} must be an object of class names by folder")
        return {name: look_up(names, name, source) for name in classes}

    def few_shot(self, split: Split, shots: int, seed: int) -> Split:
        self._mention_older_draw(split, shots, seed)
        return super().few_shot(split, shots, seed)

    def _mention_older_draw(self, split: Split, shots: int, seed: int) -> None:
        """Draws of all splits once lay in one folder; one that somebody put there is not passed over in silence."""
        older = os.path.join(self.dataset_dir, DRAWS)
        if shots < 1 or older == self.draw_folder or draw_file(self.draw_folder, shots, seed):
            return
        path = draw_file(older, shots, seed)
        drawn = draw_hash(draw_images(split, shots, seed))
        if path and not (path.endswith(".json") and draw_hash(load_split(path)) == drawn):
            print(
                f"Warning: {path} is not taken; if it is a draw of this split, move it into {self.draw_folder}"
            )


def _list(folder: str) -> tuple[list[str], list[str]]:
    """The folders and the files in a folder, sorted, without what is nobody's data."""
    folders: list[str] = []
    files: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if not is_litter(entry.name):
                (folders if entry.is_dir() else files).append(entry.name)
    return sorted(folders), sorted(files)


def _files_below(root: str, folder: str, nested: bool, seen: dict[tuple[int, int], str]) -> Iterator[str]:
    """The paths below ``root`` of the files in its ``folder``; folders that are not looked into end with ``/``.

    Args:
        seen: by their identity, the folders that were looked into before.

    Raises:
        ValueError: a link leads to a folder that was seen: its images would be there twice, perhaps in two classes.
    """
    identity = _identity(os.path.join(root, folder))
    if identity in seen:
        other = os.path.join(root, seen[identity])
        raise ValueError(f"{os.path.join(root, folder)} is the same folder as {other}: remove the link")
    seen[identity] = folder
    folders, files = _list(os.path.join(root, folder))
    yield from (f"{folder}/{file}" for file in files)
    for name in folders:
        if nested:
            yield from _files_below(root, f"{folder}/{name}", nested, seen)
        else:
            yield f"{folder}/{name}/"


def _identity(folder: str) -> tuple[int, int]:
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def _warn_of_sets(paths: list[str]) -> None:
    """Where all images lie in folders of the same names, in each of the classes, these may be the classes."""
    below: dict[str, set[str]] = defaultdict(set)
    for path in paths:
        steps = path.split("/")
        below["/".join(steps[:-2])].add(steps[-2])
    names = list(below.values())
    if len(names) > 1 and len(names[0]) > 1 and all(name == names[0] for name in names):
        print(
            f"Warning: {', '.join(below)} are taken for classes, and all have the folders"
            f" {', '.join(sorted(names[0]))}; if those are the classes, give one of the others as --root"
        )


def _warn_left_out(files: list[str]) -> None:
    if not files:
        return
    reasons = {
        "by their names no images": [f for f in files if not f.lower().endswith((*ENDINGS, "/"))],
        "in no class folder": [f for f in files if f.lower().endswith(ENDINGS)],
        "below those of classes (DATASET.IMAGE_FOLDER.NESTED)": [f for f in files if f.endswith("/")],
    }
    for reason, some in reasons.items():
        if some:
            things = "folders" if some[0].endswith("/") else "files"
            print(f"Warning: {len(some)} {things} are left out, {reason}, first: {some[0]}")


def _warn_untested(split: Split) -> None:
    tested = {item.label for item in split.test}
    names = sorted({item.classname for item in split.train if item.label not in tested})
    if names and tested:
        shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        print(f"Warning: {len(names)} classes have no test images, the results say nothing of them: {shown}")
