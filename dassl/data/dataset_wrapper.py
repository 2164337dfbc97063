"""From a list of Datum to the items of a batch."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from PIL import Image
from torch.utils.data import Dataset
from torchvision.transforms.v2 import Normalize, PILToTensor, Resize
from yacs.config import CfgNode

from foundation.keys.of_all_runs import of

from .image_cache import ImageCache
from .transforms import INTERPOLATION_MODES
from .transforms.pipeline import Pipeline, ToUnitRange

__all__ = ["DatasetWrapper"]


class DatasetWrapper(Dataset):
    """Reads and transforms images.

    An item is a dict of "label", "domain", "impath", "index" and "img": the transformed image, or a list of
    DATALOADER.K_TRANSFORMS of them in training. Further transforms give "img2", "img3" ...; with
    DATALOADER.RETURN_IMG0 the image without augmentation is "img0".

    Where a program declares DATALOADER.CACHE_MB, decoded training images are kept in that many megabytes of
    memory from the first epoch on; where it declares INPUT.EXIF and INPUT.WHITE, they are ``read_image``'s options.

    Args:
        cfg: the whole config.
        data_source: a list of Datum.
        transform: one or several functions of a PIL image; None leaves the image as it is.
        is_train: for training or for evaluation.
    """

    def __init__(
        self,
        cfg: CfgNode,
        data_source: Sequence[Any],
        transform: Callable | Sequence[Callable] | None = None,
        is_train: bool = False,
    ):
        self.cfg = cfg
        self.data_source = data_source
        self.transform: Any = transform
        self.is_train = is_train
        self.k_tfm = cfg.DATALOADER.K_TRANSFORMS if is_train else 1
        self.return_img0 = cfg.DATALOADER.RETURN_IMG0
        megabytes = of(cfg, "DATALOADER.CACHE_MB")
        if megabytes < 0:
            raise ValueError(f"DATALOADER.CACHE_MB is {megabytes}, 0 (keep none) or more is needed")
        self.cache = ImageCache(megabytes * 10**6 if is_train else 0, **reading_options(cfg))
        if self.k_tfm < 1:
            raise ValueError(f"DATALOADER.K_TRANSFORMS is {self.k_tfm}, 1 (one view) or more is needed")
        if self.k_tfm > 1 and transform is None:
            raise ValueError(f"Cannot augment the image {self.k_tfm} times because transform is None")
        interpolation = INTERPOLATION_MODES[cfg.INPUT.INTERPOLATION]
        steps = [Resize(cfg.INPUT.SIZE, interpolation=interpolation), PILToTensor(), ToUnitRange()]
        if "normalize" in cfg.INPUT.TRANSFORMS:
            steps.append(Normalize(mean=cfg.INPUT.PIXEL_MEAN, std=cfg.INPUT.PIXEL_STD))
        self.to_tensor = Pipeline(steps)

    def before_workers(self) -> None:
        """Called by the loader before its workers start, so that they share what is made here."""
        self.cache.fill([item.impath for item in self.data_source])

    @property
    def leaves_unfinished(self) -> bool:
        """Whether the loader can ask for items that are finished batch by batch (see handover.py).

        Not with several views of an image, nor in a subclass, which may do anything with finished items.
        """
        transform = self.transform
        one_view = self.k_tfm == 1 and not self.return_img0
        return (
            one_view and type(self) is DatasetWrapper and isinstance(transform, Pipeline) and transform.splits
        )

    def unfinished_item(self, idx: int) -> dict[str, Any]:
        """The item, but for "img": the transformed 8-bit image, which :meth:`finish` makes the final one."""
        output, img0 = self._read(idx)
        return output | {"img": self.transform.pixels(img0)}

    def finish(self, images: torch.Tensor) -> torch.Tensor:
        """The final images, in place, from a float32 batch (N, 3, H, W) of those of unfinished items."""
        return self.transform.finish(images)

    def __len__(self) -> int:
        return len(self.data_source)

    def _read(self, idx: int) -> tuple[dict[str, Any], Image.Image]:
        item = self.data_source[idx]
        output = {"label": item.label, "domain": item.domain, "impath": item.impath, "index": idx}
        return output, self.cache.read(item.impath)

    def __getitem__(self, idx: int) -> dict[str, Any]:
        output, img0 = self._read(idx)
        if self.transform is None:
            output["img"] = img0
        elif isinstance(self.transform, (list, tuple)):
            for i, tfm in enumerate(self.transform):
                output[f"img{i + 1}" if i else "img"] = self._transform_image(tfm, img0)
        else:
            output["img"] = self._transform_image(self.transform, img0)
        if self.return_img0:
            output["img0"] = self.to_tensor(img0)
        return output

    def _transform_image(self, tfm: Callable, img0: Any) -> Any:
        images = [tfm(img0) for _ in range(self.k_tfm)]
        return images if self.k_tfm > 1 else images[0]


def reading_options(cfg: CfgNode) -> dict[str, Any]:
    """How a config wants images to be read: the options of ``read_image``.

    Raises:
        ValueError: INPUT.WHITE is negative or not finite.
    """
    white = of(cfg, "INPUT.WHITE")
    if not 0 <= white < math.inf:
        raise ValueError(f"INPUT.WHITE is {white}, 0 (as the kind of image says) or more is needed")
    return {"exif": of(cfg, "INPUT.EXIF"), "white": white}
