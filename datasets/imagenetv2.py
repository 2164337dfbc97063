"""ImageNetV2: a new test set for ImageNet, matched in frequency (Recht et al., ICML 2019)."""

import os

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import SplitDataset
from datasets.files import is_litter
from datasets.imagenet import read_classnames
from datasets.origin import CLASSNAMES, Download, Origin
from datasets.split import Item, Split


@DATASET_REGISTRY.register()
class ImageNetV2(SplitDataset):
    """10,000 images for testing only, in 1,000 classes."""

    dataset_dir = "imagenetv2"
    image_dir = "imagenetv2-matched-frequency-format-val"
    template = "a photo of a {}."
    lists_folders = True
    same_names = True
    origin = Origin(
        sizes=(1_000, 0, 0, 10_000),
        archives=[Download("hub:vaishaal/ImageNetV2/*matched-frequency*")],
        files=CLASSNAMES,
    )

    def read_split(self) -> Split:
        """Folders are named by label, and the n-th line of the class names is that of label n."""
        names, _ = read_classnames(self)
        test = []
        for label, name in enumerate(names.values()):
            folder = os.path.join(self.image_dir, str(label))
            files = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
            test += [Item(f"{label}/{file}", label, name) for file in files if not is_litter(file)]
        return Split([], [], test)
