"""What a precision means: prompts, their gradients and the loss are fp32 whatever the towers run in."""

import pytest
import torch

from dassl.engine import TRAINER_REGISTRY
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
