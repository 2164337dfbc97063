"""Whether images reach the image tower as they did when its weights were trained."""

import math

from yacs.config import CfgNode

from clip import CLIP
from foundation.keys.of_all_runs import of


def check_preprocessing(cfg: CfgNode, towers: CLIP) -> None:
    """Compare the settings of ``cfg.INPUT`` with what the weights were trained with, where that is known.

    Raises:
        ValueError: mean, deviation or the way of resizing differ; names both and the settings that are right.
    """
    trained, here = towers.preprocess, cfg.INPUT
    if here.NO_TRANSFORM:
        return
    if trained is None:
        print(
            "  what its images went through in training is not known, INPUT.PIXEL_MEAN and so on are taken for it"
        )
        return
    normalised = "normalize" in here.TRANSFORMS
    mean, std = (here.PIXEL_MEAN, here.PIXEL_STD) if normalised else ([0.0] * 3, [1.0] * 3)
    if not (_close(mean, trained.mean) and _close(std, trained.std)):
        without = "" if normalised else ', with "normalize" among INPUT.TRANSFORMS'
        raise ValueError(
            f"images are normalised with mean {_list(mean)} and deviation {_list(std)}, the weights of {towers.name} "
            f"were trained with {_list(trained.mean)} and {_list(trained.std)}: set INPUT.PIXEL_MEAN "
            f'"{_list(trained.mean)}" INPUT.PIXEL_STD "{_list(trained.std)}"{without}'
        )
    mode = of(cfg, "INPUT.RESIZE_MODE")
    if mode != trained.resize_mode:
        raise ValueError(
            f"INPUT.RESIZE_MODE is {mode}, the weights of {towers.name} were trained with {trained.resize_mode}: "
            f"set INPUT.RESIZE_MODE {trained.resize_mode}"
        )
    if trained.interpolation != here.INTERPOLATION:
        print(
            f"Warning: INPUT.INTERPOLATION is {here.INTERPOLATION}, the weights of {towers.name} were trained with "
            f"{trained.interpolation}"
        )


def _close(ours: list[float], theirs: tuple[float, ...]) -> bool:
    return all(math.isclose(a, b, abs_tol=5e-4) for a, b in zip(ours, theirs))


def _list(values: list[float] | tuple[float, ...]) -> str:
    return f"[{', '.join(f'{value:g}' for value in values)}]"
