"""What a method changes in a tower, against the plain computation: texts at 77 positions, images one by one, with
open_clip's own blocks whose weights are replaced as a whole.
"""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch.func import functional_call

from clip import CLIP, NONE, PRECISIONS, Changes, Layout, LowRank, Tap, TextPrompts, Tokens, arrangement
from clip.changes import count, is_by_class
from clip.weights import LOW_RANK, with_low_rank
from tests.clip import tiny
from tests.clip.test_text_tower import assert_close, make_prompts

W_T, W_V, N = 128, 192, 2
LAYOUT = Layout((4, 4), (4, 3, 6), (3, 2, 5))
UNEQUAL = Layout((4, 3, 5), (4, 3, 6), (3, 2, 5))


def draw(*shape, seed=0, std=0.05):
    return (torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * std).requires_grad_()


@pytest.fixture(params=["packed", "groves"])
def form(request, towers, monkeypatch):
    """Both arrangements of the tokens; groves of few tokens, so that there are several."""
    monkeypatch.setattr(towers.text, "packed", request.param == "packed")
    monkeypatch.setattr(arrangement, "ROW", 16)
    arrangement.arrange.cache_clear()
    arrangement.split.cache_clear()
    yield request.param
    arrangement.arrange.cache_clear()
    arrangement.split.cache_clear()


def entered(x, tokens, values, start):
    """x (B, T, w) with values (n, w) or (B, n, w) in it; a mask of the longer length is the caller's."""
    fresh = values.expand(len(x), *values.shape[-2:])
    if tokens.insert:
        return torch.cat([x[:, :start], fresh, x[:, start:]], dim=1)
    there = x[:, start : start + count(tokens)]
    fresh = (1 - tokens.kept) * fresh + tokens.kept * there
    return torch.cat([x[:, :start], fresh, x[:, start + count(tokens) :]], dim=1)


def full_weights(module, changes, blocks):
    """Names of open_clip's parameters -> their changed values; each in fp32, additions of low rank multiplied out."""
    parameters, found = dict(module.named_parameters()), {}
    for name, change in changes.items():
        head, _, rest = name.partition(".")
        if head != "blocks":
            found[name.replace("projection", blocks[0])] = change
            continue
        number, _, place = rest.partition(".")
        place, kind = place.split(".")
        third = {"q": 0, "k": 1, "v": 2}.get(place)
        inner = {"o": "attn.out_proj.", "fc": "mlp.c_fc.", "proj": "mlp.c_proj."}.get(place, f"{place}.")
        inner = "attn.in_proj_" if third is not None or place == "qkv" else inner
        theirs = f"{blocks[1]}{number}.{inner}{kind}"
        whole = found.get(theirs, parameters[theirs])
        parts = list(whole.chunk(3)) if third is not None else [whole]
        at = third or 0
        parts[at] = parts[at] + change.product() if isinstance(change, LowRank) else change
        found[theirs] = torch.cat(parts)
    return found


