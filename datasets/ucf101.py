"""UCF101: actions of people, the middle frame of each video (Soomro et al., arXiv:1212.0402, 2012)."""

import os
import re

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import SplitDataset
from datasets.lists import look_up, read_lines
from datasets.origin import Download, Origin
from datasets.own_split import split_off_val
from datasets.split import Item, Split


@DATASET_REGISTRY.register()
class UCF101(SplitDataset):
    """13,320 images in 101 classes: 7,639 / 1,898 / 3,783 in the published split."""

    dataset_dir = "ucf101"
    image_dir = "UCF-101-midframes"
    split_file = "split_zhou_UCF101.json"
    template = "a photo of a person doing {}."
    origin = Origin(
        sizes=(101, 7_639, 1_898, 3_783),
        archives=[Download("drive:10Jqome3vtUA2keJkNanAiFpgbyC9Hc2O")],
        files={
            "split_zhou_UCF101.json": Download(
                "drive:1I0S0q91hJfsV9Gf4xDIjgDq4AqBNJb1y", "3a70ae2e43036a21111f3692a43fc839"
            )
        },
    )

    def read_split(self) -> Split:
        train, val = split_off_val(self._read_list("trainlist01.txt"))
        return Split(train, val, self._read_list("testlist01.txt"))

    def _read_list(self, name: str) -> list[Item]:
        """Images of a list with lines like "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1"."""
        folder = os.path.join(self.dataset_dir, "ucfTrainTestlist")
        classes = os.path.join(folder, "classInd.txt")
        labels = {action: int(label) - 1 for label, action in (line.split() for line in read_lines(classes))}
        items = []
        for line in read_lines(os.path.join(folder, name)):
            action, video = line.split()[0].split("/")
            words = "_".join(re.findall("[A-Z][^A-Z]*", action))
            image = f"{words}/{video.removesuffix('.avi')}.jpg"
            items.append(Item(image, look_up(labels, action, classes), words))
        return items
