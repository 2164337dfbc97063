"""A run is used without its data set, and says what its evaluation says."""

import json
import shutil
from itertools import islice
from pathlib import Path

import pytest
import torch
from PIL import Image

from runs import trained
from runs.record import read_record, write_record
from runs.schema import setup_cfg
from runs.trained import load_run
from tests.trainers.harness import METHODS, build, evaluate, finish, make_cfg
from train import make_parser

BASE = ["zero", "one", "two", "three", "four"]


pytestmark = pytest.mark.usefixtures("towers_are_loaded_once")


def first_batch(trainer):
    return next(iter(trainer.test_loader))


@pytest.fixture
def copy(finished, tmp_path):
    """A run's folder of one's own: copy("CoOp", key=value) with changes in its record."""

    def make(method, **changes):
        folder = tmp_path / "run"
        shutil.copytree(finished(method).cfg.OUTPUT_DIR, folder)
        record = {**read_record(folder), **changes}
        write_record({key: value for key, value in record.items() if value is not ...}, folder)
        return folder

    return make


@pytest.mark.parametrize("method", METHODS)
def test_a_run_that_is_used_says_what_its_evaluation_says(method, finished):
    trainer = finished(method)
    batch = first_batch(trainer)
    expected = evaluate(trainer, batch["img"])

    run = load_run(trainer.cfg.OUTPUT_DIR, device="cpu")
    assert run.classnames == trainer.dm.dataset.classnames
    assert torch.equal(run.logits(batch["img"]), expected)
    assert torch.equal(run.logits(batch["impath"]), expected)
    some = run.predict(batch["img"], k=2)
    assert [prediction.labels[0] for prediction in some] == [
        run.classnames[label] for label in expected.argmax(1)
    ]
    assert some[0].probabilities == expected.softmax(1)[0].topk(2).values.tolist()


def test_it_takes_the_batches_of_the_evaluation(finished):
    trainer = finished("PLOT")  # scores the images of a batch together
    run = load_run(trainer.cfg.OUTPUT_DIR, device="cpu")
    batches = [batch["img"] for batch in islice(trainer.test_loader, 3)]
    expected = torch.cat([evaluate(trainer, images) for images in batches])
    assert torch.equal(run.logits(torch.cat(batches)), expected)


def test_the_data_set_is_not_looked_at(copy):
    folder = copy("ZeroshotCLIP")
    record = read_record(folder)
    record["config"]["DATASET"]["ROOT"] = "/nowhere"
    write_record(record, folder)
    assert load_run(folder, device="cpu").predict([Image.new("RGB", (9, 9))], k=9)[0].labels


@pytest.mark.parametrize("method", ["CoOp", "ZeroshotCLIP", "MMTPA"])
def test_other_classes_are_scored_by_what_generalises(method, finished, make_new_run):
    trainer = finished(method)
    run = load_run(trainer.cfg.OUTPUT_DIR, classes=["seven", " five "], device="cpu")
    other = make_new_run(method)
    expected = evaluate(other, first_batch(other)["img"])
    seven_and_five = [other.dm.dataset.classnames.index(name) for name in ("seven", "five")]
    assert run.classnames == ["seven", "five"]
    assert torch.allclose(
        run.logits(first_batch(other)["img"]), expected[:, seven_and_five], atol=1e-4, rtol=1e-4
    )


@pytest.fixture
def make_new_run(finished, data_root, tmp_path):
    def make(method):
        trainer = build(make_cfg(method, data_root, tmp_path / "new", "DATASET.SUBSAMPLE_CLASSES", "new"))
        if method != "ZeroshotCLIP":
            trainer.load_model(finished(method).cfg.OUTPUT_DIR)
        return trainer

    return make


def test_an_evaluation_is_used_with_the_model_that_it_tested(finished, make_new_run):
    other = make_new_run("CoOp")
    other.train = other.test
    folder = finish(other, kind="eval", model_dir=finished("CoOp").cfg.OUTPUT_DIR)
    run = load_run(folder, device="cpu")
    images = first_batch(other)["img"]
    assert run.classnames == ["five", "six", "seven", "eight", "nine"]
    assert torch.equal(run.logits(images), evaluate(other, images))


def test_records_that_lack_names_and_template_fall_back_on_what_was_tested(copy):
    tested = {
        "accuracy": 50.0,
        "per_class": [{"class": name, "accuracy": 50.0, "images": 2} for name in BASE],
    }
    run = load_run(copy("ZeroshotCLIP", classnames=..., inputs={}, metrics=tested), device="cpu")
    assert (run.classnames, run.template) == (BASE, "a photo of a {}.")


def test_records_without_any_names_say_so_and_take_them(copy):
    folder = copy("CoOp", classnames=..., inputs={}, metrics=None)
    with pytest.raises(ValueError, match=r"result.json holds no class names .*: give them with --classes"):
        load_run(folder)
    assert load_run(folder, classes=BASE, device="cpu").classnames == BASE


@pytest.mark.parametrize("classes", [["five", "six"], ["five", "six", "seven", "eight", "nine"]])
def test_contexts_of_classes_take_no_others(classes, data_root, tmp_path):
    options = ("DATASET.SUBSAMPLE_CLASSES", "base", "TRAINER.COOP.CSC", True, "OPTIM.MAX_EPOCH", 1)
    folder = finish(build(make_cfg("CoOp", data_root, tmp_path / "csc", *options)))
    assert load_run(folder, device="cpu").classnames == BASE
    with pytest.raises(
        ValueError,
        match=r"does not generalise.* something for each of its own classes \(zero, one, two and 2 more\)",
    ):
        load_run(folder, classes=classes)