class PlainTexts(torch.nn.Module):
    """All texts at their full length, through open_clip's blocks."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, root, branch, layout, changes):
        model, outputs, summaries = self.model, [], []
        for r, length in enumerate(layout.roots):
            rows, start = [], 0
            for size in layout.branches:
                row = torch.cat([root[r, :length], branch[start : start + size]])
                rows.append(F.pad(row, (0, 0, 0, 77 - len(row))))
                start += size
            x = torch.stack(rows) + model.positional_embedding
            grown = 0
            for number, block in enumerate(model.transformer.resblocks):
                for tokens in changes.tokens:
                    if tokens.block == number:
                        of_all = is_by_class(tokens) and tokens.values.shape[1] == 1
                        values = tokens.values.select(1 if is_by_class(tokens) else 0, 0 if of_all else r)
                        x = entered(x, tokens, values, 1 + tokens.offset)
                        grown += count(tokens) if tokens.insert else 0
                mask = torch.full((77 + grown,) * 2, -torch.inf).triu(1)
                x = block(x, attn_mask=mask)
            x = model.ln_final(x) @ model.text_projection
            outputs.append(x)
            ends = length + grown + torch.tensor(layout.ends)
            summaries.append(x[torch.arange(len(ends)), ends])
        return torch.stack(outputs, dim=1), torch.stack(summaries, dim=1)


def leaves_of(changes):
    return [tensor for tensor in changes.tensors() if tensor.requires_grad]


def check_texts(model, towers, changes, layout=LAYOUT):
    """Summaries, tokens and gradients of everything."""
    root, branch = make_prompts(layout, W_T)
    leaves = [root, branch, *leaves_of(changes)]
    features = towers.text(TextPrompts(root, branch, layout), changes)
    plain, names = PlainTexts(model), ("text_projection", "transformer.resblocks.")
    weights = {f"model.{name}": value for name, value in full_weights(model, changes.weights, names).items()}
    outputs, summaries = functional_call(plain, weights, (root, branch, layout, changes))
    assert_close(features.summary, summaries)
    weigh = torch.randn_like(summaries)
    ours, theirs = (features.summary * weigh).sum(), (summaries * weigh).sum()
    grown = sum(count(tokens) for tokens in changes.tokens if tokens.insert)
    for c, length in enumerate(layout.tokens):
        length += grown
        assert_close(features.tokens[c, :, :length], outputs[c, :, :length])
        weigh = torch.randn_like(outputs[c, :, :length])
        ours = ours + (features.tokens[c, :, :length] * weigh).sum()
        theirs = theirs + (outputs[c, :, :length] * weigh).sum()
    for mine, reference in zip(torch.autograd.grad(ours, leaves), torch.autograd.grad(theirs, leaves)):
        assert_close(mine, reference)


# Tokens


def entering(shape, inserted_at, kept=0.0, offset=0):
    """Inserted in front of one block, and again in front of all later ones of three."""
    first = Tokens(inserted_at, draw(*shape, seed=5), insert=True, offset=offset)
    later = range(inserted_at + 1, 3)
    return first, *(Tokens(b, draw(*shape, seed=b), kept=kept, offset=offset) for b in later)


@pytest.mark.parametrize("tokens", [False, True])
@pytest.mark.parametrize(
    ("inserted_at", "kept", "offset"), [(0, 0.0, 0), (1, 0.0, 0), (1, 0.3, 1), (2, 0.0, 0)]
)
@pytest.mark.parametrize("layout", [LAYOUT, UNEQUAL], ids=["equal", "unequal"])
def test_tokens_inserted_into_texts(layout, inserted_at, kept, offset, tokens, form, original, towers):
    layout = replace(layout, tokens=(5, 4, 7)) if tokens else layout
    changes = Changes(tokens=entering((len(layout.roots), N, W_T), inserted_at, kept, offset))
    check_texts(original, towers, changes, layout)


@pytest.mark.parametrize("tokens", [False, True])
@pytest.mark.parametrize(
    ("block", "kept", "offset", "roots"), [(1, 0.0, 0, 2), (2, 0.0, 0, 1), (1, 0.3, 1, 2), (0, 0.0, 0, 1)]
)
def test_tokens_that_differ_by_class(block, kept, offset, roots, tokens, form, original, towers):
    layout = Layout((4,) * roots, *((4, 3, 6), (3, 2, 5)), (5, 4, 7) if tokens else ())
    own = Tokens(block, draw(3, roots, N, W_T), kept=kept, offset=offset)
    check_texts(original, towers, Changes(tokens=(own,)), layout)


def test_tokens_of_all_kinds_in_one_tower(form, original, towers):
    """One set for all roots of a class, into a root that grew."""
    inserted = Tokens(0, draw(2, 1, W_T), insert=True)
    shared, own = Tokens(1, draw(2, N, W_T), kept=0.5), Tokens(1, draw(3, 1, N, W_T, seed=1), offset=2)
    check_texts(original, towers, Changes(tokens=(inserted, shared, own)))


def test_classes_are_selected_with_their_tokens(towers):
    root, branch = make_prompts(LAYOUT, W_T)
    prompts, changes = TextPrompts(root, branch, LAYOUT), Changes(tokens=(Tokens(1, draw(3, 2, N, W_T)),))
    whole = towers.text(prompts, changes).summary
    part = towers.text(prompts.select([2, 0]), changes.select([2, 0])).summary
    assert_close(part, whole[[2, 0]])


def test_what_is_before_a_split_is_shared(towers):
    """Until its block a text costs nothing more: what is kept for the gradient is that of shared roots."""

    def kept_bytes(block):
        root, branch = make_prompts(LAYOUT, W_T)
        changes, sizes = Changes(tokens=(Tokens(block, draw(3, 2, N, W_T)),)), {}

        def note(tensor):
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            towers.text(TextPrompts(root, branch, LAYOUT), changes)
        return sum(sizes.values())

    assert kept_bytes(2) < kept_bytes(1) < kept_bytes(0)


# Images


@pytest.fixture(scope="module")
def images():
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))


class PlainImages(torch.nn.Module):
    """One visual prompt of each image after the other."""

    def __init__(self, visual):
        super().__init__()
        self.visual = visual

    def forward(self, images, changes, m, first_attention=False):
        """Output tokens behind the last norm: of the tower, by the last block's values, and by values of values."""
        visual, among = self.visual, None
        x = visual.conv1(images).flatten(2).transpose(1, 2)
        x = torch.cat([visual.class_embedding.expand(len(x), 1, -1), x], dim=1) + visual.positional_embedding
        own = x.shape[1]
        if changes.prompts is not None:
            x = torch.cat([x, changes.prompts[m].expand(len(x), -1, -1)], dim=1)
        x = visual.ln_pre(x)
        for number, block in enumerate(visual.transformer.resblocks):
            for tokens in changes.tokens:
                if tokens.block == number:
                    x = entered(x, tokens, tokens.values[m], own + tokens.offset)
            y, attn = block.ln_1(x), block.attn
            v = F.linear(y, *(part.chunk(3)[2] for part in (attn.in_proj_weight, attn.in_proj_bias)))
            head = v.unflatten(-1, (attn.num_heads, -1)).transpose(1, 2)
            shares = (head @ head.transpose(-1, -2) * head.shape[-1] ** -0.5).softmax(dim=-1)
            added = attn.out_proj((shares @ head).transpose(1, 2).flatten(2))
            among = (x if among is None else among)[:, :own] + added[:, :own]
            if number == 0 and first_attention:
                among = among + attn(y, y, y, need_weights=False)[0][:, :own]
            values = x + attn.out_proj(v)
            values = values + block.mlp(block.ln_2(values))
            x = block(x)
        return [visual.ln_post(part) for part in (x, values, among)], own


