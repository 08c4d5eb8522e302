"""What was measured, epoch by epoch, in files that other programs read."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xpdl.ops.checks import path_like
from xpdl.storage import write_atomically
from xpdl.training.callbacks import Callback
from xpdl.training.monitor import LISTS, mean_of_epoch

Row = dict[str, Any]


def row_of(trainer: Any, epoch: int) -> Row:
    """What is known of the epoch that has just ended: number, mean loss, measurements, learning rate, seconds."""
    history = trainer.history
    measured = {name: getattr(history, values)[-1] for name, values in LISTS.items() if getattr(history, values)}
    row = {"epoch": epoch, "loss": mean_of_epoch(trainer), **measured}
    return {**row, "lr": float(trainer.optimizer.lr), "seconds": history.seconds[-1]}


class _FileLogger(Callback):
    """One line per epoch, on the disk when the epoch ends. A run that goes on keeps the lines of epochs before."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path_like(path, "path", type(self).__name__))

    def on_train_begin(self, trainer: Any) -> None:
        """Begin the file, or keep those lines of an interrupted run whose epochs are not made again."""
        done = trainer.current_epoch
        kept = [row for row in self._read() if int(row["epoch"]) <= done] if done and self.path.exists() else []
        write_atomically(self.path, self._text(kept, whole=True).encode())

    def on_epoch_end(self, trainer: Any, epoch: int) -> None:
        row = row_of(trainer, epoch)
        with self.path.open("a", encoding="utf-8", newline="") as file:
            file.write(self._text([row], whole=file.tell() == 0))

    def _read(self) -> list[Row]:
        raise NotImplementedError(f"{type(self).__name__} cannot be read")

    def _text(self, rows: Sequence[Row], whole: bool) -> str:
        """`rows` as lines; `whole` when the file begins with them."""
        raise NotImplementedError(f"{type(self).__name__} cannot be written")


class CSVLogger(_FileLogger):
    """Writes a line of comma-separated values after each epoch, under a line of names.

    Parameters
    ----------
    path : path
        A file of another run is replaced; one of the same run, going on from a checkpoint, is continued.
    """

    def _read(self) -> list[Row]:
        with self.path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    def _text(self, rows: Sequence[Row], whole: bool) -> str:
        if not rows:
            return ""
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
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
    """

    def _read(self) -> list[Row]:
        return [json.loads(line) for line in self.path.read_text(encoding="utf-8").splitlines()]

    def _text(self, rows: Sequence[Row], whole: bool) -> str:
        return "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows)


class TensorBoard(Callback):
    """Writes the numbers of each epoch as scalars for TensorBoard; ``pip install "xpdl[tensorboard]"`` brings the writer.

    Parameters
    ----------
    log_dir : path
        A folder; each run should have one of its own. ``tensorboard --logdir`` shows them side by side.

    Raises
    ------
    ImportError
        If tensorboardX is not installed, when a training begins.
    """

    def __init__(self, log_dir: str | os.PathLike[str]) -> None:
        self.log_dir = path_like(log_dir, "log_dir", "TensorBoard")
        self._writer: Any = None

    def on_train_begin(self, trainer: Any) -> None:
        try:
            import tensorboardX
        except ImportError as error:
            raise ImportError('TensorBoard: needs tensorboardX; pip install "xpdl[tensorboard]" brings it') from error
        # events of epochs that are made again are left out by readers
        self._writer = tensorboardX.SummaryWriter(self.log_dir, purge_step=trainer.current_epoch + 1)

    def on_epoch_end(self, trainer: Any, epoch: int) -> None:
        for name, value in row_of(trainer, epoch).items():
            if name != "epoch":
                self._writer.add_scalar(name, value, epoch)
        self._writer.flush()

    def on_train_end(self, trainer: Any) -> None:
        self._writer.close()
