"""The loop of a training: steps of an epoch, the measurements after it, callbacks and checkpoints in between."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

from xpdl.backends import device_memory, plans
from xpdl.backends.namespaces import Array
from xpdl.data import Batches, Prefetch
from xpdl.training.checkpoint.checkpointer import Checkpointer
from xpdl.training.evaluate import Evaluator
from xpdl.training.progress import Progress
from xpdl.training.run_state import Run, RunState
from xpdl.training.step import EagerStep
from xpdl.training.weighted_mean import WeightedMean


@dataclasses.dataclass(frozen=True)
class Loop:
    """The parts of a training, of which `epoch` makes one epoch.

    Attributes
    ----------
    run, state, step, batches, evaluator, checkpointer, progress
    notify : callable
        ``notify(event, number)`` calls the callbacks.
    """

    run: Run
    state: RunState
    step: EagerStep
    batches: Batches | Prefetch
    evaluator: Evaluator
    checkpointer: Checkpointer
    progress: Progress
    notify: Callable[[str, int], None]

    def epoch(self) -> None:
        """Train for one epoch, or for what is left of one that was broken off, and measure."""
        state, progress, steps = self.state, self.progress, self.run.steps_per_epoch
        begin = time.perf_counter() - state.seconds
        epoch, done = state.epoch + 1, state.step - state.epoch * steps
        if done == 0:
            state.epoch_loss = WeightedMean()
            self.notify("on_epoch_begin", epoch)
        title = f"epoch {epoch}/{self.run.epochs}"
        progress.start(title, steps, done)
        try:
            self._steps(done, begin)
        finally:
            progress.close()
        self.notify("on_test_begin", epoch)
        measured, history = self.evaluator.measure(state.history), state.history
        history.epoch_loss_list.append(state.epoch_loss.value)
        history.seconds.append(time.perf_counter() - begin)
        state.epoch, state.seconds = epoch, 0.0
        shown = [title, f"loss {history.epoch_loss_list[-1]:.4f}", measured]
        progress.line("  ".join([*filter(None, shown), f"{history.seconds[-1]:.1f} s"]))
        self.notify("on_epoch_end", epoch)
        self.checkpointer.after_epoch(self.run, state)

    def _steps(self, done: int, begin: float) -> None:
        """Make the steps of an epoch, but for those that are done."""
        state, step, backend = self.state, self.step, self.run.backend
        self.batches.epoch, self.batches.first_batch = state.epoch, done
        step.restart()
        for number, batch in enumerate(self.batches, done + 1):
            x, t, *_ = batch
            self.notify("on_batch_begin", state.step + 1)
            with device_memory.explained(backend, x.shape[0]):
                loss, updated = step(*batch, last=number == self.run.steps_per_epoch)
                state.step += 1
                if number == done + 1 and self.run.last_batch_size < x.shape[0]:
                    plans.plan_batches(backend, x.shape[0], self.run.last_batch_size)
            self.progress.step(lambda loss=loss: float(loss))  # type: ignore[misc]
            self.notify("on_batch_end", state.step)

            def prepare(x: Array = x, t: Array = t) -> None:
                step.read_losses(x, t)
                state.seconds = time.perf_counter() - begin

            if updated:  # or a checkpoint would lack gradients that are not yet used
                self.checkpointer.after_step(self.run, state, prepare)
        step.read_losses(x, t)