def change(record, key, value):
    *sections, name = key.split(".")
    for section in sections:
        record = record[section]
    record[name] = value


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "backbone_hash",
            "0123456789abcdef",
            r"run with a 'mini' of hash 0123456789abcdef, the one here has ",
        ),
        ("trainer", "Nobody", r"trainer 'Nobody' is unknown, choose from: .*CoOp"),
        ("config", [], r"config is \[\]"),
        ("config.MODEL.BACKBONE.NAME", "no such", r"backbone 'no such' is unknown, choose from"),
        ("config.MODEL.BACKBONE.NAME", "gone.pt", r"'gone.pt' does not exist"),
        ("config.TRAINER.COOP.N_CTX", "many", r"TRAINER.COOP.N_CTX is 'many', a value of type int is needed"),
        ("config.TRAINER.COOP.N_CTX", 3, r"context\.ctx has shape"),
    ],
)
def test_a_record_that_fits_nothing_here_is_refused_in_one_line(key, value, message, copy):
    folder = copy("CoOp")
    record = read_record(folder)
    change(record, key, value)
    write_record(record, folder)
    with pytest.raises((ValueError, OSError), match=message) as error:
        load_run(folder)
    assert "\n" not in str(error.value)


def test_what_is_no_finished_run_is_refused(copy, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*nowhere"):
        load_run(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="is not the folder of a run"):
        load_run(tmp_path)
    folder = copy("CoOp")
    (folder / "result.json").unlink()
    with pytest.raises(FileNotFoundError, match=f"holds an unfinished run .*--resume {folder}"):
        load_run(folder)
    (folder / "result.json").write_text("{")
    with pytest.raises(ValueError, match="is cut off or not JSON"):
        load_run(folder)


def test_a_run_without_its_checkpoint_is_refused(copy):
    folder = copy("CoOp")
    shutil.rmtree(folder / "prompt_learner")
    with pytest.raises(FileNotFoundError, match=r"CoOp: checkpoint .* does not exist"):
        load_run(folder)


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ([], "at least one"),
        (["a", " "], "none may be empty"),
        (["a", "b", "A"], "cannot be told apart: 'a' and 'A'"),
        ("a,b", "a list"),
    ],
)
def test_names_that_are_none_are_refused(classes, message, finished):
    with pytest.raises(ValueError, match=message):
        load_run(finished("CoOp").cfg.OUTPUT_DIR, classes=classes)


def test_odd_images(finished, tmp_path):
    run = load_run(finished("CoOp").cfg.OUTPUT_DIR, device="cpu")
    Image.new("L", (1, 1)).save(tmp_path / "dot.png")
    Image.new("L", (1, 65_000)).save(tmp_path / "thread.png")
    assert run.logits([tmp_path / "dot.png"]).shape == (1, 5)
    picture = first_batch(finished("CoOp"))["impath"][0]
    assert torch.equal(run.logits([Image.open(picture)]), run.logits([picture]))
    assert run.logits([]).shape == (0, 5)
    assert run.predict([Image.new("P", (5, 5))], k=1)[0].probabilities[0] <= 1
    run.cfg.defrost()
    with pytest.raises(ValueError, match="1 x 65000 pixels are too long and thin"):
        run_with_larger_input(run).logits([tmp_path / "thread.png"])
    with pytest.raises(ValueError, match="mode I;16 may mean any brightness"):
        run.logits([Image.new("I;16", (5, 5))])
    with pytest.raises(FileNotFoundError):
        run.logits([tmp_path / "none.png"])
    with pytest.raises(ValueError, match="0 best classes"):
        run.predict([tmp_path / "dot.png"], k=0)


def run_with_larger_input(run):
    run.cfg.INPUT.SIZE = (224, 224)
    return run


def test_older_records_that_lack_a_key_mean_what_was_done_then():
    """Of a key whose default is another: text tokens ended with the class's first prompt."""
    older = {"config": {"TRAINER": {"NAME": "MMTPA", "MMTPA": {"EPS": 0.2}}}}
    settings = trained._settings(older, Path("run"))
    assert settings.TRAINER.MMTPA.TEXT_END == "first"
    assert settings.TRAINER.MMTPA.EPS == 0.2
    newer = {"config": {"TRAINER": {"NAME": "MMTPA", "MMTPA": {"TEXT_END": ""}}}}
    assert trained._settings(newer, Path("run")).TRAINER.MMTPA.TEXT_END == ""


def test_an_older_run_is_tested_and_continued_as_it_was_begun(tmp_path):
    """By train.py, too, unless the command says otherwise."""
    settings = {"TRAINER": {"NAME": "MMTPA", "MMTPA": {"VARIANT": "paper"}}}
    (tmp_path / "run.json").write_text(json.dumps({"config": settings, "inputs": {}}))
    parser = make_parser()

    def text_end(*words):
        return setup_cfg(parser.parse_args(list(map(str, words)))).TRAINER.MMTPA.TEXT_END

    assert text_end("--resume", tmp_path) == "first"
    assert text_end("--eval-only", "--model-dir", tmp_path) == "first"
    assert text_end("--eval-only", "--model-dir", tmp_path, "TRAINER.MMTPA.TEXT_END", "own") == "own"
    assert text_end("--output-dir", tmp_path) == ""
