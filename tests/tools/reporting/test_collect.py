import json

import pytest

from runs.record import SCHEMA
from tests.tools.outputs import leave
from tools.launching.cell import Cell
from tools.protocols.base_to_new import base_runs, new_runs
from tools.protocols.few_shot import fewshot
from tools.protocols.overfitting import overfitting
from tools.protocols.prompt_length import prompt_length
from tools.protocols.transfer import target_runs
from tools.reporting.collect import collect

CELL = Cell("CoOp", "vit_b16", "dtd", 1)
SETTINGS = {"OPTIM.LR": "0.1"}


def cell(**changes):
    return Cell(**{"trainer": "CoOp", "config": "vit_b16", "dataset": "dtd", "seed": 1, **changes})


def test_records_find_their_protocols(tmp_path):
    zero = cell(trainer="ZeroshotCLIP")
    source = cell(dataset="imagenet")
    train, *epochs = overfitting(cell(settings=("OPTIM.MAX_EPOCH", "2")))
    runs = {
        "fewshot": [*fewshot(cell()), *fewshot(zero), *fewshot(source)],
        "base2new": [*base_runs(cell()), *base_runs(zero)],
        "xd": target_runs(cell()),
        "prompt_length": prompt_length(cell(), 4),
        "overfitting": epochs,
    }
    leave(tmp_path, train, 50.0)  # the training alone is no point of the curve
    for group in runs.values():
        for run in group:
            leave(tmp_path, run, 60.0)
    results, warnings = collect([tmp_path])
    assert not warnings
    found = {name: [r for r in results if r.protocol == name] for name in runs}
    assert {name: len(of) for name, of in found.items()} == {name: len(of) for name, of in runs.items()}
    (transfer,) = found["xd"]
    assert (transfer.source, transfer.dataset, transfer.shots) == ("ImageNet", "DescribableTextures", 16)
    assert found["prompt_length"][0].at == 4
    assert {(r.at, r.subset) for r in found["overfitting"]} == {
        (e, s) for e in (1, 2) for s in ("base", "new")
    }
    assert {r.shots for r in results if not r.learns} == {0}


def test_outputs_may_be_moved(tmp_path):
    leave(tmp_path / "a", fewshot(cell(dataset="imagenet"))[0], 70.0)
    leave(tmp_path / "a", target_runs(cell())[0], 40.0)
    (tmp_path / "a").rename(tmp_path / "b")
    results, warnings = collect([tmp_path])
    assert not warnings
    assert [r.source for r in results if r.protocol == "xd"] == ["ImageNet"]


def test_a_transfer_without_its_source_is_skipped_with_a_warning(tmp_path):
    leave(tmp_path, fewshot(cell())[0], 70.0)
    leave(tmp_path, target_runs(cell(dataset="eurosat"))[0], 40.0)
    results, (warning,) = collect([tmp_path])
    assert len(results) == 1
    assert "imagenet/CoOp/vit_b16_16shots/seed1, is not there" in warning


@pytest.fixture
def transferred(tmp_path):
    """Models of three data sets, and the first one's tested on another: `tested(model_dir, output_dir)`."""
    for dataset in ("imagenet", "food101", "caltech101"):
        leave(tmp_path, fewshot(cell(dataset=dataset))[0], 70.0)

    def tested(model_dir, output_dir=None, **changes):
        path = leave(tmp_path, target_runs(cell())[0], 40.0, model_dir=model_dir, **changes)
        if output_dir:
            record = json.loads(path.read_text())
            record["config"]["OUTPUT_DIR"] = output_dir
            path.write_text(json.dumps(record))
        results, warnings = collect([tmp_path])
        return [result for result in results if result.record["kind"] == "eval"], warnings

    return tested


def test_a_relative_model_is_that_of_where_it_was_started(transferred, tmp_path):
    where = "out/evaluation/CoOp/vit_b16_16shots/dtd/seed1"
    (result,), _ = transferred("out/imagenet/CoOp/vit_b16_16shots/seed1", where)
    assert result.source == "ImageNet"
    (result,), _ = transferred("./out/../out/imagenet/CoOp/vit_b16_16shots/seed1/", where)
    assert result.source == "ImageNet"
    (result,), _ = transferred("out/imagenet/CoOp/vit_b16_16shots/seed1/prompt_learner", where)
    assert result.source == "ImageNet"  # the folder of the checkpoint


