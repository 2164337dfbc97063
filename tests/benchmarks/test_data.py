import json
import sys
from pathlib import Path

from runs import ROOT
from tests import copies


def test_all_ways_to_read_are_compared(tiny_eurosat: Path, tmp_path: Path) -> None:
    words = ["--images", "40", "--workers", "0", "1", "--turns", "1", "--output", str(tmp_path / "data.json")]
    command = [sys.executable, str(ROOT / "benchmarks" / "data.py"), *words]
    folder = tiny_eurosat / "eurosat" / "2750"
    run = copies.run([*command, "--eurosat", folder], cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    record = json.loads((tmp_path / "data.json").read_text())
    assert list(record["results"]) == ["EuroSAT", "500 x 375"]
    for rows in record["results"].values():
        ways = ["plain loop", "0 workers", "1 worker", "0 workers, cached"]
        assert [row["way"] for row in rows] == ways
        assert rows[0]["ratio"] == 1
        assert all(row["images_per_second"] > 0 and len(row["ratios"]) == 1 for row in rows)
    assert "40 of 40 training images are kept decoded" in run.stdout
    assert run.stdout.splitlines()[-1].startswith("load average ")
