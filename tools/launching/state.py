"""Whether a run of a protocol is done: its folder holds the record of a run with all the same settings."""

from argparse import Namespace
from functools import cache
from pathlib import Path
from typing import Any

from foundation import identity
from foundation.errors import WrongInput
from runs import shipped
from runs.record import FILE_NAME, read_record
from runs.same_run import about_model, other_run
from tools.launching.run import Run, shown


def finished(run: Run, output: Path) -> dict[str, Any] | None:
    """The record of `run` below `output`, None while there is none.

    ValueError where the folder holds a record that cannot be read or is of another run, which is then not used.
    """
    folder = output / run.folder
    if not (folder / FILE_NAME).exists():
        return None
    record = read_record(folder)
    model_dir = shown(output / run.tests) if run.tests else ""
    if run.tests and (record.get("model_dir") or "").endswith(run.tests):
        model_dir = record["model_dir"]  # the outputs may have been moved since
    kind = "eval" if run.evaluates else "train"
    model = about_model(output / run.tests) if run.tests else None
    found = other_run(record, settings(run), kind, model_dir, run.load_epoch, model=model)
    if found:
        raise WrongInput(
            f"{folder} holds a finished run with other settings ({identity.listed(found)}): it is left alone; "
            "choose another output folder, or move it away"
        )
    return record


@cache
def settings(run: Run) -> Any:
    """All settings of a run, those of its files and the defaults included, as train.py makes them of its command line.

    The first call takes seconds, in which the methods are loaded, and with them torch.

    Raises:
        ValueError: one of its KEY VALUE pairs is unknown or of the wrong type.
    """
    from runs.schema import setup_cfg

    files = {
        "dataset_config_file": str(shipped.CONFIGS / "datasets" / f"{run.dataset}.yaml"),
        "config_file": str(shipped.CONFIGS / "trainers" / run.trainer / f"{run.config}.yaml"),
    }
    not_given = dict.fromkeys(
        ["root", "output_dir", "resume", "source_domains", "target_domains", "transforms", "backbone", "head"]
    )
    return setup_cfg(
        Namespace(**files, **not_given, trainer=run.trainer, seed=run.seed, opts=list(run.settings))
    )


def setting(config: dict[str, Any], key: str) -> Any:
    """The value of a key like "OPTIM.LR" in nested dictionaries, None where there is none."""
    value: Any = config
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value
