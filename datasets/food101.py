"""Food-101: dishes (Bossard et al., ECCV 2014)."""

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import SplitDataset
from datasets.origin import Download, Origin
from datasets.own_split import split_folders
from datasets.split import Split


@DATASET_REGISTRY.register()
class Food101(SplitDataset):
    """101,000 images in 101 classes: 50,500 / 20,200 / 30,300 in the published split."""

    dataset_dir = "food-101"
    image_dir = "images"
    split_file = "split_zhou_Food101.json"
    template = "a photo of {}, a type of food."
    origin = Origin(
        sizes=(101, 50_500, 20_200, 30_300),
        archives=[
            Download("http://data.vision.ee.ethz.ch/cvl/food-101.tar.gz", "85eeb15f3717b99a5da872d97d918f87")
        ],
        files={"split_zhou_Food101.json": Download("drive:1QK0tGi096I0Ba6kggatX1ee6dJFIcEJl")},
    )

    def read_split(self) -> Split:
        return split_folders(self.image_dir)
