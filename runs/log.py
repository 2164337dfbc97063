"""The log of a run, and what it says of itself first: a person sees what is particular, the log's file has all."""

import argparse
import os
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from dassl.config import get_cfg_default
from dassl.utils import setup_logger
from runs.schema import extend_cfg
from runs.settings import leaves

WIDTH = 120
#: Arguments that no config key holds.
NOT_IN_CONFIG = ("config_file", "dataset_config_file", "eval_only", "model_dir", "load_epoch", "no_train")


def start_log(folder: str, anew: bool = False) -> None:
    """From here on, what is printed goes to `folder`/log.txt, too, behind what an interrupted run has left there.

    Dassl would begin a file of another name; `anew` lets it.
    """
    log = Path(folder) / "log.txt"
    if anew or not log.exists():
        setup_logger(folder)
        return
    before = log.with_name("log.txt.before")  # where it would lie if we were killed here
    os.replace(log, before)
    setup_logger(folder)
    stdout: Any = sys.stdout  # the logger, ours or Dassl's
    file = stdout.file
    file.write(before.read_text(encoding="utf-8", errors="replace"))
    file.write(time.strftime("\n** Continued on %Y-%m-%d at %H:%M:%S **\n"))
    file.flush()
    before.unlink()


def print_args(args: argparse.Namespace, cfg: CfgNode) -> None:
    """The arguments and settings: those that differ from the defaults; to the log's file all, as CoOp's logs begin."""
    default = get_cfg_default()
    extend_cfg(default)
    usual = dict(leaves(default))
    shown = {
        f"--{name.replace('_', '-')}": getattr(args, name) for name in NOT_IN_CONFIG if getattr(args, name)
    }
    shown |= {name: value for name, value in leaves(cfg) if name not in usual or usual[name] != value}
    _print_and_log(
        "** Settings that differ from the defaults ** (python train.py --keys lists all)\n"
        + textwrap.fill(
            "; ".join(f"{name} {value}" for name, value in sorted(shown.items())),
            WIDTH,
            break_long_words=False,
            break_on_hyphens=False,
        ),
        "***************\n** Arguments **\n***************\n"
        f"{_lines(vars(args))}\n************\n** Config **\n************\n{cfg}",
    )


def print_system(info: str) -> None:
    """What the run computes with: the versions that decide, and to the log's file all."""
    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    _print_and_log(
        f"torch {torch.__version__} on {device}", f"Collecting env info ...\n** System info **\n{info}\n"
    )


def _lines(settings: dict[str, Any]) -> str:
    return "\n".join(f"{name}: {value}" for name, value in sorted(settings.items()))


def _print_and_log(short: str, whole: str) -> None:
    """`short` where a person looks; into the log's file `whole` (where there is one, else nothing is lost)."""
    stdout: Any = sys.stdout
    log = getattr(stdout, "file", None)
    if log is None:
        print(whole)
        return
    log.write(whole + "\n")
    print(short, file=stdout.console)
