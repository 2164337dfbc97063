"""Every method on a GPU that is only pretended (see tests/pretended_device.py): it runs there, and no step waits."""

import copy

import pytest
import torch

import clip
from foundation.probabilities import Probabilities
from tests.pretended_device import WouldWait, pretended_device
from tests.trainers.device_cases import Run, few_templates, matrix
from trainers.top_classes import TopClasses

if torch.cuda.is_available():
    pytest.skip("there is a real one (tests/gpu)", allow_module_level=True)


@pytest.fixture
def device(monkeypatch):
    few_templates(monkeypatch)
    load = clip.load  # the towers are shared by all tests: what moves is a copy
    monkeypatch.setattr(clip, "load", lambda *args: with_its_weights(load(*args), {}))
    with pretended_device() as device:
        yield device


def with_its_weights(module, done):
    """A copy of a module that has the same weights: to move it puts others in their place."""
    if module not in done:
        done[module] = same = copy.copy(module)
        for kind in ("_parameters", "_buffers", "_modules"):
            setattr(same, kind, dict(getattr(module, kind)))
        for name, part in module._modules.items():
            same._modules[name] = part and with_its_weights(part, done)
    return done[module]


@pytest.mark.parametrize(("method", "case", "precision"), matrix())
def test_every_method_runs_there_and_no_step_waits(method, case, precision, device, data_root, tmp_path):
    case(Run(device, method, precision, data_root, tmp_path))


AMP = ("TRAINER.COOP.PREC", "amp")
#: All that still waits, and where: with the reasons in docs/performance.md.
STILL_WAITS = {
    "amp with RMSprop": ([*AMP, "OPTIM.NAME", "rmsprop"], r"trainers/base\.py:\d+: self\.scaler\.step"),
    "amp with RAdam": ([*AMP, "OPTIM.NAME", "radam"], r"trainers/base\.py:\d+: self\.scaler\.step"),
    "training images in the feature cache": (
        ["TRAIN.FEATURE_CACHE", True, "INPUT.TRANSFORMS", ("normalize",)],
        r"trainers/feature_cache\.py:\d+: ",
    ),
}


@pytest.mark.parametrize("name", STILL_WAITS)
def test_what_still_waits(name, device, data_root, tmp_path):
    options, where = STILL_WAITS[name]
    run = Run(device, "CoOp", "fp32", data_root, tmp_path)
    trainer = run.make("TEST.FEATURE_CACHE", str(tmp_path / "features"), *options)
    with pytest.raises(WouldWait, match=where):
        run.steps(trainer)


def test_what_is_kept_of_probabilities_does_not_wait(device):
    """Neither of all logits nor of chunks; one transfer in the end."""
    logits, labels = torch.randn(4, 6).cuda(), torch.tensor([0, 5, 2, 2]).cuda()
    chunks = list(zip(logits.split(3, dim=1), torch.arange(6).cuda().split(3)))
    probabilities = Probabilities({"warm": 2.0})
    with device.step():
        probabilities.add(logits, labels)
        best = TopClasses.none(4, logits.device, len(probabilities.powers), labelled=True)
        for part, classes in chunks:
            best = best.with_chunk(part, classes, 1, probabilities.powers, labels)
        probabilities.add(best, labels)
    assert len(probabilities) == 8
    confidences = probabilities.confidences("warm")
    assert confidences[:4] == pytest.approx(confidences[4:])


@pytest.mark.parametrize("optimiser", ["sgd", "adam", "amsgrad", "adamw"])
def test_loss_scaling_does_not_wait(optimiser, device, data_root, tmp_path):
    run = Run(device, "CoOp", "amp", data_root, tmp_path)
    run.steps(run.make("OPTIM.NAME", optimiser), epochs=2)