def check_images(model, towers, changes, images, tokens=False):
    copies = max(
        [
            1,
            *(len(each) for each in (changes.prompts,) if each is not None),
            *(len(t.values) for t in changes.tokens),
        ]
    )
    features = towers.image(images, changes, tokens=tokens)
    tap = Tap() if tokens is True else tokens or Tap()
    names = ("proj", "transformer.resblocks.")
    weights = {
        f"visual.{name}": value for name, value in full_weights(model.visual, changes.weights, names).items()
    }
    projection = changes.weights.get("projection", model.visual.proj)
    summaries, wanted = [], []
    for m in range(copies):
        paths, own = functional_call(
            PlainImages(model.visual), weights, (images, changes, m, tap.first_attention)
        )
        summaries.append(paths[0][:, 0] @ projection)
        chosen = paths[["attention", "values", "value-value"].index(tap.path)][:, tap.positions(own)]
        wanted.append(chosen @ projection if tap.projected else chosen)
    pairs = [(features.summary, torch.stack(summaries, dim=1))]
    pairs += [(features.tokens, torch.stack(wanted, dim=1))] if tokens else []
    ours = theirs = 0
    for mine, reference in pairs:
        assert_close(mine, reference)
        weigh = torch.randn_like(reference)
        ours, theirs = ours + (mine * weigh).sum(), theirs + (reference * weigh).sum()
    leaves = leaves_of(changes)
    if leaves:
        for mine, reference in zip(torch.autograd.grad(ours, leaves), torch.autograd.grad(theirs, leaves)):
            assert_close(mine, reference)


@pytest.mark.parametrize(
    "tokens", [False, True, Tap("added", projected=False)], ids=["class", "all", "added"]
)
@pytest.mark.parametrize(
    ("inserted_at", "kept", "copies"), [(0, 0.0, 1), (1, 0.3, 1), (1, 0.0, 2), (2, 0.0, 1)]
)
def test_tokens_inserted_into_images(inserted_at, kept, copies, tokens, original, towers, images):
    changes = Changes(tokens=entering((copies, N, W_V), inserted_at, kept))
    check_images(original, towers, changes, images, tokens)


