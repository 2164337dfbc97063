"""What a precision means: prompts, their gradients and the loss are fp32 whatever the towers run in."""

import pytest
import torch
from torch.utils._python_dispatch import _disable_current_modes

from benchmarks.dispatched import Counting
from clip import linear
from dassl.engine import TRAINER_REGISTRY
from tests.trainers.harness import LEARNERS
from trainers import mmtpa


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16", "amp"])
@pytest.mark.parametrize("method", ["CoOp", "MaPLe", "MMTPA"])
def test_prompts_gradients_and_loss_are_fp32(method, precision, make, monkeypatch):
    trainer = make(method, f"TRAINER.{TRAINER_REGISTRY.get(method).section}.PREC", precision)
    similarities = []
    transport = mmtpa.hierarchical_transport
    monkeypatch.setattr(
        mmtpa,
        "hierarchical_transport",
        lambda *args, **options: similarities.append(transport(*args, **options)) or similarities[-1],
    )
    images, labels = trainer.parse_batch_train(next(iter(trainer.train_loader_x)))
    with trainer.autocast():
        loss, logits = trainer.model.loss(images, labels)
        features = trainer.model.clip.image(images).summary
    loss.backward()
    tower = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16, "amp": torch.float16}
    assert features.dtype == tower[precision]
    assert loss.dtype == logits.dtype == torch.float32
    assert all(similarity.dtype == torch.float32 for similarity in similarities)
    assert len(similarities) == (method == "MMTPA")
    for parameter in trainer.model.parameters():
        assert parameter.dtype == parameter.grad.dtype == torch.float32
        assert torch.isfinite(parameter.grad).all()


@pytest.mark.parametrize(("precision", "packed"), [("bf16", True), ("bf16", False), ("amp", True)])
@pytest.mark.parametrize("method", LEARNERS)
def test_no_frozen_weight_is_cast_in_a_step(method, precision, packed, make, monkeypatch):
    prec = f"TRAINER.{TRAINER_REGISTRY.get(method).section}.PREC"
    trainer = make(method, prec, precision, "DATASET.SUBSAMPLE_CLASSES", "base")
    monkeypatch.setattr(trainer.model.clip.text, "packed", packed)
    product = linear._product  # how a CPU computes one is no GPU's matter

    def unseen(*parts):
        with _disable_current_modes():
            return product(*parts)

    monkeypatch.setattr(linear, "_product", unseen)
    images, labels = trainer.parse_batch_train(next(iter(trainer.train_loader_x)))
    with Counting(list(trainer.model.clip.parameters())) as counting:
        with trainer.autocast():
            loss, _ = trainer.model.loss(images, labels)
        loss.backward()
    assert counting.seen.frozen_casts == 0
