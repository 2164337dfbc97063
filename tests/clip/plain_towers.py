"""The plain computation of what a method changes in a tower: texts at 77 positions, images one by one, with open_clip's
own blocks whose weights are replaced as a whole.
"""

import torch
import torch.nn.functional as F
from torch.func import functional_call

from clip import Layout, LowRank, Tap, TextPrompts, Tokens
from clip.changes import count, is_by_class
from tests.clip.test_text_tower import assert_close, make_prompts

W_T, W_V, N = 128, 192, 2
LAYOUT = Layout((4, 4), (4, 3, 6), (3, 2, 5))
UNEQUAL = Layout((4, 3, 5), (4, 3, 6), (3, 2, 5))


def draw(*shape, seed=0, std=0.05):
    return (torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * std).requires_grad_()


def entered(x, tokens, values, start):
    """x (B, T, w) with values (n, w) or (B, n, w) in it; a mask of the longer length is the caller's."""
    fresh = values.expand(len(x), *values.shape[-2:])
    if tokens.insert:
        return torch.cat([x[:, :start], fresh, x[:, start:]], dim=1)
    there = x[:, start : start + count(tokens)]
    fresh = (1 - tokens.kept) * fresh + tokens.kept * there
    return torch.cat([x[:, :start], fresh, x[:, start + count(tokens) :]], dim=1)


def full_weights(module, changes, blocks):
    """Names of open_clip's parameters -> their changed values; each in fp32, additions of low rank multiplied out."""
    parameters, found = dict(module.named_parameters()), {}
    for name, change in changes.items():
        head, _, rest = name.partition(".")
        if head != "blocks":
            found[name.replace("projection", blocks[0])] = change
            continue
        number, _, place = rest.partition(".")
        place, kind = place.split(".")
        third = {"q": 0, "k": 1, "v": 2}.get(place)
        inner = {"o": "attn.out_proj.", "fc": "mlp.c_fc.", "proj": "mlp.c_proj."}.get(place, f"{place}.")
        inner = "attn.in_proj_" if third is not None or place == "qkv" else inner
        theirs = f"{blocks[1]}{number}.{inner}{kind}"
        whole = found.get(theirs, parameters[theirs])
        parts = list(whole.chunk(3)) if third is not None else [whole]
        at = third or 0
        parts[at] = parts[at] + change.product() if isinstance(change, LowRank) else change
        found[theirs] = torch.cat(parts)
    return found


