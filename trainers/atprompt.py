"""ATPrompt: attributes in front of the class (Li et al., ICCV 2025, arXiv 2412.09442), an addition to a host.

The class text "[V] <class>." becomes "[A_1] <word 1> ... [A_k] <word k> [V] <class>." (section 3.2): the words of k
attributes are frozen, in front of each stand learned tokens [A_i]. A host's deep prompts replace its own context [V]
alone; what belongs to the attributes goes on from block to block. Contexts are Gaussian, whatever words a host starts
from.

The authors chose words for each data set, from a language model's, by a search of its own. They are data here (WORDS);
ATT1_TEXT and so on give others. In an evaluation they are those that were trained, whatever is tested.

Two variants. ``paper`` is that. ``release`` takes every word for one token: of "play fulness" the first alone stays,
and all behind it is looked for one place too far left, so that the next word's place has a placeholder, and one more
stands in front of the class name. It places deep prompts as if N_ATT were N_CTX. And in an evaluation it has the words
of the data set that is tested, behind a third [A] that nobody has trained where that has more.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from clip import CLIP, Changes, TextPrompts, decode, encode
from clip.tokenizer import check_length
from foundation.keys import Key, at_least, between, one_of

from .additions import add
from .base import PromptTrainer
from .checkpoint import EXTRA
from .coop import CoOp
from .maple import MaPLe
from .prompt_model import PromptModel
from .release import Release

STD = 0.01  #: of the attributes' tokens
MOST = 3  #: attributes
OF_IMAGENET = ("color", "shape")
WORDS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("ImageNet", "ImageNetV2", "ImageNetSketch", "ImageNetA", "ImageNetR"), OF_IMAGENET),
    "Caltech101": ("shape", "size"),
    "OxfordPets": ("playfulness", "energy"),
    "StanfordCars": ("luxury",),
    "OxfordFlowers": ("color", "habitat", "growth"),
    "Food101": ("flavor", "preparation"),
    "FGVCAircraft": ("design", "range"),
    "SUN397": ("function",),
    "DescribableTextures": ("pattern", "color", "design"),
    "EuroSAT": ("habitat",),
    "UCF101": ("precision",),
}


def attribute_words(cfg: CfgNode) -> list[str]:
    """Those that are given, or else the data set's; the first ATT_NUM of them. None where none are known."""
    options = cfg.TRAINER.ATPROMPT
    if not options.USE_ATPROMPT:
        return []
    texts = [options[f"ATT{i}_TEXT"].replace("_", " ").strip() for i in range(1, MOST + 1)]
    given = [word for word in texts if word not in ("", "none")]
    known = given or list(WORDS.get(cfg.DATASET.NAME, ()))
    return known[: options.ATT_NUM or MOST]


class Attributes(nn.Module):
    """[A_1] word 1 ... [A_k] word k, as they stand in front of a context.

    Args:
        words: token ids of each attribute's.
        lengths: learned tokens in front of each; there may be more than words, which are learned by nobody.
        behind: token ids that stand behind the context.
    """

    frozen: Tensor
    behind: Tensor

    def __init__(self, clip: CLIP, words: list[list[int]], lengths: Sequence[int], behind: list[int]) -> None:
        super().__init__()
        self.ctx = nn.ParameterList(torch.randn(n, clip.text.width) * STD for n in lengths)
        self.words, self.ids_behind = words, behind
        for name, ids in (("frozen", [token for word in words for token in word]), ("behind", behind)):
            embedded = clip.text.embed(ids).float() if ids else self.ctx[0].detach()[:0]
            self.register_buffer(name, embedded, persistent=False)

    @property
    def length(self) -> int:
        """Tokens in front of the context."""
        return sum(len(word) + len(ctx) for word, ctx in zip(self.words, self.ctx))

    def forward(self) -> Tensor:
        """(A, w)"""
        words = self.frozen.split([len(word) for word in self.words])
        return torch.cat([part for pair in zip(self.ctx, words) for part in pair])

    def readable(self) -> list[str]:
        """As strings, "u1" ... for learned tokens."""
        numbers = count(1)
        parts = (
            [f"u{next(numbers)}" for _ in ctx] + [decode([token])[0] for token in word]
            for ctx, word in zip(self.ctx, self.words)
        )
        return [token for part in parts for token in part]


