"""Oxford-IIIT Pets: breeds of cats and dogs (Parkhi et al., CVPR 2012)."""

import os

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import SplitDataset
from datasets.lists import read_lines
from datasets.own_split import split_off_val
from datasets.split import Item, Split


@DATASET_REGISTRY.register()
class OxfordPets(SplitDataset):
    """7,349 images in 37 classes: 2,944 / 736 / 3,669 in the published split."""

    dataset_dir = "oxford_pets"
    image_dir = "images"
    split_file = "split_zhou_OxfordPets.json"
    template = "a photo of a {}, a type of pet."

    def read_split(self) -> Split:
        train, val = split_off_val(self._read_list("trainval.txt"))
        return Split(train, val, self._read_list("test.txt"))

    def _read_list(self, name: str) -> list[Item]:
        """Images of a list with lines like "Abyssinian_100 1 1 1": image, class from 1, species, breed."""
        items = []
        for line in read_lines(os.path.join(self.dataset_dir, "annotations", name)):
            image, label, _, _ = line.split()
            items.append(Item(f"{image}.jpg", int(label) - 1, image.rpartition("_")[0].lower()))
        return items
