"""How predicted labels agree with the true ones: what scikit-learn says, which takes more than a second to import."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike


class OfClass(NamedTuple):
    """A class among the true labels: its images, those of them that are right, and how often it is predicted."""

    label: int
    images: int
    right: int
    predicted: int

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall."""
        return 2 * self.right / (self.images + self.predicted)


def of_classes(true: ArrayLike, predicted: ArrayLike) -> list[OfClass]:
    """Every class that is among the true labels, by label."""
    true, predicted = np.asarray(true), np.asarray(predicted)
    labels = np.unique(true)
    images, right, predictions = (
        np.bincount(np.searchsorted(labels, found), minlength=len(labels)).tolist()
        for found in (true, true[true == predicted], predicted[np.isin(predicted, labels)])
    )
    return list(map(OfClass, labels.tolist(), images, right, predictions))


def macro_f1(classes: Sequence[OfClass]) -> float:
    """The mean of their F1."""
    return float(np.mean([each.f1 for each in classes]))
