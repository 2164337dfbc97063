"""What `--model-dir` and `--load-epoch` name: a run and an epoch of it, however they are given."""

import re
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from foundation.errors import WrongInput

_SAVED = re.compile(r"model\.pth\.tar-(\d+)|model-best\.pth\.tar")


class NamedModel(NamedTuple):
    """A model that a run has left.

    Attributes:
        run: the run's folder; "" where none is given. A file that no run names so stands for itself.
        epoch: of the checkpoint; None for the best one or the last.
        given: what was given: the run's folder, that of the checkpoints in it, or one of these.
        part: the model's name, after which the checkpoints' folder is called; "" where the run's folder was given.
    """

    run: str
    epoch: int | None
    given: str
    part: str

    def to_load(self, names: Collection[str]) -> tuple[str, int | None]:
        """Arguments for the `load_model` of a trainer that has the models `names`: Dassl's takes the run's folder.

        What does not lie as Dassl lays it out is for the trainer as it was given: ours find it.
        """
        return (self.run if not self.part or self.part in names else self.given), self.epoch


def named_model(model_dir: str, epoch: int | None) -> NamedModel:
    """The model that is named.

    Raises:
        ValueError: the checkpoint is of another epoch than the one that is asked for.
    """
    path = Path(model_dir)
    if path.is_file():
        saved = _SAVED.fullmatch(path.name)
        of_file = int(saved[1]) if saved and saved[1] else None
        if epoch is not None and epoch != of_file:
            raise WrongInput(
                f"--model-dir {model_dir} is one checkpoint, and not that of --load-epoch {epoch}"
            )
        if not saved:
            return NamedModel(model_dir, None, model_dir, "")
        return NamedModel(str(path.parent.parent), of_file, model_dir, path.absolute().parent.name)
    if model_dir and any(path.glob("model*.pth.tar*")):
        return NamedModel(str(path.parent), epoch, model_dir, path.absolute().name)
    return NamedModel(model_dir, epoch, model_dir, "")