def test_tokens_inserted_beside_visual_prompts(original, towers, images):
    tokens = Tokens(1, draw(2, 1, W_V), insert=True), Tokens(2, draw(2, 3, W_V, seed=1), kept=0.5, offset=1)
    check_images(original, towers, Changes(draw(2, 3, W_V, seed=2), tokens), images, tokens=True)


@pytest.mark.parametrize(
    "tap",
    [
        *(
            Tap("patches", path, projected)
            for path in ("attention", "values", "value-value")
            for projected in (True, False)
        ),
        Tap("patches", "value-value", first_attention=True),
    ],
    ids=str,
)
def test_local_features(tap, original, towers, images):
    check_images(original, towers, Changes(draw(2, 3, W_V)), images, tap)


# Weights


def low_rank(width_out, width_in, seed, rank=2, scale=0.7):
    return LowRank(
        draw(rank, width_in, seed=seed, std=0.1), draw(width_out, rank, seed=seed + 1, std=0.1), scale
    )


def every_kind(width, outside, joint=96):
    """Additions to all matrices of one block and some of another, all else of the latter replaced."""
    sizes = dict.fromkeys("qkvo", (width, width)) | {"fc": (4 * width, width), "proj": (width, 4 * width)}
    weights = {
        f"blocks.0.{name}.weight": low_rank(*size, seed=i, rank=1 + i % 3)
        for i, (name, size) in enumerate(sizes.items())
    }
    weights |= {
        "blocks.1.k.weight": low_rank(width, width, seed=20),
        "blocks.1.v.weight": draw(width, width, seed=22),
    }
    for i, (name, size) in enumerate({"o": sizes["o"], "fc": sizes["fc"], "proj": sizes["proj"]}.items()):
        weights |= {
            f"blocks.2.{name}.weight": draw(*size, seed=30 + i),
            f"blocks.2.{name}.bias": draw(size[0], seed=40 + i),
        }
    weights |= {"blocks.2.qkv.bias": draw(3 * width, seed=50), "blocks.1.q.bias": draw(width, seed=51)}
    for i, name in enumerate(["blocks.0.ln_1", "blocks.1.ln_2", *outside]):
        weights |= {
            f"{name}.weight": draw(width, seed=60 + i, std=1),
            f"{name}.bias": draw(width, seed=70 + i),
        }
    return weights | {"projection": draw(width, joint, seed=80)}


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


# What cannot be


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ([Tokens(3, torch.zeros(2, N, W_T))], "tokens enter block 3 (from 0), the text tower has 0 to 2"),
        ([Tokens(1, torch.zeros(2, 4, W_T))], "4 tokens enter behind 0 others in front of block 1 of the text tower"),
        ([Tokens(1, torch.zeros(3, 2, N, W_T), insert=True)], "must replace others, and be the last"),
        ([Tokens(2, torch.zeros(2, N, W_T)), Tokens(1, torch.zeros(2, N, W_T))], "their order is that of blocks"),
    ],
)  # fmt: skip
def test_tokens_that_a_text_tower_does_not_take(tokens, message, towers):
    with pytest.raises(ValueError) as error:
        towers.text(TextPrompts(*make_prompts(LAYOUT, W_T), LAYOUT), Changes(tokens=tuple(tokens)))
    assert message in str(error.value)


def test_a_split_needs_roots_of_one_length(towers):
    changes = Changes(tokens=(Tokens(1, torch.zeros(3, 3, N, W_T)),))
    with pytest.raises(ValueError, match=r"need roots of the same length, these have \(4, 3, 5\)"):
        towers.text(TextPrompts(*make_prompts(UNEQUAL, W_T), UNEQUAL), changes)


def test_tokens_that_an_image_tower_does_not_take(towers, images):
    with pytest.raises(
        ValueError, match="2 tokens are to replace others in front of block 1, behind the patches there are 0"
    ):
        towers.image(images, Changes(tokens=(Tokens(1, torch.zeros(1, N, W_V)),)))
    with pytest.raises(ValueError, match=r"block 3 \(from 0\), the image tower has 0 to 2"):
        towers.image(images, Changes(tokens=(Tokens(3, torch.zeros(1, N, W_V), insert=True),)))


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


def test_an_empty_change_changes_nothing(towers, images):
    assert NONE.none
    assert torch.equal(towers.image(images, NONE).summary, towers.image(images).summary)
    assert NONE.tensors() == []
    assert NONE.select([1]) is NONE
