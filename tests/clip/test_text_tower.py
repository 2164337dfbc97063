"""The text tower against all texts at 77 positions each, computed by open_clip's own blocks."""

import copy
from dataclasses import replace
from functools import cache

import open_clip
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clip import (
    CLIP,
    EOT,
    NONE,
    SOS,
    Changes,
    Layout,
    TextPrompts,
    TextTower,
    arrangement,
    deep_prompts,
    encode,
)
from clip.text_tower import require_causal
from tests.clip import tiny

TOLERANCE = 1e-5  #: of the largest value


def assert_close(ours, theirs, tolerance=TOLERANCE):
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= tolerance * theirs.abs().max()


def at_77_positions(model, root, branch, layout, deep=None):
    """Outputs (C, R, 77, d) of all texts, one root behind the other, padded with zeros; and summaries (C, R, d)."""
    outputs, summaries = [], []
    for r, length in enumerate(layout.roots):
        rows, start = [], 0
        for size in layout.branches:
            row = torch.cat([root[r, :length], branch[start : start + size]])[:77]
            rows.append(torch.cat([row, row.new_zeros(77 - len(row), row.shape[1])]))
            start += size
        x = torch.stack(rows) + model.positional_embedding
        for number, block in enumerate(model.transformer.resblocks):
            if deep is not None and 1 <= number <= len(deep):
                fresh = deep[number - 1][r]
                x = x.clone()
                x[:, 1 : 1 + len(fresh)] = fresh
            x = block(x, attn_mask=model.attn_mask)
        x = model.ln_final(x) @ model.text_projection
        outputs.append(x)
        ends = length + torch.tensor(layout.ends)
        summaries.append(x[torch.arange(len(ends)), ends])
    return torch.stack(outputs, dim=1), torch.stack(summaries, dim=1)


def with_deep(deep):
    """Deep prompts (D - 1, R, n, w), or none, as changes of a tower."""
    return NONE if deep is None else Changes(tokens=deep_prompts(deep))


def make_prompts(layout, width, seed=0):
    draw = torch.Generator().manual_seed(seed)
    root = torch.randn(len(layout.roots), layout.longest_root, width, generator=draw) * 0.05
    branch = torch.randn(sum(layout.branches), width, generator=draw) * 0.05
    return root.requires_grad_(), branch.requires_grad_()


@pytest.fixture(params=["packed", "groves"])
def form(request, towers, monkeypatch):
    """Both arrangements of the tokens; groves of few tokens, so that there are several."""
    monkeypatch.setattr(towers.text, "packed", request.param == "packed")
    monkeypatch.setattr(arrangement, "ROW", 16)
    arrangement.arrange.cache_clear()
    yield request.param
    arrangement.arrange.cache_clear()


def check(model, towers, layout, n_deep=0, n_ctx=0):
    """Summaries, tokens and every gradient."""
    root, branch = make_prompts(layout, towers.text.width)
    deep = None
    if n_deep:
        deep = (torch.randn(n_deep, len(layout.roots), n_ctx, towers.text.width) * 0.05).requires_grad_()
    leaves = [root, branch] + ([deep] if n_deep else [])

    features = towers.text(TextPrompts(root, branch, layout), with_deep(deep))
    outputs, summaries = at_77_positions(model, root, branch, layout, deep)
    assert_close(features.summary, summaries)
    weigh = torch.randn_like(summaries)
    ours, theirs = (features.summary * weigh).sum(), (summaries * weigh).sum()

    if layout.tokens:
        assert features.tokens.shape[2] == max(layout.tokens)
        for c, count in enumerate(layout.tokens):
            assert_close(features.tokens[c, :, :count], outputs[c, :, :count])
            behind = features.tokens[c, :, count:]
            assert torch.equal(behind, features.tokens[c, :, count - 1 : count].expand_as(behind))
            weigh = torch.randn_like(outputs[c, :, :count])
            ours = ours + (features.tokens[c, :, :count] * weigh).sum()
            theirs = theirs + (outputs[c, :, :count] * weigh).sum()
    else:
        assert features.tokens is None

    for mine, reference in zip(torch.autograd.grad(ours, leaves), torch.autograd.grad(theirs, leaves)):
        assert_close(mine, reference)


