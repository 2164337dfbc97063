"""What a trained model has made of an image: the best classes, and maps over its patches, as plain arrays."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from trainers.matching import Matching
from trainers.prompt_model import PromptModel

SIDE = 448  #: pixels of the longer edge of a picture that is shown, at most


@dataclass(frozen=True)
class Pair:
    """An image prompt and a text prompt.

    Attributes:
        words: L strings, one for each part of the text.
        values: (P, L): with each image token (patches row by row, then visual prompts) the mass that a word draws from
            it, one in total; where nothing is matched, the cosines of one "word", the class.
        distance: how far the plan is from the uniform one (see ``distance``); None where there is no other, or no plan.
    """

    words: list[str]
    values: np.ndarray
    distance: float | None


@dataclass(frozen=True)
class Candidate:
    """One of the best classes.

    Attributes:
        name: as the data set has it.
        logit, probability: by the model.
        uniform_prompts, uniform: the same two had the prompts, and all plans, been uniform; None where nothing was
            matched, or where prompts are not a level of their own.
        plan: (M, N) mass between the prompts, or None.
        distance: of that plan from the uniform one.
        pairs: M lists of N pairs.
        strongest: of all pairs' plans the word and the image token that share most mass, and how many times that of the
            uniform plan; None where no tokens are matched with tokens.
    """

    name: str
    logit: float
    probability: float
    uniform_prompts: tuple[float, float] | None
    uniform: tuple[float, float] | None
    plan: np.ndarray | None
    distance: float | None
    pairs: list[list[Pair]]
    strongest: tuple[str, int, float] | None = None


@dataclass(frozen=True)
class Explanation:
    """Of one image.

    Attributes:
        name: of the image.
        picture: the part of it that the model sees.
        grid: rows and columns of the patches.
        prompts: number of visual prompt tokens behind the patches.
        matched: whether values are transported mass (else cosines that the method does not use).
        candidates: the best classes, the best first.
        uniform_best: the best class of all had all plans been uniform, and its probability.
    """

    name: str
    picture: Image.Image
    grid: tuple[int, int]
    prompts: int
    matched: bool
    candidates: list[Candidate]
    uniform_best: tuple[str, float] | None


@torch.no_grad()
def explain(
    model: PromptModel,
    picture: Image.Image,
    preprocess: Callable[[Image.Image], Tensor],
    classnames: Sequence[str],
    k: int = 5,
    name: str = "",
) -> Explanation:
    """Open up what a model makes of a picture.

    Args:
        model: in evaluation mode, with texts of all classes.
        picture: RGB.
        preprocess: the transform of test images, to (3, H, W).
        classnames: C.
        k: how many classes, the best ones; all where there are fewer.
        name: of the image.

    Raises:
        ValueError: the image tower gives no features of patches.
    """
    device = model.clip.logit_scale.device
    images = preprocess(picture)[None].to(device)
    texts, encoded = model.encode_texts(), model.encode_images(images)
    logits = model.score(encoded, texts)[0].float()
    best = logits.topk(min(k, len(classnames))).indices
    matching = model.matching(encoded, texts, best)
    tokens = None if matching is None else matching.tokens
    local = None if tokens is not None else model.local_cosines(images, texts)[0, best]  # (K, P)

    probabilities = logits.softmax(0)
    grid = model.clip.image.grid
    candidates = []
    for place, label in enumerate(best.tolist()):
        if tokens is not None:
            pairs = _pairs(tokens[0, place], model.words(label))
        else:
            assert local is not None
            shown = classnames[label].replace("_", " ")
            pairs = [[Pair([shown], local[place, :, None].float().cpu().numpy(), None)]]
        plan = None if matching is None or matching.prompts is None else matching.prompts[0, label]
        candidates.append(
            Candidate(
                classnames[label],
                float(logits[label]),
                float(probabilities[label]),
                _score(None if matching is None else matching.uniform_prompts, label),
                _score(None if matching is None else matching.uniform, label),
                None if plan is None else plan.cpu().numpy(),
                None if plan is None else distance(plan),
                pairs,
                None if matching is None else _strongest(matching, place, pairs),
            )
        )
    uniform_best = None
    if matching is not None:
        first = int(matching.uniform[0].argmax())
        score = _score(matching.uniform, first)
        assert score is not None
        uniform_best = (classnames[first], score[1])
    count = candidates[0].pairs[0][0].values.shape[0]
    return Explanation(
        name,
        seen(picture, model.clip.image.image_size),
        grid,
        count - grid[0] * grid[1],
        tokens is not None,
        candidates,
        uniform_best,
    )


def _pairs(plans: Tensor, words: list[list[str]]) -> list[list[Pair]]:
    """Of one class's plans (M, N, P, L), zero at padding, and its words."""
    rows = []
    for of_image_prompt in plans.float().cpu():
        row = []
        for plan, names in zip(of_image_prompt, words, strict=True):
            plan = plan[:, : len(names)]
            row.append(Pair(names, plan.numpy(), distance(plan)))
        rows.append(row)
    return rows


