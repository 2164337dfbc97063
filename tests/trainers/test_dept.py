"""DePT: the probe's loss and scores by plain formulas, and of which classes it is used."""

import pytest
import torch
import torch.nn.functional as F

from tests.trainers.harness import assert_close, build, evaluate, fit, load, make_cfg
from trainers.checkpoint import load_learned

PROBE = "TRAINER.LINEAR_PROBE."
BASE = ("DATASET.SUBSAMPLE_CLASSES", "base")


def scattered(trainer):
    """The trainer with a probe that is not where it starts."""
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in trainer.model.probe.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return trainer


def similarity(model, images):
    with torch.no_grad():
        return model.similarity(model.encode_images(images), model.encode_texts())


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("film", [True, False])
@pytest.mark.parametrize("kind", ["linear", "similarity"])
def test_loss_and_scores(kind, film, fused, make, images):
    """On KgCoOp, whose term in the loss stays whole."""
    settings = (f"{PROBE}TYPE", kind, f"{PROBE}WEIGHT", 0.6, f"{PROBE}TEST_TIME_FUSION", fused)
    trainer = scattered(make("DePTKgCoOp", *settings, "TRAINER.FILM.LINEAR_PROBE", film))
    model, labels = trainer.model, torch.tensor([0, 3, 3, 9, 1, 2])
    with torch.no_grad():
        f, t = model.encode_images(images), model.encode_texts()
        loss, _ = model.loss(images, labels)
        scale = model.clip.logit_scale.exp()
        f_own = f * model.probe.of_images.scale + model.probe.of_images.bias if film else f
        t_own = t * model.probe.of_texts.scale + model.probe.of_texts.bias if film else t
        host = scale * F.normalize(f, dim=1) @ F.normalize(t, dim=1).T
        if kind == "linear":
            weight, bias = model.probe.linear.weight, model.probe.linear.bias
            samples, targets = torch.cat([t_own[labels], f_own]), torch.cat([labels, labels])
            probe, expected = f_own @ weight.T + bias, F.cross_entropy(samples @ weight.T + bias, targets)
        else:
            probe = scale * F.normalize(f_own, dim=1) @ F.normalize(t_own, dim=1).T
            expected = F.cross_entropy(probe, labels)
        near = 1 - F.cosine_similarity(t, model.zeroshot).mean()
        expected = 0.4 * F.cross_entropy(host, labels) + 0.6 * expected + 2.0 * near
    assert_close(loss, expected, 1e-5)
    assert_close(evaluate(trainer, images), 0.4 * host + 0.6 * probe if fused else probe, 1e-5)


@pytest.mark.parametrize("film", [True, False])
@pytest.mark.parametrize("kind", ["linear", "similarity"])
def test_the_probe_learns_at_a_rate_of_its_own(kind, film, make):
    trainer = make("DePTMaPLe", f"{PROBE}TYPE", kind, "TRAINER.FILM.LINEAR_PROBE", film, "OPTIM.LR", 0.01)
    rates = {id(p): group["lr"] for group in trainer.optim.param_groups for p in group["params"]}
    for name, parameter in trainer.model.named_parameters():
        assert rates[id(parameter)] == pytest.approx(0.065 if name.startswith("probe.") else 0.01)


@pytest.fixture(scope="module")
def trained(data_root, tmp_path_factory):
    """DePT on CoOp after an epoch on the five base classes."""
    folder = tmp_path_factory.mktemp("trained")
    return fit(build(make_cfg("DePTCoOp", data_root, folder, *BASE, "OPTIM.MAX_EPOCH", 1)))


@pytest.mark.parametrize("kind", ["all", "new"])
def test_of_other_classes_the_host_alone_is_scored(kind, trained, make, images, tmp_path):
    """As many new classes as base ones, too; and what is saved there is still the probe of the base classes."""
    other = load(make("DePTCoOp", "DATASET.SUBSAMPLE_CLASSES", kind), trained.cfg.OUTPUT_DIR)
    assert torch.equal(evaluate(other, images), similarity(other.model, images))
    (tmp_path / "again" / "PromptLearner").mkdir(parents=True)
    saved = {"state_dict": other.model.state_dict(), "epoch": 1}
    torch.save(saved, tmp_path / "again" / "PromptLearner" / "model.pth.tar-1")
    again = load(make("DePTCoOp", *BASE), tmp_path / "again")
    assert torch.equal(evaluate(again, images), evaluate(trained, images))
    assert not torch.equal(evaluate(again, images), similarity(again.model, images))


def test_some_of_the_trained_classes_have_their_rows(trained, images):
    model = trained.model
    names = [model.about["class_names"][i] for i in (4, 1)]
    some = type(model)(trained.cfg, model.clip, names, "a photo of a {}.")
    load_learned(some, model.state_dict(), "the checkpoint")
    with torch.no_grad():
        found = some.logits(images, some.encode_texts())
    assert_close(found, evaluate(trained, images)[:, [4, 1]], 1e-4)


@pytest.mark.parametrize(("subset", "fused"), [("base", True), ("new", False), ("all", False)])
def test_of_a_releases_checkpoint_the_settings_tell_the_classes(subset, fused, trained, make, tmp_path):
    names = trained.model.released_names()
    state = {names[name]: value for name, value in trained.model.state_dict().items() if name in names}
    assert {"prompt_learner.ctx", "film_lp_img.scale", "linear_probe_proj.weight"} <= state.keys()
    (tmp_path / "release" / "PromptLearner").mkdir(parents=True)
    torch.save({"state_dict": state, "epoch": 1}, tmp_path / "release" / "PromptLearner" / "model.pth.tar-1")
    other = load(make("DePTCoOp", "DATASET.SUBSAMPLE_CLASSES", subset), tmp_path / "release")
    assert other.model.fused == fused
    assert torch.equal(other.model.probe.linear.weight, trained.model.probe.linear.weight)


def test_a_probe_of_other_classes_is_no_start(trained, make):
    file = f"{trained.cfg.OUTPUT_DIR}/PromptLearner/model.pth.tar-1"
    with pytest.raises(ValueError, match=r"^MODEL.INIT_WEIGHTS is .* learned for other classes"):
        make("DePTCoOp", "MODEL.INIT_WEIGHTS", file, output="other").train()
