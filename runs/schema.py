"""All config keys, those of Dassl and those declared here, and the config of a command line."""

import argparse
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

import datasets.config  # registers the data sets, too
import trainers  # noqa: F401  registers the methods
from dassl.config import get_cfg_default
from dassl.data.datasets import DATASET_REGISTRY
from dassl.data.transforms.transforms import AVAI_CHOICES, INTERPOLATION_MODES
from dassl.engine import TRAINER_REGISTRY
from dassl.evaluation.build import EVALUATOR_REGISTRY
from dassl.optim.lr_scheduler import AVAI_SCHEDS
from dassl.optim.optimizer import AVAI_OPTIMS
from foundation import identity, written_texts
from foundation.errors import MissingFile
from foundation.keys import Key, check, declare, each, older, one_of, value
from foundation.keys.of_all_runs import ALL_RUNS
from foundation.keys.of_dassl import DASSL
from runs import DASSL as DASSL_PATH
from runs import unfinished
from runs.model_dir import named_model
from runs.settings import leaves, merge_file, merge_one, merge_pairs, nearest


def extend_cfg(cfg: CfgNode) -> None:
    """Declare the keys that Dassl does not have: this program's, those of the data sets and of the trainers."""
    datasets.config.extend_cfg(cfg)
    declare(cfg, ALL_RUNS)
    for name in TRAINER_REGISTRY.registered_names():
        extend = getattr(TRAINER_REGISTRY.get(name), "extend_cfg", None)
        if extend is not None:
            extend(cfg)


def setup_cfg(args: argparse.Namespace) -> CfgNode:
    """The frozen config of a command line; ValueError for a setting of unknown name or wrong type.

    With --resume, that of the run in the folder, and in that folder, where nothing else is given. What an older run has
    no key for is, with --model-dir, done as that run did it, where nothing else is given.
    """
    cfg = get_cfg_default()
    extend_cfg(cfg)
    stored = _resumed(cfg, args.resume) if args.resume else False
    if model_dir := getattr(args, "model_dir", ""):
        _take(cfg, older.missing(_settings_in(Path(named_model(model_dir, args.load_epoch).run))))
    for file in (args.dataset_config_file, args.config_file):
        if file:
            merge_file(cfg, file)
    seed = cfg.SEED
    reset_cfg(cfg, args)
    if stored and args.seed is not None and args.seed < 0:  # not given
        cfg.SEED = seed
    merge_pairs(cfg, args.opts or [])
    expand_home(cfg)
    # What a run is known by, and what it is used with later, are the templates and not the name of their file.
    cfg.DATASET.TEMPLATES = written_texts.templates(cfg.DATASET.TEMPLATES)
    cfg.freeze()
    return cfg


def _resumed(cfg: CfgNode, folder: str) -> bool:
    """Merge the settings of the run in a folder, if something there says which they are."""
    if not Path(folder).is_dir():
        raise MissingFile(f"--resume {folder}: there is no such folder")
    cfg.OUTPUT_DIR = folder
    settings = _settings_in(Path(folder))
    _take(cfg, settings | older.missing(settings))
    return bool(settings)


def _settings_in(folder: Path) -> dict[str, Any]:
    """Those of the run in a folder by their whole names, none where nothing there says them."""
    return identity.flat((unfinished.settings_in(folder) if folder.is_dir() else None) or {})


def _take(cfg: CfgNode, settings: dict[str, Any]) -> None:
    known = identity.flat(cfg).keys() - identity.START
    for key, kept in settings.items():
        if key in known:
            cfg.merge_from_list([key, repr(kept) if isinstance(kept, str) else kept])


def reset_cfg(cfg: CfgNode, args: argparse.Namespace) -> None:
    """Write the arguments that were given into `cfg`."""
    # Unlike the others, seed 0 is a value and not "not given".
    if args.seed is not None:
        cfg.SEED = args.seed
    for argument, key in {
        "root": "DATASET.ROOT",
        "output_dir": "OUTPUT_DIR",
        "resume": "RESUME",
        "source_domains": "DATASET.SOURCE_DOMAINS",
        "target_domains": "DATASET.TARGET_DOMAINS",
        "transforms": "INPUT.TRANSFORMS",
        "trainer": "TRAINER.NAME",
        "backbone": "MODEL.BACKBONE.NAME",
        "head": "MODEL.HEAD.NAME",
        "ood": "TEST.OOD",
    }.items():
        if getattr(args, argument, ""):
            merge_one(cfg, key, getattr(args, argument), f"--{argument.replace('_', '-')}")


