"""Metadata and dependencies. The project runs from its checkout; installing it brings the dependencies alone.

No package is installed: `datasets`, `clip`, `dassl` and `trainers` are other people's top-level names
too, and a folder of that name in site-packages would shadow theirs. train.py and the tools find this
checkout by their own location.
"""

from pathlib import Path

from setuptools import setup

EXPORT = ["onnx>=1.17", "onnxruntime>=1.20", "onnxscript>=0.5"]

setup(
    name="mmprompt",
    version="0.1.0",
    description="Prompt learning for CLIP on one engine: MMTPA, APLe, MuDPT; CoOp, MaPLe and others beside them",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="mmprompt authors",
    license="MIT",
    python_requires=">=3.10",
    classifiers=[
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
    ],
    packages=[],
    py_modules=[],
    install_requires=[
        "torch>=2.8",  # whose Triton (3.4) compiles the kernels ahead of time; that of 2.6 does not
        "torchvision>=0.23",  # the release that goes with torch 2.8
        "open_clip_torch>=3.0",  # OpenAI's weights as an ordinary pretrained tag, with QuickGELU checked
        "numpy>=1.26",  # the first that runs on Python 3.12
        "pillow>=10.1",  # ImageFont.load_default(size)
        "huggingface_hub>=0.26",  # where weights and archives come from
        "scikit-learn>=1.3",
        "scipy>=1.11.1",  # 1.11.0 was withdrawn
        "pandas>=2.1",
        "matplotlib>=3.8",
        "yacs>=0.1.8",
        "pyyaml>=6.0",
        "safetensors>=0.4.1",
        "tensorboard>=2.14",
        "tqdm>=4.65",
        "gdown>=6.3",  # the first that takes no page of an error for the file
    ],
    extras_require={
        "slurm": ["submitit>=1.5"],  # tools/launch.py on a cluster
        "export": EXPORT,  # tools/export.py --to onnx
        "test": [
            *EXPORT,
            "pytest>=8",
            "pytest-xdist>=3.5",
            "hypothesis>=6.90",
            "submitit>=1.5",
            "POT>=0.9.6",  # an independent solver to test alignment/ against
            # A new rule of theirs is work for a commit of its own, and not to make a fresh machine red.
            "ruff>=0.17,<0.18",
            "mypy>=2.4,<2.5",
            "types-PyYAML",
            "types-tqdm",
        ],
    },
)
