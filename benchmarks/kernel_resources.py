"""What the fused kernels take on a chip, read from their machine code; needs no GPU.

python -m benchmarks.kernel_resources                     # a table of the shipped configurations
python -m benchmarks.kernel_resources --training          # of those that a training step takes
"""

from __future__ import annotations

import argparse
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from alignment.fused import feature_kernels, features, prompt_kernel, sizes, token_kernels

# (kernel, what it writes): with changes alone, to find where problems that stop together stop; with facts and the
# gradient of masses, for the regularised optimum
KERNELS = {
    "transport": token_kernels.transport_kernel,
    "transport, changes": token_kernels.transport_kernel,
    "transport, facts": token_kernels.transport_kernel,
    "flow": token_kernels.flow_kernel,
    "flow, masses": token_kernels.flow_kernel,
    "prompt": prompt_kernel.prompt_kernel,
    "prompt, changes": prompt_kernel.prompt_kernel,
    "prepare": feature_kernels.prepare_kernel,
    "finish": feature_kernels.finish_kernel,
}
OF_FEATURES = ("prepare", "finish")
SHARED_LIMIT = {
    80: 163 * 1024,
    90: 227 * 1024,
    100: 227 * 1024,
}  # bytes of one block (CUDA programming guide)
REGISTERS, MOST_PROGRAMS = 65536, 32  # of one multiprocessor, on all three
TYPES = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}
POINTERS = {
    "scores",
    "image_mass",
    "text_mass",
    "similarity",
    "before",
    "changes",
    "gradient",
    "factor",
    "cost",
    "plan",
    "mass",
    "norms",
    "total",
    "facts",
    "potentials",
    "of_optimum",
    "image_flow",
    "text_flow",
}
FEATURES = {"flow", "tokens", "prepared", "result"}  # in the features' dtype
FLOATS = {"scale", "start", "threshold", "reach_rows", "reach_cols", "power_rows", "power_cols"}
#: Pointers that are there for one of the kernels' entries alone.
ONLY_FOR = {
    "changes": "changes",
    "facts": "facts",
    "potentials": "facts",
    "of_optimum": "masses",
    "image_flow": "masses",
    "text_flow": "masses",
}
INSTRUCTION = re.compile(r"^\s+/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)", re.MULTILINE)


@dataclass(frozen=True)
class Resources:
    registers: int  # per thread
    spilled: int  # bytes of stack per thread: what did not fit into the registers
    shared: int  # bytes per program
    threads: int
    instructions: int
    spill_share: float  # of the instructions, those that move spilled values
    programs: int  # that share a multiprocessor


def compile_kernel(
    name: str,
    capability: int,
    dtype: torch.dtype,
    rows: int,
    cols: int,
    logarithms: bool = False,
    balanced: bool = True,
) -> Resources:
    """Compile a kernel as it would be launched for sets of that many points on the image's and on the text's side, or,
    those of features, for tokens x width.
    """
    kernel = KERNELS[name]
    constants: dict[str, Any]
    if name in OF_FEATURES:
        constants = {"TOKENS": features.TOKENS, "WIDTH": triton.next_power_of_2(cols)}
        constants["num_warps"] = features.TOKENS
    else:
        group = sizes.small_group(rows, cols) if name.startswith("prompt") else 1
        constants = {**sizes.launch(rows, cols, group), "LOGARITHMS": logarithms, "BALANCED": balanced}
        constants["OF_LOGARITHMS"] = logarithms
        constants = {
            name: value for name, value in constants.items() if name in (*kernel.arg_names, "num_warps")
        }
    options = {"num_warps": constants.pop("num_warps")}
    absent = {"steps"} | {pointer for pointer, entry in ONLY_FOR.items() if not name.endswith(entry)}
    constants |= dict.fromkeys(absent & set(kernel.arg_names))
    signature = {argument: _type(argument, constants, TYPES[dtype]) for argument in kernel.arg_names}
    # Triton compiles for what it sees at a launch: aligned pointers, and integers that 16 divides.
    aligned = {
        (i,): [["tt.divisibility", 16]]
        for i, argument in enumerate(kernel.arg_names)
        if signature[argument].startswith("*")
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
    threads = 32 * compiled.metadata.num_warps
    registers, shared = found["REG"], compiled.metadata.shared
    return Resources(
        registers=registers,
        spilled=found["STACK"] + found["LOCAL"],
        shared=shared,
        threads=threads,
        instructions=len(instructions),
        spill_share=moves / len(instructions),
        programs=min(MOST_PROGRAMS, REGISTERS // (-(-registers // 8) * 8 * threads), 2048 // threads),
    )


def _type(argument: str, constants: dict, dtype: str) -> str:
    if argument in constants:
        return "constexpr"
    if argument in FEATURES:
        return f"*{dtype}"
    if argument in POINTERS:
        return "*fp32"
    return "fp32" if argument in FLOATS else "i32"


def _cuobjdump(*arguments: str) -> str:
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    return subprocess.run([tool, *arguments], capture_output=True, text=True, check=True).stdout


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--training", action="store_true", help="ViT-B/16 and 4 x 4 prompts alone")
    options = parser.parse_args()
    tokens = ((198, 8), (198, 16), (198, 32), (258, 16), (578, 16))
    prompts = ((4, 4), (16, 16), (196, 4))
    widths = ((3168, 512), (3168, 1024))
    print(f"Triton {triton.__version__}")
    print("kernel              chip    sizes     threads  registers  spilled  shared  instructions  programs")
    for name in KERNELS:
        cases = widths if name in OF_FEATURES else prompts if name.startswith("prompt") else tokens
        for rows, cols in cases[:1] if options.training else cases:
            for capability in SHARED_LIMIT:
                r = compile_kernel(name, capability, torch.bfloat16, rows, cols)
                print(
                    f"{name:19} sm_{capability:<4} {rows:4} x {cols:<3} {r.threads:7} {r.registers:10} {r.spilled:8} "
                    f"{r.shared:7} {r.instructions:13} {r.programs:9}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