def expand_home(cfg: CfgNode) -> None:
    """In keys that name a file or folder, `~` becomes the home folder."""
    for name, key in declared_keys().items():
        path = value(cfg, name, {name: key})
        if key.is_path and isinstance(path, str) and path.startswith("~"):
            cfg.merge_from_list([name, repr(os.path.expanduser(path))])


def declared_keys(trainer: str = "", dataset: str = "") -> dict[str, Key]:
    """Every key of all runs, and those of a method and of a data set, where these declare them as Keys."""
    keys = {**DASSL, **ALL_RUNS}
    for name, names in {
        "TEST.EVALUATOR": EVALUATOR_REGISTRY.registered_names(),
        "OPTIM.NAME": AVAI_OPTIMS,
        "OPTIM.LR_SCHEDULER": AVAI_SCHEDS,
        "INPUT.INTERPOLATION": INTERPOLATION_MODES,
    }.items():
        keys[name] = replace(keys[name], allowed=one_of(*names))
    keys["INPUT.TRANSFORMS"] = replace(keys["INPUT.TRANSFORMS"], allowed=each(one_of(*AVAI_CHOICES)))
    if trainer in TRAINER_REGISTRY.registered_names():
        declared = getattr(TRAINER_REGISTRY.get(trainer), "declared_keys", None)
        keys |= declared() if declared else {}
    if dataset in DATASET_REGISTRY.registered_names():
        keys |= getattr(DATASET_REGISTRY.get(dataset), "keys", {})
    return keys


def not_read(cfg: CfgNode) -> dict[str, Any]:
    """Settings of other methods' sections that somebody has made, with their values: the run's method ignores them.

    Empty for a method whose keys are not declared as Keys: who knows what it reads.
    """
    if not hasattr(TRAINER_REGISTRY.get(cfg.TRAINER.NAME), "declared_keys"):
        return {}
    default = get_cfg_default()
    extend_cfg(default)
    usual, own = dict(leaves(default)), declared_keys(cfg.TRAINER.NAME)
    return {
        name: value
        for name, value in leaves(cfg)
        if name.startswith("TRAINER.") and name not in own and usual.get(name) != value
    }


def check_values(cfg: CfgNode) -> None:
    """ValueError where a value is not allowed, by itself or beside another one."""
    trainer, dataset = cfg.TRAINER.NAME, cfg.DATASET.NAME
    for given, what, how, names in (
        (trainer, "trainer", "--trainer NAME", TRAINER_REGISTRY.registered_names()),
        (dataset, "data set", "--dataset-config-file FILE", DATASET_REGISTRY.registered_names()),
    ):
        if given not in names:
            said = (
                f"{given!r} is unknown, the nearest is {nearest(given, names)}"
                if given
                else f"is missing ({how})"
            )
            raise ValueError(f"{what} {said}; choose from: {', '.join(sorted(names))}")
    check(cfg, declared_keys(trainer, dataset))
    written_texts.class_texts(cfg)
    if DASSL_PATH and cfg.INPUT.RESIZE_MODE != "shortest":
        raise ValueError(
            f"INPUT.RESIZE_MODE is {cfg.INPUT.RESIZE_MODE}: the original Dassl knows shortest only"
        )
    optim = cfg.OPTIM
    if optim.WARMUP_EPOCH > optim.MAX_EPOCH:
        raise ValueError(
            f"OPTIM.WARMUP_EPOCH is {optim.WARMUP_EPOCH}, more than all epochs (OPTIM.MAX_EPOCH {optim.MAX_EPOCH})"
        )
    if optim.NAME == "sgd" and optim.SGD_NESTEROV and (optim.MOMENTUM == 0 or optim.SGD_DAMPNING != 0):
        raise ValueError(
            f"OPTIM.SGD_NESTEROV is True: OPTIM.MOMENTUM (now {optim.MOMENTUM}) above 0 and OPTIM.SGD_DAMPNING "
            f"(now {optim.SGD_DAMPNING}) 0 are needed"
        )
