"""Train the bundled model, clip/mini: a small CLIP, on drawn pictures and their captions.

    python tools/train_mini.py            # about 15 minutes on one core

Pictures and captions come from datasets/drawing.py and datasets/captions.py. The same seed on the same
machine and library versions gives the same weights; elsewhere, rounding differs.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from multiprocessing import Pool
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import open_clip
from open_clip import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from open_clip.tokenizer import SimpleTokenizer
from safetensors.torch import save_file
from tqdm import tqdm

from datasets.captions import caption, words
from datasets.drawing import COLOURS, GROUNDS, LETTERS, PIPS, SHAPES, STYLES, TEXTURES, Scene, Thing, draw

CHUNK = 500  # pictures that share one random generator
MAX_FILLER = 28  # words in front of a caption
KINDS = ("shapes", "glyph", "pips")
GLYPHS = (*"0123456789", *LETTERS)
_THING = (len(TEXTURES), len(COLOURS), len(SHAPES))
# Number of classes of each head, in the order of attributes().
HEADS = (len(KINDS), *_THING, 2, *_THING, len(GROUNDS), len(STYLES), len(GLYPHS), len(PIPS))
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
        ("photo", "noisy", "blurry", "pixelated", "dark", "bright"), (0.35, 0.1, 0.3, 0.15, 0.05, 0.05)
    )
    return Scene(kind, glyph=glyph, ground=pick(GROUNDS), style=style)


def draw_chunk(job: tuple[int, int, int]) -> tuple[list[Scene], np.ndarray]:
    seed, chunk, size = job
    rng = np.random.default_rng([seed, chunk])
    scenes = [random_scene(rng) for _ in range(CHUNK)]
    images = np.stack([draw(scene, rng) for scene in scenes])
    if (factor := images.shape[1] // size) > 1:  # means over squares of pixels
        images = images.reshape(CHUNK, size, factor, size, factor, 3).mean((2, 4)).round().astype(np.uint8)
    return scenes, images


def draw_pool(count: int, size: int, seed: int, processes: int) -> tuple[list[Scene], Tensor]:
    """Returns the scenes and their pictures, uint8 (count, 3, size, size)."""
    jobs = [(seed, chunk, size) for chunk in range(math.ceil(count / CHUNK))]
    with Pool(processes) as pool:
        parts = list(tqdm(pool.imap(draw_chunk, jobs), total=len(jobs), desc="drawing", unit=f"x{CHUNK}"))
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
    """What there is to say about a scene, as one class number for each of HEADS; -100 where it does not apply."""

    def thing(thing: Thing | None) -> list[int]:
        if thing is None:
            return [-100, -100, -100]
        return [TEXTURES.index(thing.texture), list(COLOURS).index(thing.colour), SHAPES.index(thing.shape)]

    glyph = GLYPHS.index(scene.glyph) if scene.glyph else -100
    count = scene.count if scene.kind == "pips" else -100
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


def optimize(params: list[tuple[str, Tensor]], steps: int, args: argparse.Namespace):
    """AdamW with decay for matrices only, and a cosine schedule after a short warm-up."""
    groups = [
        {"params": [p for _, p in params if p.ndim >= 2], "weight_decay": args.weight_decay},
        {"params": [p for _, p in params if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=args.lr, betas=(0.9, 0.98), foreach=True)
    warm = max(1, steps // 20)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda s: min((s + 1) / warm, 0.5 + 0.5 * math.cos(math.pi * max(0, s - warm) / (steps - warm))),
    )
    return optimizer, schedule


def batches(count: int, size: int, steps: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield `steps` arrays of `size` indices below `count`, each index once an epoch."""
    order = np.zeros(0, int)
    for _ in range(steps):
        if len(order) < size:
            order = rng.permutation(count)
        yield order[:size]
        order = order[size:]


def normalize(images: Tensor) -> Tensor:
    mean = 255 * torch.tensor(OPENAI_DATASET_MEAN).view(3, 1, 1)
    std = 255 * torch.tensor(OPENAI_DATASET_STD).view(3, 1, 1)
    return (images - mean) / std


