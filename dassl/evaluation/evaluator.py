"""Accuracy, error and macro-F1 of a classifier."""

import os.path as osp
from collections import OrderedDict, defaultdict
from typing import Any

import numpy as np
import torch
from yacs.config import CfgNode

from dassl.utils import collectives
from foundation.keys.of_all_runs import of

from .build import EVALUATOR_REGISTRY


class EvaluatorBase:
    """What a trainer's ``test()`` calls: ``reset``, ``process`` per batch, ``evaluate``."""

    def __init__(self, cfg: CfgNode):
        self.cfg = cfg

    def reset(self):
        raise NotImplementedError

    def process(self, mo, gt):
        raise NotImplementedError

    def evaluate(self):
        raise NotImplementedError


@EVALUATOR_REGISTRY.register()
class Classification(EvaluatorBase):
    """Single-label classification.

    After ``process`` calls, ``_y_true`` and ``_y_pred`` hold the labels and predictions as lists of int; after
    ``evaluate``, ``top_accuracy`` that of the k best classes, by name.

    Args:
        cfg: with ``TEST.PER_CLASS_RESULT`` the accuracy of each class is printed, with
            ``TEST.COMPUTE_CMAT`` the confusion matrix is saved as ``cmat.pt`` in ``OUTPUT_DIR``. With ``TEST.TOP_K``
            above 1 the accuracy of the k best classes is printed too.
        lab2cname: dict from label to class name; needed for results per class.
    """

    def __init__(self, cfg: CfgNode, lab2cname: dict[int, str] | None = None, **kwargs):
        super().__init__(cfg)
        if cfg.TEST.PER_CLASS_RESULT and lab2cname is None:
            raise ValueError("TEST.PER_CLASS_RESULT needs the class names (lab2cname)")
        self._lab2cname = lab2cname
        self._k = of(cfg, "TEST.TOP_K")
        if self._k < 1 or (lab2cname and self._k > len(lab2cname)):
            most = f" to {len(lab2cname)}, the number of classes," if lab2cname else ""
            raise ValueError(f"TEST.TOP_K is {self._k}, 1{most or ' or more'} is needed")
        self.reset()

    def reset(self) -> None:
        self._correct = 0
        self._total = 0
        self._among_best = 0
        self._not_finite: Any = 0  # images; a tensor on the device, so that nothing waits for it
        self.top_accuracy: dict[str, float] = {}
        self._y_true: list[int] = []
        self._y_pred: list[int] = []
        self._per_class_res: dict[int, list[int]] | None = None
        if self.cfg.TEST.PER_CLASS_RESULT:
            self._per_class_res = defaultdict(list)

    def process(self, mo: Any, gt: torch.Tensor) -> None:
        """Take in a batch: model output (B, C) and labels (B,).

        Instead of all logits, ``mo`` may be what answers ``argmax``, ``max`` and ``topk`` over ``dim=1`` as they would.
        """
        self._not_finite = self._not_finite + (~torch.isfinite(mo.max(dim=1)[0])).sum()
        labels, predictions = gt.tolist(), mo.argmax(dim=1).tolist()
        self._y_true += labels
        self._y_pred += predictions
        self._total += len(labels)
        if self._k > 1:
            self._among_best += int((mo.topk(self._k, dim=1)[1] == gt[:, None]).sum())
        for label, prediction in zip(labels, predictions):
            match = int(label == prediction)
            self._correct += match
            if self._per_class_res is not None:
                self._per_class_res[label].append(match)

    def evaluate(self) -> "OrderedDict[str, float]":
        """Print the result and return it, in percent: accuracy first, which is what ``test()`` returns.

        Raises:
            ValueError: nothing was processed.
            FloatingPointError: the best logit of an image is NaN or infinite.
        """
        if not self._total:
            raise ValueError("there is nothing to evaluate: the data loader gave no image")
        if not_finite := int(self._not_finite):
            raise FloatingPointError(
                f"the logits of {not_finite} of {self._total} images are not finite numbers: there is no accuracy"
            )
        from sklearn.metrics import f1_score  # takes a second, which only a run that is evaluated needs

        results = OrderedDict()
        results["accuracy"] = 100.0 * self._correct / self._total
        results["error_rate"] = 100.0 - results["accuracy"]
        results["macro_f1"] = 100.0 * float(
            f1_score(self._y_true, self._y_pred, average="macro", labels=np.unique(self._y_true))
        )
        print(
            "=> result\n"
            f"* total: {self._total:,}\n"
            f"* correct: {self._correct:,}\n"
            f"* accuracy: {results['accuracy']:.1f}%\n"
            f"* error: {results['error_rate']:.1f}%\n"
            f"* macro_f1: {results['macro_f1']:.1f}%"
        )

        if self._k > 1:
            name = f"top{self._k}_accuracy"
            self.top_accuracy = {name: 100.0 * self._among_best / self._total}
            results.update(self.top_accuracy)
            print(f"* {name}: {results[name]:.1f}%")
        if self._per_class_res is not None:
            results["perclass_accuracy"] = self._evaluate_classes(self._per_class_res)
        if self.cfg.TEST.COMPUTE_CMAT:
            self._save_confusion_matrix()
        return results

    def _evaluate_classes(self, per_class: dict[int, list[int]]) -> float:
        print("=> per-class result")
        accuracies = []
        for label, matches in sorted(per_class.items()):
            correct, total = sum(matches), len(matches)
            accuracies.append(100.0 * correct / total)
            print(
                f"* class: {label} ({self._lab2cname[label]})\t"  # type: ignore[index]
                f"total: {total:,}\t"
                f"correct: {correct:,}\t"
                f"acc: {accuracies[-1]:.1f}%"
            )
        mean = float(np.mean(accuracies))
        print(f"* average: {mean:.1f}%")
        return mean

    def _save_confusion_matrix(self) -> None:
        from sklearn.metrics import confusion_matrix

        # Rows are true classes and sum to 1. A tensor, because torch.load refuses numpy arrays by default.
        matrix = confusion_matrix(self._y_true, self._y_pred, normalize="true")
        if not collectives.is_first():
            return
        path = osp.join(self.cfg.OUTPUT_DIR, "cmat.pt")
        torch.save(torch.from_numpy(matrix), path)
        print(f"Confusion matrix is saved to {path}")
