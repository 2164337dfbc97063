"""MuDPT: deep-symphysis prompt tuning (Miao et al., ICME 2023, arXiv 2306.11400).

Deep prompts in both towers; an injection model maps the prompts of each tower into the other's, layer by layer, and
adds them: text block l gets T_l + V'_l, image block l gets V_l + T'_l, with T' and V' the mapped prompts (section 3).
The text tower's shallow prompts get nothing back.

Three injections, as in the three releases: ``transformer`` (UUMuDPT, closest to the paper), ``linear`` (MuDPT), and
``text_to_vision`` (UMuDPT: one way, no visual prompts of their own).
"""

import torch
from open_clip.transformer import QuickGELU, ResidualAttentionBlock
from torch import Tensor, nn
from yacs.config import CfgNode

from clip import CLIP, Changes, deep_prompts
from dassl.engine import TRAINER_REGISTRY
from foundation.keys import Key, at_least, one_of

from .base import PREC, PromptTrainer
from .prompt_model import PromptModel
from .release import Release
from .text_context import TextContext
from .visual_prompts import FreeVisualPrompts, check_depth

INJECTIONS = ("transformer", "linear", "text_to_vision")
NORMS = ("pre", "post")


class TransformerInjection(nn.Module):
    """Prompts of D layers (D, n, w_in) -> (D, n, w_out): attention over the n tokens of a layer, weights shared.

    Multi-head attention and feed-forward network with residuals and norms, then a linear map. With ``norm`` "pre" a
    pre-norm block between two further norms (the release), with "post" a post-norm block (the paper's figure).
    """

    def __init__(self, w_in: int, w_out: int, norm: str) -> None:
        super().__init__()
        self.pre_norm = norm == "pre"
        self.block = ResidualAttentionBlock(w_in, max(1, w_in // 64), act_layer=QuickGELU)
        if self.pre_norm:
            self.ln_pre, self.ln_post = nn.LayerNorm(w_in), nn.LayerNorm(w_in)
        self.linear = nn.Linear(w_in, w_out)

    def forward(self, prompts: Tensor) -> Tensor:
        if self.pre_norm:
            return self.linear(self.ln_post(self.block(self.ln_pre(prompts))))
        block = self.block
        x = block.ln_1(prompts + block.attn(prompts, prompts, prompts, need_weights=False)[0])
        return self.linear(block.ln_2(x + block.mlp(x)))


class LinearInjection(nn.Module):
    """Prompts of D layers (D, n, w_in) -> (D, n, w_out): one map for the first layer, one that the others share."""

    def __init__(self, w_in: int, w_out: int) -> None:
        super().__init__()
        self.shallow, self.deep = nn.Linear(w_in, w_out), nn.Linear(w_in, w_out)

    def forward(self, prompts: Tensor) -> Tensor:
        return torch.cat([self.shallow(prompts[:1]), self.deep(prompts[1:])])


class MuDPTModel(PromptModel):
    """n text tokens down to block D, n visual ones likewise, and the injections between them."""

    def __init__(self, cfg: CfgNode, clip: CLIP, classnames: list[str], template: str) -> None:
        super().__init__(cfg, clip, classnames, template)
        options = cfg.TRAINER.MUDPT
        n, depth = options.N_CTX, options.DEEP_PROMPT_DEPTH
        one_way, linear = options.INJECTION == "text_to_vision", options.INJECTION == "linear"
        if one_way and not options.INJECT_SHALLOW:
            raise ValueError("INJECT_SHALLOW False leaves text_to_vision without shallow visual prompts")
        self.inject_shallow = options.INJECT_SHALLOW
        key = "DEEP_PROMPT_DEPTH"
        check_depth(clip, depth, key)

        words = options.CTX_INIT.replace("_", " ").split()[:n]  # words behind the context are not used
        self.context = TextContext(clip, classnames, n, init=" ".join(words), depth=depth, depth_key=key)
        w_t, w_v = clip.text.width, clip.image.width
        self.to_vision = LinearInjection(w_t, w_v) if linear else TransformerInjection(w_t, w_v, options.NORM)
        if not one_way:
            self.visual = FreeVisualPrompts(clip, n, depth, key)
            self.to_text = nn.Linear(w_v, w_t) if linear else TransformerInjection(w_v, w_t, options.NORM)
        self.released = released_names(options.INJECTION, depth)

    def text_changes(self) -> Changes:
        """T_l + V'_l, deep layers only."""
        if not self.context.deep or not hasattr(self, "visual"):
            return super().text_changes()
        own = torch.stack(list(self.context.deep))
        deep = own + self.to_text(torch.stack(list(self.visual.deep)))
        return Changes(tokens=deep_prompts(deep[:, None].unbind()))

    def image_changes(self) -> Changes:
        """V_l + T'_l."""
        layers = self.to_vision(torch.stack([self.context.ctx, *self.context.deep]))[:, None]
        if hasattr(self, "visual"):
            layers = layers + torch.stack([self.visual.shallow, *self.visual.deep])[:, None]
        shallow, *deep = layers.unbind()
        if not self.inject_shallow:
            shallow = self.visual.shallow[None]
        return Changes(shallow, deep_prompts(deep))


def released_names(injection: str, depth: int) -> dict[str, str]:
    """Our modules -> the names in the release of this injection."""
    learner = {"transformer": "uumudpt", "linear": "mudpt", "text_to_vision": "umudpt"}[
        injection
    ] + "_prompt_learner"
    visual = "image_encoder.visual_ctx"
    names = {"context.ctx": f"{learner}.ctx", "visual.shallow": visual}
    for i in range(depth - 1):
        names[f"context.deep.{i}"] = f"{learner}.deep_prompts[{i}]"
        names[f"visual.deep.{i}"] = f"{visual}_deep_prompts[{i}]"
    if injection == "linear":
        return names | {
            "to_vision.shallow": f"{learner}.embed_projection",
            "to_vision.deep": f"{learner}.deep_projections",
            "to_text": f"{visual}_deep_projections",
        }
    return names | {
        "to_vision.ln_pre": f"{learner}.ln_pre",
        "to_vision.block": f"{learner}.self_attn",
        "to_vision.ln_post": f"{learner}.ln_post",
        "to_vision.linear": f"{learner}.visual_proj",
        "to_text.ln_pre": f"{visual}_ln_intra_pre",
        "to_text.block": f"{visual}_self_attn",
        "to_text.ln_post": f"{visual}_ln_intra_post",
        "to_text.linear": f"{visual}_text_proj",
    }


@TRAINER_REGISTRY.register()
class MuDPT(PromptTrainer):
    model_class = MuDPTModel
    section = "MUDPT"
    keys = {
        "N_CTX": Key(2, "n, context tokens of either tower", at_least(1)),
        "CTX_INIT": Key("a photo of a", "the text context starts from its first n words"),
        "DEEP_PROMPT_DEPTH": Key(9, "D, with the shallow prompts", at_least(1)),
        "PREC": PREC,
        "INJECTION": Key("transformer", "which release's", one_of(*INJECTIONS)),
        "NORM": Key("pre", "of transformer injections: the release's, or the paper's figure", one_of(*NORMS)),
        "INJECT_SHALLOW": Key(
            True, "False: shallow visual prompts bypass the injection (the paper's figure)"
        ),
    }
    released_as = {
        "UUMuDPT": Release("UUMUDPT", settings={"INJECTION": "transformer"}, only={}),
        "MuDPT": Release("MUDPT", settings={"INJECTION": "linear"}, only={}),
        "UMuDPT": Release("UMUDPT", settings={"INJECTION": "text_to_vision"}, only={}),
    }

    def build_model(self) -> None:
        linear = self.cfg.TRAINER.MUDPT.INJECTION == "linear"
        self.model_name = "MultimodalDeepPromptTuning" if linear else "UnifiedMultimodalDeepPromptTuning"
        super().build_model()
