"""Learnable context tokens around class names: the text prompts of every method here."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from clip import CLIP, EOT, SOS, Layout, TextPrompts, decode, encode
from clip.tokenizer import check_length

STD = 0.02  #: of Gaussian contexts, in every release
POSITIONS = ("end", "middle", "front")
CONTEXT = -1  #: marks the place of a context token among token ids


class TextContext(nn.Module):
    """N prompts "[SOS] [context] [frozen words] [class name] . [EOT]" for each of C classes (CoOp, section 3.1).

    Learnable parameters, w the width of the text tower:
        ctx: (n, w) for one prompt, (N, n, w) for ``sentences``, (C, n, w) when class-specific, (C, N, n, w) when both.
        deep: D - 1 tensors of the shape of ``ctx``, the replacements of the context at the input of blocks 2..D.

    Args:
        clip: the backbone.
        classnames: "_" is read as a space, unless ``underscores``.
        n_ctx: n, number of context tokens.
        init: words whose embeddings the context starts from, its first n tokens; further words stay frozen between
            context and class name. Empty, or shorter than n: Gaussian.
        sentences: N texts instead of ``init``, one for each prompt, "" for a Gaussian one.
        class_specific: a context for each class; of ``sentences`` that are all the same one for each of these, too.
        position: where the class name stands: behind the context ("end"), in its middle, or in front of it.
        depth: D, 1 for shallow contexts only; only those allow class-specific contexts or other positions.
        depth_key: the config key that says so, for messages.
        tokens: ask the tower for output tokens too (those that enter MMTPA's transport): of every prompt of class c
            those at positions 0 .. EOT - 2, with the end of text of that prompt ("own") or of the class's first
            ("first"), behind whose the others may have ended; "" for none.
        ending: what stands behind the class name.
        underscores: leave them in class names.

    Raises:
        ValueError: a prompt is longer than the text tower's context (the class is named), or depth exceeds the tower.
    """

    root_frozen: Tensor
    root_places: Tensor
    branch_frozen: Tensor
    branch_places: Tensor

    def __init__(
        self,
        clip: CLIP,
        classnames: list[str],
        n_ctx: int,
        init: str = "",
        sentences: list[str] | None = None,
        class_specific: bool = False,
        position: str = "end",
        depth: int = 1,
        depth_key: str = "PROMPT_DEPTH_TEXT",
        tokens: str = "",
        ending: str = ".",
        underscores: bool = False,
    ) -> None:
        super().__init__()
        if n_ctx < 1:
            raise ValueError(f"N_CTX is {n_ctx}, at least one context token is needed")
        if position not in POSITIONS:
            raise ValueError(f"CLASS_TOKEN_POSITION is {position!r}, choose from: {', '.join(POSITIONS)}")
        if not 1 <= depth <= clip.text.depth:
            raise ValueError(
                f"{depth_key} is {depth}, the text tower of {clip.name} allows 1 to {clip.text.depth}"
            )
        if depth > 1 and (class_specific or position != "end"):
            raise ValueError(f"{depth_key} is {depth}, contexts of a class or around its name allow 1 only")
        self.class_specific = class_specific

        starts = [encode(_spaced(sentence)) for sentence in (sentences or [init])]
        starts = [ids if len(ids) >= n_ctx else [] for ids in starts]
        contexts = torch.stack([_initial(clip, ids[:n_ctx], n_ctx) for ids in starts])
        if class_specific:
            contexts = contexts.repeat(len(classnames), 1, 1, 1)
            contexts = contexts if starts[0] else torch.randn_like(contexts) * STD
            contexts = contexts if sentences else contexts[:, 0]
        self.ctx = nn.Parameter(contexts if sentences or class_specific else contexts[0])
        self.deep = nn.ParameterList(torch.randn_like(self.ctx) * STD for _ in range(depth - 1))

        frozen = [ids[n_ctx:] for ids in starts]
        names = classnames if underscores else [_spaced(name) for name in classnames]
        roots, branches = _forest(names, n_ctx, frozen, position, shared=not class_specific, ending=ending)
        for name, branch in zip(classnames, branches, strict=True):
            check_length(max(map(len, roots)) + len(branch), clip.text.context_length, name)
        stops = [len(branch) - 1 for branch in branches]
        counted = roots if tokens == "own" and len(set(map(len, roots))) > 1 else roots[:1]
        #: Of each class, the tokens of each of its prompts that are asked for; one number where all have as many.
        self.token_counts = [[len(root) + stop - 1 for root in counted] for stop in stops] if tokens else []
        counts = [max(own) for own in self.token_counts]
        if tokens:  # under a shorter root they may reach behind the end of text, into the padding
            shortest = min(map(len, roots))
            branches = [
                b + [0] * (count - shortest - len(b)) for b, count in zip(branches, counts, strict=True)
            ]

        self.ids = roots, branches
        self.layout = Layout(tuple(map(len, roots)), tuple(map(len, branches)), tuple(stops), tuple(counts))
        self._keep("root", clip, [root + [0] * (self.layout.longest_root - len(root)) for root in roots])
        self._keep("branch", clip, [[token for branch in branches for token in branch]])

    def _keep(self, name: str, clip: CLIP, rows: list[list[int]]) -> None:
        """Keep token ids as frozen embeddings (rows, tokens, w), and the places of the context's, alike in every row.

        Both follow from the class names, so neither is in a checkpoint.
        """
        device = clip.text.token_embedding.weight.device
        frozen = clip.text.token_embedding(torch.tensor(rows, device=device).clamp(min=0)).float()
        places = [place for place, token in enumerate(rows[0]) if token == CONTEXT]
        self.register_buffer(f"{name}_frozen", frozen, persistent=False)
        self.register_buffer(
            f"{name}_places", torch.tensor(places, dtype=torch.long, device=device), persistent=False
        )

    def forward(self) -> TextPrompts:
        """The N prompts of all C classes: N roots (N, K, w) under which stand the T tokens of C branches (T, w).

        With a context behind the class name the branches differ by root, (N, T, w). Class-specific contexts leave
        [SOS] alone of each root, and stand in the branches.
        """
        if self.class_specific:  # all in the branches, class by class
            own = self.ctx if self.ctx.dim() == 4 else self.ctx[:, None]
            return TextPrompts(self.root_frozen, self._branch(own.transpose(0, 1).flatten(1, 2)), self.layout)
        contexts = self.ctx if self.ctx.dim() == 3 else self.ctx[None]
        before = len(self.root_places)
        root = self.root_frozen.index_copy(1, self.root_places, contexts[:, :before])
        behind = contexts[:, before:].repeat(
            1, len(self.layout.branches), 1
        )  # what every class's branch holds
        return TextPrompts(root, self._branch(behind), self.layout)

    def for_images(self, contexts: Tensor) -> TextPrompts:
        """The prompts with contexts (B, n, w), one for each image, in place of the learned one: B roots (B, K, w)."""
        root = self.root_frozen.expand(len(contexts), -1, -1).index_copy(1, self.root_places, contexts)
        layout = replace(self.layout, roots=self.layout.roots * len(contexts))
        return TextPrompts(root, self.branch_frozen[0], layout)

    def _branch(self, rows: Tensor) -> Tensor:
        """The branches' T tokens: frozen ones, and P context tokens (R, P, w) at their places.

        (R, T, w), or (T, w) where P is 0: then they are the same under every root.
        """
        if rows.shape[1] == 0:
            return self.branch_frozen[0]
        return self.branch_frozen.expand(len(rows), -1, -1).index_copy(1, self.branch_places, rows)

    def freeze(self) -> None:
        """Keep the context as it starts: it is no parameter any more, and in no checkpoint."""
        ctx = self.ctx.detach()
        del self.ctx
        self.register_buffer("ctx", ctx, persistent=False)

    def words(self, label: int) -> list[list[str]]:
        """The tokens of a class's N prompts as readable strings, up to the end of text or, where the tower is asked for
        more output tokens (see ``tokens``), as many as these: "[SOS]", "v1" ... "vn" for the context, "[EOT]", "[pad]".
        """
        roots, branches = self.ids
        prompts: list[list[str]] = []
        for root in roots:
            end = len(root) + self.layout.ends[label] + 1
            counts = self.token_counts[label] if self.token_counts else [end]
            length = counts[len(prompts) if len(counts) > 1 else 0]
            prompts.append(_readable((root + branches[label])[:length], end))
        return prompts

    def deep_prompts(self) -> list[Tensor]:
        """What replaces the context at the input of blocks 2..D: D - 1 tensors (N, n, w)."""
        return [layer if layer.dim() == 3 else layer[None] for layer in self.deep]


def _forest(
    classnames: list[str], n_ctx: int, frozen: list[list[int]], position: str, shared: bool, ending: str
) -> tuple[list[list[int]], list[list[int]]]:
    """Token ids of the N roots and C branches, CONTEXT where a context token stands, in the order of the parameter.

    The beginning holds what all classes share: with a shared context at most all of it, with class-specific ones
    only the start token. Splitting a row here changes what is computed once, not the text.
    """
    before = {"end": n_ctx, "middle": n_ctx // 2, "front": 0}[position]
    behind = n_ctx - before
    if position != "end":
        frozen = [[] for _ in frozen]
    roots = [[SOS] + [CONTEXT] * before + words for words in frozen]
    branches = []
    for name in classnames:
        n_name = len(encode(name))
        tail = [*encode(name + ending), EOT]  # a full stop may join the name's last token
        branches.append(tail[:n_name] + [CONTEXT] * behind + tail[n_name:])
    if not shared:
        roots, start = [[SOS]] * len(roots), roots[0][1:]
        branches = [start + branch for branch in branches]
    return roots, branches


def _readable(ids: list[int], end: int) -> list[str]:
    """Token ids as strings; what stands from ``end`` on is padding."""
    special = {SOS: "[SOS]", EOT: "[EOT]"}
    words, learned = [], 0
    for place, token in enumerate(ids):
        learned += token == CONTEXT
        if place >= end:
            words.append("[pad]")
        elif token == CONTEXT:
            words.append(f"v{learned}")
        else:
            words.append(special.get(token) or decode([token])[0])
    return words


def _initial(clip: CLIP, ids: list[int], n_ctx: int) -> Tensor:
    """On the CPU wherever the towers are: what is drawn there depends on the seed alone."""
    return clip.text.embed(ids).float().cpu() if ids else torch.randn(n_ctx, clip.text.width) * STD


def _spaced(name: str) -> str:
    return name.replace("_", " ")
