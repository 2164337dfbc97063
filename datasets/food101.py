"""Food-101: dishes (Bossard et al., ECCV 2014)."""

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import SplitDataset
from datasets.own_split import split_folders
from datasets.split import Split


@DATASET_REGISTRY.register()
class Food101(SplitDataset):
    """101,000 images in 101 classes: 50,500 / 20,200 / 30,300 in the published split."""

    dataset_dir = "food-101"
    image_dir = "images"
    split_file = "split_zhou_Food101.json"
    template = "a photo of {}, a type of food."

    def read_split(self) -> Split:
        return split_folders(self.image_dir)