@pytest.mark.parametrize(
    "model_dir", ["seed1", "CoOp/vit_b16_16shots/seed1", "models/best", "/x/y/seed1", ""]
)
def test_a_short_name_finds_no_other_data_sets_record(transferred, model_dir):
    results, (warning,) = transferred(model_dir, "evaluation/elsewhere")
    assert results == []
    assert f"the record of the model that it tests, {model_dir or '.'}" in warning.replace(
        "tests, ,", "tests, .,"
    )


def test_base_to_new_models_of_one_layout_are_told_apart_by_their_data_sets(tmp_path):
    """Below shots_16/ the folders of all data sets are called alike."""
    leave(tmp_path, base_runs(cell(dataset="eurosat", shots=4))[0], 80.0)
    model = "/gone/base2new/train_base/dtd/shots_4/CoOp/vit_b16/seed1"
    leave(tmp_path, new_runs(cell(shots=16))[0], 40.0, model_dir=model)
    results, (warning,) = collect([tmp_path])
    assert [(r.dataset, r.shots) for r in results if r.subset == "new"] == [("DescribableTextures", 16)]
    assert "1 tested models have no record here" in warning


def test_a_record_may_say_itself_of_what_its_model_is(tmp_path):
    model = {
        "trainer": "CoOp",
        "dataset": "ImageNet",
        "subset": "all",
        "shots": 4,
        "seed": 3,
        "started": "then",
    }
    leave(tmp_path, target_runs(cell())[0], 40.0, model=model, model_dir="/gone")
    leave(tmp_path, new_runs(cell())[0], 50.0, model=model, model_dir="/gone")
    (result,), (warning,) = collect([tmp_path])
    assert (result.protocol, result.source, result.shots, result.seed) == ("xd", "ImageNet", 4, 3)
    assert (
        "trained on all classes of ImageNet and tested on the new classes of DescribableTextures" in warning
    )


def test_a_model_that_was_trained_anew_is_not_the_one_that_was_tested(tmp_path):
    leave(tmp_path, fewshot(cell(dataset="imagenet"))[0], 70.0)
    model = {
        "trainer": "CoOp",
        "dataset": "ImageNet",
        "subset": "all",
        "shots": 16,
        "seed": 1,
        "started": "then",
    }
    leave(tmp_path, target_runs(cell())[0], 40.0, model=model)
    (result,), (warning,) = collect([tmp_path])
    assert result.record["kind"] == "train"
    assert "has been trained anew since" in warning


def test_a_result_is_of_the_seed_and_shots_of_its_model(tmp_path):
    train, test = base_runs(cell(seed=2, shots=4))[0], new_runs(cell(seed=2))[0]
    leave(tmp_path, train, 80.0)
    leave(tmp_path, test, 40.0, seed=1, model_dir=str(tmp_path / train.folder))
    results, _ = collect([tmp_path])
    assert {(r.subset, r.seed, r.shots) for r in results} == {("base", 2, 4), ("new", 2, 4)}


@pytest.mark.parametrize(
    ("trained", "tested", "dataset", "said"),
    [
        ("all", "new", "dtd", "all classes of DescribableTextures and tested on the new classes of Desc"),
        ("all", "base", "dtd", "all classes of DescribableTextures and tested on the base classes of Desc"),
        (
            "base",
            "new",
            "eurosat",
            "the base classes of DescribableTextures and tested on the new classes of Euro",
        ),
        (
            "base",
            "all",
            "eurosat",
            "the base classes of DescribableTextures and tested on all classes of Euro",
        ),
    ],
)
def test_classes_that_no_protocol_pairs_are_no_results(tmp_path, trained, tested, dataset, said):
    run = fewshot(cell(settings=("DATASET.SUBSAMPLE_CLASSES", trained)))[0]
    leave(tmp_path, run, 70.0)
    test = target_runs(cell(dataset=dataset, settings=("DATASET.SUBSAMPLE_CLASSES", tested)))[0]
    leave(tmp_path, test, 40.0, model_dir=str(tmp_path / run.folder))
    results, (warning,) = collect([tmp_path])
    assert [result.record["kind"] for result in results] == ["train"]
    assert f"trained on {said}" in warning


