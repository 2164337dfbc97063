import pytest

from tools.launching.cell import Cell
from tools.launching.estimate import STARTUP_SECONDS, Estimate, duration
from tools.protocols.base_to_new import new_runs
from tools.protocols.few_shot import fewshot


def record(seconds, dataset="DescribableTextures", shots=16, trainer="CoOp", kind="train"):
    time = {"setup_seconds": 1.0, "run_seconds": seconds - 1.0}
    return {"kind": kind, "trainer": trainer, "dataset": dataset, "shots": shots, "time": time}


def run(dataset="dtd", shots=16):
    return fewshot(Cell("CoOp", "mini", dataset, 1, shots))[0]


def test_the_most_alike_earlier_runs_count():
    estimate = Estimate([record(10), record(30), record(50), record(4, shots=1), record(600, "Food101")])
    assert estimate.seconds(run()) == 30 + STARTUP_SECONDS
    assert estimate.seconds(run(shots=1)) == 4 + STARTUP_SECONDS
    assert estimate.seconds(run("ucf101")) == 30 + STARTUP_SECONDS  # the median of all five
    assert estimate.seconds(new_runs(Cell("CoOp", "mini", "dtd", 1))[0]) is None


def test_the_start_of_the_processes_is_measured():
    estimate = Estimate([record(10)])
    estimate.add(record(10), wall_seconds=12.5)
    assert estimate.seconds(run()) == 12.5


def test_the_total_is_shared_among_those_at_work():
    estimate = Estimate([record(10 - STARTUP_SECONDS)])
    test = new_runs(Cell("CoOp", "mini", "dtd", 1))[0]
    assert estimate.total([run(), run(), run(), test], 2) == (15.0, 1)
    assert estimate.total([run()], 8) == (10.0, 0)


@pytest.mark.parametrize(
    ("seconds", "words"), [(89, "89 s"), (90, "2 min"), (5340, "89 min"), (11100, "3 h 05 min")]
)
def test_durations_read_well(seconds, words):
    assert duration(seconds) == words
