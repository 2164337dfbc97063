"""Methods that are additions to a host: they change another method's model and leave the rest to it."""

from typing import Any

from dassl.engine import TRAINER_REGISTRY

from .base import PromptTrainer
from .prompt_model import PromptModel


def add(
    host: type[PromptTrainer], trainer: type[PromptTrainer], model: type[PromptModel], **members: Any
) -> type[PromptTrainer]:
    """Register an addition to a host under both names, DePT + CoOp = DePTCoOp.

    Args:
        host: the trainer of the method that is added to.
        trainer, model: the addition, whose methods come before the host's and call them by ``super()``.
        members: what else the new trainer has.
    """
    name = f"{trainer.__name__}{host.__name__}"
    said = {"__doc__": f"{trainer.__name__} on {host.__name__}.", "__module__": trainer.__module__}
    both = type(f"{name}Model", (model, host.model_class), said)
    return TRAINER_REGISTRY.register()(type(name, (trainer, host), said | {"model_class": both} | members))
