"""What a program that does not know this project must know of a run's images and backbone."""

import json
from pathlib import Path
from typing import Any

import open_clip
from safetensors.torch import save

from clip.catalogue import look_up
from clip.load import MINI, load_mini
from foundation.keys.of_all_runs import of
from runs.prediction import TrainedRun


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
        try:
            return {"model_name": (found := look_up(name)).model, "pretrained": found.tag}
        except ValueError:
            raise ValueError(
                f"the backbone {name!r} is a file, and open_clip knows no name for it: give its published name with "
                "--backbone"
            ) from None
    place = folder / "backbone"
    place.mkdir()
    weights = {key: value.contiguous() for key, value in load_mini().state_dict().items()}
    (place / "open_clip_model.safetensors").write_bytes(save(weights))
    config = {"model_cfg": json.loads((MINI / "mini.json").read_text(encoding="utf-8"))}
    (place / open_clip.constants.HF_CONFIG_NAME).write_text(json.dumps(config, indent=1), encoding="utf-8")
    return {"model_name": "local-dir:backbone"}
