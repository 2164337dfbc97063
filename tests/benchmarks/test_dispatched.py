"""What a step sends to a GPU: few copies, and nothing that grows with the classes."""

import pytest
import torch

from benchmarks.dispatched import Counting, count_step
from clip.load import MINI
from dassl.engine import TRAINER_REGISTRY
from tests.trainers.harness import MINI_DEPTH, build, make_cfg
from trainers.class_names import Classes


@pytest.fixture
def count(data_root, tmp_path):
    """Operations of a method's step on the bundled model, whose tensors are lost by counting."""
    if not (MINI / "mini.safetensors").exists():
        pytest.skip("the bundled model's weights are not there")

    def count(method, precision, names=()):
        key = f"TRAINER.{TRAINER_REGISTRY.get(method).section}.PREC"
        trainer = build(make_cfg(method, data_root, tmp_path, key, precision))
        model = trainer.model
        if names:
            model = trainer._build_prompts(model.clip, Classes(list(names), "a photo of a {}."))
        return count_step(model, trainer.autocast, batch=5, classes=len(names) or 10)

    return count


def test_copies_and_casts_are_told_apart():
    frozen = torch.randn(4, 4)
    with Counting([frozen]) as counting:
        frozen.bfloat16()
        (torch.randn(4, 4).bfloat16() @ frozen.t().bfloat16()).float()
        torch.cat([frozen, frozen]).view(-1)[:3].add(1).sum().item()
    seen = counting.seen
    assert seen.casts == {"float32 to bfloat16": 3, "bfloat16 to float32": 1}
    assert seen.frozen_casts == 2
    assert seen.copies == {"cat": 1}
    assert seen.products == {"(4, 4) (4, 4)": 1}
    assert seen.waits == {"_local_scalar_dense": 1}
    assert seen.total == 4 + 1 + 1 + 1 + 1 + 1  # casts, randn, product, cat, add, sum


@pytest.mark.parametrize("method", ["MMTPA", "CoOp", "MaPLe"])
def test_copies_are_few_for_a_block(method, count):
    """Of both towers: the gradients of queries, keys and values are joined, and deep prompts put in their places."""
    blocks = 2 * MINI_DEPTH
    seen = count(method, "bf16")
    deep = 0 if method == "CoOp" else blocks
    assert seen.copies.total() <= blocks + 2 * deep + 30
    assert seen.copies["clone"] <= 8
    assert seen.products.total() <= 10 * blocks + 20


def test_operations_do_not_grow_with_the_classes_nor_the_lengths_of_their_names(count):
    few, many = ["cat", "dog"], ["one" + " more" * (i % 9) for i in range(40)]
    one_row, several = (count("MMTPA", "bf16", names).operations for names in (few, many))
    assert several.total() <= one_row.total() + 2 * MINI_DEPTH + 2  # gradients of repeated roots are summed
    assert several["bmm"] == one_row["bmm"]
