import json

import pytest

from runs.record import SCHEMA, read_record, write_record
from runs.same_run import differing_settings, other_run

RECORD = {
    "schema": SCHEMA,
    "kind": "train",
    "trainer": "CoOp",
    "dataset": "Shapes",
    "config": {"SEED": 1, "OUTPUT_DIR": "a", "OPTIM": {"LR": 0.1, "STEPSIZE": [10]}},
    "metrics": None,
    "time": {"started": "2026-01-31T12:00:00+00:00"},
}


def test_a_record_is_read_as_it_was_written(tmp_path):
    path = write_record(RECORD, tmp_path)
    assert read_record(path) == read_record(tmp_path) == RECORD
    assert [p.name for p in tmp_path.iterdir()] == ["result.json"]


def test_a_record_that_cannot_be_written_leaves_the_old_one(tmp_path):
    write_record(RECORD, tmp_path)
    with pytest.raises(ValueError, match="Out of range float"):
        write_record({**RECORD, "metrics": {"accuracy": float("nan")}}, tmp_path)
    assert read_record(tmp_path) == RECORD


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (json.dumps(RECORD)[:-9], "is cut off or not JSON"),
        ("", "is cut off or not JSON"),
        ("[1]", "has no schema version"),
        ('{"schema": "1"}', "has no schema version"),
        (
            json.dumps({**RECORD, "schema": SCHEMA + 1}),
            f"schema {SCHEMA + 1}; this version reads up to {SCHEMA}",
        ),
        ('{"schema": 1, "kind": "train"}', "config, dataset, metrics, time, trainer missing"),
    ],
)
def test_other_files_are_refused_in_one_line(tmp_path, text, message):
    (tmp_path / "result.json").write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        read_record(tmp_path)
    assert str(tmp_path / "result.json") in str(error.value)
    assert "\n" not in str(error.value)


METRICS = {
    "accuracy": 75.0,
    "error_rate": 25.0,
    "macro_f1": 74.5,
    "images": 8,
    "per_class": [{"class": "cat", "accuracy": 75.0, "images": 8}],
    "probabilities": {
        "ece": 5.0,
        "nll": None,
        "brier": 0.5,
        "reliability": [
            {"images": 0, "accuracy": None, "confidence": None},
            {"images": 8, "accuracy": 75.0, "confidence": 80.0},
        ],
    },
    "temperature": None,
    "other_images": {"folder": "others", "images": 3, "auroc": 90.0, "fpr95": 20.0},
}


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        ("", "kind", "test"),
        ("", "dataset", None),
        ("", "seed", "one"),
        ("", "trainable_parameters", None),
        ("", "config", "x"),
        ("", "metrics", [1]),
        ("", "time", []),
        ("metrics", "accuracy", float("nan")),
        ("metrics", "accuracy", 1e6),
        ("metrics", "accuracy", "high"),
        ("metrics", "accuracy", None),
        ("metrics", "per_class", [{"class": "cat"}]),
        ("metrics", "probabilities", {"ece": 5.0, "nll": -1.0, "brier": 0.5, "reliability": []}),
        ("metrics", "temperature", 1.5),
        ("metrics", "other_images", {"folder": "x", "images": 3}),
        ("time", "run_seconds", "x"),
        ("time", "started", 5),
    ],
)
def test_a_value_that_is_none_is_named(tmp_path, part, name, value):
    record = json.loads(json.dumps({**RECORD, "metrics": METRICS}))
    write_record(record, tmp_path)
    assert read_record(tmp_path) == record
    (record[part] if part else record)[name] = value
    (tmp_path / "result.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match="is not the record of a run") as error:
        read_record(tmp_path)
    assert f"{part}.{name} is {json.dumps(value)}".lstrip(".") in str(error.value)


def test_an_accuracy_that_is_missing_is_named(tmp_path):
    write_record({**RECORD, "metrics": {"images": 8}}, tmp_path)
    with pytest.raises(ValueError, match=r"metrics\.accuracy is null"):
        read_record(tmp_path)


def test_no_record_names_the_place(tmp_path):
    with pytest.raises(FileNotFoundError, match=str(tmp_path / "result.json")):
        read_record(tmp_path)


def test_differing_settings_are_all_but_how_a_run_is_started():
    config = {"SEED": 1, "OUTPUT_DIR": "b", "OPTIM": {"LR": 0.2, "STEPSIZE": (10,)}, "NEW": True}
    assert differing_settings(RECORD, config) == ["OPTIM.LR: 0.1 -> 0.2"]


def asked(**changes):
    return {"SEED": 1, "OUTPUT_DIR": "b", "OPTIM": {"LR": 0.1, "STEPSIZE": (10,)}, **changes}


def test_a_record_is_of_the_run_that_is_asked_for():
    assert other_run(RECORD, asked(), "train") == []
    assert other_run(RECORD, asked(SEED=2), "train") == ["SEED: 1 -> 2"]
    assert other_run(RECORD, asked(), "eval", "model", 3) == [
        "kind: train -> eval",
        "model_dir: None -> model",
        "load_epoch: None -> 3",
    ]


def test_a_model_is_the_same_however_its_folder_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    record = {**RECORD, "kind": "eval", "model_dir": "run/"}
    assert other_run(record, asked(), "eval", str(tmp_path / "run")) == []
    assert other_run(record, asked(), "eval", "run2") == ["model_dir: run/ -> run2"]


def test_how_much_is_scored_at_once_counts_where_it_decides_results():
    config = {"SEED": 1, "DATALOADER": {"TEST": {"BATCH_SIZE": 100}}, "TEST": {"CLASS_CHUNK": 0}}
    other = {"SEED": 1, "DATALOADER": {"TEST": {"BATCH_SIZE": 50}}, "TEST": {"CLASS_CHUNK": 10}}
    record = {**RECORD, "config": config, "inputs": {"processes": 1}}
    assert other_run(record, other, "train", processes=2) == []
    record["scores_batches"] = True
    assert other_run(record, other, "train", processes=2) == [
        "DATALOADER.TEST.BATCH_SIZE: 100 -> 50",
        "TEST.CLASS_CHUNK: 0 -> 10",
        "processes: 1 -> 2",
    ]


@pytest.mark.parametrize("schema", [1, 2, 3])
def test_older_records_are_read(tmp_path, schema):
    older = {**RECORD, "schema": schema}
    write_record(older, tmp_path)
    assert read_record(tmp_path) == older
    assert other_run(older, asked(), "train") == []
    assert other_run(older, asked(TEST={"OOD": "others"}), "train") == ["TEST.OOD:  -> others"]
