"""A method's model on the bundled towers, for what does not depend on the backbone: asked before anything runs."""

import contextlib
import io
from functools import cache
from typing import Any

from runs import shipped

TOWERS = "mini"


def small_model(trainer: str, config: str, settings: tuple[str, ...] = ()) -> Any:
    """The model of two classes, with the config's and then the user's `settings`, deep prompts in one layer alone.

    None of a method that is not a PromptModel. The first call takes seconds, in which the methods are loaded.

    Raises:
        ValueError: a setting is unknown or of the wrong type, or the model cannot be built with it.
    """
    import trainers  # noqa: F401  registers the methods
    from dassl.config import get_cfg_default
    from dassl.engine import TRAINER_REGISTRY
    from runs.schema import extend_cfg
    from runs.settings import merge_file, merge_pairs

    build: Any = getattr(TRAINER_REGISTRY.get(trainer), "model_class", None)
    if build is None:
        return None
    cfg = get_cfg_default()
    extend_cfg(cfg)
    merge_file(cfg, str(shipped.CONFIGS / "trainers" / trainer / f"{config}.yaml"))
    merge_pairs(cfg, list(settings))
    cfg.MODEL.BACKBONE.NAME = TOWERS
    cfg.DATASET.CLASS_TEXTS, cfg.DATASET.TEMPLATES = "", ()  # of other classes than those here
    for section in cfg.TRAINER.values():
        for key in section if isinstance(section, dict) else ():
            if "DEPTH" in key:
                section[key] = min(section[key], 1)
            if "LAYERS" in key:
                section[key] = (1,)
    towers = _towers()
    cfg.INPUT.SIZE = towers.image.image_size
    with contextlib.redirect_stdout(io.StringIO()):
        return build(cfg, towers, ["cat", "dog"], "a photo of a {}.")


@cache
def _towers() -> Any:
    from clip import load

    return load(TOWERS, "fp32")