def _strongest(matching: Matching, place: int, pairs: list[list[Pair]]) -> tuple[str, int, float] | None:
    """Of the class that stands at ``place`` of those whose token plans were wanted."""
    if matching.strongest is None:
        return None
    mass, image_token, text_token = (part[0, place, ..., 0].cpu() for part in matching.strongest)
    relative = mass * torch.tensor([[pair.values.size for pair in row] for row in pairs])  # (M, N)
    m, n = divmod(int(relative.argmax()), relative.shape[1])
    return pairs[m][n].words[int(text_token[m, n])], int(image_token[m, n]), float(relative[m, n])


def _score(logits: Tensor | None, label: int) -> tuple[float, float] | None:
    """Logit and probability."""
    return None if logits is None else (float(logits[0, label]), float(logits[0].softmax(0)[label]))


def distance(plan: Tensor) -> float | None:
    """Relative entropy of a plan (R, C) to the uniform one, sum T log(T R C), as a share of the largest possible.

    With uniform marginals, as all have here, that is log(min(R, C)): each point of the larger side is matched with one
    of the smaller. 0: everything is matched with everything alike; 1: nothing is shared. None where one side has one
    point only, and so one plan is possible.
    """
    smaller = min(plan.shape)
    if smaller == 1:
        return None
    plan = plan.double()
    return float(torch.special.xlogy(plan, plan * plan.numel()).sum()) / math.log(smaller)


def seen(picture: Image.Image, size: tuple[int, int], side: int = SIDE) -> Image.Image:
    """The part of a picture that test images' transform leaves, with at most ``side`` pixels at its longer edge.

    That transform resizes the smaller edge to the longer one of the model's ``size`` (height, width) and cuts the
    centre out.
    """
    height, width = size
    pixels = min(picture.size) / max(size)  # of the picture to one of the model's
    left, top = (picture.width - width * pixels) / 2, (picture.height - height * pixels) / 2
    box = (left, top, left + width * pixels, top + height * pixels)
    scale = min(pixels, side / max(size))
    shape = max(1, round(width * scale)), max(1, round(height * scale))
    return picture.resize(shape, Image.Resampling.BICUBIC, box=box, reducing_gap=3.0)


def relative_mass(pair: Pair) -> np.ndarray:
    """(P, L): mass as a multiple of what the uniform plan has in its place."""
    return pair.values * pair.values.size


def first_word(pair: Pair, name: str) -> int:
    """Index of the word that a class name begins with, the last one if there are several; 0 if there is none."""
    start = name.replace("_", " ").lower().split()[:1]
    fits = [i for i, word in enumerate(pair.words) if start and word and start[0].startswith(word.lower())]
    return fits[-1] if fits else 0
