"""ImageNet-R: art, cartoons and other renditions of objects (Hendrycks et al., ICCV 2021)."""

from dassl.data.datasets import DATASET_REGISTRY
from datasets.imagenet import ImageNetVariant


@DATASET_REGISTRY.register()
class ImageNetR(ImageNetVariant):
    """30,000 images for testing only, in 200 of the ImageNet classes."""

    dataset_dir = "imagenet-rendition"
    image_dir = "imagenet-r"
    template = "a photo of a {}."
