"""The memory budget, measured: the process's peak against what it held before."""

import subprocess
import sys
from pathlib import Path

import pytest

BUDGET = 8 * 2**20
IMAGES, CLASSES = (4, 2, 198, 32), (200, 4, 8, 32)
CELLS = 4 * 4 * 2 * 198 * 200 * 4 * 8  # bytes of all costs
SLACK = 7 * 2**20  # packing buffers of the matrix library, the allocator's rounding

MEASURE = f"""
import ctypes, math, torch
from pathlib import Path
from alignment import token_divergence, token_matches, token_plan, token_transport
from tests.alignment.samples import tokens

BUDGET, IMAGES, CLASSES = {BUDGET}, {IMAGES}, {CLASSES}

def status(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(field)).split()[1])

def measure(name, call, gradient=True, beside=lambda result: 0, **options):
    def run(images, classes):
        x, y = (tokens(*s).requires_grad_(gradient) for s in (images, classes))
        u = torch.rand(images[:3]).add_(0.1).requires_grad_(gradient and "value" in options)
        if "value" in options or call is token_divergence:
            options["image_weights"] = u
        before = None
        def later():
            nonlocal before
            ctypes.CDLL(None).malloc_trim(0)
            Path("/proc/self/clear_refs").write_text("5")  # sets the peak back to the present size
            before = status("VmRSS")
            result = call(x, y, memory=BUDGET, **options)
            if gradient:
                result.sum().backward()
            return status("VmHWM") - before - 4 * (x.numel() + y.numel()) * gradient - beside(result)
        return later()
    run((1, 1, 20, 32), (2, 1, 4, 32))
    print(name, run(IMAGES, CLASSES), sep="\\t")
"""

PLAIN = """
measure("cost", token_transport, gradient=False)
measure("cost and gradient", token_transport)
measure("optimum and gradient", token_transport, value="regularised")
measure("a given mass", token_transport, mass=0.5, value="regularised", max_iter=3, stop="fixed")
measure("largest entries", token_matches, gradient=False, k=3)
measure("divergence and gradient", token_divergence)
measure("plans", token_plan, gradient=False, beside=lambda plan: plan.nbytes)
"""

# The fused path needs a device for its kernels alone: what they would write is touched instead.
FUSED = """
from alignment import choice
from alignment.fused import features, forward, gradient, plans

class Touches:
    def __getitem__(self, grid):
        def launch(*places, **arguments):
            written = ("flow", "similarity", "before", "facts", "potentials", "image_flow", "text_flow")
            for tensor in [*places[2:3], *map(arguments.get, written)]:
                if tensor is not None:
                    tensor.zero_()
        return launch

forward.transport_kernel = gradient.flow_kernel = plans.flow_kernel = Touches()
features.prepare_kernel = features.finish_kernel = Touches()
choice._why_not_able = lambda *_: None
options = {"implementation": "fused"}
measure("cost and gradient", token_transport, **options)
measure("optimum and gradient", token_transport, value="regularised", **options)
measure("largest entries", token_matches, gradient=False, k=3, **options)
measure("plans", token_plan, gradient=False, beside=lambda plan: plan.nbytes, **options)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads the peak from Linux's /proc")
@pytest.mark.parametrize("program", [PLAIN, FUSED], ids=["plain", "fused"])
def test_peak_stays_within_the_budget(program, root, monkeypatch):
    assert CELLS > 4 * BUDGET
    # What was freed goes back at once; else the allocator keeps some of it, for later ones as large.
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "1048576")
    if program is FUSED:
        pytest.importorskip("triton")
        monkeypatch.setenv("TRITON_INTERPRET", "1")
    command = [sys.executable, "-c", MEASURE + program]
    result = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    found = dict(line.split("\t") for line in result.stdout.splitlines())
    assert len(found) == program.count("\nmeasure(")
    for name, extra in found.items():
        assert 0 < int(extra) < BUDGET + SLACK, name
