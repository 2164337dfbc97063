"""From a list of Datum to the items of a batch."""

from collections.abc import Callable, Sequence
from typing import Any

from torch.utils.data import Dataset
from torchvision import transforms as T
from yacs.config import CfgNode

from .image_cache import ImageCache
from .transforms import INTERPOLATION_MODES

__all__ = ["DatasetWrapper"]


class DatasetWrapper(Dataset):
    """Reads and transforms images.

    An item is a dict of "label", "domain", "impath", "index" and "img": the transformed image, or a list of
    DATALOADER.K_TRANSFORMS of them in training. Further transforms give "img2", "img3" ...; with
    DATALOADER.RETURN_IMG0 the image without augmentation is "img0".

    Where a program declares DATALOADER.CACHE_MB, decoded training images are kept in that many megabytes of
    memory from the first epoch on.

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
        self.cache = ImageCache(cfg.DATALOADER.get("CACHE_MB", 0) * 10**6 if is_train else 0)
        if self.k_tfm > 1 and transform is None:
            raise ValueError(f"Cannot augment the image {self.k_tfm} times because transform is None")
        interpolation = INTERPOLATION_MODES[cfg.INPUT.INTERPOLATION]
        steps = [T.Resize(cfg.INPUT.SIZE, interpolation=interpolation), T.ToTensor()]
        if "normalize" in cfg.INPUT.TRANSFORMS:
            steps.append(T.Normalize(mean=cfg.INPUT.PIXEL_MEAN, std=cfg.INPUT.PIXEL_STD))
        self.to_tensor = T.Compose(steps)

    def before_workers(self) -> None:
        """Called by the loader before its workers start, so that they share what is made here."""
        self.cache.fill([item.impath for item in self.data_source])

    def __len__(self) -> int:
        return len(self.data_source)

    def __getitem__(self, idx: int) -> dict[str, Any]:
        item = self.data_source[idx]
        output = {"label": item.label, "domain": item.domain, "impath": item.impath, "index": idx}
        img0 = self.cache.read(item.impath)
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