LAYOUTS = {
    "one class": Layout((5,), (3,), (2,)),
    "one token": Layout((1,), (1,), (0,)),
    "all begin with the start token only": Layout((1,), (9, 2, 4), (8, 1, 3)),
    "sixteen context tokens": Layout((17,), (4, 3, 8, 3), (3, 2, 7, 2)),
    "roots of different lengths": Layout((5, 3, 3, 9), (4, 3, 6), (3, 2, 5)),
    "as long as the context": Layout((17,), (60, 3), (59, 2)),
    "tokens": Layout((5,), (4, 3, 6), (3, 2, 5), (7, 6, 9)),
    "tokens of the root alone": Layout((5, 3), (4, 3), (3, 2), (2, 3)),
    "tokens behind the end of text": Layout((9, 3, 6), (9, 8), (3, 2), (11, 10)),
    # 77 tokens under the first root; what the second one needs behind its end lies outside under the first
    "tokens behind the end of the longest text": Layout((9, 3), (72, 8), (67, 2), (75, 10)),
}
DEPTHS = [
    (name, depth) for name in LAYOUTS for depth in range(3) if depth == 0 or min(LAYOUTS[name].roots) > 1
]


@pytest.mark.parametrize(("name", "n_deep"), DEPTHS)
def test_it_equals_all_texts_at_77_positions(name, n_deep, form, original, towers):
    layout = LAYOUTS[name]
    torch.manual_seed(0)
    check(original, towers, layout, n_deep, n_ctx=min(layout.roots) - 1)


def test_deep_prompts_replace_as_many_positions_as_they_have(form, original, towers):
    torch.manual_seed(0)
    check(original, towers, Layout((9, 7), (4, 3), (3, 2), (9, 8)), n_deep=2, n_ctx=2)


def both_forms(towers, prompts, deep=None):
    """Features of the forest in both arrangements, and gradients of what it is made of."""
    leaves = [prompts.root, prompts.branch] + ([] if deep is None else [deep])
    results = []
    for towers.text.packed in (True, False):
        outputs = [part for part in towers.text(prompts, with_deep(deep)) if part is not None]
        draw = torch.Generator().manual_seed(0)
        weights = [torch.randn(part.shape, generator=draw).to(part.device) for part in outputs]
        weighed = sum((part.float() * weight).sum() for part, weight in zip(outputs, weights))
        results.append([*outputs, *torch.autograd.grad(weighed, leaves)])
    towers.text.packed = None
    return results


#: Of 60 classes with names of 1 to 12 tokens, in rows of as many tokens as on a GPU.
MANY = tuple(3 + (7 * c) % 12 for c in range(60))
FORESTS = {
    "ends": Layout((5,), MANY, tuple(n - 1 for n in MANY)),
    "unequal roots and tokens": Layout(
        (7, 5, 5), MANY, tuple(n - 3 for n in MANY), tuple(n + 3 for n in MANY)
    ),
    "a root for each image": Layout((4,) * 9, MANY[:20], tuple(n - 1 for n in MANY[:20])),
}


@pytest.mark.parametrize("part", [None, [3, 4, 17, 18, 19], [11]], ids=["all", "some", "one"])
@pytest.mark.parametrize("name", FORESTS)
def test_both_arrangements_give_the_same(name, part, towers):
    prompts = TextPrompts(*make_prompts(FORESTS[name], towers.text.width), FORESTS[name])
    deep = (torch.randn(2, len(prompts.root), 3, towers.text.width) * 0.05).requires_grad_()
    leaves = prompts if part is None else prompts.select(part)
    for packed, groves in zip(*both_forms(towers, leaves, deep)):
        assert_close(groves, packed)


