"""What a test finds out of a model's probabilities beside the evaluator's figures: their temperature, other images.

Both take a pass over images of their own, before that of the test, and leave the random states as they were.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from foundation.keys.of_all_runs import of
from foundation.probabilities import (
    COSINES,
    FITTED,
    LEAST,
    MOST,
    Probabilities,
    Temperature,
    fit_temperature,
    told_apart,
)

#: Bytes of the validation images' logits, which are kept for a fit.
MOST_BYTES = 2**30


def prepare(trainer: Any, fits: bool, others: bool) -> None:
    """Before a test: set a trainer's ``temperature``, ``probabilities`` and ``other_probabilities``.

    Args:
        fits: what is tested are other images than those of validation.
        others: images of other classes are tested, too, where the trainer has a loader of them.
    """
    trainer.temperature = _temperature(trainer) if fits else None
    loader = trainer.other_loader if others else None
    temperatures = {FITTED: trainer.temperature.value} if trainer.temperature else {}
    temperatures |= {COSINES: trainer.logit_scale} if loader is not None else {}
    trainer.probabilities, trainer.other_probabilities = Probabilities(temperatures), None
    if loader is not None:
        print("Evaluate on images of other classes (TEST.OOD)")
        found = Probabilities(temperatures)
        with _random_states_stay():
            for output, label in trainer._outputs(loader, "other images"):
                found.add(output, label)
        trainer.other_probabilities = found


def _temperature(trainer: Any) -> Temperature | None:
    """That of the model, or one that is fitted; None, with a line that says why, where there is none."""
    if trainer.model_temperature is not None:
        return trainer.model_temperature
    # Under a program that does not declare the key, a test is what it is in the original.
    asked = trainer.cfg.TEST.get("TEMPERATURE", False) and trainer.fits_temperature
    if not asked or trainer.val_loader is None:
        return None
    obstacle = _obstacle(trainer)
    logits, labels, kept = [], [], 0
    if obstacle is None:
        print("Fit the temperature on the *val* set")
        with _random_states_stay():
            for output, label in trainer._outputs(trainer.val_loader, "val"):
                if not isinstance(output, torch.Tensor) or output.ndim != 2:
                    obstacle = f"the model's output is no tensor of logits but {type(output).__name__}"
                    break
                logits.append(output)
                labels.append(label)
                kept += output.nbytes
                if kept > MOST_BYTES:
                    obstacle = f"the validation images' logits take more than {MOST_BYTES / 2**30:g} GiB"
                    break
    if obstacle is None:
        images = sum(map(len, labels))
        value = fit_temperature(torch.cat(logits), torch.cat(labels))
        if value is not None:
            print(f"* temperature: {value:.4f}, of {images:,} validation images")
            return Temperature(value, images, "validation")
        obstacle = (
            f"the {images:,} validation images are all right, or the model is worse than chance on them, so that no "
            f"temperature from {LEAST:g} to {MOST:g} has the least NLL"
        )
    print(f"No temperature is fitted (TEST.TEMPERATURE): {obstacle}")
    return None


def _obstacle(trainer: Any) -> str | None:
    chunk = of(trainer.cfg, "TEST.CLASS_CHUNK")
    if chunk:
        return f"TEST.CLASS_CHUNK is {chunk}, and a fit needs the logits of all classes"
    dataset = getattr(getattr(trainer, "dm", None), "dataset", None)
    validation, tested = (
        {item.impath for item in getattr(dataset, part, None) or ()} for part in ("val", "test")
    )
    if both := len(validation & tested):
        return f"{both:,} of the {len(validation):,} validation images are test images"
    return None


@contextmanager
def _random_states_stay() -> Iterator[None]:
    """A loader draws a seed as it begins: without this, what a trainer draws after a test would change."""
    state = torch.get_rng_state()
    try:
        yield
    finally:
        torch.set_rng_state(state)


def report(trainer: Any) -> None:
    """After a test: print what has been found."""
    found = trainer.probabilities
    if not len(found):
        return
    for name in ("", FITTED):
        if name in found.temperatures:
            figures = found.calibration(name)
            where = f" at temperature {found.temperatures[name]:.4f}" if name else ""
            print(
                f"* probabilities{where}: ece {figures.ece:.2f}%, nll {figures.nll:.4f}, brier {figures.brier:.4f}"
            )
    others = trainer.other_probabilities
    if others is not None and len(others):
        auroc, fpr95 = told_apart(found.confidences(COSINES), others.confidences(COSINES))
        print(f"* {len(others):,} images of other classes: auroc {auroc:.2f}%, fpr95 {fpr95:.2f}%")
