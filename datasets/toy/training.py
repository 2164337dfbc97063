"""Train the bundled model, clip/mini: a small CLIP, on drawn pictures and their captions.

    python tools/train_mini.py                   # about 15 minutes

Pictures and captions come from painting.py and captions.py beside this file. The image tower first learns to see:
linear heads, dropped afterwards, name the parts of each scene. Then the text tower learns captions with CLIP's
contrastive loss against the locked image tower (Zhai et al., LiT, CVPR 2022). The same seed on the same machine
and library versions gives the same weights; elsewhere, rounding differs.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack
from functools import cache
from pathlib import Path

import numpy as np
import open_clip
import torch
from open_clip import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from open_clip.tokenizer import SimpleTokenizer
from open_clip.transformer import VisionTransformer
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from tqdm import tqdm

from datasets.toy.captions import caption, words
from datasets.toy.painting import (
    COLOURS,
    GROUNDS,
    LETTERS,
    PIPS,
    SHAPES,
    STYLES,
    TEXTURES,
    Scene,
    Thing,
    missing_fonts,
    paint,
)
from foundation.errors import MissingFile
from foundation.pool import process_pool

ROOT = Path(__file__).resolve().parents[2]
CHUNK = 500  # pictures that share one random generator
MAX_FILLER = 28  # words in front of a caption
KINDS = ("shapes", "glyph", "pips")
GLYPHS = (*"0123456789", *LETTERS)
_THING = (len(TEXTURES), len(COLOURS), len(SHAPES))
# Number of classes of each head, in the order of attributes().
HEADS = (len(KINDS), *_THING, 2, *_THING, len(GROUNDS), len(STYLES), len(GLYPHS), len(PIPS))
NOT_THERE = -100
TOKENIZER = SimpleTokenizer()


def random_scene(rng: np.random.Generator) -> Scene:
    """Half of all scenes are shapes, a third letters and digits, the rest pips."""

    def pick(options, weights=None) -> str:
        return str(rng.choice(list(options), p=weights))

    def thing() -> Thing:
        return Thing(pick(TEXTURES), pick(COLOURS), pick(SHAPES))

    kind = pick(("shapes", "glyph", "pips"), (0.5, 0.35, 0.15))
    if kind == "shapes":
        style = pick(
            ("photo", "sketch", "noisy", "blurry", "pixelated", "dark", "bright"),
            (0.6, 0.1, 0.1, 0.05, 0.05, 0.05, 0.05),
        )
        return Scene(
            kind, thing(), thing() if rng.random() < 0.8 else None, ground=pick(GROUNDS), style=style
        )
    if kind == "pips":
        return Scene(
            kind,
            thing(),
            count=int(rng.integers(10)),
            ground=pick(GROUNDS[:2]),
            style=pick(("photo", "sketch", "noisy")),
        )
    glyph = str(rng.integers(10)) if rng.random() < 0.7 else pick(LETTERS)
    style = pick(
        ("photo", "noisy", "blurry", "pixelated", "dark", "bright"), (0.5, 0.1, 0.15, 0.15, 0.05, 0.05)
    )
    return Scene(kind, glyph=glyph, ground=pick(GROUNDS), style=style)


def paint_chunk(job: tuple[int, int, int]) -> tuple[list[Scene], np.ndarray]:
    seed, chunk, size = job
    rng = np.random.default_rng([seed, chunk])
    scenes = [random_scene(rng) for _ in range(CHUNK)]
    images = np.stack([paint(scene, rng) for scene in scenes])
    if (factor := images.shape[1] // size) > 1:  # means over squares of pixels
        images = images.reshape(CHUNK, size, factor, size, factor, 3).mean((2, 4)).round().astype(np.uint8)
    return scenes, images


def paint_pool(count: int, size: int, seed: int, processes: int) -> tuple[list[Scene], Tensor]:
    """Returns the scenes and their pictures, uint8 (count, 3, size, size)."""
    jobs = [(seed, chunk, size) for chunk in range(math.ceil(count / CHUNK))]
    with process_pool(processes) as pool:
        parts = list(tqdm(pool.map(paint_chunk, jobs), total=len(jobs), desc="drawing", unit=f"x{CHUNK}"))
    images = np.concatenate([images for _, images in parts])
    scenes = [scene for scenes, _ in parts for scene in scenes]
    return scenes, torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()


@cache
def word_ids(word: str) -> tuple[int, ...]:
    return tuple(TOKENIZER.encode(word))


def token_ids() -> Tensor:
    """The ids in CLIP's vocabulary of all tokens that a caption can have, ascending."""
    found = {token for word in words() for token in word_ids(word)}
    return torch.tensor(sorted(found | {TOKENIZER.sot_token_id, TOKENIZER.eot_token_id}))