class ATPromptModel(PromptModel):
    """Attributes (sum of N_ATT, w) beside the host's context, which is one for all classes in front of their names."""

    attributes: Attributes | None

    def __init__(self, cfg: CfgNode, clip: CLIP, classnames: list[str], template: str) -> None:
        super().__init__(without_words(cfg), clip, classnames, template)
        self.options = cfg.TRAINER.ATPROMPT
        self.as_released = self.options.VARIANT == "release"
        n, prefix = self.context.ctx.shape[-2], self.released["context.ctx"].removesuffix("ctx")
        if self.context.class_specific or len(self.context.root_places) < n:
            raise ValueError(
                "attributes stand in front of one context for all classes, which the class name follows: CSC False and "
                "CLASS_TOKEN_POSITION end are needed"
            )
        self.lengths = [self.options[f"N_ATT{i}"] or n for i in range(1, MOST + 1)]
        self.released = self.released | {
            f"attributes.ctx.{i}": f"{prefix}ctx_att{i + 1}" for i in range(MOST)
        }
        self.released_unused = (*self.released_unused, f"{prefix}ctx_att", f"{prefix}token_middle")
        self.use(attribute_words(cfg))

    def use(self, words: list[str]) -> None:
        """Put attributes of these words in front of the context, with new learned tokens."""
        self.about["attributes"], self.attributes = words, None
        if not words:
            return
        n, ids = self.context.ctx.shape[-2], [encode(word) for word in words]
        behind: list[int] = []
        if self.as_released:
            ids, behind = one_token_each(ids, self.lengths, n)
        lengths = self.lengths if self.as_released else self.lengths[: len(words)]
        attributes = Attributes(self.clip, ids, lengths, behind)
        #: Tokens in front of the place of the host's deep prompts.
        self.offset = len(words) * (n + 1) if self.as_released else attributes.length
        if self.offset > attributes.length + len(behind) and self.text_changes().tokens:
            given = ", ".join(map(str, self.lengths[: len(words)]))
            raise ValueError(
                f"N_ATT1 to N_ATT{len(words)} are {given}: VARIANT release places deep prompts as if each were N_CTX, "
                f"so behind the context's end; {n} each is needed, or paper"
            )
        self.attributes = attributes
        [root], branches = self.context.ids
        longest = len(root) + attributes.length + len(behind)
        for name, branch in zip(self.about["class_names"], branches, strict=True):
            check_length(longest + len(branch), self.clip.text.context_length, name)

    def take(self, state: Mapping[str, Any]) -> Mapping[str, Any]:
        state = super().take(state)
        trained = state.get(EXTRA, {}).get("attributes")
        if trained is not None and trained != self.about["attributes"] and not self.as_released:
            print(f"Attributes are those that were trained: {', '.join(trained) or 'none'}")
            self.use(trained)
            self.to(self.context.ctx.device)
        return state

    def text_prompts(self) -> TextPrompts:
        prompts, attributes = super().text_prompts(), self.attributes
        if attributes is None:
            return prompts
        [root], own, behind = prompts.root, attributes(), attributes.behind
        grown = prompts.layout.grown(len(own) + len(behind))
        return TextPrompts(torch.cat([root[:1], own, root[1:], behind])[None], prompts.branch, grown)

    def text_changes(self) -> Changes:
        changes = super().text_changes()
        if self.attributes is None:
            return changes
        moved = (each._replace(offset=each.offset + self.offset) for each in changes.tokens)
        return replace(changes, tokens=tuple(moved))

    def words(self, label: int) -> list[list[str]]:
        [row] = super().words(label)
        if self.attributes is None:
            return [row]
        end = len(self.context.ids[0][0])
        behind = [decode([token])[0] for token in self.attributes.ids_behind]
        return [[row[0], *self.attributes.readable(), *row[1:end], *behind, *row[end:]]]


