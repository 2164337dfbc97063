import open_clip
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clip import CONTEXT_LENGTH, EOT, SOS, encode, tokenize

TEXTS = [
    "a photo of a cat.",
    "",
    "Été à la plage",
    "it's 1,024 &amp; more",
    "  spaces \t and\nlines ",
    "日本語",
    "x" * 40,
]


def test_rows_equal_open_clip():
    assert torch.equal(tokenize(TEXTS), open_clip.tokenize(TEXTS))
    assert torch.equal(tokenize("a dog"), open_clip.tokenize("a dog"))
    assert tokenize("a dog").dtype == torch.long


@settings(max_examples=30)
@given(st.text(max_size=15))
def test_rows_equal_open_clip_for_any_text(text):
    assert torch.equal(tokenize(text), open_clip.tokenize(text))


def test_a_text_has_a_start_and_an_end():
    row = tokenize("river").squeeze().tolist()
    assert row[:3] == [SOS, *encode("river"), EOT][:3]
    assert row[3:] == [0] * (CONTEXT_LENGTH - 3)


def test_the_longest_text_fits_and_one_token_more_is_named():
    words = "word " * (CONTEXT_LENGTH - 2)
    assert tokenize(words)[0, -1] == EOT
    with pytest.raises(
        ValueError, match=r"'word .* takes 78 tokens, the text tower holds 77: shorten"
    ) as error:
        tokenize(["cat", words + "more"])
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="'a photo of a cat' takes 7 tokens, the text tower holds 5"):
        tokenize("a photo of a cat", context_length=5)
