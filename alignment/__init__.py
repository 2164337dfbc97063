"""Optimal transport between sets of tokens, for very many very small problems.

    token_transport         features of tokens (or costs) -> a cost per (image, class, image prompt, text prompt)
    token_divergence        likewise debiased: zero between equal sets
    prompt_transport        costs between prompts -> a cost per (image, class)
    hierarchical_transport  the two composed: MMTPA; without tokens: PLOT
    token_plan, prompt_plan the plans themselves
    token_matches           the largest entries of plans
    Diagnostics             how the iterations went; LevelDiagnostics, of both levels
    implementation_for      which of the two solvers, plain torch or the fused GPU kernel, a problem gets

Pure functions on tensors; nothing here knows of CLIP or of trainers.
"""

from alignment.choice import implementation_for
from alignment.diagnostics import Diagnostics, LevelDiagnostics
from alignment.divergence import token_divergence
from alignment.hierarchical import hierarchical_transport
from alignment.prompt import prompt_plan, prompt_transport
from alignment.token import token_plan, token_transport
from alignment.top_k import Matches, token_matches

__all__ = [
    "Diagnostics",
    "LevelDiagnostics",
    "Matches",
    "hierarchical_transport",
    "implementation_for",
    "prompt_plan",
    "prompt_transport",
    "token_divergence",
    "token_matches",
    "token_plan",
    "token_transport",
]
