"""Checkpoints.

In the model's folder lie ``model.pth.tar-<epoch>``, ``model-best.pth.tar`` and the text file ``checkpoint``,
which names the latest.
"""

import os
import pickle
import shutil
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from foundation.atomic import SUFFIX, atomic_write

from . import inert
from .tools import mkdir_if_missing

__all__ = ["load_checkpoint", "load_pretrained_weights", "resume_from_checkpoint", "save_checkpoint"]


def save_checkpoint(
    state: dict[str, Any],
    save_dir: str | os.PathLike,
    is_best: bool = False,
    remove_module_from_keys: bool = True,
    model_name: str = "",
) -> None:
    """Save a checkpoint. A kill at any moment leaves whole files: the ones of before or the new ones.

    Args:
        state: with at least "state_dict" and "epoch".
        save_dir: the folder. One run writes to it at a time.
        is_best: also write it as ``model-best.pth.tar``.
        remove_module_from_keys: remove "module.", which nn.DataParallel puts before the keys of "state_dict".
        model_name: the file's name, ``model.pth.tar-<epoch>`` by default.
    """
    mkdir_if_missing(save_dir)
    if remove_module_from_keys:
        state["state_dict"] = {
            key.removeprefix("module."): value for key, value in state["state_dict"].items()
        }
    path = Path(save_dir) / (model_name or f"model.pth.tar-{state['epoch']}")
    for left_over in path.parent.glob(f".*{SUFFIX}"):  # by a killed run
        left_over.unlink(missing_ok=True)
    with atomic_write(path, "wb") as file:
        torch.save(state, file)
    print(f"Checkpoint saved to {path}")
    with atomic_write(path.parent / "checkpoint") as file:
        file.write(f"{path.name}\n")
    if is_best:
        best = path.parent / "model-best.pth.tar"
        with open(path, "rb") as source, atomic_write(best, "wb") as file:
            shutil.copyfileobj(source, file)
        print(f'Best checkpoint saved to "{best}"')


def load_checkpoint(fpath: str | os.PathLike | None) -> Any:
    """Read a checkpoint onto the CPU, whatever device it was saved from.

    Nothing in the file is executed. Where it holds objects other than tensors, numbers and containers of them
    (Dassl saves schedulers and optimisers whole), :class:`dassl.utils.inert.Inert` stands in their place.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a checkpoint, or truncated.
    """
    if fpath is None:
        raise ValueError("File path is None")
    if not os.path.exists(fpath):
        raise FileNotFoundError(f'File is not found at "{fpath}"')
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what torch suspects of a damaged file; the error below says enough
        return _load(fpath)


def _load(fpath: str | os.PathLike) -> Any:
    try:
        try:
            return torch.load(fpath, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError:
            # It holds more than weights_only knows; inert reads that as safely.
            return torch.load(fpath, map_location="cpu", weights_only=False, pickle_module=inert)
    except Exception as error:  # whatever torch and pickle stumble over in a damaged file
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ValueError(f'"{fpath}" is not a checkpoint, or damaged ({reason})') from None


def resume_from_checkpoint(
    fdir: str | os.PathLike, model: nn.Module, optimizer: Any = None, scheduler: Any = None
) -> int:
    """Load the latest checkpoint of a folder into a network, its optimiser and its scheduler.

    Returns:
        The number of epochs done, which is the epoch to start with.

    Raises:
        FileNotFoundError: the folder holds no checkpoint.
    """
    latest = Path(fdir) / "checkpoint"
    if not latest.is_file():
        raise FileNotFoundError(f'No checkpoint in "{fdir}" (there is no file "{latest}")')
    name = latest.read_text(encoding="utf-8").split("\n")[0]
    path = os.path.join(fdir, name)
    print(f'Loading checkpoint from "{path}"')
    checkpoint = load_checkpoint(path)
    model.load_state_dict(checkpoint["state_dict"])
    print("Loaded model weights")
    if optimizer is not None and "optimizer" in checkpoint:
        optimizer.load_state_dict(checkpoint["optimizer"])
        print("Loaded optimizer")
    if scheduler is not None and "scheduler" in checkpoint:
        scheduler.load_state_dict(checkpoint["scheduler"])
        print("Loaded scheduler")
    start_epoch = checkpoint["epoch"]
    print(f"Previous epoch: {start_epoch}")
    return start_epoch


def load_pretrained_weights(model: nn.Module, weight_path: str | os.PathLike) -> None:
    """Load those weights of a checkpoint (or bare state dict) that fit the network in name and shape.

    Names what was left out; warns where nothing fits.
    """
    checkpoint = load_checkpoint(weight_path)
    loaded = checkpoint.get("state_dict", checkpoint)
    own = model.state_dict()
    matched, discarded = {}, []
    for key, value in loaded.items():
        key = key.removeprefix("module.")
        if key in own and own[key].shape == getattr(value, "shape", None):
            matched[key] = value
        else:
            discarded.append(key)
    model.load_state_dict({**own, **matched})
    if not matched:
        warnings.warn(
            f'The pretrained weights "{weight_path}" cannot be loaded, please check the key names manually '
            "(** ignored and continue **)",
            stacklevel=2,
        )
        return
    print(f'Successfully loaded pretrained weights from "{weight_path}"')
    if discarded:
        print(f"** The following layers are discarded due to unmatched keys or layer size: {discarded}")
