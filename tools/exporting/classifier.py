"""`--to safetensors`: a classifier that is one matrix of class texts beside a frozen image tower."""

import json
from pathlib import Path

import torch
from safetensors.torch import save

from runs.prediction import TrainedRun
from tools.exporting import about
from trainers.prompt_model import PromptModel
from trainers.unit import unit

TEXTS = "classifier.safetensors"
ABOUT = "classifier.json"


def check(run: TrainedRun) -> None:
    """ValueError where the method's classifier is not one matrix, with what can be exported."""
    model, method = run.model, run.record["trainer"]
    with torch.no_grad():
        texts = model.encode_texts()
        if texts is None:
            raise ValueError(
                f"{method}: its class texts depend on the image, so they are no matrix: --to hub publishes its prompts"
            )
        if type(model).score is not PromptModel.score:
            raise ValueError(
                f"{method}: its score is more than the cosine of the image's feature and one vector of each class: "
                "--to onnx exports all of it"
            )
        if not model.leaves_images_alone():
            raise ValueError(
                f"{method}: its class texts belong to an image tower that it has changed, too: --to onnx exports both"
            )


def write(run: TrainedRun, folder: Path, model: dict[str, str] | None = None) -> str:
    """Texts (C, d) of unit norm and the factor of their cosines; beside them what they belong to.

    `model`: the arguments of open_clip's `create_model`, if not those of the run's backbone.
    """
    described = {
        "classes": run.classnames,
        "preprocessing": about.preprocessing(run),
        "open_clip": model or about.open_clip_name(run, folder),
        "backbone": about.backbone(run),
        "method": run.record["trainer"],
    }
    with torch.no_grad():
        texts = unit(run.model.encode_texts()).cpu().contiguous()
        scale = run.model.inverse_temperature().float().cpu()
    (folder / TEXTS).write_bytes(save({"texts": texts, "logit_scale": scale.clone()}))
    (folder / ABOUT).write_text(json.dumps(described, indent=1, ensure_ascii=False), encoding="utf-8")
    return f"{len(texts)} class texts of {texts.shape[1]} numbers each"
