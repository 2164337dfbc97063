"""EuroSAT: satellite images of ten kinds of land use (Helber et al., IEEE JSTARS 2019)."""

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import SplitDataset
from datasets.origin import Download, Origin
from datasets.own_split import split_folders
from datasets.split import Split

# CoOp's names of the archive's folders; the published split holds them already.
CLASS_NAMES = {
    "AnnualCrop": "Annual Crop Land",
    "Forest": "Forest",
    "HerbaceousVegetation": "Herbaceous Vegetation Land",
    "Highway": "Highway or Road",
    "Industrial": "Industrial Buildings",
    "Pasture": "Pasture Land",
    "PermanentCrop": "Permanent Crop Land",
    "Residential": "Residential Buildings",
    "River": "River",
    "SeaLake": "Sea or Lake",
}


@DATASET_REGISTRY.register()
class EuroSAT(SplitDataset):
    """27,000 images of 64 x 64 pixels in 10 classes: 13,500 / 5,400 / 8,100 in the published split."""

    dataset_dir = "eurosat"
    image_dir = "2750"
    split_file = "split_zhou_EuroSAT.json"
    template = "a centered satellite photo of {}."
    origin = Origin(
        sizes=(10, 13_500, 5_400, 8_100),
        archives=[Download("hub:torchgeo/eurosat/EuroSAT.zip", "c8fa014336c82ac7804f0398fcb19387")],
        files={
            "split_zhou_EuroSAT.json": Download(
                "drive:1Ip7yaCWFi0eaOFUGga0lUdVi_DDQth1o", "989e1eca757dec43cfcee28faf6b28fc"
            )
        },
    )

    def read_split(self) -> Split:
        return split_folders(self.image_dir, CLASS_NAMES)
