"""What is computed from accuracies: means with their spread over seeds, harmonic means, paired differences."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

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


#: Data sets for an interval. Of two the interval is 9 standard deviations wide to either side.
FEWEST_FOR_INTERVAL = 3
#: Data sets for a p-value: with five the least that there can be is 0.0625.
FEWEST_FOR_P = 6


class PairedDifference(NamedTuple):
    """Two methods on the same data sets, which are the unit: pairs of one data set are not independent.

    Attributes:
        difference: mean over data sets of their mean a - b.
        half_width: of the 95 % interval of that mean; None for fewer than FEWEST_FOR_INTERVAL data sets.
        p: of the signed-rank test over data sets; None for fewer than FEWEST_FOR_P.
        datasets: how many data sets.
        pairs: how many pairs of accuracies.
    """

    difference: float
    half_width: float | None
    p: float | None
    datasets: int
    pairs: int


def paired_difference(a: Sequence[float], b: Sequence[float], groups: Sequence[str]) -> PairedDifference:
    """a - b of paired accuracies; `groups` names the data set of each pair. ValueError without any pair."""
    if not len(a) == len(b) == len(groups) or not a:
        raise ValueError(f"{len(a)} and {len(b)} accuracies: pairs are needed")
    differences = np.asarray(a, dtype=float) - np.asarray(b, dtype=float)
    names = np.asarray(groups)
    means = np.array([differences[names == name].mean() for name in dict.fromkeys(groups)])
    return PairedDifference(
        float(means.mean()),
        float(half_widths(means)) if len(means) >= FEWEST_FOR_INTERVAL else None,
        float(signed_rank_p(means)) if len(means) >= FEWEST_FOR_P else None,
        len(means),
        len(differences),
    )


def half_widths(means: ArrayLike) -> np.ndarray:
    """Half the width of the 95 % interval of the mean of `means` (..., data sets) by Student's t."""
    from scipy.stats import sem, t

    means = np.asarray(means, dtype=float)
    return t.ppf(0.975, means.shape[-1] - 1) * sem(means, axis=-1)


def signed_rank_p(means: ArrayLike) -> np.ndarray:
    """Two-sided p-values of Wilcoxon's signed-rank test of `means` (..., data sets); 1 where all are 0.

    The test that is usual over data sets (Demsar, JMLR 2006).
    """
    from scipy.stats import wilcoxon

    # Equal up to rounding: 80.1 - 80.0 and 70.1 - 70.0 are the same rank.
    rounded = np.round(np.asarray(means, dtype=float), 9)
    equal = np.asarray(~rounded.any(axis=-1))
    with np.errstate(invalid="ignore"):
        p = wilcoxon(np.where(equal[..., None], 1.0, rounded), axis=-1).pvalue
    return np.where(equal, 1.0, p)


def holm(p_values: Sequence[float]) -> list[float]:
    """`p_values` of one family, corrected so that the chance of any false one stays below alpha (Holm, 1979)."""
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = largest
    return corrected
