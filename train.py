"""Train or evaluate one method on one data set: the command line of CoOp, argument for argument.

    python train.py --root data --dataset-config-file configs/datasets/shapes.yaml \\
        --config-file configs/trainers/MMTPA/mini.yaml --trainer MMTPA --output-dir output/mmtpa \\
        --seed 1 DATASET.NUM_SHOTS 16

Settings: the data set's file, then the method's file, then the arguments, then the KEY VALUE pairs; later
ones win. The folder gets Dassl's log and checkpoints, and result.json when the run is finished.
"""

import argparse
import gc
import random
import sys
from contextlib import nullcontext
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

from foundation import identity
from foundation.errors import MissingFile, WrongInput
from runs import DASSL, command_line
from runs.errors import clean_errors, terminate_as_interrupt
from runs.importing import importing

make_parser = partial(command_line.make_parser, __doc__)

with importing():
    if __name__ == "__main__":  # before the imports, which take seconds
        arguments = command_line.read_arguments(make_parser())

    import torch

    from dassl.engine import build_trainer
    from dassl.utils import collect_env_info, set_random_seed
    from runs import class_texts, original_dassl, ranks, search, unfinished
    from runs.folder import (
        can_continue,
        check_evaluation,
        finished_run,
        is_overwritten,
        log_as_before,
        set_aside,
        settle,
        working_in,
    )
    from runs.key_list import print_keys
    from runs.log import print_args, print_system, start_log
    from runs.make_record import make_record, trains
    from runs.model_dir import NamedModel, named_model
    from runs.model_temperature import settle_temperature
    from runs.other_images import loader_of_others
    from runs.record import write_record
    from runs.schema import (  # noqa: F401  scripts take them from here
        CfgNode,
        check_values,
        extend_cfg,
        get_cfg_default,
        not_read,
        reset_cfg,
        setup_cfg,
    )


def main(args: argparse.Namespace, together: ranks.Ranks | None = None) -> dict[str, Any] | None:
    """Run what `args` ask for, unless its folder holds the finished run already; of several processes, `together`.

    Returns:
        The record, as result.json holds it (see runs/record.py); None where nothing was run, and in all processes but
        the first.
    """
    started = datetime.now(timezone.utc)
    if args.keys is not None:
        print_keys(args.keys)
        return None
    cfg = setup_cfg(args)
    ranks.use_device(cfg.USE_CUDA)
    if DASSL and not (DASSL / "dassl" / "__init__.py").is_file():
        raise MissingFile(f"DASSL_PATH {DASSL} holds no dassl package")
    check_values(cfg)

    if (args.model_dir or args.load_epoch is not None) and not args.eval_only:
        raise WrongInput(
            "--model-dir and --load-epoch say what --eval-only tests, and it is not given; "
            "training starts from other weights with MODEL.INIT_WEIGHTS FILE"
        )

    folder, kind = Path(cfg.OUTPUT_DIR), "eval" if args.eval_only else "train"
    model = named_model(args.model_dir, args.load_epoch)
    run: dict[str, Any] = {"kind": kind, "model_dir": model.run, "load_epoch": model.epoch}
    if args.eval_only:
        check_evaluation(folder, model.run)
    if record := _finished(folder, cfg, run):  # perhaps on a disk that cannot be written
        return record

    first = ranks.rank() == 0
    with working_in(folder) if first else nullcontext():
        if together is None and (record := _finished(folder, cfg, run)):  # meanwhile
            return record
        # An interrupted overwrite goes on, unless other settings are asked for by now.
        goes_on = cfg.RESUME or (is_overwritten(folder) and not unfinished.other_settings(folder, cfg))
        anew = cfg.TRAIN.OVERWRITE and not goes_on
        continued = None if anew or args.eval_only else Path(cfg.RESUME or folder)
        if continued:
            unfinished.check_settings(continued, cfg)
        logs = set(folder.glob("log.txt*"))
        with log_as_before(folder) if first else nullcontext():
            trainer = _build(args, cfg, together, anew)
            if args.eval_only:
                _load(trainer, model)
            elif continued:
                unfinished.check_inputs(continued, trainer)
        if args.no_train and not args.eval_only:
            return None
        if anew and first:
            set_aside(folder, kind, new=set(folder.glob("log.txt*")) - logs)
        if together:
            together.agree("folder", str(folder))  # the others wait here until it is as it should be
        if first:
            return _run(trainer, folder, run, started)
        _do(trainer, kind)
        return None


def run(*words: Any) -> dict[str, Any] | None:
    """Do what the command line of these words does, from Python: `run("--seed", 1, "--trainer", "CoOp", ...)`.

    Returns:
        The record (see `main`).

    Raises:
        ValueError, OSError: a wrong input, said as on the command line.
    """
    console = sys.stdout
    try:
        return main(command_line.read_arguments(make_parser(), [str(word) for word in words]))
    finally:
        if sys.stdout is not console:  # a run's log takes what is printed, as long as it lasts
            sys.stdout.close()
            sys.stdout = console
        gc.collect()  # a trainer holds itself, through its parts: its memory, also a GPU's, is for the next run


