"""Logs: the measurements of each epoch, in files that other programs read."""

from __future__ import annotations

import csv
import io
import math
import os
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from xpdl.io import json_text
from xpdl.io.atomic import append, is_special, write_atomically
from xpdl.io.os_errors import in_words
from xpdl.ops.checks import path_like
from xpdl.training import plain_json
from xpdl.training.callbacks.base import Callback
from xpdl.training.callbacks.monitor import mean_of_epoch
from xpdl.training.messages import warn

Row = dict[str, Any]


def row_of(trainer: Any, epoch: int) -> Row:
    """Row of the epoch that has just ended: number, mean loss, measurements, learning rate, seconds."""
    history = trainer.history
    row = {"epoch": epoch, "loss": mean_of_epoch(trainer), **history.last()}
    return {**row, "lr": float(getattr(trainer.optimizer, "lr", math.nan)), "seconds": history.seconds[-1]}


class _FileLogger(Callback):
    """One line per epoch, on the disk when the epoch ends. A run that goes on keeps the lines of epochs before.

    What cannot be written, on a full disk for example, is a warning, once; it is written as soon as that is possible again.
    """

    on_rank_0_only: ClassVar[bool] = True

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path_like(path, "path", type(self).__name__))

    def on_train_begin(self, trainer: Any) -> None:
        """Begin the file, or keep those lines of an interrupted run whose epochs are not made again."""
        self._rows = self._kept(trainer)
        self._written, self._warned = len(self._rows), False
        if not is_special(self.path):
            write_atomically(self.path, self._text(self._rows, whole=True).encode())

    def on_epoch_end(self, trainer: Any, epoch: int) -> None:
        self._rows.append(row_of(trainer, epoch))
        try:
            self._write()
        except OSError as error:
            if not self._warned:
                warn(f"{type(self).__name__}: epoch {epoch} is not in {self.path} yet: {in_words(error)}")
            self._warned = True
        else:
            self._written = len(self._rows)

    def _write(self) -> None:
        # somebody may have moved the file away, as programs do that rotate logs
        begins = not is_special(self.path) and (not self.path.exists() or self.path.stat().st_size == 0)
        if begins or not self._goes_on():
            write_atomically(self.path, self._text(self._rows, whole=True).encode())
        else:
            append(self.path, self._text(self._rows[self._written :], whole=self._written == 0).encode())

    def _goes_on(self) -> bool:
        """Return whether the rows that are not written yet can be appended to the others."""
        return True

    def _kept(self, trainer: Any) -> list[Row]:
        """Rows in the file of the epochs that the run has completed."""
        done = trainer.current_epoch
        if not done or not self.path.is_file():
            return []
        kept: dict[int, Row] = {}
        damaged = foreign = 0
        for row in self._read(self.path.read_bytes().decode("utf-8-sig", errors="replace").splitlines()):
            try:
                epoch, loss, seconds = int(row["epoch"]), _number(row["loss"]), _number(row["seconds"])
            except (TypeError, KeyError, ValueError, OverflowError):
                damaged += 1
                continue
            if not 1 <= epoch <= done:
                continue
            own = mean_of_epoch(trainer, epoch), trainer.history.seconds[epoch - 1]
            if all(map(_alike, (loss, seconds), own)):
                # the run's own, of which the last one may be cut off
                kept[epoch] = {**row, "loss": own[0], "seconds": own[1]}
            else:
                foreign += 1
        if damaged:
            warn(
                f"{type(self).__name__}: {self.path} had {damaged} damaged lines, such as one cut off; they are removed"
            )
        if foreign:
            warn(f"{type(self).__name__}: {self.path} had {foreign} lines of another run; they are removed")
        return [kept[epoch] for epoch in sorted(kept)]

    def _read(self, lines: list[str]) -> Iterable[Any]:
        """Parse each line; a damaged one gives something else than a row."""
        raise NotImplementedError(f"{type(self).__name__} cannot be read")

    def _text(self, rows: Sequence[Row], whole: bool) -> str:
        """`rows` as lines; `whole` when the file begins with them."""
        raise NotImplementedError(f"{type(self).__name__} cannot be written")


