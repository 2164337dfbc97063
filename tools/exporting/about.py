"""What a program that does not know this project must know of a run's images and backbone."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import open_clip
from safetensors.torch import save
from torch import Tensor

from clip.catalogue import Pretrained, look_up
from clip.load import MINI, hub_config, load_mini
from foundation.keys.of_all_runs import of
from runs.prediction import TrainedRun

LOCAL = {
    "model_name": "local-dir:backbone"
}  #: the arguments of open_clip's `create_model` for what lies beside


def preprocessing(run: TrainedRun) -> dict[str, Any]:
    """The arguments of open_clip's `image_transform` that do what the run's evaluation did.

    ValueError where it cannot.
    """
    inputs = run.cfg.INPUT
    (height, width), mode = inputs.SIZE, of(run.cfg, "INPUT.RESIZE_MODE")
    obstacle = ""
    if height != width and mode == "shortest":
        obstacle = f"INPUT.SIZE {height} x {width} is no square"
    elif inputs.INTERPOLATION not in ("bicubic", "bilinear"):
        obstacle = f"INPUT.INTERPOLATION is {inputs.INTERPOLATION}, bicubic or bilinear is needed"
    elif "instance_norm" in inputs.TRANSFORMS:
        obstacle = "INPUT.TRANSFORMS has instance_norm"
    if obstacle:
        raise ValueError(f"{run.folder}: other programs cannot prepare images as this run did: {obstacle}")
    normalised = "normalize" in inputs.TRANSFORMS
    return {
        "image_size": [height, width],
        "resize_mode": mode,
        "interpolation": inputs.INTERPOLATION,
        "mean": list(inputs.PIXEL_MEAN) if normalised else [0.0, 0.0, 0.0],
        "std": list(inputs.PIXEL_STD) if normalised else [1.0, 1.0, 1.0],
    }


def backbone(run: TrainedRun) -> dict[str, str]:
    """Its name and hash."""
    return {"name": run.model.clip.name, "hash": run.model.clip.hash}


def open_clip_name(run: TrainedRun, folder: Path) -> dict[str, str]:
    """The arguments of open_clip's `create_model` for the backbone, called in `folder`.

    What open_clip has no name for, the bundled model, is put into `folder`/backbone. ValueError for a file of weights.
    """
    name = run.model.clip.name
    if name.startswith("hf-hub:"):
        return {"model_name": name}
    if name != "mini":
        return {"model_name": (found := _published(name)).model, "pretrained": found.tag}
    put_model(folder, load_mini().state_dict(), architecture(run))
    return LOCAL


def architecture(run: TrainedRun) -> dict[str, Any]:
    """The backbone's sizes, in open_clip's words. ValueError for a file of weights."""
    clip = run.model.clip
    if clip.name == "mini":
        return json.loads((MINI / "mini.json").read_text(encoding="utf-8"))
    if clip.name.startswith("hf-hub:"):
        return hub_config(clip.name.removeprefix("hf-hub:"), clip.name)
    model = _published(clip.name).model
    return {**open_clip.get_model_config(model), "quick_gelu": clip.activation == "QuickGELU"}


def put_model(folder: Path, weights: Mapping[str, Tensor], sizes: dict[str, Any]) -> None:
    """A model into `folder`/backbone, as open_clip reads a local folder: ``LOCAL``."""
    place = folder / "backbone"
    place.mkdir()
    contiguous = {key: value.contiguous() for key, value in weights.items()}
    (place / open_clip.constants.HF_SAFE_WEIGHTS_NAME).write_bytes(save(contiguous))
    config = json.dumps({"model_cfg": sizes}, indent=1)
    (place / open_clip.constants.HF_CONFIG_NAME).write_text(config, encoding="utf-8")


def _published(name: str) -> Pretrained:
    try:
        return look_up(name)
    except ValueError:
        raise ValueError(
            f"the backbone {name!r} is a file, and open_clip knows no name for it: give its published name with "
            "--backbone"
        ) from None
