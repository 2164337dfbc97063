"""MMRL and MMRL++: which score is tested, settings of a data set, and what the release keeps too long."""

import pytest
import torch

from tests.trainers.harness import evaluate

FEW = ("TRAINER.MMRL.REP_DIM", 16)


@pytest.mark.parametrize(
    ("task", "classes", "dataset", "fused"),
    [
        *(("FS", "all", "Shapes", True), ("B2N", "base", "Shapes", True), ("B2N", "new", "Shapes", False)),
        *(
            ("B2N", "all", "Shapes", False),
            ("CD", "all", "ImageNet", True),
            ("CD", "all", "ImageNetV2", False),
        ),
    ],
)
def test_what_is_tested(task, classes, dataset, fused, make, images):
    """By a model that is told the task and which half of the classes it is."""
    trainer = make("MMRL", "TRAINER.MMRL.TASK", task, "DATASET.SUBSAMPLE_CLASSES", classes, *FEW)
    cfg, model = trainer.cfg.clone(), trainer.model
    cfg.defrost()
    cfg.DATASET.NAME = dataset
    model = type(model)(cfg, model.clip, ["cat", "old dog"], "a photo of a {}.")
    with torch.no_grad():
        texts, features = model.encode_texts(), model.encode_images(images)
        of_class, of_rep = model.parts(features, texts)
        expected = 0.7 * of_class + 0.3 * of_rep if fused else of_class
    torch.testing.assert_close(model.score(features, texts), expected)


@pytest.mark.parametrize("variant", ["paper", "release"])
def test_the_release_keeps_its_first_evaluation(variant, make, images):
    trainer = make("MMRL", "TRAINER.MMRL.VARIANT", variant, *FEW)
    first = evaluate(trainer, images)
    with torch.no_grad():
        trainer.model.tokens.add_(0.5)
    second = evaluate(trainer, images)
    assert torch.equal(first, second) == (variant == "release")
    trainer.set_model_mode("train")
    logits = trainer.model.logits(images, trainer.model.encode_texts())
    assert (logits - first).abs().max() > 0.01 * first.abs().max()


def test_what_the_release_keeps_is_of_each_chunk_of_classes(make, images):
    whole = make("MMRL", "TRAINER.MMRL.VARIANT", "release", *FEW)
    chunks = make("MMRL", "TRAINER.MMRL.VARIANT", "release", "TEST.CLASS_CHUNK", 3, *FEW)
    chunks.model.load_state_dict(whole.model.state_dict())
    best, classes = evaluate(whole, images).max(dim=1)
    found = evaluate(chunks, images)
    assert torch.equal(found.classes[:, 0], classes)
    torch.testing.assert_close(found.logits[:, 0], best)


def of_dataset(make, method, dataset, *opts):
    trainer = make(method, *opts)
    cfg = trainer.cfg.clone()
    cfg.defrost()
    cfg.DATASET.NAME = dataset
    return type(trainer.model)(cfg, trainer.model.clip, ["cat", "dog"], "a photo of a {}.")


def test_settings_of_a_data_set(make):
    auto = ("TRAINER.MMRL.REG_WEIGHT", -1.0, "TRAINER.MMRL.REP_DIM", 0)
    model = of_dataset(make, "MMRL", "EuroSAT", *auto)
    assert (model.weight, model.tokens.shape) == (0.01, (5, 2048))
    assert of_dataset(make, "MMRL", "StanfordCars", *auto, *FEW).weight == 7.0
    assert of_dataset(make, "MMRL", "StanfordCars", "TRAINER.MMRL.REG_WEIGHT", 0.2, *FEW).weight == 0.2
    auto = ("TRAINER.MMRLpp.REG_WEIGHT", -1.0)
    model = of_dataset(make, "MMRLpp", "Food101", *auto)
    assert (model.weight, model.beta) == (1.0, 0.1)
    assert of_dataset(make, "MMRLpp", "Food101", "TRAINER.MMRLpp.TASK", "CD").beta == 0.3
    assert of_dataset(make, "MMRLpp", "Food101", "TRAINER.MMRLpp.BETA", 0.6).beta == 0.6


def test_blocks_beyond_the_towers(make):
    with pytest.raises(ValueError, match=r"TRAINER.MMRL: REP_LAYERS is \(4, 5\), mini has blocks 1 to 4"):
        make("MMRL", "TRAINER.MMRL.REP_LAYERS", (4, 5))
    with pytest.raises(ValueError, match=r"TRAINER.MMRL.REP_LAYERS is \(2, 2\), different numbers of blocks"):
        make("MMRL", "TRAINER.MMRL.REP_LAYERS", (2, 2))
