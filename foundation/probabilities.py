"""How far a classifier's probabilities can be trusted: what is kept of each image, and the figures that come of it.

p = softmax(z / T) are the probabilities of an image with logits z (C,) at temperature T, y its class, n the number of
images. c = max_k p_k is the confidence; the image is right where p_y = c.

ECE     sum over 15 bins of equal width, ((b - 1) / 15, b / 15], of |B_b| / n |mean right - mean c| (Guo et al., ICML
        2017; Naeini et al., AAAI 2015)
NLL     mean of -log p_y, in nats
Brier   mean of sum_k (p_k - [k = y])^2, from 0 to 2 (Brier, 1950)
MCM     c at the temperature at which z / T are the cosines: how sure a model is that an image is of one of its classes
        (maximum concept matching; Ming et al., NeurIPS 2022, whose own temperature is 1)
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

BINS = 15
#: Temperatures that are looked among.
LEAST, MOST = 0.01, 100.0
FITTED, COSINES = "fitted", "cosines"  #: names of temperatures beside 1: the fitted one, and that of MCM


class Temperature(NamedTuple):
    """Of a model's probabilities.

    Attributes:
        value: by which logits are divided.
        images: the number of validation images that it was fitted on.
        source: "validation", or "model" where it came with the model that is tested.
    """

    value: float
    images: int
    source: str


class Calibration(NamedTuple):
    """The figures of n images at one temperature.

    Attributes:
        ece: in percent.
        nll: infinite where the class of an image has no probability at all.
        brier: see above.
        reliability: of each bin how many images it has, and in percent how many of them are right and their mean
            confidence; both None where there are no images.
    """

    ece: float
    nll: float
    brier: float
    reliability: list[tuple[int, float | None, float | None]]


class Probabilities:
    """Keeps four numbers of each image and temperature, on the device that computes them, so that nothing waits for it.

    Args:
        temperatures: by name; 1, by the name "", is always among them.
    """

    def __init__(self, temperatures: Mapping[str, float] | None = None) -> None:
        self.temperatures = {"": 1.0, **(temperatures or {})}
        self._kept: list[Tensor] = []  # (B, temperatures, 4)
        self._is_known = True

    @property
    def powers(self) -> tuple[float, ...]:
        """The b for which log sum_k exp(b z_k) is asked of logits that come in chunks of classes (``sums``)."""
        return tuple(power for t in self.temperatures.values() for power in (1 / t, 2 / t))

    def add(self, output: Any, labels: Tensor) -> None:
        """Take in a batch: logits (B, C), and labels (B,).

        Instead of all logits, ``output`` may have of each image ``logits`` (B, k), the best ones, and their
        ``classes``; ``own`` (B, 1), that of its class; and ``sums`` (B, 2 temperatures), log sum_k exp(b z_k) for all
        ``powers`` b. Of other outputs nothing is known.
        """
        if isinstance(output, Tensor) and output.ndim == 2 and output.is_floating_point():
            logits = output.float()
            best, predicted = logits.max(dim=1)
            own = own_logits(logits, labels)
            sums = log_sums(logits, self.powers)
        elif getattr(output, "own", None) is not None and output.own.shape[1]:
            best, predicted = output.logits[:, 0], output.classes[:, 0]
            own, sums = output.own[:, 0], output.sums
        else:
            self._is_known = False
            return
        right = (predicted == labels).float()
        of_all = []
        for i, t in enumerate(self.temperatures.values()):
            total, squares = sums[:, 2 * i], sums[:, 2 * i + 1]
            log_own = own / t - total
            brier = (squares - 2 * total).exp() - 2 * log_own.exp() + 1
            of_all.append(torch.stack([right, (best / t - total).exp(), log_own, brier], dim=1))
        self._kept.append(torch.stack(of_all, dim=1))

    def __len__(self) -> int:
        """The number of images; 0 where nothing is known of some."""
        return sum(map(len, self._kept)) if self._is_known else 0

    def confidences(self, name: str = "") -> np.ndarray:
        """(n,) confidences at one of the temperatures."""
        return self._columns(name)[:, 1]

    def calibration(self, name: str = "") -> Calibration:
        """The figures at one of the temperatures; there must be images."""
        right, confidence, log_own, brier = self._columns(name).T
        place = np.clip(np.ceil(BINS * confidence).astype(int) - 1, 0, BINS - 1)
        images = np.bincount(place, minlength=BINS)
        rights, confidences = (np.bincount(place, column, BINS) for column in (right, confidence))
        return Calibration(
            100.0 * float(np.abs(rights - confidences).sum() / len(right)),
            float(-log_own.mean()),
            float(brier.mean()),
            [
                (int(n), 100.0 * float(r / n), 100.0 * float(c / n)) if n else (0, None, None)
                for n, r, c in zip(images, rights, confidences)
            ],
        )

    def _columns(self, name: str) -> np.ndarray:
        """(n, 4) in double precision; the one transfer from the device."""
        place = list(self.temperatures).index(name)
        return torch.cat([kept[:, place] for kept in self._kept]).double().cpu().numpy()


def own_logits(logits: Tensor, labels: Tensor, classes: Tensor | None = None) -> Tensor:
    """(B,) logits of the images' own classes, of logits (B, C) of ``classes`` (all where it is None); else -inf."""
    if classes is None:
        classes = torch.arange(logits.shape[1], device=logits.device)
    return torch.where(classes == labels[:, None], logits, -torch.inf).amax(dim=1)


def log_sums(logits: Tensor, powers: Sequence[float]) -> Tensor:
    """(B, P) log sum_k exp(b z_k) of logits (B, C), for P powers b."""
    return torch.stack([(power * logits).logsumexp(dim=1) for power in powers], dim=1)


def fit_temperature(logits: Tensor, labels: Tensor) -> float | None:
    """The temperature of least NLL (Guo et al., ICML 2017), in which it has one minimum at most: in 1 / T it is convex.

    None where there is none between LEAST and MOST: where all images are right, the NLL falls with the temperature, and
    where a model is worse than chance, it falls as the temperature grows.

    Args:
        logits: (n, C).
        labels: (n,).
    """
    from scipy.optimize import minimize_scalar  # takes a second, which only an evaluation needs

    logits = logits.float()
    own = own_logits(logits, labels)
    if bool((own >= logits.amax(dim=1)).all()):
        return None

    def nll(log_temperature: float) -> float:
        power = math.exp(-log_temperature)
        return float(((power * logits).logsumexp(dim=1) - power * own).double().mean())

    bounds = math.log(LEAST), math.log(MOST)
    found = minimize_scalar(nll, bounds=bounds, method="bounded", options={"xatol": 1e-5}).x
    inside = bounds[0] + 0.05 < found < bounds[1] - 0.05
    return math.exp(found) if inside and math.isfinite(nll(found)) else None


def told_apart(
    known: Sequence[float] | np.ndarray, others: Sequence[float] | np.ndarray
) -> tuple[float, float]:
    """AUROC and FPR at 95 % recall, in percent, of scores by which images of known classes are told from others.

    AUROC is the chance that an image of a known class has the larger score of the two; the FPR is the share of others
    that are taken for known ones by the largest threshold that at least 95 % of the known ones reach.
    """
    from sklearn.metrics import roc_auc_score, roc_curve

    truth = np.repeat([1, 0], [len(known), len(others)])
    scores = np.concatenate([known, others])
    false, true, _ = roc_curve(truth, scores, drop_intermediate=False)
    return 100.0 * float(roc_auc_score(truth, scores)), 100.0 * float(false[np.argmax(true >= 0.95)])
