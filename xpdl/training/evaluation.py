"""How good a network is on a whole data set, computed batch by batch."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from xpdl.backends import Backend
from xpdl.backends.namespaces import Array, is_array, is_host, on_device_of, same_place
from xpdl.errors import ShapeError
from xpdl.models.sequential import Sequential

if TYPE_CHECKING:
    from xpdl.training.trainer import Trainer

# Rows in one forward pass: enough to keep a processor busy, few enough for the memory of any.
_ROWS = 200
# Launches cost a device as much for 200 rows as for 2,000; where these do not fit, it takes the former.
_ROWS_OF_A_DEVICE = 2000


def measure(trainer: Trainer) -> str:
    """Measure after an epoch, for the history, and say it in words."""
    sets = [("test", trainer.x_test, trainer.t_test)]
    if trainer.x_val is not None:
        sets.insert(0, ("val", trainer.x_val, trainer.t_val))
    if trainer.classifies:
        sets.insert(0, ("train", trainer.x_train, trainer.t_train))
    words = []
    function, kind, what = (accuracy, "acc", "accuracy") if trainer.classifies else (mean_loss, "loss", "loss")
    for name, x, t in sets:
        found = getattr(trainer.history, f"{name}_{kind}_list")
        # the standard leaves open what a slice beyond the last row gives
        rows = min(trainer.evaluate_sample_num_per_epoch or x.shape[0], x.shape[0])
        found.append(function(trainer.network, x[:rows, ...], t[:rows, ...]))
        words.append(f"{name} {what} {found[-1]:.4f}")
    return "  ".join(words)


def accuracy(network: Any, x: Array, t: Array) -> float:
    """Share of all rows of `x` that ``network.accuracy`` counts as right.

    A `Sequential` counts on its device, and the host reads one number. Another network is asked batch by batch, and where
    its ``accuracy`` has a ``batch_size``, as in the book, that is always the batch at hand: the book's own code drops what
    does not fill a batch.
    """
    rows = _rows(x, t, "accuracy")
    if getattr(type(network), "accuracy", None) is Sequential.accuracy:
        return float(_batched(network, lambda size: network.accuracy(x, t, batch_size=size)))
    own_batches = "batch_size" in inspect.signature(network.accuracy).parameters
    right = 0
    for start in range(0, rows, _ROWS):
        end = min(start + _ROWS, rows)
        option = {"batch_size": end - start} if own_batches else {}
        share = network.accuracy(x[start:end, ...], t[start:end, ...], **option)
        right += round(float(share) * (end - start))
    return right / rows


def mean_loss(network: Any, x: Array, t: Array) -> float:
    """The mean over all rows of ``network.loss``, which is itself a mean over the rows of a batch."""
    rows = _rows(x, t, "mean_loss")
    first = next(filter(is_array, getattr(network, "params", {}).values()), None)
    # rows of a data set that is too large for a device stay on the host
    home = None if first is None or same_place(x, first) else Backend.of(first)

    def mean(size: int) -> Any:
        total: Any = 0.0
        for start in range(0, rows, size):
            end = min(start + size, rows)
            batch = x[start:end, ...] if home is None else home.asarray(x[start:end, ...])
            total = total + network.loss(batch, t[start:end, ...]) * (end - start)
        return float(total) / rows

    with on_device_of(first):
        return float(_batched(network, mean))


def _batched(network: Any, measured: Callable[[int], Any]) -> Any:
    """`measured` with the number of rows of one forward pass that suits the device of `network`."""
    parameters = getattr(network, "params", {}).values()
    if parameters and not any(map(is_host, parameters)):
        with contextlib.suppress(MemoryError):
            return measured(_ROWS_OF_A_DEVICE)
    return measured(_ROWS)


def _rows(x: Array, t: Array, owner: str) -> int:
    if x.shape[0] != t.shape[0] or x.shape[0] == 0:
        raise ShapeError(
            f"{owner}: expected as many rows of x as of t, and at least one, got {x.shape[0]} and {t.shape[0]}"
        )
    return int(x.shape[0])
