"""Where a forest's tokens stand: every token once, in rows that are about equally full."""

import pytest
import torch
from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES

from clip import Layout, encode
from clip.arrangement import ROW, arrange
from clip.branch_attention import grove_mask

CPU = torch.device("cpu")


def of_names(names, roots, tokens=False):
    lengths = [len(encode(name + ".")) + 1 for name in names]
    ends = tuple(length - 1 for length in lengths)
    return Layout(roots, tuple(lengths), ends, tuple(roots[0] + end - 1 for end in ends) if tokens else ())


@pytest.mark.parametrize("tokens", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_every_token_stands_somewhere(packed, tokens):
    layout = of_names(IMAGENET_CLASSNAMES[:200], (5, 3), tokens)
    at = arrange(layout, CPU, packed)
    assert set(at.order.tolist()) == set(range(sum(layout.branches)))
    if packed:
        assert len(at.order) == sum(length * count for length, count in at.groups)
    else:
        owners = at.owner[at.owner > 0].bincount(minlength=len(layout.branches) + 2)
        assert owners[1:-1].tolist() == [2 * length for length in layout.branches]  # under both roots


@pytest.mark.parametrize(("roots", "bound"), [((5, 3, 3, 3), 0.07), ((17,), 0.18), ((5,) * 10, 0.07)])
@pytest.mark.parametrize("n_classes", [100, 1000])
def test_rows_are_full_and_few(n_classes, roots, bound):
    """What repeated roots and filled up groves cost, of all tokens."""
    layout = of_names(IMAGENET_CLASSNAMES[:n_classes], roots)
    owner = arrange(layout, CPU, packed=False).owner
    assert owner.shape[1] <= ROW
    needed = len(roots) * (max(roots) + sum(layout.branches))
    assert needed <= owner.numel() <= (1 + bound) * needed


def test_a_row_holds_the_longest_branch():
    layout = Layout((17,), (60, 3), (59, 2))
    assert arrange(layout, CPU, packed=False).owner.shape == (1, 80)
    layout = Layout((17,), (60,) * 3, (59,) * 3)
    assert arrange(layout, CPU, packed=False).owner.shape == (3, 77)


def test_the_mask_shows_a_token_its_root_and_its_own_branch_up_to_itself():
    owner = torch.tensor([[0, 0, 1, 1, 2], [0, -1, 1, 1, 2]])  # the second root is one token shorter
    seen = grove_mask(owner, torch.float32)[:, 0] == 0
    assert seen[0].int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0],
        [1, 1, 0, 0, 1],
    ]
    assert seen[1, 2:].int().tolist() == [[1, 0, 1, 0, 0], [1, 0, 1, 1, 0], [1, 0, 0, 0, 1]]
