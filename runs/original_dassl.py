"""The original Dassl (DASSL_PATH) on current torch.

Its warm-up schedulers pass `verbose`, which torch's schedulers no longer take, and save the scheduler that follows
them as a live object, which `torch.load` no longer reads. They derive from torch's `_LRScheduler`, a name that torch
keeps for such code only: `adapt` puts there a class with which both work.

Its tests keep no probabilities: `keep_probabilities` looks on as its evaluator takes in the batches.
"""

from typing import Any

from torch.optim import lr_scheduler
from torch.optim.lr_scheduler import LRScheduler

from foundation.probabilities import Probabilities


class OriginalScheduler(LRScheduler):
    """Takes `verbose`; its state is plain data, that of a scheduler it holds included."""

    def __init__(self, optimizer: Any, last_epoch: int = -1, verbose: bool = False):
        super().__init__(optimizer, last_epoch)

    def state_dict(self) -> dict[str, Any]:
        state = super().state_dict()
        return {name: v.state_dict() if isinstance(v, LRScheduler) else v for name, v in state.items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        state = dict(state_dict)
        for name, value in vars(self).items():
            if isinstance(value, LRScheduler):
                value.load_state_dict(state.pop(name))
        super().load_state_dict(state)


def adapt() -> None:
    """Must run before anything of the original is imported."""
    lr_scheduler._LRScheduler = OriginalScheduler  # type: ignore[assignment, misc]


def keep_probabilities(trainer: Any) -> None:
    """Have a built trainer's ``probabilities`` be those of its last test, as our engine does itself."""
    if hasattr(trainer, "other_probabilities"):
        return
    evaluator = trainer.evaluator
    reset, process = evaluator.reset, evaluator.process

    def reset_both() -> None:
        trainer.probabilities = Probabilities()
        reset()

    def process_both(mo: Any, gt: Any) -> None:
        process(mo, gt)
        trainer.probabilities.add(mo, gt)

    trainer.probabilities = Probabilities()
    evaluator.reset, evaluator.process = reset_both, process_both
