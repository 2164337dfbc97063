"""A random small CLIP as a state dict in OpenAI's key format, for tests."""

from functools import cache

import open_clip
import torch
from torch import Tensor

VOCABULARY, POSITIONS = 49408, 77


def state_dict(
    width_text: int = 128,
    width_image: int = 192,
    joint: int = 96,
    layers: int = 3,
    size: int = 32,
    patch: int = 8,
    seed: int = 0,
) -> dict[str, Tensor]:
    """Weights of a CLIP with a ViT; 64 wide heads, as OpenAI's. No weight is at a neutral value (0 or 1)."""
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape: int, std: float = 1.0, mean: float = 0.0) -> Tensor:
        return torch.randn(shape, generator=draw) * std + mean

    weights = {
        "logit_scale": torch.tensor(3.0),
        "text_projection": normal(width_text, joint, std=width_text**-0.5),
        "positional_embedding": normal(POSITIONS, width_text, std=0.02),
        "token_embedding.weight": normal(VOCABULARY, width_text, std=0.05),
        "visual.class_embedding": normal(width_image, std=0.3),
        "visual.positional_embedding": normal((size // patch) ** 2 + 1, width_image, std=0.3),
        "visual.proj": normal(width_image, joint, std=width_image**-0.5),
        "visual.conv1.weight": normal(width_image, 3, patch, patch, std=1 / patch),
    }
    for prefix, width in (("", width_text), ("visual.", width_image)):
        for number in range(layers):
            block = f"{prefix}transformer.resblocks.{number}."
            for name, rows, columns in (
                ("attn.in_proj_", 3 * width, width),
                ("attn.out_proj.", width, width),
                ("mlp.c_fc.", 4 * width, width),
                ("mlp.c_proj.", width, 4 * width),
            ):
                weights[f"{block}{name}weight"] = normal(rows, columns, std=0.7 * columns**-0.5)
                weights[f"{block}{name}bias"] = normal(rows, std=0.1)
        norms = [f"{prefix}transformer.resblocks.{i}.ln_{j}." for i in range(layers) for j in (1, 2)]
        norms += ["visual.ln_pre.", "visual.ln_post."] if prefix else ["ln_final."]
        for norm in norms:
            weights[f"{norm}weight"] = normal(width, std=0.1, mean=1.0)
            weights[f"{norm}bias"] = normal(width, std=0.1)
    return weights


def model(weights: dict[str, Tensor], quick_gelu: bool = True) -> open_clip.CLIP:
    """open_clip's own model with these weights: what the towers are compared with."""
    width_text, joint = weights["text_projection"].shape
    width_image, _, patch, _ = weights["visual.conv1.weight"].shape
    grid = round((len(weights["visual.positional_embedding"]) - 1) ** 0.5)
    built = open_clip.CLIP(
        embed_dim=joint,
        vision_cfg={
            "image_size": grid * patch,
            "layers": len({name.split(".")[3] for name in weights if name.startswith("visual.transformer")}),
            "width": width_image,
            "head_width": 64,
            "patch_size": patch,
        },
        text_cfg={
            "context_length": POSITIONS,
            "vocab_size": VOCABULARY,
            "width": width_text,
            "heads": width_text // 64,
            "layers": len({name.split(".")[2] for name in weights if name.startswith("transformer")}),
        },
        quick_gelu=quick_gelu,
    )
    built.load_state_dict(weights)
    return built.requires_grad_(False).eval()


@cache
def resnet_state_dict() -> dict[str, Tensor]:
    """Weights of a CLIP with a small ResNet (joint width 128, 32 pixels), as open_clip initialises it."""
    torch.manual_seed(0)
    built = open_clip.CLIP(
        embed_dim=128,
        vision_cfg={"image_size": 32, "layers": (1, 1, 1, 1), "width": 16},
        text_cfg={"width": 64, "heads": 1, "layers": 2},
        quick_gelu=True,
    )
    return {name: value.clone() for name, value in built.state_dict().items()}
