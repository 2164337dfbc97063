"""Weights that are replaced or get additions of low rank, against the plain computation."""

from dataclasses import replace

import pytest
import torch

from clip import CLIP, PRECISIONS, Changes, LowRank, Tap, TextPrompts
from clip.weights import LOW_RANK, with_low_rank
from tests.clip import tiny
from tests.clip.plain_towers import (
    LAYOUT,
    UNEQUAL,
    W_T,
    W_V,
    check_images,
    check_texts,
    draw,
    every_kind,
    low_rank,
)
from tests.clip.test_text_tower import assert_close, make_prompts


@pytest.mark.parametrize("layout", [replace(LAYOUT, tokens=(5, 4, 7)), UNEQUAL], ids=["tokens", "unequal"])
def test_weights_of_the_text_tower(layout, form, original, towers):
    check_texts(original, towers, Changes(weights=every_kind(W_T, ["ln_final"])), layout)


@pytest.mark.parametrize("tokens", [False, Tap("patches", "values"), Tap("patches", "value-value")], ids=str)
def test_weights_of_the_image_tower(tokens, original, towers, images):
    changes = Changes(draw(2, 3, W_V), weights=every_kind(W_V, ["ln_pre", "ln_post"]))
    check_images(original, towers, changes, images, tokens)


def passes(towers, images, of_image, of_text):
    root, branch = make_prompts(LAYOUT, W_T)
    text = towers.text(TextPrompts(root, branch, LAYOUT), of_text).summary
    return towers.image(images, of_image).summary, text


@pytest.mark.parametrize("precision", PRECISIONS)
def test_changed_weights_in_every_precision_and_merged(precision, weights, towers, images):
    """As exact as CLIP is in it; merged they give the same without additions."""
    of_image, of_text = (
        Changes(weights=every_kind(*kind)) for kind in ((W_V, ["ln_pre"]), (W_T, ["ln_final"]))
    )
    exact = passes(towers, images, of_image, of_text)
    cast, dtype = (
        CLIP(tiny.model(weights), "tiny", precision),
        {"amp": torch.float16}.get(precision, torch.bfloat16),
    )
    with torch.autocast("cpu", dtype=dtype, enabled=precision in ("amp", "bf16")):
        ours = passes(cast, images, of_image, of_text)
        loss = sum(part.float().square().mean() for part in ours)
        merged = cast.image.merged(of_image), cast.text.merged(of_text)
        without = passes(cast, images, *merged)
    error = {"fp32": 1e-5, "bf16": 4e-2}.get(precision, 6e-3)
    assert not any(isinstance(change, LowRank) for each in merged for change in each.weights.values())
    for mine, evaluated, reference in zip(ours, without, exact):
        assert mine.dtype == PRECISIONS[precision].products
        assert_close(mine.float(), reference, error)
        assert_close(evaluated.float(), reference, error)
    for tensor in of_image.tensors() + of_text.tensors():
        (gradient,) = torch.autograd.grad(loss, tensor, retain_graph=True)
        assert gradient.dtype == torch.float32
        assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_weights_are_read_as_clip_has_them(precision, weights):
    towers = CLIP(tiny.model(weights), "tiny", precision)
    tolerance = 0 if precision == "fp32" else 1e-3
    theirs = {
        "fc.bias": "mlp.c_fc.bias", "proj.weight": "mlp.c_proj.weight", "ln_2.weight": "ln_2.weight",
        "o.weight": "attn.out_proj.weight", "qkv.bias": "attn.in_proj_bias",
    }  # fmt: skip
    for tower, prefix in ((towers.text, ""), (towers.image, "visual.")):
        for name, there in theirs.items():
            assert_close(
                tower.weight(f"blocks.1.{name}"),
                weights[f"{prefix}transformer.resblocks.1.{there}"],
                tolerance,
            )
        k = weights[f"{prefix}transformer.resblocks.0.attn.in_proj_weight"].chunk(3)[1]
        assert_close(tower.weight("blocks.0.k.weight"), k, tolerance)
    assert_close(towers.image.weight("projection"), weights["visual.proj"], tolerance)
    assert_close(towers.text.weight("ln_final.bias"), weights["ln_final.bias"], tolerance)


