"""What all tests share."""

import functools
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

# Before torch is imported: one thread, or workers fight for the cores, and a copy of a process (tests/copies.py) waits
# for threads that it has not got.
os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"
os.environ["MPLBACKEND"] = "Agg"

# A shell that starts the tests in the background lets them, and so the programs under test, ignore Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import hypothesis
import pytest

ROOT = Path(__file__).resolve().parents[1]


# The same examples in every run, however slow the machine is: a red test is never a matter of luck.
hypothesis.settings.register_profile("mmprompt", max_examples=25, deadline=None, derandomize=True)
hypothesis.settings.load_profile("mmprompt")


@pytest.fixture(scope="session", autouse=True)
def _can_be_forked() -> None:
    """Where the first backward pass comes after a tensor that claims to be on a GPU, copies of a process have none."""
    import torch

    torch.ones(1, requires_grad=True).sum().backward()


@pytest.fixture(autouse=True)
def _same_draws() -> None:
    """The global random states of a test do not depend on the tests before it."""
    import numpy
    import torch

    random.seed(0)
    numpy.random.seed(0)  # noqa: NPY002  the global state is what is meant
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder `shared` beside the checkout, with recorded parity vectors and real images."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip(f"{folder.name}/ is not beside this checkout")
    return folder


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


@dataclass
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    def assert_wrong_input(self, *words: str) -> None:
        """One line on stderr that has all `words`, no traceback, exit code 2."""
        assert self.code == 2, self.err
        assert len(self.err.splitlines()) == 1, self.err
        assert self.err.startswith("error: ")
        for word in words:
            assert word in self.err


@pytest.fixture
def run_train(monkeypatch, capsys) -> Callable[..., Ended]:
    """Run train.py's main in this process: `run_train("--seed", 1, ...)`; the checkout is the current folder."""
    import train
    from dassl.utils import Logger
    from runs.errors import clean_errors

    monkeypatch.chdir(ROOT)

    def run(*words: object) -> Ended:
        code = 0
        try:
            with clean_errors():
                train.main(train.make_parser().parse_args([str(word) for word in words]))
        except SystemExit as end:
            code = int(end.code or 0)
        finally:
            # A run tees stdout into its log.
            if isinstance(sys.stdout, Logger):
                sys.stdout.close()
                sys.stdout = sys.stdout.console
        captured = capsys.readouterr()
        return Ended(code, captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def data_root(tmp_path_factory) -> Path:
    """A data root in which bundled data sets appear on first use."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="session")
def _load_once() -> Callable[..., Any]:
    """`clip.load` that loads the bundled model once.

    Loading it draws random numbers: not here, or what a process builds first would begin with other prompts.
    """
    import torch

    import clip

    load = clip.load

    @functools.cache
    def mini(precision: str) -> Any:
        with torch.random.fork_rng(devices=[]):
            return load("mini", precision)

    @functools.wraps(load)
    def load_once(name: str, precision: str = "fp32") -> Any:
        return mini(precision) if name == "mini" else load(name, precision)

    return load_once


@pytest.fixture(scope="module")
def towers_are_loaded_once(_load_once) -> Iterator[None]:
    """The towers are frozen, so all models of a process can share them; a test says that nothing changes them.

    No longer than for a module: in others, a run of this process is compared with one of a process of its own.
    """
    import clip

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clip, "load", _load_once)
        yield


@pytest.fixture(scope="session")
def finished(data_root, tmp_path_factory, _load_once) -> Callable[[str], Any]:
    """The trainer of a finished run of a method, on five base digits and the bundled model.

    Its folder (cfg.OUTPUT_DIR) holds checkpoint and record. Trained once: tests leave trainer and folder as they are.
    """
    import clip
    from tests.trainers import harness

    @functools.cache
    def run(method: str) -> Any:
        folder = tmp_path_factory.mktemp("finished") / method
        options = ["DATASET.SUBSAMPLE_CLASSES", "base", "OPTIM.MAX_EPOCH", 1, "OPTIM.LR", 0.02]
        options += ["DATALOADER.TEST.BATCH_SIZE", 20]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(clip, "load", _load_once)
            trainer = harness.build(harness.make_cfg(method, data_root, folder, *options))
        harness.finish(trainer)
        return trainer

    return run


@pytest.fixture
def short_run(data_root, tmp_path) -> list[object]:
    """Arguments of a training run of seconds: CoOp, one shot of the bundled digits, the bundled model."""
    return [
        *("--root", data_root, "--output-dir", tmp_path / "run", "--seed", 1),
        *("--dataset-config-file", "configs/datasets/handwritten_digits.yaml"),
        *("--config-file", "configs/trainers/CoOp/mini.yaml", "--trainer", "CoOp"),
        *("DATASET.NUM_SHOTS", 1, "OPTIM.MAX_EPOCH", 2, "DATALOADER.NUM_WORKERS", 0),
        *("DATALOADER.TRAIN_X.BATCH_SIZE", 5, "VERBOSE", False),
    ]


@pytest.fixture
def tiny_eurosat(tmp_path, monkeypatch) -> Path:
    """A data root with a EuroSAT of 16 pixels, ten classes of 3 / 1 / 1 images: in this process, the published one."""
    import numpy as np
    from PIL import Image

    from datasets.eurosat import CLASS_NAMES, EuroSAT
    from datasets.files import md5_of
    from datasets.origin import Download

    folder = tmp_path / "data" / "eurosat"
    rng = np.random.default_rng(0)
    split: dict[str, list[object]] = {"train": [], "val": [], "test": []}
    for label, (name, class_name) in enumerate(CLASS_NAMES.items()):
        (folder / "2750" / name).mkdir(parents=True)
        for number, part in enumerate(("train", "train", "train", "val", "test")):
            path = f"{name}/{name}_{number}.jpg"
            Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(folder / "2750" / path)
            split[part].append([path, label, class_name])
    file = folder / "split_zhou_EuroSAT.json"
    file.write_text(json.dumps(split))
    published = replace(
        EuroSAT.origin, sizes=(10, 30, 10, 10), files={file.name: Download("drive:id", md5_of(file))}
    )
    monkeypatch.setattr(EuroSAT, "origin", published)
    return tmp_path / "data"


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 2 MiB, and a function that makes it read-only."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(mount, capture_output=True).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("mounting is not allowed here")
    remount = ["mount", "-o", "remount,ro", str(folder)]
    yield folder, lambda: subprocess.run(remount, check=True)
    subprocess.run(["umount", str(folder)], check=True)
