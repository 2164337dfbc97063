"""Caltech 101: objects of everyday life and nature (Fei-Fei et al., CVPR workshop 2004)."""

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import SplitDataset
from datasets.origin import Download, Origin
from datasets.own_split import split_folders
from datasets.split import Split

# Not classes of the benchmark: clutter, and a second version of the faces.
IGNORED = ("BACKGROUND_Google", "Faces_easy")
CLASS_NAMES = {"airplanes": "airplane", "Faces": "face", "Leopards": "leopard", "Motorbikes": "motorbike"}


@DATASET_REGISTRY.register()
class Caltech101(SplitDataset):
    """8,242 images in 100 classes: 4,128 / 1,649 / 2,465 in the published split."""

    dataset_dir = "caltech-101"
    image_dir = "101_ObjectCategories"
    split_file = "split_zhou_Caltech101.json"
    template = "a photo of a {}."
    origin = Origin(
        sizes=(100, 4_128, 1_649, 2_465),
        archives=[
            Download(
                "https://data.caltech.edu/records/mzrjq-6wc02/files/caltech-101.zip",
                "3138e1922a9193bfa496528edbbc45d0",
            )
        ],
        files={
            "split_zhou_Caltech101.json": Download(
                "drive:1hyarUivQE36mY6jSomru6Fjd-JzwcCzN", "385cabeb25ebeebaa36167d7028ebc52"
            )
        },
        inner="101_ObjectCategories.tar.gz",
    )

    def read_split(self) -> Split:
        return split_folders(self.image_dir, CLASS_NAMES, IGNORED)