def test_branches_of_each_root_give_the_same(towers):
    """As contexts around the class name, of several prompts."""
    layout = FORESTS["ends"]
    draw = torch.Generator().manual_seed(0)
    root, branch = (torch.randn(3, n, towers.text.width, generator=draw) * 0.05 for n in (5, sum(MANY)))
    layout = replace(layout, roots=(5, 5, 5))
    prompts = TextPrompts(root.requires_grad_(), branch.requires_grad_(), layout)
    for packed, groves in zip(*both_forms(towers, prompts)):
        assert_close(groves, packed)


names = st.text(alphabet="abc zé_-'7", max_size=12).filter(lambda name: encode(name.replace("_", " ")))


@settings(max_examples=15)
@given(
    classnames=st.lists(names, min_size=1, max_size=6),
    roots=st.lists(st.integers(1, 8), min_size=1, max_size=3),
    tokens=st.booleans(),
    depth=st.integers(1, 3),
    packed=st.booleans(),
)
def test_it_equals_all_texts_for_any_class_names(classnames, roots, tokens, depth, packed):
    branches = [[*encode(name.replace("_", " ")), *encode("."), EOT] for name in classnames]
    lengths = tuple(map(len, branches))
    counts = tuple(roots[0] + length - 2 for length in lengths) if tokens else ()
    if tokens:  # as far as the first root's texts go, whatever the others end
        reach = [max(length, count - min(roots)) for length, count in zip(lengths, counts)]
        counts = tuple(max(count, 1) for count in counts)
    else:
        reach = list(lengths)
    layout = Layout(tuple(roots), tuple(reach), tuple(length - 1 for length in lengths), counts)
    model, towers = _small()
    n_ctx = min(roots) - 1
    towers.text.packed = packed
    check(model, towers, layout, depth - 1 if n_ctx else 0, n_ctx)


@cache
def _small():
    weights = tiny.state_dict(width_text=64, width_image=64, layers=3)
    return tiny.model(weights), CLIP(tiny.model(weights), "small")


TEXTS = [
    "a photo of a cat.",
    "a photo of an old oak tree.",
    "dog",
    "a photo of a cat.",
    "été, à 7 heures",
    "",
]


@pytest.mark.parametrize(
    "texts", [TEXTS, TEXTS[:2], TEXTS[:1], ["a photo of a cat.", "a photo of a"], ["word " * 75]]
)
def test_plain_texts_equal_open_clip(texts, form, original, towers):
    assert_close(towers.text.encode(texts), original.encode_text(open_clip.tokenize(texts)))


def test_a_text_is_encoded_alike_in_any_company(form, towers):
    together = towers.text.encode(TEXTS)
    alone = torch.cat([towers.text.encode([text]) for text in TEXTS])
    assert_close(together, alone)


def test_a_text_longer_than_the_context_is_named(towers):
    with pytest.raises(ValueError, match=r"'(word ){76}' takes 78 tokens, the text tower holds 77"):
        towers.text.encode(["cat", "word " * 76])


def test_embeddings_are_the_tables(weights, towers):
    assert torch.equal(towers.text.embed([SOS, 320, EOT]), weights["token_embedding.weight"][[SOS, 320, EOT]])
    assert (towers.text.width, towers.text.depth, towers.text.context_length) == (128, 3, 77)


def test_a_long_name_costs_its_own_tokens_only(towers):
    """What is kept for the gradient grows with the tokens; nothing is padded to the longest name."""

    def kept_bytes(*lengths: int) -> int:
        root, branch = make_prompts(Layout((5,), lengths, tuple(n - 1 for n in lengths)), towers.text.width)
        sizes = {}

        def note(tensor):
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            towers.text(TextPrompts(root, branch, Layout((5,), lengths, tuple(n - 1 for n in lengths))))
        return sum(sizes.values())

    short = kept_bytes(*[3] * 20)
    assert kept_bytes(*[3] * 20, 30) - short < 1.5 * (kept_bytes(*[3] * 30) - short)


