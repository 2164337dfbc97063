"""Text contexts against the texts they stand for, tokenised whole and encoded at 77 positions by open_clip."""

import open_clip
import pytest
import torch

import clip
from tests.clip import tiny
from tests.clip.test_text_tower import with_deep
from tests.pretended_device import pretended_device
from tests.trainers.harness import assert_close
from trainers.text_context import TextContext

NAMES = ["river", "annual_crop land", "Sea or Lake", "a", "St. Bernard", "2012 BMW M3-coupé", "x" * 30]
LONG = "very " * 55 + "long river"


@pytest.fixture(scope="module")
def original():
    return tiny.model(tiny.state_dict(width_text=64, width_image=64))


@pytest.fixture(scope="module")
def towers(original):
    return clip.CLIP(original, "small")


def at_77_positions(model, rows, deep, n_deep):
    """Outputs (n, 77, d) of embedded texts; deep prompts stand at positions 1 .. n_deep."""
    x = rows + model.positional_embedding
    for number, block in enumerate(model.transformer.resblocks):
        if deep is not None and 1 <= number <= len(deep):
            x = torch.cat([x[:, :1], deep[number - 1].expand(len(x), -1, -1), x[:, 1 + n_deep :]], dim=1)
        x = block(x, attn_mask=model.attn_mask)
    return model.ln_final(x) @ model.text_projection


def rows_of(model, texts, ctx, places):
    """Embeddings of whole texts with context tokens ``ctx`` (n, w) or (C, n, w) at ``places``, (C, n)."""
    rows = model.token_embedding(open_clip.tokenize(texts))
    contexts = ctx if ctx.dim() == 3 else ctx.expand(len(texts), -1, -1)
    return rows.scatter(1, places[:, :, None].expand(-1, -1, rows.shape[2]), contexts)


def ends_of(texts):
    return open_clip.tokenize(texts).argmax(dim=-1)


def check(model, towers, context, texts, places):
    """One prompt for each class: summaries and gradients."""
    features = towers.text(context(), with_deep(context.deep_prompts()))
    deep = list(context.deep) or None
    outputs = at_77_positions(model, rows_of(model, texts, context.ctx, places), deep, context.ctx.shape[-2])
    expected = outputs[torch.arange(len(texts)), ends_of(texts)]
    assert_close(features.summary[:, 0], expected, 1e-5)

    weigh = torch.randn_like(expected)
    leaves = [context.ctx, *context.deep]
    ours = torch.autograd.grad((features.summary[:, 0] * weigh).sum(), leaves)
    theirs = torch.autograd.grad((expected * weigh).sum(), leaves)
    for mine, plain in zip(ours, theirs):
        assert_close(mine, plain, 1e-5)


def behind_start(texts, n):
    return torch.arange(1, n + 1).expand(len(texts), -1)


@pytest.mark.parametrize("names", [NAMES, NAMES[:1], [LONG, "river"]])
@pytest.mark.parametrize("class_specific", [False, True])
@pytest.mark.parametrize("n", [1, 4, 16])
def test_the_name_at_the_end(n, class_specific, names, original, towers):
    context = TextContext(towers, names, n, class_specific=class_specific)
    assert context.ctx.shape == ((len(names), n, 64) if class_specific else (n, 64))
    texts = [" ".join(["X"] * n + [name.replace("_", " ")]) + "." for name in names]
    check(original, towers, context, texts, behind_start(texts, n))


@pytest.mark.parametrize("class_specific", [False, True])
@pytest.mark.parametrize("position", ["middle", "front"])
@pytest.mark.parametrize("n", [1, 4, 5, 16])
def test_the_name_in_the_middle_or_in_front(n, position, class_specific, original, towers):
    context = TextContext(towers, NAMES, n, class_specific=class_specific, position=position)
    before = n // 2 if position == "middle" else 0
    texts, places = [], []
    for name in (name.replace("_", " ") for name in NAMES):
        length = len(clip.encode(name))
        texts.append(" ".join(["X"] * before + [name] + ["X"] * (n - before)) + ".")
        places.append([1 + i + (length if i >= before else 0) for i in range(n)])
    check(original, towers, context, texts, torch.tensor(places))


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("n", [1, 2, 4])
def test_initial_words_stay_as_they_are_behind_the_context(n, depth, original, towers):
    context = TextContext(towers, NAMES, n, init="a_photo of a", depth=depth)
    words = original.token_embedding(open_clip.tokenize("a photo of a")[0, 1 : 1 + n])
    assert torch.equal(context.ctx, words)
    assert [layer.shape for layer in context.deep] == [(n, 64)] * (depth - 1)
    texts = [f"a photo of a {name.replace('_', ' ')}." for name in NAMES]
    check(original, towers, context, texts, behind_start(texts, n))


def test_a_class_specific_context_starts_from_the_words_too(original, towers):
    context = TextContext(towers, NAMES, 4, init="a photo of a", class_specific=True)
    words = original.token_embedding(open_clip.tokenize("a photo of a")[0, 1:5])
    assert torch.equal(context.ctx, words.expand(len(NAMES), -1, -1))


def test_too_few_words_leave_the_context_gaussian(towers):
    torch.manual_seed(0)
    context = TextContext(towers, NAMES, 64, init="a photo of a")
    assert context.ctx.std().item() == pytest.approx(0.02, rel=0.1)
    contexts = TextContext(towers, NAMES, 16, class_specific=True).ctx
    assert not torch.equal(contexts[0], contexts[1])


