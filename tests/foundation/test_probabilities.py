"""The figures by hand, and against scikit-learn's."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from foundation.probabilities import Probabilities, fit_temperature, told_apart


def logits_of(*rows):
    return torch.tensor(rows).log()


@pytest.fixture(scope="module")
def drawn():
    """Logits of 400 images and 7 classes, and labels that these are too sure of."""
    generator = torch.Generator().manual_seed(0)
    logits = 4 * torch.randn(400, 7, generator=generator)
    labels = torch.multinomial((logits / 2.5).softmax(dim=1), 1, generator=generator)[:, 0]
    return logits, labels


def found(logits, labels, **temperatures):
    probabilities = Probabilities(temperatures)
    for part in range(0, len(logits), 150):  # the last batch is smaller
        probabilities.add(logits[part : part + 150], labels[part : part + 150])
    return probabilities


def test_by_hand():
    probabilities = Probabilities()
    probabilities.add(logits_of([0.7, 0.2, 0.1], [0.58, 0.32, 0.1]), torch.tensor([0, 1]))
    probabilities.add(logits_of([0.1, 0.7, 0.2]), torch.tensor([2]))
    assert len(probabilities) == 3
    ece, nll, brier, reliability = probabilities.calibration()
    # 0.7 twice, of which one is right, in bin 11 of 15 (0.667 to 0.733); 0.58, which is wrong, in bin 9 (0.533 to 0.6)
    assert ece == pytest.approx(100 * (2 / 3 * abs(0.5 - 0.7) + 1 / 3 * abs(0.0 - 0.58)))
    assert nll == pytest.approx(-(math.log(0.7) + math.log(0.32) + math.log(0.2)) / 3)
    assert brier == pytest.approx(
        ((0.3**2 + 0.2**2 + 0.1**2) + (0.58**2 + 0.68**2 + 0.1**2) + (0.1**2 + 0.7**2 + 0.8**2)) / 3
    )
    full = {place: of_bin for place, of_bin in enumerate(reliability) if of_bin[0]}
    assert len(reliability) == 15
    assert full == {8: (1, 0.0, pytest.approx(58)), 10: (2, 50.0, pytest.approx(70))}
    assert reliability[0] == (0, None, None)


def test_against_scikit_learn(drawn):
    logits, labels = drawn
    probabilities = found(logits, labels, cool=0.5)
    for name, temperature in (("", 1.0), ("cool", 0.5)):
        p = (logits.double() / temperature).softmax(dim=1).numpy()
        ece, nll, brier, reliability = probabilities.calibration(name)
        assert nll == pytest.approx(log_loss(labels, p), rel=1e-5)
        of_classes = sum(brier_score_loss(labels == k, p[:, k]) for k in range(7))
        assert brier == pytest.approx(of_classes, rel=1e-5)
        right = p.argmax(axis=1) == labels.numpy()
        bins = np.ceil(15 * p.max(axis=1))  # right-closed, counted from 1
        gaps = [
            (bins == b).mean() * abs(right[bins == b].mean() - p.max(axis=1)[bins == b].mean())
            for b in np.unique(bins)
        ]
        assert ece == pytest.approx(100 * sum(gaps), rel=1e-4)
        assert sum(images for images, *_ in reliability) == 400
        assert probabilities.confidences(name) == pytest.approx(p.max(axis=1), rel=1e-5)


def test_a_class_that_is_ruled_out():
    probabilities = Probabilities()
    probabilities.add(torch.tensor([[1.0, -torch.inf]]), torch.tensor([1]))
    assert probabilities.calibration()[:3] == (100.0, math.inf, 2.0)


def test_of_other_outputs_nothing_is_known():
    probabilities = Probabilities()
    probabilities.add(torch.zeros(2, 3), torch.tensor([0, 1]))
    probabilities.add(torch.zeros(2), torch.tensor([0, 1]))
    assert len(probabilities) == 0


def test_the_temperature_has_the_least_nll(drawn):
    logits, labels = drawn
    temperature = fit_temperature(logits, labels)
    assert temperature == pytest.approx(2.5, rel=0.15)  # by which the labels were drawn
    around = {f"{factor}": factor * temperature for factor in (0.97, 1.0, 1.03)}
    nll = {name: found(logits, labels, **around).calibration(name).nll for name in around}
    assert nll["1.0"] < min(nll["0.97"], nll["1.03"])
    parameter = torch.zeros((), requires_grad=True)  # an independent optimiser
    optimizer = torch.optim.LBFGS([parameter], max_iter=100, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(logits / parameter.exp(), labels)
        loss.backward()
        return loss

    optimizer.step(closure)
    assert temperature == pytest.approx(parameter.exp().item(), rel=1e-3)


@pytest.mark.parametrize("labels", [[0, 1, 1], [1, 0, 0]])
def test_no_temperature_of_images_that_are_all_right_or_all_wrong(labels):
    assert fit_temperature(torch.tensor([[3.0, 1.0], [0.0, 2.0], [1.0, 4.0]]), torch.tensor(labels)) is None


def test_told_apart():
    known, others = np.arange(1.0, 21.0), np.array([0.5, 0.6, 1.5, 2.5, 20.5])
    # 19 of the 20 known are 2 or more, and so are two of the five others
    auroc, fpr95 = told_apart(known, others)
    assert fpr95 == pytest.approx(40)
    larger = (known[:, None] > others[None]).mean()
    assert auroc == pytest.approx(100 * larger)
    truth = [1] * 20 + [0] * 5
    assert auroc == pytest.approx(100 * roc_auc_score(truth, [*known, *others]))
    assert told_apart(known, -known) == (100.0, 0.0)
