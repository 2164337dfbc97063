"""The memory budget, measured: the process's peak against what it held before."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys, torch
from alignment import token_transport
from tests.alignment.samples import tokens

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

def run(x, y, memory):
    value = token_transport(x, y, memory=memory)
    if x.requires_grad:
        value.sum().backward()
    return value

backward = sys.argv[1] == "backward"
small = [tokens(*s).requires_grad_(backward) for s in ((1, 1, 20, 32), (2, 1, 4, 32))]
run(*small, 2**20)
x, y = (tokens(*s).requires_grad_(backward) for s in ((8, 2, 198, 32), (400, 4, 8, 32)))
inputs_and_gradients = 4 * (x.numel() + y.numel()) * backward
before = peak()
run(x, y, int(sys.argv[2]))
print(peak() - before - inputs_and_gradients)
"""


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_peak_stays_within_the_budget(root, direction):
    budget, cost_matrices = 32 * 2**20, 4 * 8 * 2 * 198 * 400 * 4 * 8
    assert cost_matrices > 4 * budget
    command = [sys.executable, "-c", PROGRAM, direction, str(budget)]
    result = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    # The matrix library's own packing buffers and the allocator's rounding come on top.
    assert int(result.stdout) < budget + 12 * 2**20
