"""Plans that are shown are those that score."""

import pytest
import torch

from tests.trainers.harness import METHODS, assert_close
from trainers.matching import hierarchical_matching
from trainers.unit import unit

MATCHING = {
    "paper": ("MMTPA",),
    "release": ("MMTPA", "TRAINER.MMTPA.VARIANT", "release"),
    "more text prompts": (
        "MMTPA",
        "TRAINER.MMTPA.TEXT_PROMPT_NUMBER",
        3,
        "TRAINER.MMTPA.VISION_PROMPT_NUMBER",
        2,
    ),
    # of unequal lengths: the second sentence keeps four frozen words
    "sentences": ("MMTPA", "TRAINER.MMTPA.CTX_INIT", "a photo of a\ta large and very sharp photo of a"),
    "prompts alone": ("MMTPA", "TRAINER.MMTPA.HIERARCHICAL", False),
    "PLOT": ("PLOT",),
    "SOT-GLP": ("SOTGLP",),
}


@pytest.fixture(params=MATCHING)
def model(request, make):
    trainer = make(*MATCHING[request.param])
    trainer.set_model_mode("eval")
    return trainer.model


CLASSES = torch.tensor([7, 2, 3])


def matched(model, images):
    with torch.no_grad():
        texts, encoded = model.encode_texts(), model.encode_images(images)
        return model.matching(encoded, texts, CLASSES), model.score(encoded, texts)


def test_the_shown_plans_give_the_logits(model, images):
    matching, logits = matched(model, images[:1])
    assert_close(matching.score, logits, 1e-5)


def test_masses(model, images):
    matching, _ = matched(model, images[:2])
    if matching.prompts is not None:
        assert_close(matching.prompts.sum((-2, -1)), torch.ones(2, 10), 1e-5)
    if matching.tokens is None:
        return
    assert_close(matching.tokens.sum((-2, -1)), torch.ones(matching.tokens.shape[:4]), 1e-5)
    for place, label in enumerate(CLASSES.tolist()):
        words = model.words(label)
        assert len(words) == matching.tokens.shape[3]
        for n, names in enumerate(words):
            drawn = matching.tokens[:, place, :, n].sum(-2)  # by each word, (B, M, L)
            assert_close(
                drawn[..., : len(names)], torch.full_like(drawn[..., : len(names)], 1 / len(names)), 1e-5
            )
            assert not drawn[..., len(names) :].any()


def test_what_uniform_plans_score_follows_from_the_mean_cosines(make, images):
    model = make("MMTPA").model
    with torch.no_grad():
        texts, encoded = model.encode_texts(), model.encode_images(images[:1])
        matching = model.matching(encoded, texts, CLASSES)
        length = int(model.lengths[4])
        points = torch.stack([x @ y for x in unit(encoded.summary[0]) for y in unit(texts.points[4])]).mean()
        tokens = torch.stack(
            [
                x @ y
                for x in unit(encoded.tokens[0]).flatten(0, 1)
                for y in unit(texts.tokens[4, :, :length]).flatten(0, 1)
            ]
        ).mean()
        expected = model.clip.logit_scale.exp() * (1 - (1 - points + 1 - tokens))
    assert_close(matching.uniform[0, 4], expected, 1e-5)


def test_with_a_strong_entropy_plans_are_uniform_and_score_so():
    x, y = torch.randn(2, 3, 8), torch.randn(4, 5, 8)
    tokens, words = torch.randn(2, 3, 6, 8), torch.randn(4, 5, 7, 8)
    for variant in ("paper", "release"):
        matching = hierarchical_matching(
            *(x, y, tokens, words, torch.tensor([7, 3, 5, 1])),
            classes=torch.tensor([1]),
            scale=torch.tensor(2.0),
            variant=variant,
            eps=1e4,
            normalize=True,
        )
        assert_close(matching.score, matching.uniform, 1e-3)
        assert_close(matching.uniform_prompts, matching.uniform, 1e-3)
        assert_close(matching.tokens[:, 0, ..., :3], torch.full((2, 3, 5, 6, 3), 1 / 18), 1e-3)


def test_pooled_features_of_plot_count_with_uniform_plans_too(make, images):
    model = make("PLOT").model
    without, _ = matched(model, images[:1])
    model.add_pooled = True
    with_pooled, logits = matched(model, images[:1])
    assert_close(with_pooled.score, logits, 1e-5)
    assert_close(with_pooled.uniform - without.uniform, with_pooled.score - without.score, 1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_plans_or_can_be_looked_at(method, make, images):
    trainer = make(method)
    trainer.set_model_mode("eval")
    matching, _ = matched(trainer.model, images[:2])
    if matching is not None and matching.tokens is not None:
        return
    with torch.no_grad():
        cosines = trainer.model.local_cosines(images[:2], trainer.model.encode_texts())
    assert cosines.shape[:2] == (2, 10)
    assert cosines.shape[2] >= 16
    assert cosines.abs().max() <= 1 + 1e-5


def test_local_cosines_are_of_the_texts_of_the_image(make, images):
    """CoCoOp's texts differ from image to image; with one for all the second image would get the first one's."""
    model = make("CoCoOp").model
    with torch.no_grad():
        torch.nn.init.normal_(model.meta_net.linear2.weight)
        both = model.local_cosines(images[:2], None)
        alone = model.local_cosines(images[1:2], None)
    assert_close(both[1:], alone, 1e-5)
