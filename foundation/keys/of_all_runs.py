"""The config keys of all runs that Dassl does not have. `of(cfg, name)` reads one, whoever made the config."""

from collections.abc import Mapping
from typing import Any

from foundation.template import is_template

from .key import Allowed, Key, above, at_least, each, one_of, value

_template = Allowed(
    lambda text: isinstance(text, str) and is_template(text),
    "one {} for the class name and no other brace is needed",
    "with one {} for the class name",
)

ALL_RUNS: dict[str, Key] = {
    "DATASET.SUBSAMPLE_CLASSES": Key("all", "which half of the classes", one_of("all", "base", "new")),
    "DATASET.CLASS_TEXTS": Key(
        "", "zero-shot texts are those of this JSON file, {class: [texts]}; DATASETS.md", is_path=True
    ),
    "DATASET.TEMPLATES": Key(
        (),
        "zero-shot texts are these templates with the class names, or those in a file; DATASETS.md",
        each(_template),
    ),
    "DATALOADER.CACHE_MB": Key(0, "memory for decoded training images, of each worker", at_least(0)),
    "INPUT.EXIF": Key(False, "turn images as their orientation tags say; published numbers ignore them"),
    "INPUT.WHITE": Key(
        0.0,
        "of grey images with more than 8 bits: which value is white; 0: 65535 in 16 bits, 1.0 in floating point",
        at_least(0),
    ),
    "INPUT.RESIZE_MODE": Key(
        "shortest",
        "test images: the shorter edge is resized and the centre cropped, or all is squashed to SIZE",
        one_of("shortest", "squash"),
    ),
    "MODEL.TEXT_CHUNK": Key(0, "classes that are encoded at once; 0: as many as fit", at_least(0)),
    "MODEL.TEXT_MEMORY": Key(
        0.0, "GiB that their activations may take; 0: half of what is free", at_least(0)
    ),
    "OPTIM.ADAM_EPS": Key(1e-8, "adam and its like: added to the root of the second moment", above(0)),
    "OPTIM.LR_STEPS": Key(False, "the learning rate moves with every step: a cosine without warm-up"),
    "OPTIM.LR_FLOOR": Key(0.0, "LR_STEPS: the learning rate at the end", at_least(0)),
    "OPTIM.STEPS_PER_SHOT": Key(
        0,
        "steps for each of NUM_SHOTS, rounded to whole epochs, in the place of MAX_EPOCH; 0: none",
        at_least(0),
    ),
    "TRAINER.CLASS_SAMPLE": Key(
        0, "classes that a training step tells apart, its batch's included; 0: all", at_least(0)
    ),
    "TRAIN.FEATURE_CACHE": Key(
        False, "keep features of training images, too, which nothing changes at random"
    ),
    "TRAIN.COMPILE": Key(False, "torch.compile both towers"),
    "TRAIN.CUDA_GRAPH": Key(
        "auto",
        "capture steps as CUDA graphs: where they can be, always or never",
        one_of("auto", "True", "False"),
    ),
    "TRAIN.TF32": Key(False, "multiply fp32 matrices on GPUs with fewer digits"),
    "TRAIN.OVERWRITE": Key(False, "do a finished run again"),
    "TRAIN.RESUME_INTERVAL": Key(
        30.0, "seconds between two writings of the file to resume from", at_least(0)
    ),
    "TEST.CLASS_CHUNK": Key(
        0, "classes that an evaluation scores at once, keeping the best; 0: all", at_least(0)
    ),
    "TEST.TOP_K": Key(1, "also report how often the class is among the k best", at_least(1)),
    "TEST.TEMPERATURE": Key(
        True, "fit the temperature of the probabilities on the validation images, which are scored for it"
    ),
    "TEST.OOD": Key(
        "", "a folder of images of other classes: how well these are told apart (--ood)", is_path=True
    ),
    "TEST.FEATURE_CACHE": Key(
        "", "a folder to keep image features in, where a method leaves the image tower alone", is_path=True
    ),
}


def of(cfg: Mapping[str, Any], name: str) -> Any:
    """The value of one of these keys; its default where a train.py of others made ``cfg`` without it."""
    return value(cfg, name, ALL_RUNS)