def _finished(folder: Path, cfg: CfgNode, run: dict[str, Any]) -> dict[str, Any] | None:
    """The record, where the run was done before, in its folder or in the one to resume from; says so."""
    if cfg.TRAIN.OVERWRITE and not cfg.RESUME:
        return None
    for place in dict.fromkeys([folder, Path(cfg.RESUME)] if cfg.RESUME else [folder]):
        record = finished_run(place, cfg, **run, processes=ranks.count())
        if record is not None:
            result = f"accuracy {record['metrics']['accuracy']:.2f}%" if record["metrics"] else "not tested"
            print(f"Already finished: {place} ({result}). TRAIN.OVERWRITE True does it again.")
            return record
    return None


def _load(trainer: Any, model: NamedModel) -> None:
    """Load the model that is to be tested.

    Raises:
        ValueError: none is given, and what would be tested was neither trained nor loaded.
    """
    cfg = trainer.cfg
    if not model.given and not cfg.MODEL.INIT_WEIGHTS and trains(trainer):
        raise WrongInput(
            f"--eval-only of {cfg.TRAINER.NAME}, which learns, needs the folder of a trained run: --model-dir FOLDER"
        )
    folder, epoch = model.to_load(trainer.get_model_names())
    if found := unfinished.other_method(Path(folder), cfg):
        print(f"Warning: the model in {folder} was trained with other settings ({identity.listed(found)})")
    trainer.load_model(folder, epoch=epoch)
    settle_temperature(trainer, model.run, model.epoch)


def _run(trainer: Any, folder: Path, run: dict[str, Any], started: datetime) -> dict[str, Any]:
    """Train or test, leave the record and return it."""
    source = Path(trainer.cfg.RESUME or folder)
    is_known = (source / unfinished.FILE_NAME).exists() or (source / "resume.pth.tar").exists()
    built = datetime.now(timezone.utc)
    try:
        if run["kind"] == "train":
            unfinished.note(trainer, folder)
        class_texts.keep(getattr(trainer, "written_texts", {}), folder)
        _do(trainer, run["kind"])
    except KeyboardInterrupt as interrupt:
        raise type(interrupt)(_how_to_continue(folder, trainer)) from interrupt
    finished = datetime.now(timezone.utc)
    if run["kind"] == "train" and not is_known and trainer.start_epoch >= trainer.max_epoch > 0:
        unfinished.forget(folder)
        raise WrongInput(
            f"{source} holds checkpoints of all {trainer.max_epoch} epochs, and nothing there says with which "
            "settings: no record is written; TRAIN.OVERWRITE True trains anew, --eval-only --model-dir tests them"
        )
    record = make_record(trainer, started=started, built=built, finished=finished, **run)
    write_record(record | search.read(folder), folder)
    search.forget(folder)
    unfinished.forget(folder)
    settle(folder)
    return record


def _do(trainer: Any, kind: str) -> None:
    if kind == "eval":
        trainer.test()
    else:
        trainer.train()


def _build(args: argparse.Namespace, cfg: CfgNode, together: ranks.Ranks | None, anew: bool) -> Any:
    if cfg.SEED >= 0:
        print(f"Setting fixed seed: {cfg.SEED}")
        set_random_seed(cfg.SEED)
    elif together:
        set_random_seed(together.agree("seed", random.randrange(2**32)))
    if ranks.rank() == 0:
        start_log(cfg.OUTPUT_DIR, anew)
    if torch.cuda.is_available() and cfg.USE_CUDA:
        torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = cfg.TRAIN.TF32
    if DASSL:
        print(f"Using the Dassl in {DASSL} (DASSL_PATH)")
    if cfg.VERBOSE:
        print_args(args, cfg)
        print_system(collect_env_info())
    if ignored := not_read(cfg):
        settings = ", ".join(f"{name} {value}" for name, value in ignored.items())
        print(f"Warning: {cfg.TRAINER.NAME} does not read {settings}")
    trainer = build_trainer(cfg)
    trainer.other_loader = loader_of_others(trainer)
    if DASSL:
        original_dassl.keep_probabilities(trainer)
    if together:
        together.check_equal(trainer)
    return trainer


def _how_to_continue(folder: Path, trainer: Any) -> str:
    where = f"in epoch {trainer.epoch + 1} of {trainer.max_epoch}"
    resume_file = getattr(trainer, "_resume_file", None)  # the original Dassl has none
    if resume_file is not None and resume_file.epoch_start is not None:
        if resume_file.within:
            where += f", batch {resume_file.batches_done} of {trainer.num_batches}"
        elif resume_file.epoch_start["epoch"] == trainer.epoch < trainer.max_epoch:
            where += ", which begins anew"
    if can_continue(folder):
        return f"{where}; continue with the same command and --resume {folder}"
    return f"{where}, nothing saved yet; start the same command again"


if __name__ == "__main__":
    with clean_errors():
        terminate_as_interrupt()
        with ranks.joined() as together:
            main(arguments, together)
