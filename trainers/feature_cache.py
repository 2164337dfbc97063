"""Features of images on disk, for methods whose image tower is frozen and without prompts.

An image is known by the values that enter the tower, so another image, another transform or another size is another
entry; a folder holds one backbone in one precision. Each computed batch becomes a file of its own that is moved into
place when it is whole, so several processes can fill the same cache.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor
from yacs.config import CfgNode

from foundation.atomic import atomic_write
from foundation.keys.of_all_runs import of

#: Of those in INPUT.TRANSFORMS, that give the same image every time.
FIXED_TRANSFORMS = ("normalize", "center_crop", "instance_norm")


def cache_folder(cfg: CfgNode) -> str:
    """``TEST.FEATURE_CACHE``, "" where nothing is kept.

    Raises:
        ValueError: ``TRAIN.FEATURE_CACHE``, but there is no folder, or training images are transformed at random.
    """
    folder = of(cfg, "TEST.FEATURE_CACHE")
    if of(cfg, "TRAIN.FEATURE_CACHE"):
        random = [name for name in cfg.INPUT.TRANSFORMS if name not in FIXED_TRANSFORMS]
        if not folder:
            raise ValueError("TRAIN.FEATURE_CACHE is True, but TEST.FEATURE_CACHE names no folder")
        if random:
            raise ValueError(
                f"TRAIN.FEATURE_CACHE is True, but {random[0]} of INPUT.TRANSFORMS is random: only "
                f"{', '.join(FIXED_TRANSFORMS)} are not"
            )
    return folder


class FeatureCache:
    """Image features by the images' values.

    Args:
        folder: of the user's choice; may hold several backbones.
        backbone_hash: of the towers (``CLIP.hash``).
        precision: that they run in.

    Raises:
        OSError: the folder cannot be made.
    """

    def __init__(self, folder: str, backbone_hash: str, precision: str) -> None:
        self.folder = Path(folder).expanduser() / f"{backbone_hash}-{precision}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OSError(
                f"TEST.FEATURE_CACHE: cannot make the folder {self.folder}: {error.strerror}"
            ) from None
        self._known: dict[bytes, Tensor] = {}
        for path in sorted(self.folder.glob("*.safetensors")):
            self._read(path)

    def _read(self, path: Path) -> None:
        try:
            parts = load_file(path)
            keys, features = parts["keys"], parts["features"]
            if not torch.isfinite(features).all():
                raise ValueError("it holds numbers that are not finite")
        except (SafetensorError, KeyError, OSError, ValueError) as error:
            print(f"{path} is damaged, its features are computed again: {error}")
            path.unlink(missing_ok=True)
            return
        self._known.update(zip(map(_bytes, keys), features))

    @torch.no_grad()
    def features(self, images: Tensor, encode: Callable[[Tensor], Tensor]) -> Tensor:
        """(B, d) features of images (B, 3, H, W); ``encode`` computes those that are not known."""
        keys = [_key(image) for image in images.cpu()]
        missing = [i for i, key in enumerate(keys) if key not in self._known]
        if missing:
            computed = encode(images[missing]).cpu()
            if not torch.isfinite(computed).all():
                raise FloatingPointError("features of images are not finite numbers, they are not kept")
            new = [keys[i] for i in missing]
            self._known.update(zip(new, computed))
            self._write(new, computed)
        return torch.stack([self._known[key] for key in keys]).to(images.device)

    def _write(self, keys: list[bytes], features: Tensor) -> None:
        name = hashlib.blake2b(b"".join(keys), digest_size=16).hexdigest()
        path = self.folder / f"{name}.safetensors"
        table = torch.stack([torch.frombuffer(bytearray(key), dtype=torch.uint8) for key in keys])
        with atomic_write(path, "wb") as file:
            file.write(save({"keys": table, "features": features.contiguous()}))


def _key(image: Tensor) -> bytes:
    about = f"{image.dtype} {tuple(image.shape)} ".encode()
    return hashlib.blake2b(about + image.contiguous().numpy().tobytes(), digest_size=16).digest()


def _bytes(key: Tensor) -> bytes:
    return key.numpy().tobytes()