def test_dropout_is_of_the_additions_input_alone(towers, images):
    """Each addition has a mask of its own; its mean is the addition without dropping."""
    addition = low_rank(W_V, W_V, seed=0)
    changes = Changes(weights={f"blocks.1.{name}.weight": addition._replace(dropout=0.25) for name in "qk"})
    plain = Changes(weights={name: change._replace(dropout=0.0) for name, change in changes.weights.items()})
    assert changes.random
    assert not plain.random
    draws = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        draws.append(towers.image(images, changes).summary)
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    x = torch.ones(4000, W_V)
    y = torch.zeros(4000, 3 * W_V)
    torch.manual_seed(0)
    dropped = with_low_rank(y, x, (addition._replace(dropout=0.25), None, addition._replace(dropout=0.25)))
    exact = with_low_rank(y, x, (addition, None, addition))
    first, none, third = dropped.chunk(3, dim=-1)
    assert not torch.equal(first, third)
    assert none.abs().max() == 0
    assert_close(dropped.mean(dim=0), exact[0], 0.05)


def test_the_gradient_under_dropout():
    """That of the masks that were drawn; additions of different ranks."""
    x, y = draw(7, W_V, std=1), draw(7, 3 * W_V, seed=9)
    parts = [low_rank(W_V, W_V, seed=i, rank=rank)._replace(dropout=0.5) for i, rank in ((1, 2), (4, 3))]
    torch.manual_seed(0)
    mask = torch.native_dropout(torch.ones(2, 7, W_V), 0.5, True)[0]
    torch.manual_seed(0)
    ours = with_low_rank(y, x, (parts[0], None, parts[1]))
    added = [(x * m) @ part.down.t() @ part.up.t() * part.scale for m, part in zip(mask, parts)]
    theirs = y + torch.cat([added[0], torch.zeros(7, W_V), added[1]], dim=1)
    assert_close(ours, theirs)
    leaves = [x, y, *(tensor for part in parts for tensor in part[:2])]
    weigh = torch.randn_like(theirs)
    both = [torch.autograd.grad((out * weigh).sum(), leaves) for out in (ours, theirs)]
    for mine, reference in zip(*both):
        assert_close(mine, reference)


def test_a_cut_addition_passes_no_gradient_on():
    """As where a product is put into a weight for the forward pass alone."""
    x, y = draw(5, W_V), torch.zeros(5, W_V)
    addition = low_rank(W_V, W_V, seed=1)
    results = []
    for cut in (False, True):
        out = with_low_rank(y, x, (addition._replace(cut=cut),))
        leaves = (addition.down, addition.up, x)
        results.append([out, *torch.autograd.grad(out.square().sum(), leaves, allow_unused=True)])
    for whole, part in zip(*[result[:3] for result in results]):
        assert torch.equal(whole, part)
    assert results[0][3].abs().max() > 0
    assert results[1][3] is None


@pytest.mark.parametrize("name", ["blocks.3.q.weight", "blocks.0.g.weight", "ln_final.weight", "logit_scale"])
def test_a_weight_that_is_not_there(name, towers, images):
    with pytest.raises(ValueError, match=f"weight '{name}' is none of the image tower's, blocks are 0 to 2"):
        towers.image(images, Changes(weights={name: torch.zeros(2)}))
    with pytest.raises(ValueError, match=f"weight '{name}' is none of the image tower's"):
        towers.image.weight(name)


@pytest.mark.parametrize(
    "name", ["projection", "blocks.0.ln_1.weight", "blocks.0.qkv.weight", "ln_post.bias"]
)
def test_a_weight_that_takes_no_addition(name, towers, images):
    with pytest.raises(
        ValueError, match=f"weight '{name}' takes no addition of low rank, these do: {', '.join(LOW_RANK)}"
    ):
        towers.image(images, Changes(weights={name: low_rank(4, 4, 0)}))
