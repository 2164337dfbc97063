import json
import subprocess
import sys
from pathlib import Path

import pytest

from runs import ROOT


def run(tmp_path: Path, *words: str) -> tuple[dict, str]:
    small = ["--backbone", "ViT-S-32-alt", "--repeats", "1", "--output", str(tmp_path / "measured.json")]
    command = [sys.executable, str(ROOT / "benchmarks" / "scaling.py"), *small, *words]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return json.loads((tmp_path / "measured.json").read_text()), ended.stdout


def test_shared_and_repeated_texts_give_the_same_loss(tmp_path):
    record, printed = run(tmp_path, "--classes", "7", "--processes", "1", "2")
    assert [(row["processes"], row["way"]) for row in record["rows"]] == [
        (1, "shared"),
        (2, "shared"),
        (2, "plain"),
    ]
    for row in record["rows"]:
        assert row["loss"] == pytest.approx(record["rows"][0]["loss"], rel=1e-5)
        assert row["seconds"] > 0
        assert row["gib"] > 0
    assert len(printed.splitlines()) == 4
    assert (tmp_path / "measured.png").is_file()
