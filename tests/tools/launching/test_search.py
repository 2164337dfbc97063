"""Settings are chosen on validation images, and nothing but what was chosen is tested."""

import sys
from pathlib import Path

import pytest

from runs.record import read_record
from tests.tools.outputs import leave
from tools import launch
from tools.launching.grid import Grid
from tools.launching.search import Search, check_keys, folder_name, search_of
from tools.reporting.collect import collect
from tools.reporting.contents import all_tables
from tools.reporting.tables import as_text

LR = ("OPTIM.LR", ("0.1", "0.2"))
DIGITS = "handwritten_digits/CoOp/mini_16shots"


def grid(protocol: str = "fewshot", datasets=("handwritten_digits",), **options) -> Grid:
    options = {"seeds": (1, 2), "source": "shapes"} | options
    return Grid(protocol, (("CoOp", "mini"),), datasets, **options)


def leave_candidates(search: Search, output: Path, accuracies: dict[tuple[str, int], float]) -> None:
    """Their records, with accuracies by the last value of the combination and the seed."""
    for of_pairs in search.candidates().values():
        for pairs, runs in of_pairs.items():
            for run in runs:
                if (pairs[-1], run.seed) in accuracies:
                    leave(output, run, accuracies[pairs[-1], run.seed], backbone="mini")


def test_every_combination_is_trained_with_every_seed_and_sees_validation_images_alone():
    search = Search(grid(), (LR, ("TRAINER.COOP.N_CTX", ("4", "8", "16"))))
    [(cell, of_pairs)] = search.candidates().items()
    assert cell == DIGITS
    assert len(of_pairs) == 6
    runs = [run for of_seeds in of_pairs.values() for run in of_seeds]
    assert [run.seed for run in runs] == [1, 2] * 6
    assert len({run.folder for run in runs}) == 12
    assert runs[0].folder == f"search/LR_0.1-N_CTX_4/{DIGITS}/seed1"
    for run in runs:
        settings = dict(zip(run.settings[::2], run.settings[1::2]))
        assert settings["TEST.SPLIT"] == "val"
        assert not run.evaluates


def test_the_best_mean_over_the_seeds_is_chosen_when_all_are_there_and_of_equal_ones_the_first(tmp_path):
    search = Search(grid(), (LR,))
    accuracies = {("0.1", 1): 60.0, ("0.1", 2): 62.0, ("0.2", 1): 50.0}
    leave_candidates(search, tmp_path, accuracies)
    assert search.choices(tmp_path) == {}
    leave_candidates(search, tmp_path, {("0.2", 2): 72.0})
    assert search.choices(tmp_path)[DIGITS].chosen == ("OPTIM.LR", "0.1")
    leave_candidates(search, tmp_path, {("0.2", 2): 72.5})
    choice = search.choices(tmp_path)[DIGITS]
    assert choice.chosen == ("OPTIM.LR", "0.2")
    assert str(choice) == f"chosen on val for {DIGITS}: LR 0.2 (of LR 0.1 61.00 %, LR 0.2 61.25 %)"


@pytest.mark.parametrize(
    ("protocol", "expected"),
    [
        ("base2new", ["base2new/train_base", "base2new/test_new", "base2new/test_all"]),
        ("xd", ["shapes/CoOp", "evaluation_from_shapes/CoOp"]),
    ],
)
def test_all_tests_of_a_protocol_are_of_the_model_that_was_validated(protocol, expected, tmp_path):
    search = Search(grid(protocol, seeds=(1,)), (LR,))
    leave_candidates(search, tmp_path, {("0.1", 1): 50.0, ("0.2", 1): 60.0})
    tests = list(search.tests(search.choices(tmp_path)))
    for run, folder in zip(tests, expected, strict=True):
        assert run.folder.startswith(folder)
        assert run.tests == f"search/LR_0.2/{tests[0].folder}"
        assert run.evaluates
        assert "TEST.SPLIT" not in run.settings
        assert run.settings[-2:] == ("OPTIM.LR", "0.2")


def test_what_learns_nothing_is_tested_once_more():
    zeroshot = Grid("zeroshot", (("ZeroshotCLIP", "mini"),), ("shapes",), (1, 2))
    search = Search(zeroshot, (("DATASET.TEMPLATES", ("a {}", "the {}")),))
    [of_pairs] = search.candidates().values()
    assert [len(runs) for runs in of_pairs.values()] == [1, 1]  # no seed makes a difference


def test_what_learns_nothing_is_not_chosen_on_the_classes_that_a_protocol_holds_back():
    held_back = Grid("base2new", (("ZeroshotCLIP", "mini"),), ("shapes",), (1,))
    with pytest.raises(ValueError, match="--search: ZeroshotCLIP learns nothing, so base2new would"):
        Search(held_back, (("DATASET.TEMPLATES", ("a {}", "the {}")),)).candidates()


def test_a_choice_is_made_for_each_data_set_and_number_of_shots():
    of = grid(datasets=("handwritten_digits", "shapes"), shots=(1, 2))
    assert len(Search(of, (LR,)).candidates()) == 4


