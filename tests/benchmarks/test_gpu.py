"""The one program for a GPU runs whole at a tiny size without one, and a part costs only itself."""

import json
import subprocess
import sys
import time
from argparse import Namespace

import pytest

from benchmarks import gpu
from runs import ROOT
from tests import copies


def test_every_part_runs(tmp_path):
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), "--cpu", "--output", str(tmp_path)]
    ran = copies.run(command, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    record = json.loads((tmp_path / "gpu.json").read_text())
    parts = record["parts"]
    assert record["trial"]
    assert {name: part["ended"] for name, part in parts.items()} == dict.fromkeys(gpu.PARTS, "done"), (
        ran.stderr
    )
    for name in ("MMTPA, 100 classes", "CoOp, 100 classes", "MMTPA, 1,000 classes", "evaluation"):
        result = parts[name]["result"]
        assert result["captured"] == "needs a GPU"
        assert result["eager"]["ms"] > 0 < result["plain"]["ms"]
    assert parts["tests"]["result"] == "needs a GPU"
    assert all(row["finite"] for row in parts["methods"]["result"])
    assert parts["transport"]["result"][0]["forward"]["plain"]["seconds"] > 0
    shown = (tmp_path / "gpu.md").read_text()
    assert "| MMTPA bf16, batch 4, 100 classes, ms | 136 | 12 | needs a GPU |" in shown
    assert shown in ran.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gpu.json", "gpu.md"]


def hang(device, tiny, report):
    report({"before": 1})
    subprocess.run([sys.executable, "-c", "import time; time.sleep(60)"])


def crash(device, tiny, report):
    report({"before": 2})
    raise MemoryError


@pytest.mark.parametrize(
    ("part", "ended", "before"), [(hang, "stopped after 1 s", 1), (crash, "ended by 1", 2)]
)
def test_a_part_that_hangs_or_crashes_keeps_what_it_had(part, ended, before, monkeypatch):
    monkeypatch.setitem(gpu.PARTS, "part", (1.0, part))
    start = time.monotonic()
    measured = gpu.measure("part", 1.0, Namespace(cpu=True))
    assert time.monotonic() - start < 20
    assert (measured["ended"], measured["result"]) == (ended, {"before": before})


def test_the_least_important_parts_are_dropped(tmp_path, monkeypatch, capsys):
    parts = {name: (5.0, lambda device, tiny, report: report({})) for name in ("first", "second")}
    monkeypatch.setattr(gpu, "PARTS", parts)
    words = ["gpu.py", "--cpu", "--output", str(tmp_path), "--minutes", str(1.01 * gpu.LEAST / 60)]
    monkeypatch.setattr(sys, "argv", words)
    measure = gpu.measure
    monkeypatch.setattr(gpu, "measure", lambda *args: time.sleep(0.2) or measure(*args))
    gpu.main()
    record = json.loads((tmp_path / "gpu.json").read_text())["parts"]
    assert [part["ended"] for part in record.values()] == ["done", "dropped, no time was left"]


def test_the_table_of_what_a_gpu_gives():
    """Figures as the parts hand them over on a GPU."""
    eager = {"ms": 136.0, "ms in a row": 130.0, "busy_ms": 30.0, "kernels": 3817, "peak GiB": 1.9}
    eager |= {"waits": {"a.py:1": 12, "b.py:2": 1}, "transport": {"busy_ms": 15.0}}
    captured = {"ms": 33.0, "ms in a row": 31.0, "busy_ms": 30.0, "kernels": 3000, "reserved GiB": 2.5}
    step = {"eager": eager, "captured": captured, "plain": "out of memory"}
    runs = [
        {"problems": 10**5, "forward": {"fused": {"seconds": 1.0}}},
        {"problems": 2 * 10**6, "forward": {"fused": {"seconds": 0.03}}},
    ]
    ended = {"ended": "done", "seconds": 1.0}
    parts = {
        "MMTPA, 100 classes": ended | {"result": step},
        "transport": ended | {"result": runs},
        "MMTPA, 1,000 classes": {"ended": "ended by -9", "seconds": 2.0, "result": None},
        "tests": ended
        | {"result": {"passed": 3, "failed": 1, "error": 0, "skipped": 0, "failures": ["a::b"]}},
        "methods": ended
        | {"result": [{"method": "CoOp", "backbone": "B", "precision": "amp", "failed": "ValueError: no"}]},
    }
    shown = gpu.table(parts, trial=False).splitlines()
    for line in (
        "| MMTPA bf16, batch 4, 100 classes, ms | 136 | 12 | 33 |",
        "| its wall time over the GPU's busy time | 4.4 | 1.15 | 1.1 |",
        "| transport's share of MMTPA's step, 100 classes | 0.51 | 0.10 | 0.5 |",
        "| transport, per million problems, forward, ms | 16.9 | 8 | 15 |",
        "| waits in a step of MMTPA, 100 classes | 13 | 0 | 13 |",
        "| launches of an uncaptured step of MMTPA, 100 classes | 3,817 | 1,500 | 3817 |",
        "| MMTPA, 100 classes | eager | 136 | 130 | 30 | 3817 | 13 | 1.9 | - |",
        "| MMTPA, 100 classes | plain | out of memory | | | | | | |",
        "| CoOp | B | amp | - | - | ValueError: no |",
        "| MMTPA, 1,000 classes | ended by -9 | 2.0 |",
        "tests/gpu: 3 passed, 1 failed, 0 error, 0 skipped",
        "* a::b",
    ):
        assert line in shown
