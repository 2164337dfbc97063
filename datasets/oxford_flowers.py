"""Oxford Flowers 102 (Nilsback and Zisserman, ICVGIP 2008)."""

import os

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import SplitDataset
from datasets.origin import Download, Origin
from datasets.own_split import split_three_ways
from datasets.split import Item, Split
from foundation.text import read_json


@DATASET_REGISTRY.register()
class OxfordFlowers(SplitDataset):
    """8,189 images in 102 classes: 4,093 / 1,633 / 2,463 in the published split."""

    dataset_dir = "oxford_flowers"
    image_dir = "jpg"
    split_file = "split_zhou_OxfordFlowers.json"
    template = "a photo of a {}, a type of flower."
    origin = Origin(
        sizes=(102, 4_093, 1_633, 2_463),
        archives=[
            Download(
                "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/102flowers.tgz",
                "52808999861908f626f3c1f4e79d11fa",
            )
        ],
        files={
            "split_zhou_OxfordFlowers.json": Download(
                "drive:1Pp0sRXzZFZq15zVOzKjKBu4A9i01nozT", "cfeaf0508c398ca993bf48ca5f034569"
            )
        },
    )

    def read_split(self) -> Split:
        from scipy.io import loadmat  # here: it takes time that no other data set should spend

        names = read_json(os.path.join(self.dataset_dir, "cat_to_name.json"))
        labels = loadmat(os.path.join(self.dataset_dir, "imagelabels.mat"))["labels"][0]
        return split_three_ways(
            Item(f"image_{i:05}.jpg", int(label) - 1, names[str(label)])
            for i, label in enumerate(labels, start=1)
        )
