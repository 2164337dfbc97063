"""What is computed from accuracies: means with their spread over seeds, harmonic means, paired comparisons."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

SPREADS = {
    "std": "standard deviation over seeds",
    "ci95": "95 % interval of the mean over seeds (Student's t)",
}


def harmonic_mean(base: float, new: float) -> float:
    """H = 2 b n / (b + n), 0 where both are 0 (Xian et al., CVPR 2017)."""
    return 2 * base * new / (base + new) if base + new else 0.0


def spread(values: Sequence[float], kind: str = "std") -> float | None:
    """The spread of `values` around their mean; None for a single one.

    Args:
        kind: "std", the sample standard deviation (n - 1), or "ci95", half the width of the 95 % interval of
            the mean by Student's t.
    """
    if len(values) < 2:
        return None
    std = float(np.std(values, ddof=1))
    if kind == "std":
        return std
    from scipy.stats import t

    return float(t.ppf(0.975, len(values) - 1)) * std / math.sqrt(len(values))


#: Pairs: with five the least p-value that there can be is 0.0625.
FEWEST = 6


class Comparison(NamedTuple):
    """Two methods on the same data sets and seeds.

    Attributes:
        difference: mean of a - b over all pairs.
        half_width: of the 95 % interval of that mean (paired t); None for a single pair.
        p_pairs: Wilcoxon's signed-rank test over all pairs (two-sided); None for fewer than FEWEST.
        p_groups: the same over the data sets, seeds averaged before. Pairs of one data set are not independent
            of each other, data sets are (Demsar, JMLR 2006). None for fewer than FEWEST.
    """

    difference: float
    half_width: float | None
    pairs: int
    p_pairs: float | None
    groups: int
    p_groups: float | None


def compare(a: Sequence[float], b: Sequence[float], groups: Sequence[str]) -> Comparison:
    """Compare paired accuracies; `groups` names the data set of each pair. ValueError without any pair."""
    if not len(a) == len(b) == len(groups) or not a:
        raise ValueError(f"{len(a)} and {len(b)} accuracies: pairs are needed")
    differences = np.asarray(a, dtype=float) - np.asarray(b, dtype=float)
    names = np.asarray(groups)
    by_group = [float(differences[names == name].mean()) for name in dict.fromkeys(groups)]
    return Comparison(
        float(differences.mean()),
        spread(differences.tolist(), "ci95"),
        len(differences),
        signed_rank_p(differences.tolist()) if len(differences) >= FEWEST else None,
        len(by_group),
        signed_rank_p(by_group) if len(by_group) >= FEWEST else None,
    )


def signed_rank_p(differences: Sequence[float]) -> float:
    """The two-sided p-value of Wilcoxon's signed-rank test; 1 where all differences are 0."""
    from scipy.stats import wilcoxon

    # Equal up to rounding: 80.1 - 80.0 and 70.1 - 70.0 are the same rank.
    rounded = np.round(differences, 9)
    return float(wilcoxon(rounded).pvalue) if rounded.any() else 1.0
