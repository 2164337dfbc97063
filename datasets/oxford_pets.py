"""Oxford-IIIT Pets: breeds of cats and dogs (Parkhi et al., CVPR 2012)."""

import os

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import SplitDataset
from datasets.lists import read_lines
from datasets.origin import Download, Origin
from datasets.own_split import split_off_val
from datasets.split import Item, Split


@DATASET_REGISTRY.register()
class OxfordPets(SplitDataset):
    """7,349 images in 37 classes: 2,944 / 736 / 3,669 in the published split."""

    dataset_dir = "oxford_pets"
    image_dir = "images"
    split_file = "split_zhou_OxfordPets.json"
    template = "a photo of a {}, a type of pet."
    origin = Origin(
        sizes=(37, 2_944, 736, 3_669),
        archives=[
            Download(
                "https://www.robots.ox.ac.uk/~vgg/data/pets/data/images.tar.gz",
                "5c4f3ee8e5d25df40f4fd59a7f44e54c",
            ),
            Download(
                "https://www.robots.ox.ac.uk/~vgg/data/pets/data/annotations.tar.gz",
                "95a8c909bbe2e81eed6a22bccdf3f68f",
            ),
        ],
        files={
            "split_zhou_OxfordPets.json": Download(
                "drive:1501r8Ber4nNKvmlFVQZ8SeUHTcdTTEqs", "fadad0caba06c4d0d2baf192015f50b4"
            )
        },
        folders=["images", "annotations"],
    )

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
