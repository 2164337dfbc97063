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


def test_tokens_end_at_their_own_end_of_text_or_at_that_of_the_first_prompt(make):
    """The first of the prompts "a photo of a", "", "", "" has two frozen words that the others lack."""

    def lengths(*options):
        return make("MMTPA", "TRAINER.MMTPA.N_CTX", 2, *options).model.lengths

    own, first = lengths(), lengths("TRAINER.MMTPA.TEXT_END", "first")
    assert torch.equal(own, first[:, None] - torch.tensor([0, 2, 2, 2]))
    assert torch.equal(lengths("TRAINER.MMTPA.VARIANT", "release"), first)
    alike = lengths("TRAINER.MMTPA.N_CTX", 4)
    assert torch.equal(alike, lengths("TRAINER.MMTPA.N_CTX", 4, "TRAINER.MMTPA.TEXT_END", "first"))


def test_the_tolerance_reaches_the_transport(make):
    model = make("MMTPA", "TRAINER.MMTPA.TOL", 0.5).model.eval()
    images = model.encode_images(torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    texts = model.encode_texts()
    loose = model.score(images, texts)
    assert model._problem(images, texts)["tol"] == 0.5
    assert not torch.equal(loose, make("MMTPA").model.eval().score(images, texts))
