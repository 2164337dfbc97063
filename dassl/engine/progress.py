"""What a person sees while a run goes on."""

import datetime
import os
import sys
from typing import Any

from tqdm import tqdm

from dassl.utils import collectives


def progress_line(trainer: Any, losses: object, batch_time: Any, data_time: Any, learning_rate: float) -> str:
    """Dassl's line: epoch, batch, seconds per batch (last and mean), losses, learning rate, time left."""
    batches_left = (trainer.max_epoch - trainer.epoch) * trainer.num_batches - trainer.batch_idx - 1
    eta = datetime.timedelta(seconds=int(batch_time.avg * batches_left))
    return (
        f"epoch [{trainer.epoch + 1}/{trainer.max_epoch}] "
        f"batch [{trainer.batch_idx + 1}/{trainer.num_batches}] "
        f"time {batch_time.val:.3f} ({batch_time.avg:.3f}) "
        f"data {data_time.val:.3f} ({data_time.avg:.3f}) "
        f"{losses} "
        f"lr {learning_rate:.4e} "
        f"eta {eta}"
    )


class RunProgress:
    """On a terminal one bar for the whole run, elsewhere a line every ``TRAIN.PRINT_FREQ`` batches.

    On a terminal the lines still go to ``log.txt``, where ``dassl.utils.setup_logger`` has opened one.
    """

    def __init__(self) -> None:
        self._bar: tqdm | None = None

    @staticmethod
    def is_due(trainer: Any) -> bool:
        """Whether the batch that is done gets a line."""
        print_freq = trainer.cfg.TRAIN.PRINT_FREQ
        return (trainer.batch_idx + 1) % print_freq == 0 or trainer.num_batches < print_freq

    def batch_done(self, trainer: Any, losses: object, batch_time: Any, data_time: Any) -> None:
        """To be called after each batch, with the epoch's meters."""
        learning_rate = trainer.get_current_lr()
        on_terminal = _on_terminal()
        if self.is_due(trainer):
            line = progress_line(trainer, losses, batch_time, data_time, learning_rate)
            if not on_terminal:
                print(line)
            elif (log := getattr(sys.stdout, "file", None)) is not None:
                log.write(line + "\n")
        if on_terminal:
            self._update_bar(trainer, losses)

    def _update_bar(self, trainer: Any, losses: object) -> None:
        if self._bar is None:
            self._bar = _bar(
                total=trainer.max_epoch * trainer.num_batches,
                initial=trainer.epoch * trainer.num_batches + trainer.batch_idx,
            )
        self._bar.set_description(f"epoch {trainer.epoch + 1}/{trainer.max_epoch}", refresh=False)
        self._bar.set_postfix_str(str(losses), refresh=False)
        self._bar.update()

    def hide(self) -> None:
        """Take the bar off the screen until the next batch, so that printed lines stay readable."""
        if self._bar is not None:
            self._bar.clear()

    def close(self) -> None:
        """End the bar, if there is one."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def evaluation_progress(data_loader: Any, split: str) -> Any:
    """The data loader's batches, with a bar on a terminal."""
    return _bar(data_loader, desc=f"evaluate {split}", leave=False, disable=not _on_terminal())


def _on_terminal() -> bool:
    return sys.stderr.isatty() and collectives.is_first()


def _bar(batches: Any = None, **options: Any) -> tqdm:
    try:
        columns = os.get_terminal_size(sys.stderr.fileno()).columns
    except (OSError, ValueError):
        columns = 0
    # Some terminals (of containers, of recorders) do not tell their size: tqdm would draw nothing there.
    size = {"dynamic_ncols": True} if columns else {"ncols": 80, "nrows": 24}
    return tqdm(batches, unit="batch", **size, **options)