def tokenize(texts: list[str], rows_of: dict[int, int]) -> tuple[Tensor, Tensor]:
    """Table rows (B, L) of the tokens, padded with 0 to the longest text, and the place of each end (B,)."""
    rows = []
    for text in texts:
        ids = [TOKENIZER.sot_token_id, *(i for word in text.split() for i in word_ids(word))]
        rows.append([rows_of[i] for i in [*ids, TOKENIZER.eot_token_id]])
    ends = torch.tensor([len(row) - 1 for row in rows])
    length = max(len(row) for row in rows)
    return torch.tensor([row + [0] * (length - len(row)) for row in rows]), ends


def encode_text(model: open_clip.CLIP, rows: Tensor, ends: Tensor) -> Tensor:
    """Normalised text features (B, d), computed no further than the longest text."""
    length = rows.shape[1]
    x = model.token_embedding(rows) + model.positional_embedding[:length]
    x = model.transformer(x, attn_mask=model.attn_mask[:length, :length])
    x = model.ln_final(x)[torch.arange(len(x)), ends] @ model.text_projection
    return F.normalize(x.float(), dim=-1)


def attributes(scene: Scene) -> list[int]:
    """One class number for each of HEADS, NOT_THERE for what the scene has not."""

    def thing(thing: Thing | None) -> list[int]:
        if thing is None:
            return [NOT_THERE] * 3
        return [TEXTURES.index(thing.texture), list(COLOURS).index(thing.colour), SHAPES.index(thing.shape)]

    glyph = GLYPHS.index(scene.glyph) if scene.glyph else NOT_THERE
    count = scene.count if scene.kind == "pips" else NOT_THERE
    return [
        KINDS.index(scene.kind),
        *thing(scene.thing),
        int(scene.other is not None),
        *thing(scene.other),
        GROUNDS.index(scene.ground),
        STYLES.index(scene.style),
        glyph,
        count,
    ]


class Optimizer:
    """AdamW with decay for matrices only, gradient clipping, and a cosine schedule after a short warm-up."""

    def __init__(self, params: Iterable[nn.Parameter], steps: int, args: argparse.Namespace) -> None:
        self.params = list(params)
        groups = [
            {"params": [p for p in self.params if p.ndim >= 2], "weight_decay": args.weight_decay},
            {"params": [p for p in self.params if p.ndim < 2], "weight_decay": 0.0},
        ]
        self.adam = torch.optim.AdamW(groups, lr=args.lr, betas=(0.9, 0.98))
        warm = max(1, steps // 20)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.adam,
            lambda s: min((s + 1) / warm, 0.5 + 0.5 * math.cos(math.pi * max(0, s - warm) / (steps - warm))),
        )

    def step(self, loss: Tensor) -> None:
        self.adam.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.params, 1.0)
        self.adam.step()
        self.schedule.step()


class Batches:
    """Yields arrays of indices below `count`, each index once an epoch, and shows progress and mean loss."""

    def __init__(self, what: str, count: int, steps: int, batch: int, rng: np.random.Generator) -> None:
        self.count, self.steps, self.batch, self.rng = count, steps, batch, rng
        self.bar = tqdm(total=steps, desc=what)
        self.loss = math.nan

    def __iter__(self) -> Iterator[np.ndarray]:
        order = np.zeros(0, int)
        for _ in range(self.steps):
            if len(order) < self.batch:
                order = self.rng.permutation(self.count)
            yield order[: self.batch]
            order = order[self.batch :]
            self.bar.update()
        self.bar.close()

    def show(self, loss: Tensor, **more: float) -> None:
        self.loss = loss.item() if math.isnan(self.loss) else 0.9 * self.loss + 0.1 * loss.item()
        shown = {"loss": self.loss, **more}
        self.bar.set_postfix({name: f"{value:.3f}" for name, value in shown.items()}, refresh=False)


def normalize(images: Tensor) -> Tensor:
    mean = 255 * torch.tensor(OPENAI_DATASET_MEAN).view(3, 1, 1)
    std = 255 * torch.tensor(OPENAI_DATASET_STD).view(3, 1, 1)
    return (images - mean) / std