@pytest.mark.parametrize(
    ("given", "on", "words"),
    [
        (
            [["OPTIM.LR", "1"]],
            "test",
            "--on test: choosing by test images makes the tested accuracy worthless",
        ),
        ([["OPTIM.LR", "1"]], "train", "--on train: settings are chosen on val"),
        ([["OPTIM.LR"]], "val", "--search OPTIM.LR has no values"),
        ([], "val", "--on val says where --search KEY VALUE"),
        ([["OPTIM.LR", "1"], ["OPTIM.LR", "2"]], "val", "it is given twice"),
        ([["OPTIM.MAX_EPOCH", "1"]], None, "it is given by --opts, too"),
        ([["DATASET.SUBSAMPLE_CLASSES", "base", "new"]], None, "different classes cannot be compared"),
        ([["TEST.SPLIT", "val", "test"]], "val", "candidates are evaluated on validation images"),
        ([["TEST.TEMPERATURE", "True", "False"]], "val", "it changes no prediction"),
        ([["OPTIM.LR", "2e-3", "0.1", "0.002"]], "val", "OPTIM.LR: 0.002 is 2e-3, which is there already"),
        ([["OPTIM.NAME", "sgd", "sgd"]], "val", "OPTIM.NAME: sgd is there twice"),
    ],
)
def test_what_cannot_be_searched_for_is_said(given, on, words):
    with pytest.raises(ValueError, match=r"^--(on|search) ") as caught:
        search_of(grid(settings=("OPTIM.MAX_EPOCH", "1")), given, on)
    assert words in str(caught.value)


def test_a_key_that_a_method_does_not_read_is_not_searched_for():
    both = Grid("fewshot", (("CoOp", "mini"), ("MaPLe", "mini")), ("shapes",), (1,))
    with pytest.raises(ValueError, match=r"^--search TRAINER\.MAPLE\.N_CTX: CoOp does not read it$"):
        check_keys(search_of(both, [["TRAINER.MAPLE.N_CTX", "2", "4"]], "val"))
    for key in ("OPTIM.LR", "TRAINER.CLASS_SAMPLE", "TRAINER.NO_SUCH"):  # the last one is said by others
        check_keys(search_of(both, [[key, "8", "9"]], "val"))


def test_checkpoints_that_are_all_tested_are_not_chosen_from():
    with pytest.raises(ValueError, match="--search: overfitting tests all checkpoints"):
        search_of(grid("overfitting"), [["OPTIM.LR", "1"]], "val")
    with pytest.raises(ValueError, match=r"--opts TEST\.SPLIT: with --search, candidates are"):
        search_of(grid(settings=("TEST.SPLIT", "test")), [["OPTIM.LR", "1"]], "val")


def test_no_search_without_its_option():
    assert search_of(grid(), [], None) is None


def test_folders_of_combinations_differ():
    pairs = [("A.B", value) for value in ("1", "a {}", "a_{}", "a/{}", "x" * 100, "x" * 101, "['a']")]
    names = [folder_name(one) for one in pairs]
    assert len(set(names)) == len(names)
    assert all("/" not in name and len(name) < 80 for name in names)
    assert folder_name(("A.LR", "1", "B.LR", "2")) == "A.LR_1-B.LR_2"


@pytest.fixture
def command(monkeypatch, runs_are_copies, data_root, tmp_path, capsys):
    """tools/launch.py in this process on one shot of the digits: command("--search", ...) -> what it printed."""

    def run(*words, protocol="fewshot", data=data_root, datasets="handwritten_digits", opts=()):
        line = ["launch.py", protocol, "--trainers", "CoOp/mini", "--datasets", datasets, "--shots", 1]
        line += ["--seeds", 1, "--root", data, "--output", tmp_path, "--gpus", "--jobs", 2, *words, "--opts"]
        line += [
            "OPTIM.MAX_EPOCH",
            1,
            "DATALOADER.TRAIN_X.BATCH_SIZE",
            10,
            "DATALOADER.NUM_WORKERS",
            0,
            *opts,
        ]
        monkeypatch.setattr(sys, "argv", list(map(str, line)))
        launch.main()
        return capsys.readouterr().out

    return run


def test_a_search_from_the_command_to_the_report(command, tmp_path, capsys):
    words = ["--search", "OPTIM.LR", "0.0001", "0.05", "--on", "val"]
    assert "All done (the search and the tests of what was chosen)" in command(*words)
    logs = {str(path.relative_to(tmp_path)): path.read_text() for path in tmp_path.rglob("log.txt")}
    assert len(logs) == 3
    for name, log in logs.items():
        assert ("Evaluate on the *test* set" in log) == (not name.startswith("search/")), name
        assert ("Evaluate on the *val* set" in log) == name.startswith("search/"), name
    record = read_record(tmp_path / "handwritten_digits" / "CoOp" / "mini_1shots" / "seed1")
    tried = {one["settings"]["OPTIM.LR"]: one for one in record["search"]["tried"]}
    for value, one in tried.items():
        candidate = read_record(
            tmp_path / "search" / f"LR_{value}" / "handwritten_digits/CoOp/mini_1shots/seed1"
        )
        assert candidate["search"] == {"candidate": {"OPTIM.LR": value}}
        assert candidate["metrics"]["accuracy"] == one["accuracy"]
        assert candidate["metrics"]["images"] == 10  # min(shots, 4) of each class
    best = max(tried.values(), key=lambda one: one["accuracy"])
    assert record["search"]["chosen"] == best["settings"]
    assert not list(tmp_path.rglob("search.json"))

    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("result.json")}
    assert "1 run" not in command(*words).replace("All done", "")
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("result.json")}

    results, _ = collect([tmp_path])
    [result] = results
    assert (result.method, result.shots, result.split) == ("CoOp", 1, "test")
    [table] = [table for table in all_tables(results, "std", None) if table.name == "search"]
    assert len(table.rows) == 2
    assert as_text(table).count("(chosen)") == 1


def test_data_without_validation_images_is_named_before_anything_runs(command, tmp_path):
    with pytest.raises(ValueError, match="--search: ImageNet has no validation images to choose by"):
        command("--search", "OPTIM.LR", "1", datasets="imagenet")
    with pytest.raises(ValueError, match=r"OPTIM\.LR must be of type float"):
        command("--search", "OPTIM.LR", "1", "two")
    assert not list(tmp_path.iterdir())