SENTENCES = ["a photo of a", "", "this is one of the many pictures of a", "art of"]


@pytest.mark.parametrize("names", [NAMES, [LONG, "river"]])
@pytest.mark.parametrize("tokens", ["", "first", "own"])
@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("sentences", [SENTENCES, SENTENCES[2:], SENTENCES[1:]])
def test_several_sentences(sentences, depth, tokens, names, original, towers):
    """Tokens: positions 0 .. EOT - 2 of the first prompt, of every prompt, whatever stands there; or of their own."""
    n = 2
    context = TextContext(towers, names, n, sentences=sentences, depth=depth, tokens=tokens)
    assert context.ctx.shape == (len(sentences), n, 64)
    features = towers.text(context(), with_deep(context.deep_prompts()))
    texts = [[f"{sentence or 'X X'} {name.replace('_', ' ')}." for name in names] for sentence in sentences]
    ends = [ends_of(row) for row in texts]
    ours, theirs = 0.0, 0.0
    for number, row in enumerate(texts):
        deep = [layer[number] for layer in context.deep] or None
        rows = rows_of(original, row, context.ctx[number], behind_start(row, n))
        outputs = at_77_positions(original, rows, deep, n)
        summary = outputs[torch.arange(len(row)), ends[number]]
        assert_close(features.summary[:, number], summary, 1e-5)
        weigh = torch.randn_like(summary)
        ours = ours + (features.summary[:, number] * weigh).sum()
        theirs = theirs + (summary * weigh).sum()
        for c in range(len(row)) if tokens else ():
            counts = [int(end[c]) - 1 for end in (ends if tokens == "own" else ends[:1])]
            assert context.token_counts[c] == counts
            assert context.layout.tokens[c] == max(counts)
            count = counts[number if tokens == "own" else 0]
            assert_close(features.tokens[c, number, :count], outputs[c, :count], 1e-5)
            weigh = torch.randn_like(outputs[c, :count])
            ours = ours + (features.tokens[c, number, :count] * weigh).sum()
            theirs = theirs + (outputs[c, :count] * weigh).sum()
    leaves = [context.ctx, *context.deep]
    for mine, plain in zip(torch.autograd.grad(ours, leaves), torch.autograd.grad(theirs, leaves)):
        assert_close(mine, plain, 1e-5)


@pytest.mark.parametrize("position", ["middle", "front"])
def test_several_contexts_around_the_name_equal_contexts_one_by_one(position, towers):
    contexts = TextContext(towers, NAMES, 5, sentences=["", ""], position=position)
    one = TextContext(towers, NAMES, 5, position=position)
    together = towers.text(contexts()).summary
    for number, own in enumerate(contexts.ctx):
        one.ctx.data.copy_(own)
        assert_close(together[:, number], towers.text(one()).summary[:, 0], 1e-5)


def test_a_context_for_each_image_equals_contexts_one_by_one(towers):
    context = TextContext(towers, NAMES, 4, init="a photo of a cute")
    contexts = torch.randn(3, 4, 64) * 0.05
    together = towers.text(context.for_images(contexts)).summary
    for number, own in enumerate(contexts):
        context.ctx.data.copy_(own)
        assert_close(together[:, number], towers.text(context()).summary[:, 0], 1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_ctx": 0}, "N_CTX is 0, at least one context token is needed"),
        ({"position": "end "}, "CLASS_TOKEN_POSITION is 'end ', choose from: end, middle, front"),
        ({"depth": 0}, "PROMPT_DEPTH_TEXT is 0, the text tower of small allows 1 to 3"),
        ({"depth": 4}, "PROMPT_DEPTH_TEXT is 4, the text tower of small allows 1 to 3"),
        (
            {"depth": 2, "class_specific": True},
            "PROMPT_DEPTH_TEXT is 2, contexts of a class or around its name allow 1 only",
        ),
    ],
)
def test_impossible_settings_are_named(options, message, towers):
    with pytest.raises(ValueError, match=f"^{message}$"):
        TextContext(towers, NAMES, **{"n_ctx": 4, **options})


@pytest.mark.parametrize("options", [{}, {"class_specific": True}, {"position": "middle"}, {"tokens": True}])
def test_a_class_name_without_room_is_named(options, towers):
    fits = "word " * 57
    TextContext(towers, ["river", fits.strip()], 17, **options)
    with pytest.raises(
        ValueError, match=r"the prompt of '(word ){58}' takes 78 tokens, the text tower holds 77"
    ):
        TextContext(towers, ["river", fits + "word "], 17, **options)


@pytest.mark.parametrize(
    "options", [{"sentences": ["a photo of a", "", ""]}, {"class_specific": True}, {"depth": 2}], ids=str
)
def test_contexts_start_on_the_cpu_wherever_the_towers_are(options):
    """So that a seed means the same start on every device."""
    here = clip.CLIP(tiny.model(tiny.state_dict(width_text=64, width_image=64)), "small")
    torch.manual_seed(1)
    expected = TextContext(here, NAMES, 2, **options)
    with pretended_device():
        torch.manual_seed(1)
        context = TextContext(here.to("cuda"), NAMES, 2, **options)
        assert {parameter.device.type for parameter in context.parameters()} == {"cpu"}
        assert {buffer.device.type for buffer in context.buffers()} == {"cuda"}
    for name, value in expected.named_parameters():
        assert torch.equal(context.get_parameter(name), value)
