"""GalLoP: features of patches, which of them count, which prompts are kept, and what its switches leave out."""

import pytest
import torch

from clip import CLIP, NONE
from tests.clip import tiny
from tests.clip.plain_towers import PlainImages
from tests.clip.test_image_tower import resnet
from tests.trainers.harness import assert_close, beside_its_start

NAMES = ["a cat", "old_dogs", "sea or lake"]
IMAGES = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
LABELS = torch.tensor([2, 0, 1])


@pytest.fixture(scope="module")
def original():
    return tiny.model(tiny.state_dict())


@pytest.fixture(scope="module")
def towers(original):
    return CLIP(original, "tiny")


@pytest.fixture
def build(make, towers):
    default = make("GalLoP").cfg

    def build(towers=towers, **options):
        return beside_its_start(default, towers, NAMES, "a blurry {}.", **options)

    return build


@pytest.mark.parametrize("learned", [True, False])
def test_patches_against_the_plain_computation(learned, build, original):
    """The last block's values, the last norm, W, CLIP's projection."""
    model = build(LEARN_LOCAL_PROJ=learned)
    [_, values, _], own = PlainImages(original.visual)(IMAGES, NONE, 0)
    plain = values[:, 1:own]
    plain = (model.local_proj(plain) if learned else plain) @ original.visual.proj
    plain = plain / plain.norm(dim=-1, keepdim=True)
    ours = model.encode_images(IMAGES).patches
    assert_close(ours, plain, 1e-5)
    if learned:
        weigh = torch.randn_like(plain)
        gradients = [
            torch.autograd.grad((x * weigh).sum(), model.local_proj.weight)[0] for x in (ours, plain)
        ]
        assert_close(*gradients, 1e-5)
    else:
        assert not any("proj" in name for name in model.state_dict())


@pytest.mark.parametrize("topk", [(1, 3, 20, 7), (2,)])
def test_a_prompt_counts_its_patches(topk, build):
    cosines = torch.rand(2, 3, 4, 16)  # as many patches as there are
    ours = build(TOPK=topk).local_scores(cosines)
    for prompt, k in enumerate(topk * 4 if len(topk) == 1 else topk):
        best = cosines[:, :, prompt].sort(dim=-1, descending=True).values[..., :k]
        assert_close(ours[:, :, prompt], best.mean(dim=-1), 1e-6)


def test_kept_prompts(build):
    cosines = torch.rand(500, 3, 4)
    paper = build(GLOBAL_DROPOUT_P=0.5)
    drawn = paper.draw(500, 4, 2, torch.device("cpu"))
    assert (drawn[:, 0, 0] != drawn[:, 0, 1]).all()  # a part of them
    assert (drawn.flatten().bincount(minlength=4) - 250).abs().max() < 60
    paper.draw = lambda *_: drawn
    expected = torch.stack([image[:, own[0]].mean(dim=-1) for image, own in zip(cosines, drawn)])
    assert_close(paper.kept(cosines), expected, 1e-6)
    assert_close(build(GLOBAL_DROPOUT_P=0.0).kept(cosines), cosines.mean(dim=-1), 1e-6)
    assert build(GLOBAL_DROPOUT_P=1.0).kept(cosines).shape == (500, 3)  # one at least

    release = build(VARIANT="release", GLOBAL_DROPOUT_P=0.0)
    drawn = release.draw(500, 4, 4, torch.device("cpu"))
    assert any(len(set(row)) < 4 for row in drawn[:, 0].tolist())  # with replacement
    assert not torch.allclose(release.kept(cosines), cosines.mean(dim=-1))


@pytest.mark.parametrize("variant", ["paper", "release"])
def test_the_class_text(variant, build):
    model = build(VARIANT=variant)
    name = ["old", "_", "dogs"] if variant == "release" else ["old", "dogs"]
    words = [[word.strip() for word in prompt] for prompt in model.words(1)]
    assert words == [["[SOS]", "v1", "v2", "v3", "v4", *name, "[EOT]"]] * 4


SWITCHES = {
    "LEARN_GLOBAL_PROMPT": ("context.ctx", (3, 1), (3, 4)),
    "LEARN_LOCAL_PROMPTS": ("local_context.ctx", (3, 4), (3, 4)),
    "LEARN_LOCAL_PROJ": ("local_proj.weight", (3, 4), (3, 4)),
}


@pytest.mark.parametrize("switch", SWITCHES)
def test_what_is_not_learned_is_no_parameter(switch, build):
    missing, *shapes = SWITCHES[switch]
    everything = {name for name, *_ in SWITCHES.values()}
    model = build(**{switch: False})
    assert (
        {name for name, _ in model.named_parameters()}
        == everything - {missing}
        == set(model.state_dict()) - {"_extra_state"}
    )
    texts = model.encode_texts()
    assert [tuple(part.shape[:2]) for part in texts] == shapes
    assert (texts.local is texts.whole) == (switch == "LEARN_LOCAL_PROMPTS")
    if switch == "LEARN_GLOBAL_PROMPT":
        words = model.clip.text.encode([f"a photo of a {name.replace('_', ' ')}" for name in NAMES])
        assert_close(texts.whole[:, 0], words / words.norm(dim=-1, keepdim=True), 1e-5)


@pytest.mark.parametrize(("switch", "left"), [("USE_GLOBAL_LOSS", 0), ("USE_LOCAL_LOSS", 1)])
def test_a_loss_that_is_not_used(switch, left, build):
    both = [build(**{name: False}).loss(IMAGES, LABELS) for name in ("USE_LOCAL_LOSS", "USE_GLOBAL_LOSS")]
    model = build()
    loss, logits = model.loss(IMAGES, LABELS)
    assert_close(loss, both[0][0] + both[1][0], 1e-6)
    model = build(**{switch: False})
    only, same = model.loss(IMAGES, LABELS)
    only.backward()
    assert_close(only, both[1 - left][0], 1e-6)
    assert_close(same, logits, 1e-6)  # what is tested counts both
    idle = "context.ctx" if switch == "USE_GLOBAL_LOSS" else "local_context.ctx"
    assert [name for name, p in model.named_parameters() if p.grad is None] == [
        name for name, _ in model.named_parameters() if name == idle or (left and name == "local_proj.weight")
    ]


def test_what_cannot_be(build):
    with pytest.raises(ValueError, match=r"TOPK is \(1, 2\), .* for all 4 local prompts or one for each"):
        build(TOPK=(1, 2))
    for idle in ({"USE_GLOBAL_LOSS": False}, {"LEARN_GLOBAL_PROMPT": False}):
        with pytest.raises(ValueError, match="USE_LOCAL_LOSS False, and nothing is learned by that"):
            build(**idle, USE_LOCAL_LOSS=False)
    with pytest.raises(ValueError, match=r"MODEL\.BACKBONE\.NAME 'resnet' .* a plain ViT is needed"):
        build(resnet()[1])
