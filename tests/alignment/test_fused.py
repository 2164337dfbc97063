"""The fused kernels without a GPU: under Triton's CPU interpreter, which has to be chosen before Triton is imported."""

import os
import subprocess
import sys

import pytest

pytest.importorskip("triton")


def test_fused_kernels_under_the_interpreter(root):
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-W", "ignore::RuntimeWarning"]
    command += [
        "-o",
        "addopts=--import-mode=importlib",
        "tests/alignment/fused_cases.py",
        "tests/alignment/fused_prompt_cases.py",
    ]
    environment = os.environ | {"TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    environment.pop("PYTEST_XDIST_WORKER", None)
    result = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-2000:]
    assert " passed" in result.stdout
