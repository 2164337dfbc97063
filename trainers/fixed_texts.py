"""Whole texts of all classes in which nothing is learned, for methods that change the text tower itself."""

import torch
from torch import Tensor, nn

from clip import CLIP, EOT, SOS, Layout, TextPrompts, decode
from clip.text_prompts import split_texts

from .prompt_model import PromptModel


class FixedTexts(nn.Module):
    """A text for each of C classes, as a forest of one root: their longest common beginning.

    Args:
        clip: the backbone.
        template: "a photo of a {}.".
        classnames: "_" is read as a space.

    Raises:
        ValueError: a text is longer than the text tower's context; it is named.
    """

    root: Tensor
    branch: Tensor

    def __init__(self, clip: CLIP, template: str, classnames: list[str]) -> None:
        super().__init__()
        texts = [template.format(name.replace("_", " ")) for name in classnames]
        self.ids = root, branches = split_texts(texts, clip.text.context_length)
        lengths = tuple(map(len, branches))
        self.layout = Layout((len(root),), lengths, tuple(n - 1 for n in lengths))
        # They belong to the classes, not into a checkpoint.
        with torch.no_grad():
            self.register_buffer("root", clip.text.embed(root).float()[None], persistent=False)
            flat = [token for branch in branches for token in branch]
            self.register_buffer("branch", clip.text.embed(flat).float(), persistent=False)

    def forward(self) -> TextPrompts:
        return TextPrompts(self.root, self.branch, self.layout)

    def words(self, label: int) -> list[list[str]]:
        """The tokens of a class's text as readable strings."""
        root, branches = self.ids
        special = {SOS: "[SOS]", EOT: "[EOT]"}
        return [[special.get(token) or decode([token])[0] for token in root + branches[label]]]


class FixedTextModel(PromptModel):
    """A method whose class texts are fixed words; it sets ``texts`` and says in ``text_changes`` what it learns."""

    texts: FixedTexts

    def text_prompts(self) -> TextPrompts:
        return self.texts()

    def words(self, label: int) -> list[list[str]]:
        return self.texts.words(label)
