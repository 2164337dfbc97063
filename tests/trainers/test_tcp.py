"""TCP: where a class's own tokens enter, and what the release does with its keys."""

import pytest
import torch

from clip import Changes
from trainers.tcp import TCPModel


def keys(*pairs):
    return tuple(f"TRAINER.COOP.{part}" if i % 2 == 0 else part for i, part in enumerate(pairs))


@pytest.mark.parametrize(("variant", "block"), [("paper", 1), ("release", 2)])
def test_the_block_and_the_weight(variant, block, make, images):
    model = make("TCP", *keys("VARIANT", variant, "CLASS_DEPTH", 2, "W", 1.0)).model
    [tokens] = model.text_changes().tokens
    assert (tokens.block, tokens.values.shape) == (block, (10, 1, 4, model.clip.text.width))
    assert model.weight == (8.0 if variant == "release" else 1.0)


def test_from_that_block_on_the_context_counts_no_more(make):
    """A class's tokens alone decide: nothing is left of the context behind the last block that it enters."""
    model = make("TCP", *keys("CLASS_DEPTH", 1)).model
    with torch.no_grad():
        before = model.encode_texts()
        model.context.ctx.add_(1.0)
        assert torch.equal(model.encode_texts(), before)
        model.meta_net.linear2.bias[0].add_(1.0)
        assert not torch.equal(model.encode_texts(), before)


def test_a_block_beyond_the_tower_is_named(make):
    with pytest.raises(
        ValueError, match=r"TRAINER.COOP: CLASS_DEPTH is 5, .* allows 1 to 4 with VARIANT paper"
    ):
        make("TCP", *keys("CLASS_DEPTH", 5))
    with pytest.raises(ValueError, match=r"CLASS_DEPTH is 4, .* allows 0 to 3 with VARIANT release"):
        make("TCP", *keys("CLASS_DEPTH", 4, "VARIANT", "release"))


@pytest.mark.parametrize(
    ("dataset", "init", "text"),
    [
        ("EuroSAT", "", "[SOS] v1 v2 v3 v4 old cat . [EOT]"),
        ("OxfordPets", "True", "[SOS] v1 v2 v3 v4 old cat , a type of pet . [EOT]"),
        ("DescribableTextures", "", "[SOS] v1 v2 v3 v4 old cat texture . [EOT]"),
        ("UCF101", "False", "[SOS] v1 v2 v3 v4 person doing old cat . [EOT]"),
    ],
)
def test_the_class_text_of_a_data_set(dataset, init, text, make):
    trainer = make("TCP")
    cfg, clip = trainer.cfg.clone(), trainer.model.clip
    cfg.defrost()
    cfg.DATASET.NAME, cfg.TRAINER.COOP.CTX_INIT = dataset, init
    model = TCPModel(cfg, clip, ["old_cat", "dog"], "a photo of a {}.")
    [words] = model.words(0)
    assert [word.strip() for word in words] == text.split()
    start = clip.text.embed([320])[0]  # "a"
    assert torch.equal(model.context.ctx[0], start) == (init == "True")
    assert not model.text_changes().none
    assert isinstance(model.image_changes(), Changes)
    assert model.image_changes().none
