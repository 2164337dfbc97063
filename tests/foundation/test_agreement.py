"""Figures of predicted labels are those of scikit-learn, to the bit."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, recall_score

from foundation.agreement import macro_f1, of_classes


@pytest.mark.parametrize("seed", range(20))
def test_they_are_those_of_scikit_learn(seed):
    """Also where a class is never predicted, or predicted and not there; labels have gaps."""
    rng = np.random.default_rng(seed)
    labels = np.sort(rng.permutation(60)[: rng.integers(2, 30)])
    true = rng.choice(labels[: rng.integers(1, len(labels))], 100)
    predicted = np.where(rng.random(100) < rng.random(), true, rng.choice(labels, 100))
    classes = of_classes(true.tolist(), predicted.tolist())
    there = np.unique(true).tolist()
    assert [each.label for each in classes] == there
    assert macro_f1(classes) == f1_score(true, predicted, average="macro", labels=there)
    assert sum(each.right for each in classes) / 100 == accuracy_score(true, predicted)
    recalls = recall_score(true, predicted, average=None, labels=there, zero_division=0)
    assert [each.right / each.images for each in classes] == recalls.tolist()
    assert [each.images for each in classes] == [int((true == label).sum()) for label in there]