def test_folders_above_the_output_say_nothing(tmp_path):
    for name in ("overfitting", "prompt_length"):
        leave(tmp_path / name / "project", base_runs(cell())[0], 70.0)
        results, warnings = collect([tmp_path / name])
        assert [result.protocol for result in results] == ["base2new"]
        assert not warnings


def test_a_prompt_length_that_did_not_vary_is_no_curve(tmp_path):
    for length in (2, 4, 8):
        leave(tmp_path, prompt_length(cell(), length)[0], 50.0)
        run = prompt_length(cell(trainer="KgCoOp", config="mini"), length)[0]
        leave(tmp_path, run, 60.0, trainable_parameters=2048)
    results, (warning,) = collect([tmp_path])
    assert {(r.trainer, r.at) for r in results} == {("CoOp", 2), ("CoOp", 4), ("CoOp", 8)}
    assert "the prompt length of KgCoOp on DescribableTextures with seed 1 did not vary" in warning
    assert "nctx2, nctx4, nctx8 have 2,048 parameters each" in warning


def test_folders_of_own_images_are_data_sets_of_their_own(tmp_path):
    for number, root in enumerate(("/data/a/images", "/data/b/images", "/data/pets")):
        run = fewshot(cell(dataset="image_folder", settings=("DATASET.ROOT", root)))[0]
        leave(tmp_path / str(number), run, 60.0 + number)
    results, warnings = collect([tmp_path])
    assert not warnings
    assert {r.dataset: r.accuracy for r in results} == {
        "ImageFolder (a/images)": 60.0,
        "ImageFolder (b/images)": 61.0,
        "ImageFolder (pets)": 62.0,
    }


def test_one_folder_of_own_images_is_one_however_it_is_written(tmp_path):
    for seed, root in enumerate(("/home/me/data/pets", "data/pets/", "data/./pets"), 1):
        run = fewshot(cell(dataset="image_folder", seed=seed, settings=("DATASET.ROOT", root)))[0]
        leave(tmp_path, run, 60.0)
    assert {result.dataset for result in collect([tmp_path])[0]} == {"ImageFolder (pets)"}


def test_a_test_of_a_loaded_model_is_named_after_what_the_model_was_trained_with(tmp_path):
    for number, rate in enumerate(("0.1", "0.2")):
        train = base_runs(cell(settings=("OPTIM.LR", rate)))[0]
        leave(tmp_path / str(number), train, 80.0)
        leave(tmp_path / str(number), new_runs(cell())[0], 60.0 + number)
    results, warnings = collect([tmp_path])
    assert not warnings
    assert {r.method: r.accuracy for r in results if r.subset == "new"} == {
        "CoOp (LR 0.1)": 60.0,
        "CoOp (LR 0.2)": 61.0,
    }


def test_checkpoints_of_one_model_are_not_each_other(tmp_path):
    train = base_runs(cell(settings=("OPTIM.MAX_EPOCH", "50")))[0]
    leave(tmp_path, train, 80.0)
    for number, epoch in enumerate((None, 50, 10)):
        leave(
            tmp_path / str(number),
            new_runs(cell())[0],
            60.0 - (epoch == 10),
            load_epoch=epoch,
            model_dir=str(tmp_path / train.folder),
        )
    results, warnings = collect([tmp_path])
    assert not warnings
    assert sorted((r.method, r.accuracy) for r in results if r.subset == "new") == [
        ("CoOp (LOAD_EPOCH -)", 60.0),
        ("CoOp (LOAD_EPOCH 10)", 59.0),
    ]


def test_validation_accuracies_are_not_the_tests(tmp_path):
    leave(tmp_path / "a", fewshot(cell())[0], 60.0)
    leave(tmp_path / "b", fewshot(cell(settings=("TEST.SPLIT", "val")))[0], 70.0)
    results, warnings = collect([tmp_path])
    assert not warnings
    assert {(r.method, r.split, r.accuracy) for r in results} == {
        ("CoOp", "test", 60.0),
        ("CoOp", "val", 70.0),
    }


def test_settings_of_three_runs_differ_though_the_first_does_not_know_the_key(tmp_path):
    for number, settings in enumerate(((), ("OPTIM.LR", "0.1"), ("OPTIM.LR", "0.2"))):
        leave(tmp_path / str(number), fewshot(cell(settings=settings))[0], 60.0 + number)
    results, _ = collect([tmp_path])
    assert [r.method for r in results] == ["CoOp (LR -)", "CoOp (LR 0.1)", "CoOp (LR 0.2)"]


