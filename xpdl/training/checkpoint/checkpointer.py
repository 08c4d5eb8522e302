"""Schedule of a run's checkpoints, resumption from one, and a clean stop on a signal."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable
from types import TracebackType

from xpdl.distributed import Communicator
from xpdl.ops.checks import positive_int
from xpdl.training import ownership
from xpdl.training.agreement import begin_alike
from xpdl.training.checkpoint.rotation import CheckpointFiles
from xpdl.training.checkpoint.signals import Interrupts
from xpdl.training.run_state import Run, RunState
from xpdl.training.shared_states import whole_states

Checkpoint = str | os.PathLike[str] | CheckpointFiles

#: checkpoints that are kept unless another number is asked for
MAX_CHECKPOINTS = 2


class Checkpointer:
    """The checkpoints of a trainer; entered while it trains. Without a path, it only makes ctrl-C wait for a step to end.

    Parameters
    ----------
    path : path or CheckpointFiles, optional
    every : int, optional
        Steps from one to the next; by default they are written between epochs.
    max_checkpoints : int
        So many files are kept.
    seed : int, optional
        That of the run.
    communicator : Communicator
        Of the ranks of the run, of which rank 0 reads and writes.

    Raises
    ------
    ValueError
        If there is a path but no seed, or `every` or another `max_checkpoints` than the default without a path.
    """

    def __init__(
        self,
        path: Checkpoint | None,
        every: int | None,
        max_checkpoints: int,
        seed: int | None,
        communicator: Communicator,
    ) -> None:
        self.communicator = communicator
        if path is not None and seed is None:
            raise ValueError("Trainer: a run with a checkpoint needs a seed, or it cannot go on in the order it began")
        self.every = None if every is None else positive_int(every, "checkpoint_every", "Trainer")
        max_checkpoints = positive_int(max_checkpoints, "max_checkpoints", "Trainer")
        if path is None and (every is not None or max_checkpoints != MAX_CHECKPOINTS):
            option = f"max_checkpoints={max_checkpoints}" if every is None else f"checkpoint_every={every}"
            raise ValueError(f"Trainer: {option} without a checkpoint to write; pass checkpoint=, or leave it out")
        self.files = (
            path if path is None or isinstance(path, CheckpointFiles) else CheckpointFiles(path, max_checkpoints)
        )
        if self.files is not None and max_checkpoints not in (MAX_CHECKPOINTS, self.files.max_checkpoints):
            raise ValueError(
                f"Trainer: max_checkpoints={max_checkpoints}, but the checkpoint's files have "
                f"max_checkpoints={self.files.max_checkpoints}; say it there"
            )
        self._interrupts = self._new_interrupts()
        self._last_step = 0

    def locked(self) -> contextlib.AbstractContextManager[None]:
        """Keep other runs from the checkpoints; see `CheckpointFiles.locked`."""
        return (
            self.files.locked() if self.files is not None and self.communicator.is_first else contextlib.nullcontext()
        )

    def begin(self, run: Run, state: RunState) -> str | None:
        """Load the newest checkpoint into `run` and `state`, if there is one to resume from, and say so.

        Raises
        ------
        OSError
            If its checkpoints cannot be read.
        ValueError
            If there are some, but none to go on from.
        """
        begun = state.step > 0 and state.is_between_epochs()
        reads = self.files is not None and not begun and self.communicator.is_first and self.files.exist()
        in_memory = all(self.communicator.allgather(state.in_memory and not reads))
        source = ""
        if reads:
            assert self.files is not None
            source = f" from {self.files.read(run, state)}"
            if state.ranks != self.communicator.size:
                source += (
                    f", which {state.ranks} ranks wrote and {self.communicator.size} read: sums differ in the last bits"
                )
        else:
            ownership.begin(run, resumed=False)
            if not in_memory:
                state.restart_epoch()
        state.ranks = self.communicator.size
        if self.communicator.size > 1 and not in_memory:
            begin_alike(run, state, self.communicator)
        self._last_step = state.step
        return f"going on after {state.where()}{source}" if reads or not state.is_between_epochs() else None

    def __enter__(self) -> Checkpointer:
        self._interrupts = self._new_interrupts()
        self._interrupts.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._interrupts.__exit__(kind, error, trace)

    def after_step(self, run: Run, state: RunState, prepare: Callable[[], None]) -> None:
        """Write if it is time to, and stop there if that was asked for; `prepare` is called before."""
        if self._stops() or self._due(state):
            prepare()
            self._write(run, state)

    def after_epoch(self, run: Run, state: RunState) -> None:
        """Write if it is time to, between epochs; see `after_step`."""
        ends = state.stopped or state.epoch == run.last_epoch
        if self._stops() or self.every is None or self._due(state) or ends:
            self._write(run, state)

    def _due(self, state: RunState) -> bool:
        # not only at multiples: between two batches whose gradients are added up, it is not asked
        return self.every is not None and state.step // self.every > self._last_step // self.every

    def _stops(self) -> bool:
        """Return whether a signal was noted, here or by another rank, so that all ranks stop after the same step."""
        numbers = self.communicator.start_gather([float(self._interrupts.noted or 0)])()  # one message
        noted = next((int(number) for (number,) in numbers.tolist() if number), None)
        self._interrupts.noted = None if noted is None else signal.Signals(noted)
        return noted is not None

    def _new_interrupts(self) -> Interrupts:
        return Interrupts((signal.SIGINT,) if self.files is None else (signal.SIGINT, signal.SIGTERM))

    def _with_states_of_all(self, run: Run) -> contextlib.AbstractContextManager[None]:
        if self.communicator.size == 1:
            return contextlib.nullcontext()
        start, stop, _ = run.span(False)
        return whole_states(run.network, run.backend, self.communicator, stop - start)

    def _write(self, run: Run, state: RunState) -> None:
        written = False
        if self.files is not None:
            # others wait for it, so that an end of the program does not cut it short
            with run.with_whole_state(), self._with_states_of_all(run):
                written = self.communicator.bcast(self.communicator.is_first and self.files.write(run, state))
            self._last_step = state.step
        if not self._interrupts.noted:
            return
        text = f"stopped after {state.where()}"
        if self.files is None:
            text += "; train() of this Trainer goes on from there"
        elif written:
            how = "started again with the same arguments (xpdl train --resume knows them), training goes on"
            text += f"; {how} from {self.files.path}"
        else:
            text += f", of which no checkpoint could be written; {self.files.path}, if it is there, is older"
        self._interrupts.stop(text, says_so=self.communicator.is_first)