def train_image_tower(
    tower: VisionTransformer, scenes: list[Scene], images: Tensor, args: argparse.Namespace
) -> float:
    """Train the image tower in place to tell attributes() apart. Returns the mean loss of the last steps."""
    rng = np.random.default_rng([args.seed, 1 << 20])
    targets = torch.tensor([attributes(scene) for scene in scenes])
    heads = nn.Linear(tower.output_dim, sum(HEADS))
    optimizer = Optimizer([*tower.parameters(), *heads.parameters()], args.image_steps, args)
    batches = Batches("image tower", len(scenes), args.image_steps, args.batch, rng)
    for batch in batches:
        chosen = torch.from_numpy(batch)
        with fast(args):
            features = tower(normalize(images[chosen]))
        outputs = heads(10 * F.normalize(features.float(), dim=-1)).split(HEADS, dim=1)
        losses = [
            F.cross_entropy(output, target, ignore_index=NOT_THERE, reduction="sum")
            / (target != NOT_THERE).sum().clamp(min=1)
            for output, target in zip(outputs, targets[chosen].T)
        ]
        loss = torch.stack(losses).sum()
        optimizer.step(loss)
        batches.show(loss)
    return batches.loss


@torch.no_grad()
def encode_images(tower: VisionTransformer, images: Tensor) -> Tensor:
    """Normalised image features (N, d)."""
    return torch.cat([F.normalize(tower(normalize(part)), dim=-1) for part in images.split(1000)])


def train_text_tower(
    model: open_clip.CLIP, scenes: list[Scene], features: Tensor, args: argparse.Namespace
) -> float:
    """Train the text tower in place against the image features (N, d) of the scenes. Returns the mean loss."""
    rng = np.random.default_rng([args.seed, 2 << 20])
    rows_of = {token: row for row, token in enumerate(token_ids().tolist())}
    params = [p for name, p in model.named_parameters() if not name.startswith("visual.")]
    optimizer = Optimizer(params, args.text_steps, args)
    batches = Batches("text tower", len(scenes), args.text_steps, args.batch, rng)
    for batch in batches:
        most = int(rng.choice([0, 8, MAX_FILLER], p=[0.7, 0.2, 0.1]))
        texts = [caption(scenes[i], rng, int(rng.integers(most + 1))) for i in batch]
        rows, ends = tokenize(texts, rows_of)
        with fast(args):
            text_features = encode_text(model, rows, ends)
        logits = model.logit_scale.exp() * features[torch.from_numpy(batch)] @ text_features.T
        target = torch.arange(len(batch))
        loss = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
        optimizer.step(loss)
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))
        batches.show(loss, scale=model.logit_scale.exp().item())
    return batches.loss


def fast(args: argparse.Namespace) -> AbstractContextManager:
    # With so few tokens, attention as plain products is several times faster than the fused one on a CPU.
    with ExitStack() as stack:
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        stack.enter_context(torch.autocast("cpu", torch.bfloat16, enabled=args.bf16))
        return stack.pop_all()


def stored(model: open_clip.CLIP) -> dict[str, Tensor]:
    """The state dict in fp16, with the token table as ids and rows."""
    state = {name: value.detach().half().contiguous() for name, value in model.state_dict().items()}
    table = state.pop("token_embedding.weight")
    return state | {
        "token_embedding.ids": token_ids().to(torch.int32),
        "token_embedding.rows": table,
    }


def build_model(config: dict) -> open_clip.CLIP:
    """A CLIP with random weights whose token table has one row for each of token_ids(): no other is ever met."""
    model = open_clip.CLIP(**config)
    rows = model.token_embedding.weight[token_ids()]
    model.token_embedding = nn.Embedding.from_pretrained(rows, freeze=False)
    return model


def main(args: argparse.Namespace) -> None:
    """Train with the arguments of tools/train_mini.py, and write the weights."""
    if missing := missing_fonts():
        raise MissingFile(
            f"the installed matplotlib has no {', '.join(missing)}: install 3.11 (Python 3.11) or newer"
        )
    start = time.time()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    config = json.loads(args.config.read_text())
    model = build_model(config)
    scenes, images = paint_pool(args.images, config["vision_cfg"]["image_size"], args.seed, args.processes)
    train_image_tower(model.visual, scenes, images, args)
    train_text_tower(model, scenes, encode_images(model.visual, images), args)
    save_file(stored(model), args.output)
    size = args.output.stat().st_size / 1e6
    print(f"{args.output}: {size:.2f} MB, {len(token_ids())} token rows, in {time.time() - start:.0f} s")