class CSVLogger(_FileLogger):
    """Writes a line of comma-separated values after each epoch, under a line of names.

    Parameters
    ----------
    path : path
        A file of another run is replaced; one of the same run, going on from a checkpoint, is continued. Its folder must be
        there when a training begins.

    Notes
    -----
    NaN and infinity are ``nan``, ``inf`` and ``-inf``. Lines that were damaged, as the last one where the power went, are
    removed with a warning when the run goes on.
    """

    def _read(self, lines: list[str]) -> Iterable[Any]:
        names, *rows = map(_fields, lines or [""])
        return (dict(zip(names, row, strict=True)) if len(row) == len(names) else None for row in rows)

    def _goes_on(self) -> bool:
        return all(list(row) == list(self._rows[0]) for row in self._rows[self._written :])

    def _text(self, rows: Sequence[Row], whole: bool) -> str:
        if not rows:
            return ""
        text = io.StringIO()
        names = dict.fromkeys(name for row in rows for name in row)
        writer = csv.DictWriter(text, list(names), lineterminator="\n")
        if whole:
            writer.writeheader()
        writer.writerows(rows)
        return text.getvalue()


class JSONLogger(_FileLogger):
    """Writes an object of JSON in a line of its own after each epoch (JSON lines).

    Parameters
    ----------
    path : path
        As in `CSVLogger`.

    Notes
    -----
    NaN and infinity, which JSON has no numbers for, are the strings ``"NaN"``, ``"Infinity"`` and ``"-Infinity"``, which
    ``float`` reads. Damaged lines are removed as by `CSVLogger`.
    """

    def _read(self, lines: list[str]) -> Iterable[Any]:
        for line in lines:
            try:
                yield json_text.loads(line)
            except ValueError:
                yield None

    def _text(self, rows: Sequence[Row], whole: bool) -> str:
        return "".join(plain_json.dumps(row) + "\n" for row in rows)


def _fields(line: str) -> list[str]:
    try:
        return next(csv.reader([line]), [])
    except csv.Error:  # of a file that is none
        return []


def _number(value: Any) -> float:
    if not isinstance(value, (int, float, str)):
        raise ValueError(f"{value!r} is no number")
    return float(value)


def _alike(one: float, other: float) -> bool:
    """Equal, or nearly, as after a spreadsheet has written the file."""
    return (math.isnan(one) and math.isnan(other)) or math.isclose(one, other, rel_tol=1e-6)


class TensorBoard(Callback):
    """Writes the numbers of each epoch as scalars for TensorBoard; ``pip install "xpdl[tensorboard]"`` brings the writer.

    Where they cannot be written, on a full disk for example, a warning says so, and there are none of later epochs.

    Parameters
    ----------
    log_dir : path
        A folder; each run should have one of its own. ``tensorboard --logdir`` shows them side by side.

    Raises
    ------
    ImportError
        If tensorboardX is not installed, when a training begins.
    OSError
        If the folder cannot be made, when a training begins.
    """

    on_rank_0_only: ClassVar[bool] = True

    def __init__(self, log_dir: str | os.PathLike[str]) -> None:
        self.log_dir = path_like(log_dir, "log_dir", "TensorBoard")
        self._writer: Any = None

    def on_train_begin(self, trainer: Any) -> None:
        try:
            import tensorboardX
        except ImportError as error:
            raise ImportError('TensorBoard: needs tensorboardX; pip install "xpdl[tensorboard]" brings it') from error
        self._close()  # of a training that was broken off
        others = set(threading.enumerate())
        # readers skip the events of repeated epochs
        self._writer = tensorboardX.SummaryWriter(self.log_dir, purge_step=trainer.current_epoch + 1)
        self._threads = set(threading.enumerate()) - others

    def on_epoch_end(self, trainer: Any, epoch: int) -> None:
        if self._writer is None:
            return
        try:
            for name, value in row_of(trainer, epoch).items():
                # the queue of a thread that has ended is full soon, and waits for ever
                if not all(thread.is_alive() for thread in self._threads):
                    raise OSError("the writer's thread has ended")
                if name != "epoch":
                    self._writer.add_scalar(name, value, epoch)
            self._writer.flush()
        except OSError as error:
            warn(f"TensorBoard: no events are written to {self.log_dir} from epoch {epoch} on: {in_words(error)}")
            self._writer = None

    def on_train_end(self, trainer: Any) -> None:
        self._close()

    def _close(self) -> None:
        writer, self._writer = self._writer, None
        if writer is None:
            return
        try:
            writer.close()
        except OSError as error:
            warn(f"TensorBoard: the last events may be missing in {self.log_dir}: {in_words(error)}")
