"""One pass over the rows to train with, and the measurements after it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from xpdl.backends import device_memory, plans
from xpdl.backends.namespaces import Array
from xpdl.training import evaluate, step
from xpdl.training.checkpoint.checkpointer import Checkpointer
from xpdl.training.gradient_accumulator import Accumulated
from xpdl.training.progress import Progress
from xpdl.training.weighted_mean import WeightedMean

if TYPE_CHECKING:
    from xpdl.training.trainer import Trainer


def make(trainer: Trainer, checkpointer: Checkpointer, progress: Progress) -> None:
    """Train for one epoch, or for what is left of one that was broken off, and measure."""
    begin = time.perf_counter() - trainer.seconds_in_epoch
    epoch = trainer.current_epoch + 1
    done = trainer.current_iter - trainer.current_epoch * trainer.iter_per_epoch
    if done == 0:
        trainer.epoch_loss = WeightedMean()
        trainer.callbacks.call("on_epoch_begin", trainer, epoch)
    progress.start(f"epoch {epoch}/{trainer.epochs}", trainer.iter_per_epoch, done)
    try:
        _steps(trainer, checkpointer, progress, done, begin)
    finally:
        progress.close()
    trainer.callbacks.call("on_test_begin", trainer, epoch)
    measured, history = evaluate.measure(trainer), trainer.history
    history.epoch_loss_list.append(trainer.epoch_loss.value)
    history.seconds.append(time.perf_counter() - begin)
    trainer.current_epoch, trainer.seconds_in_epoch = epoch, 0.0
    shown = [f"epoch {epoch}/{trainer.epochs}", f"loss {history.epoch_loss_list[-1]:.4f}", measured]
    progress.line("  ".join([*filter(None, shown), f"{history.seconds[-1]:.1f} s"]))
    trainer.callbacks.call("on_epoch_end", trainer, epoch)
    checkpointer.after_epoch(trainer)


def _steps(trainer: Trainer, checkpointer: Checkpointer, progress: Progress, done: int, begin: float) -> None:
    """The steps of an epoch, but for those that are done."""
    trainer.batches.epoch, trainer.batches.first_batch = trainer.current_epoch, done
    trainer.unread = []
    accumulated = Accumulated(trainer.accumulate)
    for number, batch in enumerate(trainer.batches):
        x, t, *_ = batch
        trainer.callbacks.call("on_batch_begin", trainer, trainer.current_iter + 1)
        with device_memory.explained(trainer.backend, x.shape[0]):
            loss, updated = step.make(trainer, accumulated, *batch)
            if number == 0:
                _plan_last_batch(trainer, x.shape[0])
        progress.step(lambda loss=loss: float(loss))  # type: ignore[misc]
        trainer.callbacks.call("on_batch_end", trainer, trainer.current_iter)

        def prepare(x: Array = x, t: Array = t) -> None:
            trainer.read_losses(x, t)
            trainer.seconds_in_epoch = time.perf_counter() - begin

        if updated:  # or a checkpoint would lack gradients that are not yet used
            checkpointer.after_step(trainer, prepare)
    trainer.read_losses(x, t)


def _plan_last_batch(trainer: Trainer, rows: int) -> None:
    """Have kernels plan for the last batch of an epoch, where it has fewer rows than the `rows` of the others."""
    last = trainer.x_train.shape[0] - (trainer.iter_per_epoch - 1) * trainer.batch_size
    if last < rows:
        plans.plan_batches(trainer.backend, rows, last)
