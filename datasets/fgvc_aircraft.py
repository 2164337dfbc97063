"""FGVC-Aircraft: variants of aircraft (Maji et al., arXiv:1306.5151, 2013)."""

import os

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import SplitDataset
from datasets.lists import look_up, read_lines
from datasets.origin import Download, Origin
from datasets.split import PARTS, Item, Split


@DATASET_REGISTRY.register()
class FGVCAircraft(SplitDataset):
    """10,000 images in 100 classes: 3,334 / 3,333 / 3,333, split by the archive's own lists."""

    dataset_dir = "fgvc_aircraft"
    image_dir = "images"
    template = "a photo of a {}, a type of aircraft."
    origin = Origin(
        sizes=(100, 3_334, 3_333, 3_333),
        archives=[
            Download(
                "https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/archives/fgvc-aircraft-2013b.tar.gz"
            )
        ],
    )

    def read_split(self) -> Split:
        variants = os.path.join(self.dataset_dir, "variants.txt")
        labels = {name: label for label, name in enumerate(read_lines(variants))}
        parts = []
        for part in PARTS:
            lines = read_lines(os.path.join(self.dataset_dir, f"images_variant_{part}.txt"))
            rows = (line.partition(" ") for line in lines)  # "1025794 707-320"
            parts.append(
                [Item(f"{image}.jpg", look_up(labels, name, variants), name) for image, _, name in rows]
            )
        return Split(*parts)
