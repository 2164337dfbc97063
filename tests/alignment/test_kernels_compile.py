"""The fused kernels compiled ahead of time for chips that are not here: everything fits, and next to nothing spills.

How many registers a program gets is the compiler's decision, and another in each of its versions: some bytes spilled
outside of the loops cost nothing, so what is bounded is the share of instructions that move them.
"""

import pytest
import torch

pytest.importorskip("triton")

from benchmarks.kernel_resources import SHARED_LIMIT, compile_kernel

MOST_SPILLING = 0.03  # of the instructions
# MMTPA on ViT-B/16 (196 patches and 2 visual prompts), and on ViT-L/14 at 336 pixels with long class names; its
# prompts, and PLOT's local features
TRAINING, LARGEST = (198, 8), (578, 16)
PROMPTS, LOCAL_FEATURES = (4, 4), (196, 4)


@pytest.mark.parametrize(
    ("name", "sizes", "capability"),
    [(name, TRAINING, chip) for name in ("transport", "flow") for chip in (80, 90, 100)]
    + [("transport", LARGEST, 90), ("flow", LARGEST, 90), ("transport, changes", TRAINING, 90)]
    + [("transport, facts", TRAINING, 90), ("flow, masses", TRAINING, 90)]
    + [("prepare", (792, 1024), 90), ("finish", (792, 1024), 90)]
    + [("prompt", PROMPTS, 80), ("prompt", PROMPTS, 90), ("prompt, changes", LOCAL_FEATURES, 90)],
    ids=str,
)
def test_shipped_configuration(name, sizes, capability):
    resources = compile_kernel(name, capability, torch.bfloat16, *sizes)
    assert resources.spill_share <= MOST_SPILLING
    assert resources.shared <= SHARED_LIMIT[capability]
    assert resources.registers * resources.threads <= 65536


@pytest.mark.parametrize(
    ("name", "sizes"), [("transport", TRAINING), ("flow", TRAINING), ("prompt", PROMPTS)]
)
def test_logarithms(name, sizes):
    """For small eps."""
    resources = compile_kernel(name, 90, torch.float32, *sizes, logarithms=True)
    assert resources.spill_share <= MOST_SPILLING


@pytest.mark.parametrize("name", ["transport, facts", "flow, masses"])
def test_relaxed_marginals(name):
    resources = compile_kernel(name, 90, torch.bfloat16, *TRAINING, logarithms=True, balanced=False)
    assert resources.spill_share <= MOST_SPILLING


def test_many_programs_share_a_multiprocessor():
    """Which is what hides the time that each of them waits for its scores."""
    assert compile_kernel("transport", 90, torch.bfloat16, *TRAINING).programs >= 12
    assert compile_kernel("flow", 90, torch.bfloat16, *TRAINING).programs >= 10
