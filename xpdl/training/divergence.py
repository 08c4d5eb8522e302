"""A training whose loss ended above its start."""

from __future__ import annotations

import math
from collections.abc import Sequence

from xpdl.training.history import History
from xpdl.training.messages import warn

_FEWEST = 10  # steps of which something can be said
_ERRORS = 3.0  # standard errors
_SHARE = 0.02  # of the loss at the start


def rise(history: History) -> tuple[float, float] | None:
    """Return the loss at the start and at the end of a training where it rose by more than noise explains.

    The last epoch, or a quarter of the steps where that is more, is compared with as many at the start, and with the first
    step, as an epoch that begins with an explosion has a large mean: of one step, half as much again is a rise. A loss that
    only wavers, on a plateau, has not risen, and of fewer than 10 steps nothing is said.

    Examples
    --------
    >>> rise(History(train_loss_list=[0.5] * 20 + [9.0] * 20, seconds=[1.0, 1.0]))
    (0.5, 9.0)
    """
    losses, epochs = history.train_loss_list, len(history.seconds)
    if len(losses) < _FEWEST:
        return None
    size = max(len(losses) // epochs if epochs > 1 else 0, len(losses) // 4)  # noise of few steps is unknown
    first, last = losses[:size], losses[-size:]
    before, after = _mean(first), _mean(last)
    noise = math.hypot(_spread(first), _spread(last)) / math.sqrt(size)
    if min(last) > 2 * max(first) > 0 or after - before > max(_ERRORS * noise, _SHARE * abs(before)):
        return before, after
    # one step is noisy
    return (losses[0], after) if min(after / 1.5, after - _ERRORS * _spread(last)) > losses[0] > 0 else None


def warn_of_rise(history: History) -> None:
    """Warn of a training whose loss ended above its start, with what to do."""
    if (found := rise(history)) is not None:
        before, after = found
        warn(
            f"Trainer: the loss ended above its start, at {after:.4g} after {before:.4g}; lower the learning rate, clip "
            "gradients (clip_norm), or look at the data",
            stacklevel=4,
        )


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _spread(values: Sequence[float]) -> float:
    """The standard deviation."""
    mean = _mean(values)
    return math.hypot(*(value - mean for value in values)) / math.sqrt(max(1, len(values) - 1))