def train_image_tower(
    tower: torch.nn.Module, scenes: list[Scene], images: Tensor, args: argparse.Namespace
) -> None:
    """Teach the image tower to see: linear heads, dropped afterwards, name the parts of a scene."""
    rng = np.random.default_rng([args.seed, 1 << 20])
    targets = torch.tensor([attributes(scene) for scene in scenes])
    heads = torch.nn.Linear(tower.output_dim, sum(HEADS))
    params = [*tower.named_parameters(), *heads.named_parameters()]
    optimizer, schedule = optimize(params, args.image_steps, args)
    bar = tqdm(batches(len(scenes), args.batch, args.image_steps, rng), desc="images", total=args.image_steps)
    running = torch.zeros(len(HEADS))
    for step, batch in enumerate(bar):
        chosen = torch.from_numpy(batch)
        with fast(args):
            features = tower(normalize(images[chosen]))
        outputs = heads(10 * F.normalize(features.float(), dim=-1)).split(HEADS, dim=1)
        losses = torch.stack([F.cross_entropy(o, t) for o, t in zip(outputs, targets[chosen].T)])
        optimizer.zero_grad()
        losses.sum().backward()
        torch.nn.utils.clip_grad_norm_([p for _, p in params], 1.0)
        optimizer.step()
        schedule.step()
        if step % 200 == 199:
            hits = [(o.argmax(1) == t)[t >= 0].float().mean() for o, t in zip(outputs, targets[chosen].T)]
            tqdm.write(" ".join(f"{h:.2f}" for h in hits))
        running = losses.detach()


@torch.no_grad()
def encode_images(tower: torch.nn.Module, images: Tensor) -> Tensor:
    tower.eval()
    parts = [F.normalize(tower(normalize(part)), dim=-1) for part in images.split(1000)]
    return torch.cat(parts)


def train_text_tower(
    model: open_clip.CLIP, ids: Tensor, scenes: list[Scene], features: Tensor, args: argparse.Namespace
) -> None:
    """Train the text tower with CLIP's contrastive loss against the locked image tower's features (N, d).

    Row i of the model's token table is token ids[i]. Locked image tower: Zhai et al., LiT, CVPR 2022.
    """
    rng = np.random.default_rng([args.seed, 2 << 20])
    rows_of = {token: row for row, token in enumerate(ids.tolist())}
    params = [(name, p) for name, p in model.named_parameters() if not name.startswith("visual.")]
    optimizer, schedule = optimize(params, args.text_steps, args)
    bar = tqdm(batches(len(scenes), args.batch, args.text_steps, rng), desc="texts", total=args.text_steps)
    running = None
    for batch in bar:
        most = int(rng.choice([0, 8, MAX_FILLER], p=[0.7, 0.2, 0.1]))
        texts = [caption(scenes[i], rng, int(rng.integers(most + 1))) for i in batch]
        rows, ends = tokenize(texts, rows_of)
        with fast(args):
            text_features = encode_text(model, rows, ends)
        logits = model.logit_scale.exp() * features[torch.from_numpy(batch)] @ text_features.T
        target = torch.arange(len(batch))
        loss = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([p for _, p in params], 1.0)
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))
        running = loss.item() if running is None else 0.98 * running + 0.02 * loss.item()
        bar.set_postfix(loss=f"{running:.3f}", scale=f"{model.logit_scale.exp().item():.1f}", refresh=False)


@contextmanager
def fast(args: argparse.Namespace) -> Iterator[None]:
    # With so few tokens, attention as plain products is several times faster than the fused one on a CPU.
    with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16), sdpa_kernel(SDPBackend.MATH):
        yield


def stored(model: open_clip.CLIP, ids: Tensor) -> dict[str, Tensor]:
    """The state dict in fp16, with the token table as ids and rows."""
    state = {name: value.detach().half().contiguous() for name, value in model.state_dict().items()}
    table = state.pop("token_embedding.weight")
    return state | {
        "token_embedding.ids": ids.to(torch.int32),
        "token_embedding.rows": table,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=ROOT / "clip" / "mini" / "mini.safetensors")
    parser.add_argument("--config", type=Path, default=ROOT / "clip" / "mini" / "mini.json")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--image-steps", type=int, default=3000)
    parser.add_argument("--text-steps", type=int, default=1500)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--weight-decay", type=float, default=0.1)
    parser.add_argument("--processes", type=int, default=2, help="for drawing")
    parser.add_argument("--threads", type=int, default=1, help="for training")
    parser.add_argument("--no-bf16", dest="bf16", action="store_false", help="train in fp32")
    args = parser.parse_args()

    start = time.time()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    config = json.loads(args.config.read_text())
    model = open_clip.CLIP(**config)
    # Most of CLIP's vocabulary is never met: train a table of the tokens that are.
    ids = token_ids()
    table = model.token_embedding.weight[ids]
    model.token_embedding = torch.nn.Embedding.from_pretrained(table, freeze=False)
    scenes, images = draw_pool(args.images, config["vision_cfg"]["image_size"], args.seed, args.processes)
    drawn = time.time()
    train_image_tower(model.visual, scenes, images, args)
    train_text_tower(model, ids, scenes, encode_images(model.visual, images), args)
    save_file(stored(model, ids), args.output)
    print(f"{args.output}: {args.output.stat().st_size / 1e6:.2f} MB, {len(ids)} token rows")
    print(f"drawing {drawn - start:.0f} s, training {time.time() - drawn:.0f} s")


if __name__ == "__main__":
    main()
