"""What a run's record says of its probabilities: temperature, halves of the classes, images of other classes."""

import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from dassl.config import get_cfg_default
from datasets.split import load_split
from foundation.probabilities import told_apart
from runs import original_dassl
from runs.model_temperature import settle_temperature
from runs.record import read_record
from runs.schema import extend_cfg
from runs.trained import load_run
from tests.tools.outputs import leave
from tests.train.running import changed
from tools.launching.run import Run


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder of pictures of no class: noise."""
    folder = tmp_path_factory.mktemp("others")
    rng = np.random.default_rng(0)
    for number in range(12):
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(folder / f"{number:02d}.png")
    return folder


def test_a_model_of_base_classes_keeps_its_temperature(run_train, short_run, tmp_path, pictures):
    """Trained on base classes, tested on new ones and on all at once, with images of none."""
    base = ["DATASET.SUBSAMPLE_CLASSES", "base"]
    assert run_train(*short_run, *base).code == 0
    trained = read_record(tmp_path / "run")["metrics"]
    assert trained["temperature"]["source"] == "validation"
    assert trained["temperature"]["nll"] != trained["probabilities"]["nll"]
    assert trained["halves"] is None
    assert trained["other_images"] is None

    def tested(name, *words):
        evaluation = changed(short_run, output_dir=tmp_path / name)
        ended = run_train("--eval-only", "--model-dir", tmp_path / "run", *words[:2], *evaluation, *words[2:])
        assert (ended.code, ended.err) == (0, "")
        assert "Fit the temperature" not in ended.out
        return read_record(tmp_path / name)

    new = tested("new", "--ood", pictures, "DATASET.SUBSAMPLE_CLASSES", "new")
    everything = tested("all", "--ood", pictures)
    for record in (new, everything):
        kept = record["metrics"]["temperature"]
        assert kept["source"] == "model"
        assert {key: kept[key] for key in ("value", "images")} == record["model"]["temperature"]
        assert kept["value"] == trained["temperature"]["value"]

    others = everything["metrics"]["other_images"]
    said = f"* 12 images of other classes: auroc {others['auroc']:.2f}%, fpr95 {others['fpr95']:.2f}%"
    assert said in (tmp_path / "all" / "log.txt").read_text()

    metrics = everything["metrics"]
    rows = metrics["per_class"]
    for half, of_half in (("base", rows[:5]), ("new", rows[5:])):
        right = sum(row["accuracy"] * row["images"] for row in of_half)
        assert metrics["halves"][half] == pytest.approx(right / sum(row["images"] for row in of_half))
    assert metrics["halves"]["new"] < new["metrics"]["accuracy"]  # to know which half is asked is a gift
    assert metrics["macro_accuracy"] == pytest.approx(np.mean([row["accuracy"] for row in rows]))

    # the scores of maximum concept matching by another way
    run = load_run(tmp_path / "all")
    scale = run.model.clip.logit_scale.exp()
    found = metrics["other_images"]
    paths = sorted(pictures.iterdir())
    others = (run.logits(paths) / scale).softmax(dim=1).amax(dim=1)
    digits = [item.impath for item in dataset_of(run).test]
    known = (run.logits(digits) / scale).softmax(dim=1).amax(dim=1)
    auroc, fpr95 = told_apart(known.numpy(), others.numpy())
    assert (found["folder"], found["images"]) == (str(pictures), 12)
    assert (found["auroc"], found["fpr95"]) == (pytest.approx(auroc, abs=0.05), pytest.approx(fpr95, abs=8.4))


def dataset_of(run):
    from dassl.data.datasets import build_dataset

    cfg = run.cfg.clone()
    cfg.defrost()
    cfg.DATASET.NUM_SHOTS = 1
    return build_dataset(cfg)


@pytest.mark.parametrize(
    ("case", "named"),
    [
        ("missing", "--ood (TEST.OOD): there is no folder {folder}"),
        ("empty", "--ood (TEST.OOD): there are no images in {folder}"),
        ("broken", 'Cannot read the image "{folder}/broken.png" (not an image)'),
        ("tested", "--ood (TEST.OOD): 1 of the 1 images in {folder} are test images"),
    ],
)
def test_a_wrong_folder_of_other_images_is_one_line(
    run_train, short_run, data_root, tmp_path, pictures, case, named
):
    folder = tmp_path / case
    if case != "missing":
        folder.mkdir()
    if case == "broken":
        shutil.copy(pictures / "00.png", folder)
        (folder / "broken.png").write_text("no image")
    words = changed(short_run, trainer="ZeroshotCLIP", config_file="configs/trainers/ZeroshotCLIP/mini.yaml")
    if case == "tested":
        run_train("--no-train", *words)  # makes the data
        digits = data_root / "handwritten_digits"
        split = load_split(str(digits / "split_zhou_HandwrittenDigits.json"))
        (folder / "digit.png").symlink_to(digits / "images" / split.test[0].path)
    run_train("--eval-only", "--ood", folder, *words).assert_wrong_input(named.format(folder=folder))
    assert not (tmp_path / "run" / "result.json").exists()


@pytest.mark.parametrize(
    ("model_dir", "weights", "subset", "fits"),
    [
        ("", "", "all", True),  # nothing was learned
        ("", "", "new", False),
        ("file", "", "base", False),  # a release's: nobody says what it was trained on
        ("", "file", "base", False),
        ("published", "", "base", True),
        ("published", "", "all", False),
    ],
)
def test_whose_images_a_temperature_is_fitted_on(model_dir, weights, subset, fits, tmp_path, capsys):
    """Of a model that was trained elsewhere it would have seen labels that its test is to do without."""
    (tmp_path / "file").write_bytes(b"")
    base = ("DATASET.SUBSAMPLE_CLASSES", "base")
    trained = Run("base2new_train", "CoOp", "mini", "handwritten_digits", 1, 16, "published", base)
    leave(tmp_path, trained, None).rename(tmp_path / "published" / "config.json")
    cfg = get_cfg_default()
    extend_cfg(cfg)
    cfg.DATASET.NAME, cfg.DATASET.SUBSAMPLE_CLASSES = "HandwrittenDigits", subset
    cfg.MODEL.INIT_WEIGHTS = weights and str(tmp_path / weights)
    trainer = SimpleNamespace(cfg=cfg)
    settle_temperature(trainer, model_dir and str(tmp_path / model_dir), None)
    assert trainer.fits_temperature == fits
    said = (
        "No temperature is fitted (TEST.TEMPERATURE): nothing says on which classes "
        in capsys.readouterr().out
    )
    assert said == ("file" in (model_dir, weights))


def test_the_originals_evaluator_is_looked_on():
    class Evaluator:
        def reset(self):
            self.seen = []

        def process(self, mo, gt):
            self.seen += gt.tolist()

    class Trainer:
        evaluator = Evaluator()

    trainer = Trainer()
    original_dassl.keep_probabilities(trainer)
    trainer.evaluator.reset()
    trainer.evaluator.process(torch.zeros(3, 2), torch.tensor([0, 1, 1]))
    assert trainer.evaluator.seen == [0, 1, 1]
    assert trainer.probabilities.calibration().brier == pytest.approx(0.5)
    trainer.evaluator.reset()
    assert (trainer.evaluator.seen, len(trainer.probabilities)) == ([], 0)
