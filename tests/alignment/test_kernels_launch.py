"""What the operators hand to their kernels, as a GPU would get it: Triton takes the arguments of every launch, compiles
for sm_90 and stops before it starts. The interpreter, which runs the kernels, takes arguments in its own way.
"""

import subprocess
import sys

import pytest

pytest.importorskip("triton")

PROGRAM = """
import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction


class NoDevice:
    get_current_device = staticmethod(lambda: 0)
    get_current_stream = staticmethod(lambda device: 0)
    get_current_target = staticmethod(lambda: GPUTarget("cuda", 90, 32))
    get_active_torch_device = staticmethod(lambda: torch.device("cpu"))


def compile_only(kernel, grid):
    def launch(*places, **arguments):
        launched.append(kernel.fn.__name__)
        return kernel.run(*places, grid=grid, warmup=True, **arguments)

    return launch


launched = []
driver.set_active(NoDevice())
JITFunction.__getitem__ = compile_only

from alignment.fused import prompt, token
from alignment.problems import Problems
from alignment.rule import Rule

x, y = (torch.rand(s, dtype=torch.bfloat16, requires_grad=True) for s in ((2, 2, 21, 64), (5, 2, 5, 64)))
masses = torch.full((2, 2, 21), 1 / 21), torch.full((5, 2, 5), 1 / 5)
for together, memory in ((False, 2**20), (True, 2**20), (False, 2**12)):
    token.token_similarity(x, y, *masses, 0.1, 30, 1e-2, together, True, False, memory).sum().backward()
masses[0].requires_grad_()
cost = torch.rand(2, 5, 2, 2, 21, 5, requires_grad=True)
for reach, stop in ((float("inf"), "problem"), (float("inf"), "release"), (0.5, "problem")):
    rule = Rule.of(0.1, 30, stop, 1e-2, reach=(reach, reach))
    for features in ((x, y, None), (None, None, cost)):
        problems = Problems(*features, *masses, None, rule, False, 2**20)
        value, facts, _ = token.similarities(problems, False, True)
        (value.sum() + facts.sum()).backward()
        token.plans(problems, False)
        token.largest(problems, False, 3)
masses = torch.full((2, 5, 4), 0.25), torch.full((2, 5, 4), 0.25)
for together in (False, True):
    prompt.prompt_plan(torch.rand(2, 5, 4, 4), *masses, 0.1, 30, 1e-2, together)
print(*sorted(set(launched)))
"""


def test_every_launch_is_taken_and_compiled(root):
    command = [sys.executable, "-c", PROGRAM]
    result = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    kernels = ["finish_kernel", "flow_kernel", "prepare_kernel", "prompt_kernel", "transport_kernel"]
    assert result.stdout.split() == kernels
