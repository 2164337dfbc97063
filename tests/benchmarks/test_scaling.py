import json

import pytest

from benchmarks import scaling
from tests import copies


def test_shared_and_repeated_texts_give_the_same_loss(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(scaling.mp, "spawn", copies.spawn)
    output = tmp_path / "measured.json"
    small = ["--backbone", "ViT-S-32-alt", "--repeats", "1", "--classes", "7", "--processes", "1", "2"]
    scaling.main([*small, "--output", str(output)])
    record, printed = json.loads(output.read_text()), capsys.readouterr().out
    assert [(row["processes"], row["way"]) for row in record["rows"]] == [
        (1, "shared"),
        (2, "shared"),
        (2, "plain"),
    ]
    for row in record["rows"]:
        assert row["loss"] == pytest.approx(record["rows"][0]["loss"], rel=1e-5)
        assert row["seconds"] > 0
        assert row["gib"] >= 0  # a copy has the libraries' memory from its start
    assert len(printed.splitlines()) == 4
    assert (tmp_path / "measured.png").is_file()
