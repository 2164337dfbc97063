"""SOT-GLP: patches by the second path, which are chosen, how they are matched, and what its release does."""

import functools

import pytest
import torch

from clip import CLIP, NONE, encode
from tests.clip import tiny
from tests.clip.plain_towers import PlainImages
from tests.trainers.harness import assert_close, beside_its_start
from trainers.sotglp import start

NAMES = ["a cat", "old_dogs", "sea or lake"]
IMAGES = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def original():
    return tiny.model(tiny.state_dict())


@pytest.fixture
def build(make, original):
    return functools.partial(
        beside_its_start, make("SOTGLP").cfg, CLIP(original, "tiny"), NAMES, "a blurry {}."
    )


@pytest.mark.parametrize("variant", ["paper", "release"])
def test_patches_against_the_plain_computation(variant, build, original):
    """Values attending to values, summed over blocks; the release's first block adds its ordinary attention."""
    model = build(VARIANT=variant)
    [*_, among], own = PlainImages(original.visual)(IMAGES, NONE, 0, first_attention=variant == "release")
    plain = model.local_proj(among[:, 1:own]) @ original.visual.proj
    plain = plain / plain.norm(dim=-1, keepdim=True)
    ours = model.encode_images(IMAGES).patches
    assert_close(ours, plain, 1e-5)
    weigh = torch.randn_like(plain)
    gradients = [torch.autograd.grad((x * weigh).sum(), model.local_proj.weight)[0] for x in (ours, plain)]
    assert_close(*gradients, 1e-5)


def plain_scores(cosines, chosen, together):
    """Pair by pair: the release's scaling iteration, of all pairs at once or of each by itself."""
    pairs = [
        pair[:, pair.mean(dim=0).topk(chosen).indices].t() for image in cosines for pair in image
    ]  # (K, N_l) each
    if together:
        plans = sinkhorn(torch.stack(pairs))
    else:
        plans = torch.cat([sinkhorn(pair[None]) for pair in pairs])
    return torch.stack([(plan * pair).sum() for plan, pair in zip(plans, pairs)]).view(cosines.shape[:2])


def sinkhorn(cosines):
    kernel, (rows, cols) = ((cosines - 1) / 0.1).exp(), cosines.shape[1:]
    r, c = torch.ones(len(kernel), rows), torch.ones(len(kernel), cols)
    for _ in range(100):
        before, r = r, 1 / rows / (kernel @ c[..., None])[..., 0]
        c = 1 / cols / (kernel.transpose(1, 2) @ r[..., None])[..., 0]
        if (r - before).abs().mean() < 1e-2:
            break
    return r[..., None] * kernel * c[:, None]


@pytest.mark.parametrize("variant", ["paper", "release"])
def test_the_local_score_against_the_plain_iteration(variant, build):
    cosines = torch.rand(3, 4, 2, 16, generator=torch.Generator().manual_seed(2)) * 0.9
    cosines[0, 0] *= 0.01  # a pair that stops early by itself
    cosines.requires_grad_()
    model, together = build(VARIANT=variant, TOPK=(6, 2), N_LOCAL_PROMPTS=2), variant == "release"
    ours = model.local_scores(cosines)[..., 0]
    plain = plain_scores(cosines, 6, together) / (2 if together else 1)
    assert_close(ours, plain, 1e-4)
    other = plain_scores(cosines, 6, not together) / (2 if together else 1)
    assert (ours - other).abs().max() > 3e-4 * ours.abs().max()  # where the iteration stops can be seen
    weigh = torch.randn_like(ours)
    of_plan = torch.autograd.grad((ours * weigh).sum(), cosines)[0]
    assert ((of_plan != 0).sum(dim=-1) == 6).all()  # the plan, at the chosen patches
    assert_close(of_plan.sum((-2, -1)), weigh / (2 if together else 1), 1e-5)  # whose mass is one


def test_an_image_is_scored_alone_but_in_the_release(build):
    for variant in ("paper", "release"):
        model = build(VARIANT=variant)
        assert model.scores_batches == (variant == "release")


def test_texts_are_of_each_classs_own_prompts(build):
    """Those of a class change with its prompts alone, and are the texts that the words stand for."""
    model = build(N_LOCAL_PROMPTS=2)
    assert model.local_context.ctx.shape == (3, 2, 4, model.clip.text.width)
    with torch.no_grad():
        words = model.clip.text.embed(encode("a photo of a"))
        model.local_context.ctx[1, 1] = words
        texts = model.encode_texts()
        plain = model.clip.text.encode(["a photo of a old dogs"])[0]
        assert_close(texts.local[1, 1], plain / plain.norm(), 1e-5)
        model.local_context.ctx[1, 0] += torch.randn(4, 128) * 0.1
        after = model.encode_texts()
    moved = (after.local - texts.local).abs().amax(dim=-1) > 1e-6
    assert moved.tolist() == [[False, False], [True, False], [False, False]]
    assert torch.equal(after.whole, texts.whole)
    assert model.own_classes_only


def test_where_local_prompts_begin():
    torch.manual_seed(0)
    prompts = torch.zeros(5, 4, 4, 32)
    start(prompts, "gram")
    vectors = prompts.flatten(2)
    assert_close(vectors @ vectors.transpose(1, 2), torch.eye(4).expand(5, -1, -1) * 1e-6, 1e-5)
    start(prompts, "random")
    assert prompts.std() > 0.01


def test_more_patches_than_there_are(build):
    with pytest.raises(ValueError, match=r"TOPK is \(17, 3\), the image tower of tiny has 16 patches"):
        build(TOPK=(17, 3))
