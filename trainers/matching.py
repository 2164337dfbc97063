"""The plans behind a transport's score: what was matched with what, and what uniform plans would have scored."""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from alignment import Matches, prompt_plan, token_matches, token_plan, token_transport


class Matching(NamedTuple):
    """How B images were matched with C classes. Logits are of all classes, the large token plans of K chosen ones."""

    #: (B, C, M, N) mass between image prompt m and text prompt n, one in total; None where there is one level only.
    prompts: Tensor | None
    #: (B, K, M, N, P, L) mass between image token p and text token l, one for each pair of prompts and zero at padding;
    #: None where prompts alone are matched.
    tokens: Tensor | None
    score: Tensor  #: (B, C) logits, those of ``PromptModel.score``
    #: (B, C) logits had all prompts been matched with all alike, the token plans as they are.
    uniform_prompts: Tensor | None
    uniform: Tensor  #: (B, C) logits had all plans, of both levels, been uniform
    #: (B, K, M, N, 1) the image token and the text token that share most mass, of the plans of ``tokens``
    strongest: Matches | None = None


@torch.no_grad()
def hierarchical_matching(
    image_points: Tensor,
    text_points: Tensor,
    image_tokens: Tensor | None = None,
    text_tokens: Tensor | None = None,
    text_lengths: Tensor | None = None,
    *,
    classes: Tensor,
    scale: Tensor,
    variant: str = "paper",
    beta: float = 1.0,
    eps: float = 0.1,
    max_iter: int = 100,
    tol: float = 1e-2,
    normalize: bool = False,
) -> Matching:
    """``alignment.hierarchical_transport`` opened up; arguments as there.

    Args:
        classes: (K,) indices of the classes whose token plans are wanted.
        scale: exp(logit_scale), which makes logits of similarities.
    """
    paper = variant == "paper"
    solver: dict[str, Any] = {"eps": eps, "max_iter": max_iter, "tol": tol}
    solver["stop"] = "problem" if paper else "release"
    with torch.autocast(image_points.device.type, enabled=False):
        x, y = image_points.float(), text_points.float()
        if normalize:
            x, y = F.normalize(x, dim=-1), F.normalize(y, dim=-1)
        cosine = torch.einsum("bmd,cnd->bcmn", x, y)
        cost = uniform_cost = 1 - cosine
        tokens = strongest = None
        if image_tokens is not None and text_tokens is not None:
            if normalize:
                image_tokens = F.normalize(image_tokens.float(), dim=-1)
                text_tokens = F.normalize(text_tokens.float(), dim=-1)
            value = "cost" if paper else "similarity"
            level = token_transport(image_tokens, text_tokens, text_lengths, value=value, **solver)
            mean = _mean_cosine(image_tokens, text_tokens, text_lengths)
            uniform_cost = cost + beta * (1 - mean if paper else mean)
            cost = cost + beta * level
            lengths = None if text_lengths is None else text_lengths[classes.to(text_lengths.device)]
            tokens = token_plan(image_tokens, text_tokens[classes], lengths, **solver)
            strongest = token_matches(image_tokens, text_tokens[classes], lengths, k=1, **solver)
        plan = prompt_plan(cost, **solver)
        # The release scores the cosines of the prompts alone, whatever cost has made the plan.
        worth, uniform_worth = (1 - cost, 1 - uniform_cost) if paper else (cosine, cosine)
        return Matching(
            plan,
            tokens,
            scale * (plan * worth).sum((-2, -1)),
            scale * worth.mean((-2, -1)),
            scale * uniform_worth.mean((-2, -1)),
            strongest,
        )


def _mean_cosine(image: Tensor, text: Tensor, lengths: Tensor | None) -> Tensor:
    """(B, C, M, N) of all pairs of an image's (B, M, P, d) and a text's (C, N, L, d) valid tokens."""
    if lengths is None:
        lengths = torch.full(text.shape[:1], text.shape[2])
    lengths = lengths.to(text.device).view(len(text), -1, 1)  # (C, N or 1, 1)
    valid = torch.arange(text.shape[2], device=text.device) < lengths
    mean = (text.float() * valid[..., None]).sum(2) / lengths
    return torch.einsum("bmd,cnd->bcmn", image.float().mean(2), mean)
