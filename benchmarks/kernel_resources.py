"""What the fused kernels take on a chip, read from their machine code; needs no GPU.

python -m benchmarks.kernel_resources                     # a table of the shipped configurations
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from alignment import fused, kernels

KERNELS = ("transport_kernel", "image_gradient_kernel", "text_gradient_kernel")
SHARED_LIMIT = {
    80: 163 * 1024,
    90: 227 * 1024,
    100: 227 * 1024,
}  # bytes of one block (CUDA programming guide)
TYPES = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}
INSTRUCTION = re.compile(r"^\s+/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)", re.MULTILINE)
TENSOR_CORE = re.compile(r"^\s+.*?\b(HMMA|HGMMA|UTCHMMA|UTCQMMA|UTC\w*MMA)\b", re.MULTILINE)


@dataclass(frozen=True)
class Resources:
    registers: int  # per thread
    spilled: int  # bytes of stack per thread: what did not fit into the registers
    shared: int  # bytes per block
    threads: int
    spill_share: float  # of the instructions, those that move spilled values
    tensor_core: tuple[str, ...]  # kinds of matrix instructions


def compile_kernel(name: str, capability: int, dtype: torch.dtype, P: int, L: int, d: int) -> Resources:
    """Compile a kernel as it would be launched for sets of P and L tokens of width d."""
    kernel = getattr(kernels, name)
    forward = name == "transport_kernel"
    choose = fused.transport_configuration if forward else fused.gradient_configuration
    constants = choose(P, L, d, dtype, capability)
    options = {option: constants.pop(option) for option in ("num_warps", "num_stages")}
    constants["PRECISION"] = fused.precision(dtype, allow_tf32=False)
    signature = {argument: _type(argument, constants, TYPES[dtype]) for argument in kernel.arg_names}
    # Triton compiles for what it sees at a launch: aligned pointers, and integers that 16 divides.
    aligned = {
        (i,): [["tt.divisibility", 16]]
        for i, argument in enumerate(kernel.arg_names)
        if signature[argument].startswith("*") or (argument == "d" and d % 16 == 0)
    }
    source = ASTSource(kernel, signature, constants, aligned)
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        usage = _cuobjdump("--dump-resource-usage", file.name)
        code = _cuobjdump("--dump-sass", file.name)
    found = {key: int(number) for key, number in re.findall(r"(REG|STACK|LOCAL):(\d+)", usage)}
    instructions = INSTRUCTION.findall(code)
    moves = sum(name.startswith(("LDL", "STL")) for name in instructions)
    return Resources(
        registers=found["REG"],
        spilled=found["STACK"] + found["LOCAL"],
        shared=compiled.metadata.shared,
        threads=32 * compiled.metadata.num_warps,
        spill_share=moves / len(instructions),
        tensor_core=tuple(sorted(set(TENSOR_CORE.findall(code)))),
    )


def _type(argument: str, constants: dict, dtype: str) -> str:
    if argument in constants:
        return "constexpr"
    if argument in ("image", "text", "image_gradient", "text_gradient"):
        return f"*{dtype}"
    if argument in ("image_mass", "text_mass", "similarity", "before", "after", "gradient", "factor"):
        return "*fp32"
    return "fp32" if argument in ("scale", "unit", "tol") else "i32"


def _cuobjdump(*arguments: str) -> str:
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    return subprocess.run([tool, *arguments], capture_output=True, text=True, check=True).stdout


def main() -> None:
    sizes = ((198, 8, 512), (198, 16, 512), (198, 32, 512), (258, 16, 768), (578, 16, 1024))
    print(
        "kernel                 chip   dtype      P   L     d  threads  registers  spilled  shared  instructions"
    )
    for P, L, d in sizes:
        for dtype in (torch.bfloat16, torch.float16, torch.float32):
            for capability in SHARED_LIMIT:
                for name in KERNELS:
                    r = compile_kernel(name, capability, dtype, P, L, d)
                    print(
                        f"{name:22} sm_{capability:<3} {TYPES[dtype]:5} {P:6} {L:3} {d:5} {r.threads:8} "
                        f"{r.registers:10} {r.spilled:8} {r.shared:7}  {' '.join(r.tensor_core)}",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
