import json
import sys

from runs import ROOT
from tests import copies


def test_a_vocabulary_is_evaluated_whole_and_sampled_in_training(tmp_path):
    output = tmp_path / "vocabulary.json"
    words = ["--method", "MMTPA", "--classes", "300", "--chunk", "140", "--sample", "20", "--steps", "1"]
    words += ["--backbone", "ViT-S-32-alt", "--output", str(output)]
    command = [sys.executable, str(ROOT / "benchmarks" / "vocabulary.py"), *words]
    ended = copies.run(command, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("MMTPA, 300 classes: first batch ")
    record = json.loads(output.read_text())
    assert record["kept"] == [4, 5]
    assert record["gib"] >= record["evaluation_gib"] >= record["built_gib"] > 0
