"""Describable Textures Dataset (Cimpoi et al., CVPR 2014)."""

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import SplitDataset
from datasets.origin import Download, Origin
from datasets.own_split import split_folders
from datasets.split import Split


@DATASET_REGISTRY.register()
class DescribableTextures(SplitDataset):
    """5,640 images in 47 classes: 2,820 / 1,128 / 1,692 in the published split."""

    dataset_dir = "dtd"
    image_dir = "images"
    split_file = "split_zhou_DescribableTextures.json"
    template = "{} texture."
    origin = Origin(
        sizes=(47, 2_820, 1_128, 1_692),
        archives=[
            Download(
                "https://www.robots.ox.ac.uk/~vgg/data/dtd/download/dtd-r1.0.1.tar.gz",
                "fff73e5086ae6bdbea199a49dfb8a4c1",
            )
        ],
        files={
            "split_zhou_DescribableTextures.json": Download(
                "drive:1u3_QfB467jqHgNXC00UIzbLZRQCg2S7x", "02ff57f1bbd002a43320737a3ecbc113"
            )
        },
    )

    def read_split(self) -> Split:
        return split_folders(self.image_dir)