def without_words(cfg: CfgNode) -> CfgNode:
    """Settings in which no context starts from words."""
    cfg = cfg.clone()
    cfg.defrost()
    for section in cfg.TRAINER.values():
        if isinstance(section, CfgNode) and "CTX_INIT" in section:
            section.CTX_INIT = ""
    return cfg


def one_token_each(
    words: list[list[int]], lengths: Sequence[int], n: int
) -> tuple[list[list[int]], list[int]]:
    """What the release makes of words: the one token of each that stands where one-token words would have it, and those
    that are left over behind the context of n tokens.

    Its text is written with placeholders, "x x playfulness x x energy x x <class>.".
    """
    [placeholder] = encode("x")
    text: list[int] = []
    places: list[int] = []
    for word, length in zip(words, lengths):
        text += [placeholder] * length + word
        places.append((places[-1] + 1 if places else 0) + length)
    text += [placeholder] * n
    return [[text[place]] for place in places], text[places[-1] + 1 + n :]


KEYS = {
    "VARIANT": Key("paper", "release: words of one token, the tested data set's", one_of("paper", "release")),
    "USE_ATPROMPT": Key(True, "False: the host alone, its context Gaussian"),
    "ATT_NUM": Key(0, "k, number of attributes; 0: as many as there are words", between(0, MOST)),
    **{
        f"N_ATT{i}": Key(0, f"learned tokens in front of attribute {i}; 0: N_CTX", at_least(0))
        for i in (1, 2, 3)
    },
    **{f"ATT{i}_TEXT": Key("", f"word of attribute {i}; none are given: the data set's") for i in (1, 2, 3)},
}


class ATPrompt(PromptTrainer):
    """What is the same on all hosts."""

    disclosures = ("language_model", "set_for_dataset")

    def disclosed(self) -> list[str]:
        release = self.cfg.TRAINER.ATPROMPT.VARIANT == "release"
        return [*super().disclosed(), *(["set_for_target"] if release else [])]

    def check_cfg(self, cfg: CfgNode) -> None:
        super().check_cfg(cfg)
        options, words = cfg.TRAINER.ATPROMPT, attribute_words(cfg)
        if options.USE_ATPROMPT and not words:
            raise ValueError(
                f"TRAINER.ATPROMPT.ATT1_TEXT is {options.ATT1_TEXT!r}, and there are no words for data set "
                f"{cfg.DATASET.NAME}: a word is needed (those of {', '.join(WORDS)} are known)"
            )
        if options.USE_ATPROMPT and len(words) < options.ATT_NUM:
            raise ValueError(
                f"TRAINER.ATPROMPT.ATT_NUM is {options.ATT_NUM}, there are {len(words)} words ({', '.join(words)}): as "
                f"many are needed, ATT1_TEXT to ATT{options.ATT_NUM}_TEXT"
            )
        for word in words:
            if options.VARIANT == "release" and len(ids := encode(word)) > 1:
                print(
                    f"Warning: TRAINER.ATPROMPT.VARIANT is release, the attribute {word!r} {len(ids)} tokens "
                    f"({', '.join(decode(ids))}): one is kept, as in the authors' code; paper keeps all"
                )


def atprompt(host: type[PromptTrainer]) -> type[PromptTrainer]:
    """Register ATPrompt on a host: a method whose ``context`` is one for all classes."""
    release = Release(host.section, {"TRAINER.ATPROMPT.VARIANT": "release"}, only={})
    keys = {name: key for name, key in host.keys.items() if name != "CTX_INIT"}
    keys |= {f"TRAINER.ATPROMPT.{name}": key for name, key in KEYS.items()}
    return add(host, ATPrompt, ATPromptModel, keys=keys, released_as={f"{host.__name__}_ATP": release})


ATPromptCoOp = atprompt(CoOp)
ATPromptMaPLe = atprompt(MaPLe)
