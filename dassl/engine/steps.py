"""The training steps of an epoch, and all that is reported of them."""

import time
from collections.abc import Iterable, Iterator
from statistics import median
from typing import Any

from dassl.utils import AverageMeter, MetricMeter

from .interruption import Interruption
from .loss_rule import LossRule, fetched, has_tensors

WARM_UP = 5  # steps that compile kernels, choose algorithms, fill caches


class Steps:
    """Calls a trainer's ``forward_backward`` for each batch.

    What a step returns as tensors is fetched when a line is printed (every ``TRAIN.PRINT_FREQ`` steps), so that no step
    waits for the device; so late is a loss noticed that is not finite.
    """

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer
        self._loss_rule = LossRule()
        self._times: list[float] = []
        self._done = 0  # batches of the epoch

    @property
    def seconds(self) -> float | None:
        """Median of the steps', each from its batch in hand to its losses.

        The first ``WARM_UP`` do not count; None where there were no others.
        """
        counted = self._times[WARM_UP:]
        return median(counted) if counted else None

    def run(self, batches: Iterable[tuple[Any, ...]], first: int | None = None) -> None:
        """``forward_backward(*batch)`` for each batch of an epoch, with everything that is reported.

        Args:
            first: number of the first of ``batches`` in the epoch. With it, a run can be interrupted between two
                batches and continue there; without, Ctrl-C acts at once and the epoch begins anew.
        """
        file = self._trainer._resume_file
        if first is None or file is None:
            self._run(batches)
            return
        with Interruption() as interruption:
            self._run(self._saving(interruption.batches(batches), first), first)
            if self._done > first:
                file.note_batches(self._done)
            if interruption.asked:
                file.save()
                interruption.act()

    def _saving(self, batches: Iterable[Any], first: int) -> Iterator[Any]:
        """Count batches that are done, and keep a long epoch from being lost."""
        file, self._done = self._trainer._resume_file, first
        for batch in batches:
            yield batch
            self._done += 1
            if file.is_overdue():
                file.note_batches(self._done)
                file.save()

    def _run(self, batches: Iterable[tuple[Any, ...]], first: int = 0) -> None:
        trainer, losses = self._trainer, MetricMeter()
        batch_time, data_time = AverageMeter(), AverageMeter()
        # batch, its learning rate, what the step returned; not yet reported
        steps: list[tuple[int, float, Any]] = []
        data_seconds, start = 0.0, time.time()
        end = start

        def report() -> None:
            nonlocal data_seconds, start
            self._report(steps, losses)
            self._times += [(time.time() - start - data_seconds) / len(steps)] * len(steps)
            steps.clear()
            data_seconds, start = 0.0, time.time()

        sent = map(trainer._send, batches)
        for trainer.batch_idx, batch in enumerate(sent, first):
            data_time.update(time.time() - end)
            data_seconds += data_time.val
            learning_rate = trainer.get_current_lr()  # an epoch's last step sets that of the next one
            summary = trainer.forward_backward(*batch)
            steps.append((trainer.batch_idx, learning_rate, summary))
            if trainer._progress.is_due(trainer) or not has_tensors(summary):
                report()
            batch_time.update(time.time() - end)
            trainer._progress.batch_done(trainer, losses, batch_time, data_time)
            end = time.time()
        if steps:
            report()

    def _report(self, steps: list[tuple[int, float, Any]], losses: MetricMeter) -> None:
        """Fetch what steps returned, check it and pass it on.

        Raises:
            FloatingPointError: "loss", what is differentiated, is not finite, and ``LossRule`` sees no use in going on.
        """
        trainer = self._trainer
        returned = fetched([summary for _, _, summary in steps])
        for (batch_idx, learning_rate, _), summary in zip(steps, returned):
            losses.update(summary)
            # Not every trainer calls model_backward, which looks at once.
            loss = (summary or {}).get("loss", 0.0)
            if self._loss_rule.ends(loss, trainer.num_batches, trainer, trainer._models):
                trainer._stop_at_anomaly(loss, batch_idx, [learning_rate])
            step = trainer.epoch * trainer.num_batches + batch_idx
            for name, meter in losses.meters.items():
                trainer.write_scalar(f"train/{name}", meter.avg, step)
            trainer.write_scalar("train/lr", learning_rate, step)