class PlainTexts(torch.nn.Module):
    """All texts at their full length, through open_clip's blocks."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, root, branch, layout, changes):
        model, outputs, summaries = self.model, [], []
        for r, length in enumerate(layout.roots):
            rows, start = [], 0
            for size in layout.branches:
                row = torch.cat([root[r, :length], branch[start : start + size]])
                rows.append(F.pad(row, (0, 0, 0, 77 - len(row))))
                start += size
            x = torch.stack(rows) + model.positional_embedding
            grown = 0
            for number, block in enumerate(model.transformer.resblocks):
                for tokens in changes.tokens:
                    if tokens.block == number:
                        of_all = is_by_class(tokens) and tokens.values.shape[1] == 1
                        values = tokens.values.select(1 if is_by_class(tokens) else 0, 0 if of_all else r)
                        x = entered(x, tokens, values, 1 + tokens.offset)
                        grown += count(tokens) if tokens.insert else 0
                mask = torch.full((77 + grown,) * 2, -torch.inf).triu(1)
                x = block(x, attn_mask=mask)
            x = model.ln_final(x) @ model.text_projection
            outputs.append(x)
            ends = length + grown + torch.tensor(layout.ends)
            summaries.append(x[torch.arange(len(ends)), ends])
        return torch.stack(outputs, dim=1), torch.stack(summaries, dim=1)


def entering(shape, inserted_at, kept=0.0, offset=0):
    """Inserted in front of one block, and again in front of all later ones of three."""
    first = Tokens(inserted_at, draw(*shape, seed=5), insert=True, offset=offset)
    later = range(inserted_at + 1, 3)
    return first, *(Tokens(b, draw(*shape, seed=b), kept=kept, offset=offset) for b in later)


def low_rank(width_out, width_in, seed, rank=2, scale=0.7):
    return LowRank(
        draw(rank, width_in, seed=seed, std=0.1), draw(width_out, rank, seed=seed + 1, std=0.1), scale
    )


def every_kind(width, outside, joint=96):
    """Additions to all matrices of one block and some of another, all else of the latter replaced."""
    sizes = dict.fromkeys("qkvo", (width, width)) | {"fc": (4 * width, width), "proj": (width, 4 * width)}
    weights = {
        f"blocks.0.{name}.weight": low_rank(*size, seed=i, rank=1 + i % 3)
        for i, (name, size) in enumerate(sizes.items())
    }
    weights |= {
        "blocks.1.k.weight": low_rank(width, width, seed=20),
        "blocks.1.v.weight": draw(width, width, seed=22),
    }
    for i, (name, size) in enumerate({"o": sizes["o"], "fc": sizes["fc"], "proj": sizes["proj"]}.items()):
        weights |= {
            f"blocks.2.{name}.weight": draw(*size, seed=30 + i),
            f"blocks.2.{name}.bias": draw(size[0], seed=40 + i),
        }
    weights |= {"blocks.2.qkv.bias": draw(3 * width, seed=50), "blocks.1.q.bias": draw(width, seed=51)}
    for i, name in enumerate(["blocks.0.ln_1", "blocks.1.ln_2", *outside]):
        weights |= {
            f"{name}.weight": draw(width, seed=60 + i, std=1),
            f"{name}.bias": draw(width, seed=70 + i),
        }
    return weights | {"projection": draw(width, joint, seed=80)}


def leaves_of(changes):
    return [tensor for tensor in changes.tensors() if tensor.requires_grad]


def check_texts(model, towers, changes, layout=LAYOUT):
    """Summaries, tokens and gradients of everything."""
    root, branch = make_prompts(layout, W_T)
    leaves = [root, branch, *leaves_of(changes)]
    features = towers.text(TextPrompts(root, branch, layout), changes)
    plain, names = PlainTexts(model), ("text_projection", "transformer.resblocks.")
    weights = {f"model.{name}": value for name, value in full_weights(model, changes.weights, names).items()}
    outputs, summaries = functional_call(plain, weights, (root, branch, layout, changes))
    assert_close(features.summary, summaries)
    weigh = torch.randn_like(summaries)
    ours, theirs = (features.summary * weigh).sum(), (summaries * weigh).sum()
    grown = sum(count(tokens) for tokens in changes.tokens if tokens.insert)
    for c, length in enumerate(layout.tokens):
        length += grown
        assert_close(features.tokens[c, :, :length], outputs[c, :, :length])
        weigh = torch.randn_like(outputs[c, :, :length])
        ours = ours + (features.tokens[c, :, :length] * weigh).sum()
        theirs = theirs + (outputs[c, :, :length] * weigh).sum()
    for mine, reference in zip(torch.autograd.grad(ours, leaves), torch.autograd.grad(theirs, leaves)):
        assert_close(mine, reference)


class PlainImages(torch.nn.Module):
    """One visual prompt of each image after the other."""

    def __init__(self, visual):
        super().__init__()
        self.visual = visual

    def forward(self, images, changes, m, first_attention=False):
        """Output tokens behind the last norm: of the tower, by the last block's values, and by values of values."""
        visual, among = self.visual, None
        x = visual.conv1(images).flatten(2).transpose(1, 2)
        x = torch.cat([visual.class_embedding.expand(len(x), 1, -1), x], dim=1) + visual.positional_embedding
        own = x.shape[1]
        if changes.prompts is not None:
            x = torch.cat([x, changes.prompts[m].expand(len(x), -1, -1)], dim=1)
        x = visual.ln_pre(x)
        for number, block in enumerate(visual.transformer.resblocks):
            for tokens in changes.tokens:
                if tokens.block == number:
                    x = entered(x, tokens, tokens.values[m], own + tokens.offset)
            y, attn = block.ln_1(x), block.attn
            v = F.linear(y, *(part.chunk(3)[2] for part in (attn.in_proj_weight, attn.in_proj_bias)))
            head = v.unflatten(-1, (attn.num_heads, -1)).transpose(1, 2)
            shares = (head @ head.transpose(-1, -2) * head.shape[-1] ** -0.5).softmax(dim=-1)
            added = attn.out_proj((shares @ head).transpose(1, 2).flatten(2))
            among = (x if among is None else among)[:, :own] + added[:, :own]
            if number == 0 and first_attention:
                among = among + attn(y, y, y, need_weights=False)[0][:, :own]
            values = x + attn.out_proj(v)
            values = values + block.mlp(block.ln_2(values))
            x = block(x)
        return [visual.ln_post(part) for part in (x, values, among)], own


def check_images(model, towers, changes, images, tokens=False):
    copies = max(
        [
            1,
            *(len(each) for each in (changes.prompts,) if each is not None),
            *(len(t.values) for t in changes.tokens),
        ]
    )
    features = towers.image(images, changes, tokens=tokens)
    tap = Tap() if tokens is True else tokens or Tap()
    names = ("proj", "transformer.resblocks.")
    weights = {
        f"visual.{name}": value for name, value in full_weights(model.visual, changes.weights, names).items()
    }
    projection = changes.weights.get("projection", model.visual.proj)
    summaries, wanted = [], []
    for m in range(copies):
        paths, own = functional_call(
            PlainImages(model.visual), weights, (images, changes, m, tap.first_attention)
        )
        summaries.append(paths[0][:, 0] @ projection)
        chosen = paths[["attention", "values", "value-value"].index(tap.path)][:, tap.positions(own)]
        wanted.append(chosen @ projection if tap.projected else chosen)
    pairs = [(features.summary, torch.stack(summaries, dim=1))]
    pairs += [(features.tokens, torch.stack(wanted, dim=1))] if tokens else []
    ours = theirs = 0
    for mine, reference in pairs:
        assert_close(mine, reference)
        weigh = torch.randn_like(reference)
        ours, theirs = ours + (mine * weigh).sum(), theirs + (reference * weigh).sum()
    leaves = leaves_of(changes)
    if leaves:
        for mine, reference in zip(torch.autograd.grad(ours, leaves), torch.autograd.grad(theirs, leaves)):
            assert_close(mine, reference)
