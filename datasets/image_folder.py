"""A folder of one's own images, in one of three forms below the data root:

* ``train/<class>/<image>``, ``test/<class>/<image>`` and maybe ``val/<class>/<image>`` (``test`` alone to test only);
* ``<class>/<image>``: 50 % of each class to train, 20 % to validate and 30 % to test on, by ``SPLIT_SEED``;
* a CSV file with the columns ``path`` (relative to the data root), ``class`` and maybe ``split`` (train, val or
  test); without ``split``, the images are split as those of folders.

Labels follow the sorted names of the classes.
"""

from __future__ import annotations

import csv
import json
import os
from collections import defaultdict

from PIL import Image
from yacs.config import CfgNode

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import SplitDataset
from datasets.lists import look_up
from datasets.own_split import list_folders, split_three_ways
from datasets.split import PARTS, Item, Split, check_path

# The (path, class) of the images of each part; the part is "" when they are yet to be split.
Found = dict[str, list[tuple[str, str]]]

ENDINGS = tuple(Image.registered_extensions())


@DATASET_REGISTRY.register()
class ImageFolder(SplitDataset):
    """The images in the data root itself; options in ``cfg.DATASET.IMAGE_FOLDER``."""

    @staticmethod
    def extend_cfg(cfg: CfgNode) -> None:
        cfg.DATASET.IMAGE_FOLDER = CfgNode()
        cfg.DATASET.IMAGE_FOLDER.TEMPLATE = SplitDataset.template
        cfg.DATASET.IMAGE_FOLDER.CLASS_NAMES = ""  # JSON file {folder: class name}; "": the folders' names
        cfg.DATASET.IMAGE_FOLDER.CSV = ""  # CSV file; "": folders
        cfg.DATASET.IMAGE_FOLDER.SPLIT_SEED = 0

    def __init__(self, cfg: CfgNode) -> None:
        self.options = cfg.DATASET.IMAGE_FOLDER
        self.template = self.options.TEMPLATE
        if self.template.count("{}") != 1:
            raise ValueError(
                f"DATASET.IMAGE_FOLDER.TEMPLATE {self.template!r} must have one {{}} for the class name"
            )
        self.lists_folders = not self.options.CSV
        super().__init__(cfg)

    def read_split(self) -> Split:
        found = self._read_csv() if self.options.CSV else self._list_images()
        classes = sorted({name for rows in found.values() for _, name in rows})
        names = self._read_class_names(classes)
        parts = {
            part: [Item(path, classes.index(name), names[name]) for path, name in rows]
            for part, rows in found.items()
        }
        if "" in parts:
            return split_three_ways(parts[""], self.options.SPLIT_SEED)
        return Split(*(parts.get(part, []) for part in PARTS))

    def _list_images(self) -> Found:
        found: Found = defaultdict(list)
        strange: list[str] = []
        for part in [part for part in PARTS if self._has_folders(part)] or [""]:
            for folder, files in list_folders(os.path.join(self.image_dir, part), ignored=["split_fewshot"]):
                place = f"{part}/{folder}".lstrip("/")
                images = [file for file in files if file.lower().endswith(ENDINGS)]
                if not images:
                    raise ValueError(f"class folder {os.path.join(self.image_dir, place)} has no images")
                found[part] += [(f"{place}/{file}", folder) for file in images]
                strange += [f"{place}/{file}" for file in files if file not in images]
        if strange:
            print(
                f"Warning: {len(strange)} files are left out, by their names no images, first: {strange[0]}"
            )
        if not found:
            raise ValueError(f"{self.image_dir} has no class folders")
        return found

    def _has_folders(self, part: str) -> bool:
        # A part has class folders; a folder of that name without any may be a class ("train", among vehicles).
        folder = os.path.join(self.image_dir, part)
        return os.path.isdir(folder) and any(entry.is_dir() for entry in os.scandir(folder))

    def _read_csv(self) -> Found:
        source = os.path.join(self.root, self.options.CSV)
        found: Found = defaultdict(list)
        lines: dict[str, int] = {}
        with open(source, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            columns = list(reader.fieldnames or [])
            if sorted(columns) not in (["class", "path"], ["class", "path", "split"]):
                raise ValueError(
                    f"{source} must have the columns path, class and maybe split, not {', '.join(columns)}"
                )
            for row in reader:
                where = f"{source}, line {reader.line_num}"
                path, name, part = row["path"], row["class"], row.get("split", "")
                if not path or not name or part not in (PARTS if "split" in columns else [""]):
                    raise ValueError(
                        f"{where}: expected {', '.join(columns)}, where split is train, val or test"
                    )
                check_path(path, where)
                if path in lines:
                    raise ValueError(f"{where}: {path} is in line {lines[path]} already")
                lines[path] = reader.line_num
                found[part].append((path, name))
        return found

    def _read_class_names(self, classes: list[str]) -> dict[str, str]:
        if not self.options.CLASS_NAMES:
            return {name: name for name in classes}
        source = os.path.join(self.root, self.options.CLASS_NAMES)
        with open(source, encoding="utf-8") as file:
            try:
                names = json.load(file)
            except ValueError as error:
                raise ValueError(f"{source} is not a JSON file: {error}") from None
        if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
            raise ValueError(f"{source} must be an object of class names by folder")
        return {name: look_up(names, name, source) for name in classes}
