"""All config keys, those of Dassl and those declared here, and the config of a command line."""

import argparse
from pathlib import Path

from yacs.config import CfgNode

import datasets.config  # registers the data sets, too
import trainers  # noqa: F401  registers the methods
from dassl.config import get_cfg_default
from dassl.engine import TRAINER_REGISTRY
from foundation import identity
from foundation.errors import MissingFile
from runs import unfinished
from runs.settings import merge_file, merge_pairs


def extend_cfg(cfg: CfgNode) -> None:
    """Declare the keys that Dassl does not have: this program's, those of the data sets and of the trainers."""
    datasets.config.extend_cfg(cfg)
    cfg.MODEL.TEXT_CHUNK = 0  # classes that are encoded at once; 0: as many as fit
    cfg.MODEL.TEXT_MEMORY = 0.0  # GiB that their activations may take; 0: half of what is free
    cfg.TRAINER.CLASS_SAMPLE = 0  # classes that a training step tells apart, its batch's included; 0: all
    cfg.TEST.CLASS_CHUNK = 0  # classes that an evaluation scores at once, keeping the best; 0: all
    cfg.TEST.TOP_K = 1  # also report how often the class is among the k best
    cfg.TEST.FEATURE_CACHE = ""  # a folder: keep image features there, where a method's image tower is frozen
    cfg.TRAIN.FEATURE_CACHE = False  # those of training images too; their transforms must not be random
    cfg.TRAIN.COMPILE = False  # torch.compile of both towers
    cfg.TRAIN.CUDA_GRAPH = "auto"  # capture steps as CUDA graphs: auto (where they can be), True or False
    cfg.TRAIN.TF32 = False  # multiply fp32 matrices on GPUs with fewer digits
    cfg.TRAIN.OVERWRITE = False  # do a finished run again
    cfg.TRAIN.RESUME_INTERVAL = 30.0  # seconds between two writings of the file to resume from
    for name in TRAINER_REGISTRY.registered_names():
        declare = getattr(TRAINER_REGISTRY.get(name), "extend_cfg", None)
        if declare is not None:
            declare(cfg)


def setup_cfg(args: argparse.Namespace) -> CfgNode:
    """The frozen config of a command line; ValueError for a setting of unknown name or wrong type.

    With --resume, that of the run in the folder, and in that folder, where nothing else is given.
    """
    cfg = get_cfg_default()
    extend_cfg(cfg)
    stored = _resumed(cfg, args.resume) if args.resume else False
    for file in (args.dataset_config_file, args.config_file):
        if file:
            merge_file(cfg, file)
    seed = cfg.SEED
    reset_cfg(cfg, args)
    if stored and args.seed is not None and args.seed < 0:  # not given
        cfg.SEED = seed
    merge_pairs(cfg, args.opts or [])
    cfg.freeze()
    return cfg


def _resumed(cfg: CfgNode, folder: str) -> bool:
    """Merge the settings of the run in a folder, if something there says which they are."""
    if not Path(folder).is_dir():
        raise MissingFile(f"--resume {folder}: there is no such folder")
    cfg.OUTPUT_DIR = folder
    settings = unfinished.settings_in(Path(folder))
    known = identity.flat(cfg).keys() - identity.START
    pairs = [(key, value) for key, value in identity.flat(settings or {}).items() if key in known]
    for key, value in pairs:
        cfg.merge_from_list([key, repr(value) if isinstance(value, str) else value])
    return settings is not None


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
    }.items():
        if getattr(args, argument):
            cfg.merge_from_list([key, getattr(args, argument)])
