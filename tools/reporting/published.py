"""Results that the papers' authors published (ViT-B/16, 16 shots), in percent, and where they can be read."""

from collections.abc import Iterable
from typing import NamedTuple

from tools.reporting.tables import Row, Value

BACKBONE = "ViT-B/16"
SHOTS = 16


class Published(NamedTuple):
    """A row of a published table; None where the authors give no number."""

    method: str
    source: str
    values: tuple[float | None, ...]


# Base, new and H, averaged over the eleven data sets.
BASE_TO_NEW = [
    Published("CLIP", "MaPLe README", (69.34, 74.22, 71.70)),
    Published("CoOp", "MaPLe README", (82.69, 63.22, 71.66)),
    Published("CoOp", "KgCoOp readme, a re-run", (82.63, 67.99, 74.60)),
    Published("CoCoOp", "MaPLe README", (80.47, 71.69, 75.83)),
    Published("ProGrad", "KgCoOp readme", (82.48, 70.75, 76.16)),
    Published("KgCoOp", "KgCoOp readme", (80.73, 73.60, 77.00)),
    Published("IVLP", "MaPLe README, 5 epochs", (82.15, 74.07, 77.90)),
    Published("IVLP", "PromptSRC README, 20 epochs", (84.21, 71.79, 77.51)),
    Published("MaPLe", "MaPLe README", (82.28, 75.14, 78.55)),
    Published("PromptSRC", "PromptSRC README", (84.26, 76.10, 79.97)),
]
# The same on one data set.
BASE_TO_NEW_ON = {"EuroSAT": [Published("MMTPA", "figure of the authors", (94.03, 74.90, None))]}

# ImageNet, the ten data sets in the order of CROSS_DATASETS, their average. The eleven of base-to-new are these.
CROSS_DATASETS = (
    "Caltech101",
    "OxfordPets",
    "StanfordCars",
    "OxfordFlowers",
    "Food101",
    "FGVCAircraft",
    "SUN397",
    "DescribableTextures",
    "EuroSAT",
    "UCF101",
)
CROSS_DATASET = [
    Published(
        "CoOp",
        "HPT README",
        (71.51, 93.70, 89.14, 64.51, 68.71, 85.30, 18.47, 64.15, 41.92, 46.39, 66.55, 63.88),
    ),
    Published(
        "CoCoOp",
        "HPT README",
        (71.02, 94.43, 90.14, 65.32, 71.88, 86.06, 22.94, 67.36, 45.73, 45.37, 68.21, 65.74),
    ),
    Published(
        "MaPLe",
        "HPT README",
        (70.72, 93.53, 90.49, 65.57, 72.23, 86.20, 24.74, 67.01, 46.49, 48.06, 68.69, 66.30),
    ),
]

# ImageNet, its variants in the order of VARIANTS, their average.
VARIANTS = ("ImageNetV2", "ImageNetSketch", "ImageNetA", "ImageNetR")
DOMAINS = [
    Published("CLIP", "HPT README", (66.73, 60.83, 46.15, 47.77, 73.96, 57.17)),
    Published("CoOp", "HPT README", (71.51, 64.20, 47.99, 49.71, 75.21, 59.28)),
    Published("CoCoOp", "HPT README", (71.02, 64.07, 48.75, 50.63, 76.18, 59.90)),
    Published("MaPLe", "HPT README", (70.72, 64.07, 49.15, 50.90, 76.98, 60.26)),
]


def rows(section: str, published: Iterable[Published]) -> list[Row]:
    """Published results as rows of a table."""
    return [
        Row(section, row.method, tuple(map(Value, row.values)), published=row.source) for row in published
    ]
