"""The authors' own EuroSAT, from the archive to a trained run."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from datasets.eurosat import EuroSAT


def test_the_real_eurosat(shared: Path, run: Any, run_train: Any, tmp_path: Path) -> None:
    split = shared / "data" / "splits" / EuroSAT.split_file
    out, errors = run("eurosat", "--archive", shared / "data" / "EuroSAT.zip", split, "--no-checksum")
    assert not errors
    assert out.endswith("eurosat   ready       10  13,500  5,400  8,100  27,000 images decoded\n")
    ended = run_train(
        *("--root", tmp_path / "data", "--output-dir", tmp_path / "run", "--seed", 1, "--trainer", "CoOp"),
        *("--dataset-config-file", "configs/datasets/eurosat.yaml"),
        *("--config-file", "configs/trainers/CoOp/mini.yaml"),
        *("DATASET.NUM_SHOTS", 1, "OPTIM.MAX_EPOCH", 1),
    )
    assert ended.code == 0, ended.err
    for row in ("# classes  10", "# train_x  10", "# val      10", "# test     8,100"):
        assert row in ended.out
    assert "epoch [1/1] batch [1/1]" in (tmp_path / "run" / "log.txt").read_text()
    accuracy = json.loads((tmp_path / "run" / "result.json").read_text())["metrics"]["accuracy"]
    correct = re.search(r"\* total: 8,100\n\* correct: ([\d,]+)", ended.out)
    assert correct
    assert accuracy == pytest.approx(int(correct[1].replace(",", "")) / 81)
