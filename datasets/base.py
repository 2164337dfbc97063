"""What all data sets share: where they lie, their split, the few-shot draw, base and new classes, checks."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from dassl.data.datasets import DatasetBase, Datum
from datasets.base_new import subsample_classes
from datasets.config import check_options
from datasets.fewshot import draw_hash, few_shot
from datasets.files import md5_of
from datasets.origin import Origin, compare_sizes
from datasets.split import Item, Split, check_classes, check_files, check_once, load_split, save_split
from foundation.keys.of_all_runs import of

if TYPE_CHECKING:
    from yacs.config import CfgNode


class SplitDataset(DatasetBase):
    """A data set with a fixed split into training, validation and test images.

    A subclass declares where things lie and is registered with ``DATASET_REGISTRY``:

        @DATASET_REGISTRY.register()
        class EuroSAT(SplitDataset):
            dataset_dir = "eurosat"
            image_dir = "2750"
            split_file = "split_zhou_EuroSAT.json"
            template = "a centered satellite photo of {}."

    and may add ``read_split``, for when there is no split file, and ``prepare``, to make files on first use.

    Reads ``cfg.DATASET.ROOT``, ``cfg.DATASET.NUM_SHOTS`` (below 1: all images), ``cfg.SEED`` and, where the
    key exists, ``cfg.DATASET.SUBSAMPLE_CLASSES`` ("all", "base" or "new").

    Attributes:
        dataset_dir: the data set's folder; declared relative to the data root, absolute on an instance.
        image_dir: the folder that the split's paths are relative to; declared relative to ``dataset_dir``.
        split_file: the published split file in ``dataset_dir``; "" where the archive's files are the split.
        template: the prompt, with ``{}`` for the class name.
        origin: where it can be fetched, for tools/prepare.py; None where it cannot.
        all_classnames: those of all classes, where ``SUBSAMPLE_CLASSES`` leaves half of them.
        same_names: whether two classes may have the same name.
        lists_folders: whether ``read_split`` lists the folders of images, which need not be looked into again.
        few_shot_hash: SHA-256 of the images to train and validate on, of all classes; "" without training.
    """

    dataset_dir: str = ""
    image_dir: str = ""
    split_file: str = ""
    template: str = "a photo of a {}."
    origin: Origin | None = None
    same_names: bool = False
    lists_folders: bool = False
    few_shot_hash: str = ""

    def __init__(self, cfg: CfgNode) -> None:
        check_options(cfg, type(self))
        self.root = os.path.abspath(os.path.expanduser(cfg.DATASET.ROOT))
        self.dataset_dir = os.path.join(self.root, self.dataset_dir)
        self.image_dir = os.path.normpath(os.path.join(self.dataset_dir, self.image_dir))
        self.prepare()
        self._check_folder()
        split, source = self._find_split()
        check_classes(split, source, self.same_names)
        if not self.lists_folders:
            check_once(split, source, published=self.origin is not None)
        self._compare_with_published(split, source)
        if not self.lists_folders:
            check_files(split, self.image_dir, source)
        if split.train:
            split = self.few_shot(split, cfg.DATASET.NUM_SHOTS, cfg.SEED)
            self.few_shot_hash = draw_hash(split)
        self.all_classnames = sorted({item.classname for item in split.train or split.test})
        split = subsample_classes(split, of(cfg, "DATASET.SUBSAMPLE_CLASSES"))
        train, val, test = (self._to_data(part) for part in split)
        # Dassl takes the classes from the training part, so a data set for testing only must have one.
        super().__init__(train_x=train or test, val=val or None, test=test)

    def prepare(self) -> None:
        """Make what the data set needs, before anything is looked for. Does nothing unless overridden."""

    def read_split(self) -> Split:
        """The split when there is no split file; for testing only when it has no training images.

        Must be a function of the files alone. ``self.dataset_dir`` and ``self.image_dir`` are set by then.
        """
        raise NotImplementedError

    @property
    def draw_folder(self) -> str:
        """Where the few-shot draws of this split are kept."""
        return os.path.join(self.dataset_dir, "split_fewshot")

    def few_shot(self, split: Split, shots: int, seed: int) -> Split:
        """See `datasets.fewshot.few_shot`."""
        return few_shot(split, shots, seed, self.draw_folder)

    @property
    def names_must_differ(self) -> bool:
        """Whether two class names that become one prompt are an error: not where everybody's numbers have them."""
        return self.origin is None and not self.same_names

    def _check_folder(self) -> None:
        for folder in (self.root, self.dataset_dir, self.image_dir):
            if not os.path.isdir(folder):
                raise FileNotFoundError(
                    f"{type(self).__name__}: there is no folder {folder}"
                    f" ({_list_folders(os.path.dirname(folder))}); {how_to_get(type(self), self.root)},"
                    " or give another --root"
                )

    def _find_split(self) -> tuple[Split, str]:
        """The split and the name of what it comes from."""
        name = type(self).__name__
        path = os.path.join(self.dataset_dir, self.split_file)
        if not self.split_file:
            return self.read_split(), f"the split of {os.path.normpath(self.dataset_dir)}"
        if os.path.isfile(path):
            return load_split(path), path
        if type(self).read_split is SplitDataset.read_split:
            raise FileNotFoundError(
                f"{name}: there is no split file {path}; {how_to_get(type(self), self.root)}"
            )
        # A name of its own: under the published one, the next run would take it for the published split.
        own = os.path.join(self.dataset_dir, own_split_name(name))
        print(
            f"WARNING: {name}: the published split {path} is missing, an own split is used ({own});"
            f" results are NOT COMPARABLE with published ones; {how_to_get(type(self), self.root)}"
        )
        if os.path.isfile(own):
            return load_split(own), own
        split = self.read_split()
        try:
            save_split(split, own)
        except OSError as error:  # a read-only data root; the next run makes the same split again
            print(f"The own split is not kept ({error})")
        return split, own

    def _compare_with_published(self, split: Split, source: str) -> None:
        """Say in every run what makes its results no published ones: another split file, or other numbers of images."""
        name = type(self).__name__
        if self.origin is None or os.path.basename(source) == own_split_name(
            name
        ):  # of that, it is said already
            return
        md5 = self.origin.files[self.split_file].md5 if self.split_file in self.origin.files else ""
        found = (len({item.label for item in split.train or split.test}), *map(len, split))
        if md5 and md5_of(source) != md5:
            what = f"{source} is not the published split (its md5 is not {md5})"
        elif found != self.origin.sizes:
            what = f"{source} has {compare_sizes(found, self.origin.sizes)}"
        else:
            return
        print(
            f"WARNING: {name}: {what}; results are NOT COMPARABLE with published ones;"
            f" look into it with: python tools/prepare.py {name} --root {self.root}"
        )

    def _to_data(self, items: list[Item]) -> list[Datum]:
        return [
            Datum(impath=os.path.join(self.image_dir, path), label=label, classname=classname)
            for path, label, classname in items
        ]


def own_split_name(dataset: str) -> str:
    """The file of an own split, where the published one is missing."""
    return f"split_own_{dataset}.json"


def how_to_get(dataset: type[SplitDataset], root: str) -> str:
    """What to do where a part of a data set is missing, for the end of a message."""
    if dataset.origin is None:
        return "put it there as DATASETS.md describes"
    return f"get it with: python tools/prepare.py {dataset.__name__} --root {root}"


def _list_folders(folder: str) -> str:
    if not os.path.isdir(folder):
        return f"nor {folder}"
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if entry.is_dir())
    return f"{folder} has {', '.join(names[:20]) or 'no folders'}{', ...' if len(names) > 20 else ''}"
