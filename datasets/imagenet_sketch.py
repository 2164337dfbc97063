"""ImageNet-Sketch: black and white sketches of the ImageNet classes (Wang et al., NeurIPS 2019)."""

from dassl.data.datasets import DATASET_REGISTRY
from datasets.imagenet import ImageNetVariant


@DATASET_REGISTRY.register()
class ImageNetSketch(ImageNetVariant):
    """50,889 images for testing only, in 1,000 classes."""

    dataset_dir = "imagenet-sketch"
    image_dir = "images"
    template = "a photo of a {}."
