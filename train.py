"""Train or evaluate one method on one data set: the command line of CoOp, argument for argument.

    python train.py --root data --dataset-config-file configs/datasets/shapes.yaml \\
        --config-file configs/trainers/MMTPA/mini.yaml --trainer MMTPA --output-dir output/mmtpa \\
        --seed 1 DATASET.NUM_SHOTS 16

Settings: the data set's file, then the method's file, then the arguments, then the KEY VALUE pairs; later
ones win. The folder gets Dassl's log and checkpoints, and result.json when the run is finished.
"""

import argparse
import random
from contextlib import nullcontext
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from runs import DASSL, ranks
from runs.errors import OneLineParser, clean_errors
from runs.folder import can_continue, clear, finished_run, started_or_as_before
from runs.record import make_record, write_record

with clean_errors():  # Ctrl-C is one line in the seconds that these take, too
    import torch
    from yacs.config import CfgNode

    from dassl.data.datasets import DATASET_REGISTRY
    from dassl.engine import TRAINER_REGISTRY, build_trainer
    from dassl.utils import collect_env_info, set_random_seed, setup_logger
    from runs.schema import extend_cfg, get_cfg_default, reset_cfg, setup_cfg  # noqa: F401  scripts take them from here


def print_args(args: argparse.Namespace, cfg: CfgNode) -> None:
    """Print the arguments and the config, as CoOp's logs begin."""
    print("***************\n** Arguments **\n***************")
    for key, value in sorted(vars(args).items()):
        print(f"{key}: {value}")
    print(f"************\n** Config **\n************\n{cfg}")


def main(args: argparse.Namespace, together: ranks.Ranks | None = None) -> None:
    """Run what `args` ask for, unless its folder holds the finished run already; of several processes, `together`."""
    started = datetime.now(timezone.utc)
    cfg = setup_cfg(args)
    ranks.use_device(cfg.USE_CUDA)
    if DASSL and not (DASSL / "dassl" / "__init__.py").is_file():
        raise FileNotFoundError(f"DASSL_PATH {DASSL} holds no dassl package")
    _check_name("trainer", cfg.TRAINER.NAME, TRAINER_REGISTRY.registered_names())
    _check_name("data set", cfg.DATASET.NAME, DATASET_REGISTRY.registered_names())

    if cfg.RESUME and not Path(cfg.RESUME).is_dir():
        raise FileNotFoundError(f"--resume {cfg.RESUME}: there is no such folder")

    folder = Path(cfg.OUTPUT_DIR)
    run: dict[str, Any] = {
        "kind": "eval" if args.eval_only else "train",
        "model_dir": args.model_dir,
        "load_epoch": args.load_epoch,
    }
    record = None if cfg.TRAIN.OVERWRITE else finished_run(folder, cfg, **run)
    if record is not None:
        result = f"accuracy {record['metrics']['accuracy']:.2f}%" if record["metrics"] else "not tested"
        print(f"Already finished: {folder} ({result}). TRAIN.OVERWRITE True does it again.")
        return

    first = ranks.rank() == 0
    with started_or_as_before(folder) if first else nullcontext():
        if cfg.TRAIN.OVERWRITE and first:
            clear(folder)
        trainer = _build(args, cfg, together)
        if args.eval_only:
            trainer.load_model(args.model_dir, epoch=args.load_epoch)
    if args.no_train and not args.eval_only:
        return

    built = datetime.now(timezone.utc)
    try:
        if args.eval_only:
            trainer.test()
        else:
            trainer.train()
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt(_how_to_continue(folder, trainer)) from interrupt
    finished = datetime.now(timezone.utc)
    if first:
        write_record(make_record(trainer, started=started, built=built, finished=finished, **run), folder)


def _check_name(what: str, name: str, names: list[str]) -> None:
    if name not in names:
        raise ValueError(f"{what} {name!r} is unknown, choose from: {', '.join(sorted(names))}")


def _build(args: argparse.Namespace, cfg: CfgNode, together: ranks.Ranks | None) -> Any:
    if cfg.SEED >= 0:
        print(f"Setting fixed seed: {cfg.SEED}")
        set_random_seed(cfg.SEED)
    elif together:
        set_random_seed(together.agree("seed", random.randrange(2**32)))
    if ranks.rank() == 0:
        setup_logger(cfg.OUTPUT_DIR)
    if torch.cuda.is_available() and cfg.USE_CUDA:
        torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = cfg.TRAIN.TF32
    if DASSL:
        print(f"Using the Dassl in {DASSL} (DASSL_PATH)")
    if cfg.VERBOSE:
        print_args(args, cfg)
        print(f"Collecting env info ...\n** System info **\n{collect_env_info()}\n")
    trainer = build_trainer(cfg)
    if together:
        together.check_equal(trainer)
    return trainer


def _how_to_continue(folder: Path, trainer: Any) -> str:
    where = f"in epoch {trainer.epoch + 1} of {trainer.max_epoch}"
    if can_continue(folder):
        return f"{where}; continue with the same command and --resume {folder}"
    return f"{where}, nothing saved yet; start the same command again"


def make_parser() -> argparse.ArgumentParser:
    """The arguments of CoOp's train.py."""
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--root", default="", help="folder of the data sets")
    add("--output-dir", default="", help="folder of this run")
    add("--resume", default="", help="folder of an unfinished run to continue")
    add("--seed", type=int, default=-1, help="fixes all random numbers; negative: not fixed")
    add("--source-domains", nargs="+", help="source domains (domain adaptation and generalisation)")
    add("--target-domains", nargs="+", help="target domains (domain adaptation and generalisation)")
    add("--transforms", nargs="+", help="image transforms in training")
    add("--config-file", default="", help="settings of the method (.yaml)")
    add("--dataset-config-file", default="", help="settings of the data set (.yaml)")
    add("--trainer", default="", help="the method")
    add("--backbone", default="", help="the CLIP model")
    add("--head", default="", help="the head, for Dassl's trainers that have one")
    add("--eval-only", action="store_true", help="test the model in --model-dir")
    add("--model-dir", default="", help="output folder of the run to test")
    add("--load-epoch", type=int, help="test the checkpoint of this epoch")
    add("--no-train", action="store_true", help="build everything, train nothing")
    add("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="any settings, e.g. OPTIM.MAX_EPOCH 50")
    return parser


if __name__ == "__main__":
    with clean_errors():
        arguments = make_parser().parse_args()
        with ranks.joined() as together:
            main(arguments, together)