def test_only_prompts_get_gradients(towers):
    layout = LAYOUTS["tokens"]
    root, branch = make_prompts(layout, towers.text.width)
    towers.text(TextPrompts(root, branch, layout)).summary.sum().backward()
    assert root.grad.abs().sum() > 0
    assert all(not p.requires_grad and p.grad is None for p in towers.parameters())


# Precision


def test_half_precision_is_finite_and_close(weights, towers):
    half = CLIP(tiny.model(weights), "tiny", "fp16")
    for layout in (LAYOUTS["sixteen context tokens"], LAYOUTS["tokens behind the end of text"]):
        root, branch = make_prompts(layout, towers.text.width)
        ours = half.text(TextPrompts(root, branch, layout))
        exact = towers.text(TextPrompts(root, branch, layout))
        assert ours.summary.dtype == torch.float16
        assert_close(ours.summary.float(), exact.summary, 1e-2)
        if layout.tokens:
            assert_close(ours.tokens.float(), exact.tokens, 1e-2)
        ours.summary.float().sum().backward()
        assert root.grad.dtype == torch.float32
        assert torch.isfinite(root.grad).all()


def test_half_precision_of_large_activations_is_finite(weights):
    """Their squares, which norms sum up, lie far outside of fp16's range."""
    large = {**weights, "token_embedding.weight": weights["token_embedding.weight"] * 2e4}
    assert large["token_embedding.weight"].abs().max() < 6e4
    half, exact = (CLIP(tiny.model(large), "large", precision) for precision in ("fp16", "fp32"))
    assert_close(half.text.encode(TEXTS).float(), exact.text.encode(TEXTS), 2e-2)


def test_bf16_autocast_is_finite_and_close(towers):
    layout = LAYOUTS["tokens"]
    root, branch = make_prompts(layout, towers.text.width)
    exact = towers.text(TextPrompts(root, branch, layout))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours = towers.text(TextPrompts(root, branch, layout))
    assert_close(ours.summary.float(), exact.summary, 5e-2)
    assert_close(ours.tokens.float(), exact.tokens, 5e-2)


# What cannot be prompted


def test_a_tower_that_sees_ahead_is_refused(original):
    other = copy.copy(original)
    other._buffers = {**original._buffers, "attn_mask": None}
    with pytest.raises(ValueError, match="does not attend causally"):
        TextTower(other)


def test_a_tower_with_another_pool_is_refused(original):
    other = copy.copy(original)
    other.text_pool_type = "last"
    with pytest.raises(ValueError, match="does not read the end of text"):
        TextTower(other)


def test_a_tower_of_other_blocks_is_refused():
    text = open_clip.transformer.TextTransformer(
        width=64, heads=1, layers=1, vocab_size=10, block_type="custom", qk_norm=True
    )
    with pytest.raises(ValueError, match="text tower: blocks of type CustomResidualAttentionBlock"):
        require_causal(text)
    with pytest.raises(ValueError, match="Linear is not CLIP's transformer"):
        require_causal(torch.nn.Linear(2, 2))


# Layout


def test_the_layout_of_a_forest():
    layout = Layout(roots=(3, 2), branches=(2, 4), ends=(1, 2), tokens=(4, 6))
    assert layout.longest_root == 3
    assert layout.starts.tolist() == [0, 2]
    assert layout.positions().tolist() == [[0, 1, 2, 3, 4, 3, 4, 5, 6], [0, 1, 2, 2, 3, 2, 3, 4, 5]]
    assert layout.read_out().tolist() == [
        [[0, 1, 2, 3, 3, 3], [0, 1, 2, 5, 6, 7]],
        [[0, 1, 3, 4, 4, 4], [0, 1, 5, 6, 7, 8]],
    ]


def test_equal_layouts_are_one_key():
    layout = Layout((3,), (2, 4), (1, 2))
    assert hash(layout) == hash(replace(layout))
