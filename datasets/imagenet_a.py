"""ImageNet-A: photographs that classifiers get wrong (Hendrycks et al., CVPR 2021)."""

from dassl.data.datasets import DATASET_REGISTRY
from datasets.imagenet import ImageNetVariant
from datasets.origin import CLASSNAMES, Origin


@DATASET_REGISTRY.register()
class ImageNetA(ImageNetVariant):
    """7,500 images for testing only, in 200 of the ImageNet classes."""

    dataset_dir = "imagenet-adversarial"
    image_dir = "imagenet-a"
    template = "a photo of a {}."
    origin = Origin(
        sizes=(200, 0, 0, 7_500),
        files=CLASSNAMES,
        by_hand="or download the archive from where https://github.com/hendrycks/natural-adv-examples says",
    )