def test_damaged_and_newer_records_are_skipped_and_named(tmp_path):
    good = leave(tmp_path, fewshot(cell())[0], 70.0)
    cut = leave(tmp_path, fewshot(cell(seed=2))[0], 70.0)
    cut.write_text(good.read_text()[:-20])
    newer = leave(tmp_path, fewshot(cell(seed=3))[0], 70.0, schema=SCHEMA + 1)
    untested = leave(tmp_path, fewshot(cell(seed=4))[0], None)
    foreign = leave(tmp_path, fewshot(cell(seed=5))[0], 70.0)
    record = json.loads(foreign.read_text())
    del record["trainable_parameters"]
    foreign.write_text(json.dumps(record))
    results, warnings = collect([tmp_path])
    assert [result.path for result in results] == [good.resolve()]
    assert len(warnings) == 4
    for path, words in {
        cut: "cut off",
        newer: f"schema {SCHEMA + 1}",
        untested: "not tested",
        foreign: "'trainable_parameters' missing",
    }.items():
        assert any(str(path) in warning and words in warning for warning in warnings), words


def test_a_report_of_nothing_says_what_was_looked_for(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=rf"no tested run below {tmp_path} \(looked for result.json\)"
    ):
        collect([tmp_path])
    with pytest.raises(FileNotFoundError, match="there is no folder "):
        collect([tmp_path / "gone"])
    leave(tmp_path, fewshot(cell())[0], None)
    with pytest.raises(FileNotFoundError, match=r"1 skipped: .*not tested"):
        collect([tmp_path])


def test_settings_that_differ_within_a_cell_tell_methods_apart(tmp_path):
    for number, rate in enumerate(("0.1", "0.2")):
        settings = ("OPTIM.LR", rate, "TRAIN.PRINT_FREQ", rate)
        leave(tmp_path / str(number), fewshot(cell(settings=settings))[0], 60.0 + number)
        leave(tmp_path / str(number), fewshot(cell(settings=settings, shots=1))[0], 50.0)
    leave(tmp_path, fewshot(cell(trainer="MMTPA"))[0], 70.0)
    results, warnings = collect([tmp_path])
    assert not warnings
    assert [(r.method, r.shots) for r in results] == [
        *((f"CoOp (LR {rate})", shots) for rate in ("0.1", "0.2") for shots in (1, 16)),
        ("MMTPA", 16),
    ]


def test_settings_that_differ_between_cells_do_not(tmp_path):
    for shots, epochs in ((1, "50"), (16, "200")):
        run = fewshot(cell(shots=shots, settings=("OPTIM.MAX_EPOCH", epochs)))[0]
        leave(tmp_path, run, 60.0)
    results, _ = collect([tmp_path])
    assert {result.method for result in results} == {"CoOp"}


def test_of_doubles_the_latest_counts(tmp_path):
    for number, accuracy in enumerate((60.0, 61.5)):
        time = {"started": f"2026-01-0{number + 1}T00:00:00+00:00", "setup_seconds": 1, "run_seconds": 1}
        leave(tmp_path / str(number), fewshot(cell())[0], accuracy, time=time)
    (result,), (warning,) = collect([tmp_path])
    assert result.accuracy == 61.5
    assert "2 runs of CoOp on DescribableTextures with seed 1" in warning
    assert "60.00, 61.50" in warning


def test_the_test_batch_makes_another_method_where_it_decides_results(tmp_path):
    for n, size in enumerate((50, 100)):
        batch = {"DATALOADER": {"TEST": {"BATCH_SIZE": size}}}
        run = fewshot(cell())[0]
        path = leave(tmp_path / str(n), run, 60.0)
        record = json.loads(path.read_text())
        record["config"] |= batch
        path.write_text(json.dumps(record))
    assert {r.method for r in collect([tmp_path])[0]} == {"CoOp"}
    for path in tmp_path.rglob("result.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "scores_batches": True}))
    assert {r.method for r in collect([tmp_path])[0]} == {"CoOp (BATCH_SIZE 50)", "CoOp (BATCH_SIZE 100)"}
