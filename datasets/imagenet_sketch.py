"""ImageNet-Sketch: black and white sketches of the ImageNet classes (Wang et al., NeurIPS 2019)."""

from dassl.data.datasets import DATASET_REGISTRY
from datasets.imagenet import ImageNetVariant
from datasets.origin import CLASSNAMES, Origin


@DATASET_REGISTRY.register()
class ImageNetSketch(ImageNetVariant):
    """50,889 images for testing only, in 1,000 classes."""

    dataset_dir = "imagenet-sketch"
    image_dir = "images"
    template = "a photo of a {}."
    origin = Origin(
        sizes=(1_000, 0, 0, 50_889),
        files=CLASSNAMES,
        by_hand="or download the archive from where https://github.com/HaohanWang/ImageNet-Sketch says",
    )
