"""The loop of a training: the epochs of a call, steps and measurements, callbacks and checkpoints in between."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable
from typing import Any

from xpdl.backends import device_memory, plans
from xpdl.backends.namespaces import Array
from xpdl.data import Batches, Prefetch
from xpdl.data.structure import rows_in
from xpdl.layers.recurrent_state import reset_states, states_of_zeros
from xpdl.ops.shares import share_of
from xpdl.training import ownership
from xpdl.training.agreement import require_agreement
from xpdl.training.batch_source import BatchSource, is_in_order
from xpdl.training.callbacks.monitor import check_monitors
from xpdl.training.callbacks.schedules import warn_of_longer
from xpdl.training.checkpoint.checkpointer import Checkpointer
from xpdl.training.divergence import warn_of_rise
from xpdl.training.evaluate import Evaluator
from xpdl.training.history import History
from xpdl.training.measures import loss_words
from xpdl.training.progress import Progress
from xpdl.training.run_state import Run, RunState
from xpdl.training.step import EagerStep
from xpdl.training.weighted_mean import WeightedMean


def train(trainer: Any, more: int | None) -> History:
    """Make one call of ``Trainer.train``: up to its epochs, or `more` of them."""
    progress = Progress(trainer.verbose, functools.partial(loss_words, trainer.network))
    state, callbacks = trainer.state, trainer.callbacks
    check_monitors(trainer)
    run = trainer.as_run()
    with trainer.checkpointer.locked(), ownership.under_way(run):
        state.stopped = False
        if run.communicator.size > 1:
            require_agreement(run, trainer.data.sets, run.communicator, _of_messages(trainer, more))
            way = run.communicator.transport_of(run.backend).describe()
            progress.line(f"{run.communicator.describe()}; gradients are {way}")
        if going_on := trainer.checkpointer.begin(run, state):
            progress.line(going_on)
        run = _up_to(trainer, trainer.epochs if more is None else state.epoch + more)
        state.stopped = state.stopped and more is None
        if state.stopped or state.epoch >= run.last_epoch:
            done = f"stopped after epoch {state.epoch}" if state.stopped else f"all {trainer.epochs} epochs are done"
            progress.line(f"nothing to train: {done}; train(epochs=n) goes on for n more")
        callbacks.call("on_train_begin", trainer)
        trainer.owner.begun = True

        def notify(event: str, number: int) -> None:
            callbacks.call(event, trainer, number)

        parts = trainer.step, trainer.batches, trainer.evaluator, trainer.checkpointer
        loop = Loop(run, state, *parts, progress, notify)
        trained = state.epoch < run.last_epoch and not state.stopped
        with trainer.checkpointer:
            while state.epoch < run.last_epoch and not state.stopped:
                loop.epoch()
    callbacks.call("on_train_end", trainer)
    history: History = state.history
    if trained:
        warn_of_rise(history)
    return history


def _of_messages(trainer: Any, more: int | None) -> dict[str, Any]:
    """Return the options by which ranks exchange messages at certain steps."""
    return {
        "checkpoint": trainer.checkpointer.files is not None,
        "checkpoint_every": trainer.checkpointer.every,
        "check_ranks_every": trainer.step.check_every,
        "epochs of this call": more,
    }


def _up_to(trainer: Any, last_epoch: int) -> Run:
    """Lengthen the training to `last_epoch` where it is shorter, and describe it as one of which this call ends there."""
    if last_epoch > trainer.epochs:
        warn_of_longer(trainer.callbacks.callbacks, trainer.epochs, last_epoch)
        trainer.epochs = last_epoch
    run: Run = dataclasses.replace(trainer.as_run(), last_epoch=last_epoch)
    return run


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
    batches: Batches | Prefetch | BatchSource
    evaluator: Evaluator
    checkpointer: Checkpointer
    progress: Progress
    notify: Callable[[str, int], None]

    def epoch(self) -> None:
        """Train for one epoch, or for what is left of one that was broken off, and measure."""
        state, progress = self.state, self.progress
        begin = time.perf_counter() - state.seconds
        epoch, done = state.epoch + 1, state.step - state.first_step
        if not state.in_memory:
            self.step.restart()
            state.in_memory = True
        if done == 0:
            reset_states(self.run.network)
            state.epoch_loss = WeightedMean()
            self.notify("on_epoch_begin", epoch)
        title = f"epoch {epoch}/{self.run.epochs}"
        progress.start(title, self.run.steps_per_epoch, done, self.run.last_epoch - epoch)
        # rows that are shuffled, and windows that are drawn, begin with a state of zeros
        in_order = is_in_order(self.batches)
        try:
            with contextlib.nullcontext() if in_order else states_of_zeros(self.run.network):
                self._steps(done, begin)
        finally:
            progress.close()
            state.seconds = time.perf_counter() - begin
        reset_states(self.run.network)
        self.notify("on_test_begin", epoch)
        measured, history = self.evaluator.measure(state.history), state.history
        history.epoch_loss_list.append(state.epoch_loss.value)
        history.seconds.append(time.perf_counter() - begin)
        state.epoch, state.first_step, state.seconds, state.in_memory = epoch, state.step, 0.0, False
        shown = [title, f"loss {loss_words(self.run.network, history.epoch_loss_list[-1])}", measured]
        progress.line("  ".join([*filter(None, shown), f"{history.seconds[-1]:.1f} s"]))
        self.notify("on_epoch_end", epoch)
        # a callback may have decided by what one rank alone sees, such as the time
        state.stopped = any(self.run.communicator.allgather(state.stopped))
        self.checkpointer.after_epoch(self.run, state)

    def _steps(self, done: int, begin: float) -> None:
        """Make the steps of an epoch, but for those that are done."""
        state, step, backend = self.state, self.step, self.run.backend
        self.batches.epoch, self.batches.first_batch = state.epoch, done
        x = t = None
        start, stop = share_of(self.run.last_batch_size, self.run.communicator.rank, self.run.communicator.size)
        last_rows = stop - start
        for number, batch in enumerate(self.batches, done + 1):
            x, t, *_ = batch
            last = number == self.run.steps_per_epoch
            self.notify("on_batch_begin", state.step + 1)
            state.in_memory = False
            with device_memory.explain_oom(backend, rows_in(x)):
                loss, updated = step(*batch, last=last)
                state.step += 1
                state.in_memory = True
                if number == done + 1 and 0 < last_rows < rows_in(x):
                    plans.plan_batches(backend, rows_in(x), last_rows)
            self.progress.step(lambda loss=loss: float(loss))  # type: ignore[misc]
            self.notify("on_batch_end", state.step)

            def prepare(x: Array = x, t: Array = t) -> None:
                step.read_losses(x, t)
                state.seconds = time.perf_counter() - begin

            # a checkpoint would lack gradients that are not yet used; after the last step, the measurements come first
            if updated and not last:
                self.checkpointer.after_step(self.run, state, prepare)
        if done == 0 and state.step == state.first_step:
            raise ValueError(
                f"Trainer: x_train gave no batch in epoch {state.epoch + 1}; an iterator gives its batches once, pass the "
                "function that makes it"
            )
        state.in_memory = False
        step.finish()
        state.in_memory = True
        # not where an epoch goes on after its last step, whose losses are read
        if state.step > state.first_step + done or state.pending:
            step.read_losses(x, t)
