"""The image tower against open_clip's forward pass and a plain reference with prompts."""

import open_clip
import pytest
import torch

from clip import CLIP, Changes, ImageTower, deep_prompts
from tests.clip import tiny
from tests.clip.test_text_tower import assert_close

BATCH, SIZE, WIDTH = 3, 32, 192


@pytest.fixture(scope="module")
def images():
    return torch.randn(BATCH, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


def draw(*shape, seed=0):
    return (torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 0.3).requires_grad_()


def prompted(prompts, deep=None):
    """Shallow (M, n, w) and deep (D - 1, M, n, w) prompts as changes of the tower."""
    return Changes(prompts, () if deep is None else deep_prompts(deep))


def one_copy(visual, images, prompt, deep):
    """Outputs (B, 1 + P, d) of images with one visual prompt (n, w) and its deep ones, a list of (n, w)."""
    x = visual.conv1(images).flatten(2).transpose(1, 2)
    x = torch.cat([visual.class_embedding.expand(len(x), 1, -1), x], dim=1) + visual.positional_embedding
    n_images = x.shape[1]
    x = visual.ln_pre(torch.cat([x, prompt.expand(len(x), -1, -1)], dim=1))
    for number, block in enumerate(visual.transformer.resblocks):
        if 1 <= number <= len(deep):
            x = torch.cat([x[:, :n_images], deep[number - 1].expand(len(x), -1, -1)], dim=1)
        x = block(x)
    return visual.ln_post(x) @ visual.proj


def reference(visual, images, prompts, deep):
    """(B, M, 1 + P, d)."""
    copies = range(len(prompts))
    rows = [one_copy(visual, images, prompts[m], [] if deep is None else list(deep[:, m])) for m in copies]
    return torch.stack(rows, dim=1)


def test_plain_images_equal_open_clip(original, towers, images):
    assert_close(towers.image(images).summary[:, 0], original.encode_image(images))


def test_tokens_of_plain_images_equal_open_clip(original, towers, images):
    visual = original.visual
    expected = visual.ln_post(visual.transformer(visual._embeds(images))) @ visual.proj
    features = towers.image(images, tokens=True)
    assert features.tokens.shape == (BATCH, 1, 16, 96)
    assert_close(features.tokens[:, 0], expected[:, 1:])
    assert_close(features.summary[:, 0], expected[:, 0])


@pytest.mark.parametrize("tokens", [False, True])
@pytest.mark.parametrize("n_deep", [0, 1, 2])
@pytest.mark.parametrize(("n_prompts", "n_ctx"), [(1, 1), (4, 2), (2, 5)])
def test_prompted_copies_equal_the_reference(n_prompts, n_ctx, n_deep, tokens, original, towers, images):
    prompts = draw(n_prompts, n_ctx, WIDTH)
    deep = draw(n_deep, n_prompts, n_ctx, WIDTH, seed=1) if n_deep else None
    leaves = [prompts] + ([deep] if n_deep else [])

    features = towers.image(images, prompted(prompts, deep), tokens=tokens)
    expected = reference(original.visual, images, prompts, deep)
    assert_close(features.summary, expected[:, :, 0])
    weigh = torch.randn_like(expected)
    ours, theirs = (features.summary * weigh[:, :, 0]).sum(), (expected[:, :, 0] * weigh[:, :, 0]).sum()
    if tokens:
        assert_close(features.tokens, expected[:, :, 1:])
        ours = ours + (features.tokens * weigh[:, :, 1:]).sum()
        theirs = theirs + (expected[:, :, 1:] * weigh[:, :, 1:]).sum()
    else:
        assert features.tokens is None
    for mine, plain in zip(torch.autograd.grad(ours, leaves), torch.autograd.grad(theirs, leaves)):
        assert_close(mine, plain)


def test_without_tokens_the_summary_is_the_same(towers, images):
    prompts, deep = draw(2, 3, WIDTH), draw(2, 2, 3, WIDTH, seed=1)
    trimmed, whole = (towers.image(images, prompted(prompts, deep), tokens=t).summary for t in (False, True))
    assert_close(trimmed, whole)


def test_only_prompts_get_gradients(towers, images):
    prompts, deep = draw(2, 3, WIDTH), draw(2, 2, 3, WIDTH, seed=1)
    towers.image(images, prompted(prompts, deep)).summary.sum().backward()
    assert prompts.grad.abs().sum() > 0
    assert all(layer.abs().sum() > 0 for layer in deep.grad)
    assert all(not p.requires_grad and p.grad is None for p in towers.parameters())


def test_its_sizes(towers):
    assert (towers.image.width, towers.image.depth, towers.image.image_size) == (192, 3, (32, 32))
    assert towers.joint_width == 96


# Precision


@pytest.mark.parametrize("tokens", [False, True])
def test_half_precision_is_finite_and_close(tokens, weights, towers, images):
    half = CLIP(tiny.model(weights), "tiny", "fp16")
    prompts, deep = draw(2, 3, WIDTH), draw(2, 2, 3, WIDTH, seed=1)
    ours, exact = (model.image(images, prompted(prompts, deep), tokens=tokens) for model in (half, towers))
    assert ours.summary.dtype == torch.float16
    assert_close(ours.summary.float(), exact.summary, 1e-2)
    if tokens:
        assert_close(ours.tokens.float(), exact.tokens, 1e-2)
    ours.summary.float().sum().backward()
    assert prompts.grad.dtype == deep.grad.dtype == torch.float32
    assert torch.isfinite(prompts.grad).all()
    assert prompts.grad.abs().sum() > 0


def test_bf16_autocast_is_finite_and_close(towers, images):
    prompts, deep = draw(2, 3, WIDTH), draw(2, 2, 3, WIDTH, seed=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours = towers.image(images, prompted(prompts, deep))
    assert_close(ours.summary.float(), towers.image(images, prompted(prompts, deep)).summary, 5e-2)


# Other towers


def resnet(precision="fp32"):
    built = open_clip.CLIP(
        embed_dim=128,
        vision_cfg={"image_size": 32, "layers": (1, 1, 1, 1), "width": 16},
        text_cfg={"width": 64, "heads": 1, "layers": 2},
        quick_gelu=True,
    )
    built.load_state_dict(tiny.resnet_state_dict())
    return built.eval(), CLIP(built, "resnet", precision)


def test_a_resnet_takes_images(images):
    built, towers = resnet()
    expected = built.encode_image(images)
    features = towers.image(images)
    assert features.tokens is None
    assert torch.equal(features.summary[:, 0], expected)
    assert towers.image.image_size == (32, 32)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_a_resnet_in_low_precision(precision, images):
    expected = resnet()[0].encode_image(images)
    _, towers = resnet(precision)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
        summary = towers.image(images).summary[:, 0]
    assert_close(summary.float(), expected, 5e-2)


def test_a_resnet_refuses_prompts_in_one_line(images):
    tower = resnet()[1].image
    for use in (
        lambda: tower(images, prompted(draw(1, 2, WIDTH))),
        lambda: tower.width,
        lambda: tower.depth,
    ):
        with pytest.raises(ValueError, match=r"^visual prompts need a plain ViT.* ModifiedResNet$") as error:
            use()
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "settings",
    [{"pool_type": "avg"}, {"final_ln_after_pool": True}, {"attentional_pool": True}],
    ids=lambda settings: next(iter(settings)),
)
def test_a_vit_with_another_summary_takes_images_and_refuses_prompts(settings, images):
    visual = open_clip.transformer.VisionTransformer(32, 8, 64, 1, 1, 4.0, output_dim=32, **settings).eval()
    tower = ImageTower(visual)
    assert torch.equal(tower(images).summary[:, 0], visual(images))
    with pytest.raises(ValueError, match="its summary is not the class token"):
        tower(images, prompted(draw(1, 2, 64)))


def test_a_vit_of_other_blocks_is_refused():
    visual = open_clip.transformer.VisionTransformer(
        32, 8, 64, 1, 1, 4.0, output_dim=32, qk_norm=True, block_type="custom"
    )
    with pytest.raises(ValueError, match="image tower: blocks of type CustomResidualAttentionBlock"):
        ImageTower(visual)
