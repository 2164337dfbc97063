"""ImageNet-R: art, cartoons and other renditions of objects (Hendrycks et al., ICCV 2021)."""

from dassl.data.datasets import DATASET_REGISTRY
from datasets.imagenet import ImageNetVariant
from datasets.origin import CLASSNAMES, Origin


@DATASET_REGISTRY.register()
class ImageNetR(ImageNetVariant):
    """30,000 images for testing only, in 200 of the ImageNet classes."""

    dataset_dir = "imagenet-rendition"
    image_dir = "imagenet-r"
    template = "a photo of a {}."
    origin = Origin(
        sizes=(200, 0, 0, 30_000),
        files=CLASSNAMES,
        by_hand="or download the archive from where https://github.com/hendrycks/imagenet-r says",
    )
