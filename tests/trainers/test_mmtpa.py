"""What MMTPA hands to the transport."""

import pytest
import torch

from trainers import mmtpa


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [
        ("fp32", torch.float32),
        ("fp16", torch.float16),
        ("amp", torch.float16),
        ("bf16", torch.bfloat16),
    ],
)
def test_tokens_are_multiplied_in_the_dtype_of_the_towers(precision, dtype, make, monkeypatch):
    trainer = make("MMTPA", "TRAINER.MMTPA.PREC", precision)
    seen = []
    transport = mmtpa.hierarchical_transport

    def watched(image_points, text_points, image_tokens, text_tokens, *others, **options):
        seen.extend([image_tokens, text_tokens])
        return transport(image_points, text_points, image_tokens, text_tokens, *others, **options)

    monkeypatch.setattr(mmtpa, "hierarchical_transport", watched)
    images, labels = trainer.parse_batch_train(next(iter(trainer.train_loader_x)))
    with trainer.autocast():
        loss, _ = trainer.model.loss(images, labels)
    loss.backward()
    assert [tokens.dtype for tokens in seen] == [dtype, dtype]


def test_lengths_are_where_the_model_is(make):
    trainer = make("MMTPA")
    assert "lengths" not in trainer.model.state_dict()
    assert trainer.model.to("meta").lengths.is_meta
