"""SUN397: scenes and places (Xiao et al., CVPR 2010)."""

import os

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import SplitDataset
from datasets.lists import look_up, read_lines
from datasets.origin import Download, Origin
from datasets.own_split import split_off_val
from datasets.split import Item, Split


@DATASET_REGISTRY.register()
class SUN397(SplitDataset):
    """39,700 images in 397 classes: 15,880 / 3,970 / 19,850 in the published split."""

    dataset_dir = "sun397"
    image_dir = "SUN397"
    split_file = "split_zhou_SUN397.json"
    template = "a photo of a {}."
    origin = Origin(
        sizes=(397, 15_880, 3_970, 19_850),
        archives=[
            Download(
                "http://vision.princeton.edu/projects/2010/SUN/SUN397.tar.gz",
                "8ca2778205c41d23104230ba66911c7a",
            )
        ],
        files={"split_zhou_SUN397.json": Download("drive:1y2RD81BYuiyvebdN-JymPfyWYcd8_MUq")},
    )

    def read_split(self) -> Split:
        train, val = split_off_val(self._read_list("Training_01.txt"))
        return Split(train, val, self._read_list("Testing_01.txt"))

    def _read_list(self, name: str) -> list[Item]:
        """Images of a list with lines like "/c/church/indoor/sun_abc.jpg"; the class is "indoor church"."""
        classes = os.path.join(self.dataset_dir, "ClassName.txt")
        labels = {folder: label for label, folder in enumerate(read_lines(classes))}
        items = []
        for line in read_lines(os.path.join(self.dataset_dir, name)):
            folder = line.rpartition("/")[0]
            words = folder.split("/")[2:]
            items.append(Item(line.lstrip("/"), look_up(labels, folder, classes), " ".join(reversed(words))))
        return items
