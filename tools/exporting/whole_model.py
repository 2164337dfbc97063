"""`--to open_clip`: a whole CLIP with the weights that a method has changed, and its class texts as one matrix."""

from pathlib import Path

import torch
from torch import Tensor

from clip.weights import PLACES, THIRDS
from runs.prediction import TrainedRun
from tools.exporting import about, classifier
from trainers.fixed_texts import FixedTextModel

BLOCKS = "transformer.resblocks"


def check(run: TrainedRun) -> None:
    """ValueError where a method changes no weights of CLIP, or more than these, with what can be exported."""
    model, method = run.model, run.record["trainer"]
    plain = isinstance(model, FixedTextModel)  # others have learned contexts, or no text tower at work
    changes = (model.image_changes(), model.text_changes()) if plain else (model.image_changes(),)
    if not any(each.weights for each in changes):
        raise ValueError(
            f"{method}: it changes no weights of CLIP, so the state dict would be that of its backbone: "
            "--to safetensors or --to onnx exports what is learned"
        )
    if not plain or any(each.tokens or each.prompts is not None for each in changes):
        raise ValueError(f"{method}: it changes more than CLIP's weights: --to onnx exports all of it")


def write(run: TrainedRun, folder: Path) -> str:
    """The model in `folder`/backbone, as open_clip reads a local folder, beside what `--to safetensors` writes."""
    weights = changed_weights(run)
    about.put_model(folder, weights, about.architecture(run))
    said = classifier.write(run, folder, about.LOCAL)
    return f"a CLIP of {sum(map(torch.numel, weights.values())):,} weights, {said}"


@torch.no_grad()
def changed_weights(run: TrainedRun) -> dict[str, Tensor]:
    """The state dict of open_clip's model, fp32, with the additions merged into the weights."""
    model, clip = run.model, run.model.clip
    image = _with(clip.image.visual.state_dict(), clip.image.merged(model.image_changes()).weights, "proj")
    text = _with(clip.text.state_dict(), clip.text.merged(model.text_changes()).weights, "text_projection")
    prefix = "text." if about.architecture(run).get("custom_text") else ""
    return {
        **{f"visual.{name}": value for name, value in image.items()},
        **{f"{prefix}{name}": value for name, value in text.items()},
        "logit_scale": model.inverse_temperature().float().log(),
    }


def _with(own: dict[str, Tensor], changes: dict[str, Tensor], projection: str) -> dict[str, Tensor]:
    """A tower's state dict with tensors in place of its weights; `projection` is the name of its last matrix."""
    found = {name: value.detach().float().clone() for name, value in own.items()}
    for name, value in changes.items():
        if not name.startswith("blocks."):
            found[name.replace("projection", projection)] = value
            continue
        _, block, place = name.split(".", 2)
        whole = found[f"{BLOCKS}.{block}.{PLACES[place]}"]
        third = THIRDS.get(place.partition(".")[0])
        (whole if third is None else whole.chunk(3)[third]).copy_(value)
    return found
