"""ImageNet, ILSVRC 2012 (Deng et al., CVPR 2009; Russakovsky et al., IJCV 2015)."""

from __future__ import annotations

import os
from collections.abc import Iterator

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import SplitDataset, how_to_get
from datasets.folder_index import index_folders
from datasets.lists import look_up, read_lines
from datasets.origin import CLASSNAMES, Origin
from datasets.split import Item, Split


@DATASET_REGISTRY.register()
class ImageNet(SplitDataset):
    """1,281,167 images to train and 50,000 (its validation set) to test on, in 1,000 classes."""

    dataset_dir = "imagenet"
    image_dir = "images"
    template = "a photo of a {}."
    lists_folders = True
    same_names = True  # CLIP's class names, which everybody uses, have some twice
    origin = Origin(
        sizes=(1_000, 1_281_167, 0, 50_000),
        files=CLASSNAMES,
        folders=["images/train", "images/val"],
        mirrored=False,
        by_hand=(
            "with an account at https://image-net.org download ILSVRC2012_img_train.tar, ILSVRC2012_img_val.tar"
            " and ILSVRC2012_devkit_t12.tar.gz into {images}, and let torchvision unpack them there:"
            ' python -c "from torchvision.datasets import ImageNet;'
            " [ImageNet('{images}', part) for part in ('train', 'val')]\""
        ),
    )

    def read_split(self) -> Split:
        for part in ("train", "val"):
            folder = os.path.join(self.image_dir, part)
            if not os.path.isdir(folder):
                raise FileNotFoundError(
                    f"ImageNet: there is no folder {folder}; {how_to_get(type(self), self.root)}"
                )
        names, source = read_classnames(self)
        train, val = (
            index_folders(
                os.path.join(self.image_dir, part), os.path.join(self.dataset_dir, f"index_{part}.json")
            )
            for part in ("train", "val")
        )
        labels = {folder: label for label, folder in enumerate(train)}

        def items(part: str, folders: dict[str, list[str]]) -> Iterator[Item]:
            for folder, files in folders.items():
                label = look_up(labels, folder, os.path.join(self.image_dir, "train"))
                name = look_up(names, folder, source)
                yield from (Item(f"{part}/{folder}/{file}", label, name) for file in files)

        return Split(list(items("train", train)), [], list(items("val", val)))


class ImageNetVariant(SplitDataset):
    """Images for testing only, in folders of ``image_dir`` that are named by WordNet number.

    Labels follow the sorted folders, so a variant with 200 of the classes is scored among its own 200.
    """

    lists_folders = True
    same_names = True

    def read_split(self) -> Split:
        names, source = read_classnames(self)
        folders = index_folders(self.image_dir, os.path.join(self.dataset_dir, "index.json"))
        return Split(
            [],
            [],
            [
                Item(f"{folder}/{file}", label, look_up(names, folder, source))
                for label, (folder, files) in enumerate(folders.items())
                for file in files
            ],
        )


def read_classnames(dataset: SplitDataset) -> tuple[dict[str, str], str]:
    """The class names by WordNet number, and their file: the data set's ``classnames.txt`` or ImageNet's.

    Its lines are like "n01440764 tench".
    """
    places = [
        os.path.join(folder, "classnames.txt") for folder in (dataset.dataset_dir, f"{dataset.root}/imagenet")
    ]
    for path in places:
        if os.path.isfile(path):
            rows = (line.partition(" ") for line in read_lines(path))
            return {folder: name.strip() for folder, _, name in rows}, path
    raise FileNotFoundError(
        f"{type(dataset).__name__}: the class names are missing, looked for {' and '.join(places)};"
        f" {how_to_get(type(dataset), dataset.root)}"
    )
