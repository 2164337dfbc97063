"""Stanford Cars: makes, models and years of cars (Krause et al., ICCV workshop 2013)."""

import os

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import SplitDataset
from datasets.origin import Download, Origin
from datasets.own_split import split_off_val
from datasets.split import Item, Split


@DATASET_REGISTRY.register()
class StanfordCars(SplitDataset):
    """16,185 images in 196 classes: 6,509 / 1,635 / 8,041 in the published split."""

    dataset_dir = "stanford_cars"
    split_file = "split_zhou_StanfordCars.json"
    template = "a photo of a {}."
    origin = Origin(
        sizes=(196, 6_509, 1_635, 8_041),
        files={
            "split_zhou_StanfordCars.json": Download(
                "drive:1ObCFbaAgVu0I-k_Au-gIUcefirdAuizT", "91255fab2e15280e6d9d9d24cc87efdb"
            )
        },
        folders=["cars_train", "cars_test"],
    )

    def read_split(self) -> Split:
        train, val = split_off_val(self._read_annotations("cars_train", "devkit/cars_train_annos.mat"))
        return Split(train, val, self._read_annotations("cars_test", "cars_test_annos_withlabels.mat"))

    def _read_annotations(self, folder: str, name: str) -> list[Item]:
        from scipy.io import loadmat  # here: it takes time that no other data set should spend

        names = loadmat(os.path.join(self.dataset_dir, "devkit", "cars_meta.mat"))["class_names"][0]
        items = []
        for row in loadmat(os.path.join(self.dataset_dir, name))["annotations"][0]:
            label = int(row["class"].item()) - 1
            model, _, year = names[label].item().rpartition(" ")
            items.append(Item(f"{folder}/{row['fname'].item()}", label, f"{year} {model}"))
        return items
