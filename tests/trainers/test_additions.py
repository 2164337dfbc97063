"""An addition on a further host, a line as the page for methods says."""

import pytest
import torch

from dassl.engine import TRAINER_REGISTRY
from tests.trainers.harness import evaluate
from trainers.atprompt import atprompt
from trainers.dept import dept
from trainers.ivlp import IVLP
from trainers.tcp import TCP


@pytest.mark.parametrize(
    ("addition", "host", "name"), [(dept, TCP, "DePTTCP"), (atprompt, IVLP, "ATPromptIVLP")]
)
def test_a_further_host_is_a_line(addition, host, name, make, images, monkeypatch):
    monkeypatch.setattr(TRAINER_REGISTRY, "_obj_map", dict(TRAINER_REGISTRY._obj_map))
    trainer = addition(host)
    assert (trainer.__name__, trainer.model_class.__mro__[2]) == (name, host.model_class)
    built = make(name, config=f"configs/trainers/{host.__name__}/mini.yaml")
    assert evaluate(built, images).shape == (6, 10)
    built.set_model_mode("train")
    loss, _ = built.model.loss(images, torch.tensor([0, 1, 2, 3, 4, 5]))
    loss.backward()
    assert all(parameter.grad is not None for parameter in built.model.parameters())
