"""Describable Textures Dataset (Cimpoi et al., CVPR 2014)."""

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import SplitDataset
from datasets.own_split import split_folders
from datasets.split import Split


@DATASET_REGISTRY.register()
class DescribableTextures(SplitDataset):
    """5,640 images in 47 classes: 2,820 / 1,128 / 1,692 in the published split."""

    dataset_dir = "dtd"
    image_dir = "images"
    split_file = "split_zhou_DescribableTextures.json"
    template = "{} texture."

    def read_split(self) -> Split:
        return split_folders(self.image_dir)
