"""Stopping when nothing gets better, and files of the best so far."""

from __future__ import annotations

import os
from typing import Any, ClassVar

from xpdl.backends.namespaces import Array
from xpdl.io.atomic import prepare_to_write
from xpdl.io.os_errors import in_words
from xpdl.ops.checks import flag, number, path_like, positive_int
from xpdl.training.callbacks.base import Callback
from xpdl.training.callbacks.monitor import Monitor, formatted, measured_by, names_in
from xpdl.training.messages import warn
from xpdl.training.network_state import copies, put_back


class EarlyStopping(Callback):
    """Stops the training when a number has not improved for some epochs.

    Parameters
    ----------
    monitor : str, optional
        ``"loss"``, ``"val_acc"``, ``"test_acc"``, ``"train_acc"``, ``"val_loss"``, ``"test_loss"``, or a metric of the
        trainer such as ``"val_f1"``; by default the first of val_acc, test_acc, train_acc, val_loss and test_loss that is
        measured. A trainer refuses another before its first step. Choosing an epoch by the test set
        makes its accuracy look better than it is; that is what ``Trainer(validation_split=...)`` is for.
    patience : int
        Epochs without improvement after which to stop.
    min_delta : float
        What counts as an improvement: more than this.
    restore_best_weights : bool
        When the training ends, for whatever reason, give the network the weights and running statistics of its best epoch.

    Attributes
    ----------
    best : float or None
        The best number so far.
    best_epoch : int
        When it was measured, from 1; 0 before the first.

    Notes
    -----
    The criterion is GL of Prechelt, "Early stopping, but when?" (1998), counted in epochs; a NaN is no improvement.
    """

    changes_training: ClassVar[bool] = True

    def __init__(
        self,
        monitor: str | None = None,
        patience: int = 5,
        min_delta: float = 0.0,
        restore_best_weights: bool = True,
    ) -> None:
        self.monitor = Monitor(monitor, "EarlyStopping")
        self.patience = positive_int(patience, "patience", "EarlyStopping")
        self.min_delta = number(min_delta, "min_delta", "EarlyStopping", "at least 0")
        self.restore_best_weights = flag(restore_best_weights, "restore_best_weights", "EarlyStopping")
        self.best: float | None = None
        self.best_epoch = 0
        self._weights: dict[str, Array] = {}

    def on_epoch_end(self, trainer: Any, epoch: int) -> None:
        value = self.monitor.read(trainer)
        if self.monitor.better(value, self.monitor.worst if self.best is None else self.best, self.min_delta):
            self.best, self.best_epoch = value, epoch
            if self.restore_best_weights:
                self._weights = copies(trainer.network)
        elif epoch - self.best_epoch >= self.patience:
            trainer.stop_training = True

    def on_train_end(self, trainer: Any) -> None:
        if self._weights:
            put_back(trainer.network, self._weights)

    def state_dict(self) -> dict[str, Any]:
        """The best number, its epoch and the weights of it."""
        return {
            "monitor": self.monitor.name,
            "best": self.best,
            "best_epoch": self.best_epoch,
            **{f"weights.{name}": array for name, array in self._weights.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.monitor.name, self.best, self.best_epoch = state["monitor"], state["best"], state["best_epoch"]
        prefix = "weights."
        self._weights = {name.removeprefix(prefix): a for name, a in state.items() if name.startswith(prefix)}


class ModelCheckpoint(Callback):
    """Writes the network's weights to a file after epochs, with ``network.save_params``.

    Parameters
    ----------
    path : path
        May be a format string of the epoch and of what `monitor` may name:
        ``"runs/net-{epoch:03d}-{val_acc:.3f}.safetensors"`` keeps every file. Braces that stand for themselves are doubled.
        The folder must be there when a training begins.
    monitor : str, optional
        As in `EarlyStopping`.
    save_best_only : bool
        Write only when the number is the best so far.

    Notes
    -----
    For a run that is to go on after an interruption, use ``Trainer(checkpoint=...)``, which keeps everything else too. A
    file that cannot be written, on a full disk for example, is a warning, once; the one before it stays as it is.

    Raises
    ------
    ValueError
        If `path` is no format string, or names something else; when a training begins, if it names what is not measured.
    OSError
        If no file can be written there when a training begins.
    """

    on_rank_0_only: ClassVar[bool] = True

    def __init__(self, path: str | os.PathLike[str], monitor: str | None = None, save_best_only: bool = True) -> None:
        self.path = path_like(path, "path", "ModelCheckpoint")
        self.monitor = Monitor(monitor, "ModelCheckpoint")
        self.save_best_only = flag(save_best_only, "save_best_only", "ModelCheckpoint")
        self.names = names_in(self.path, "ModelCheckpoint")
        self.best: float | None = None
        self._warned = False

    def on_train_begin(self, trainer: Any) -> None:
        self._warned = False
        if not callable(getattr(trainer.network, "save_params", None)):
            raise TypeError(f"ModelCheckpoint: the network must have save_params(path), got {trainer.network!r}")
        for name in self.names:
            if name not in ("epoch", "loss") and name not in measured_by(trainer):
                raise ValueError(f"ModelCheckpoint: {self.path!r} names {name}, which is not measured by this trainer")
        numbers: dict[str, Any] = dict.fromkeys(self.names, 0.5)
        prepare_to_write(self.path.format(**{**numbers, "epoch": trainer.current_epoch + 1}))

    def on_epoch_end(self, trainer: Any, epoch: int) -> None:
        value = self.monitor.read(trainer)
        better = self.monitor.better(value, self.monitor.worst if self.best is None else self.best)
        if better or not self.save_best_only:
            try:
                trainer.network.save_params(formatted(self.path, trainer, epoch))
            except OSError as error:
                if not self._warned:
                    warn(f"ModelCheckpoint: the weights after epoch {epoch} are in no file: {in_words(error)}")
                self._warned = True
                return
        if better:
            self.best = value

    def state_dict(self) -> dict[str, Any]:
        """The best number."""
        return {"monitor": self.monitor.name, "best": self.best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.monitor.name, self.best = state["monitor"], state["best"]
