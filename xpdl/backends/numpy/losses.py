"""Softmax and cross entropy for integer labels, which pick their values out of the rows: no one-hot rows are made.

With 100 rows of 10 scores: forward 9 us instead of 34, backward 6 instead of 13.
"""

from __future__ import annotations

import numpy as np

from xpdl.backends.arrays import NDArray
from xpdl.backends.cpu.tuning import TUNING
from xpdl.backends.registry import DECLINE, kernel

_UNSIGNED = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}


@kernel("numpy", "softmax_with_loss")
def softmax_with_loss(
    x: NDArray,
    t: NDArray,
    class_weights: NDArray | None = None,
    label_smoothing: float = 0.0,
    sample_weight: NDArray | None = None,
) -> tuple[NDArray, NDArray]:
    """As `xpdl.ops.losses.softmax_with_loss`."""
    if not (_is_plain(class_weights, label_smoothing, sample_weight) and _labelled(x, t)):
        return DECLINE
    rows, columns = np.arange(len(x)), x.shape[1] <= TUNING.loss_few_classes
    scores, axis, own = (x.T.copy(), 0, (t, rows)) if columns else (x, 1, (rows, t))
    log_y = scores - np.maximum.reduce(scores, axis=axis, keepdims=True)
    log_y -= np.log(np.add.reduce(np.exp(log_y), axis=axis, keepdims=True))
    loss = -np.add.reduce(log_y[own]) / len(x)
    y = np.exp(log_y, out=log_y)
    return loss, y.T.copy() if columns else y


@kernel("numpy", "softmax_with_loss_backward")
def softmax_with_loss_backward(
    y: NDArray,
    t: NDArray,
    dout: NDArray | float = 1.0,
    class_weights: NDArray | None = None,
    label_smoothing: float = 0.0,
    sample_weight: NDArray | None = None,
) -> NDArray:
    """As `xpdl.ops.losses.softmax_with_loss_backward`."""
    # an array dout could be of a wider dtype
    plain = _is_plain(class_weights, label_smoothing, sample_weight)
    if not (plain and _labelled(y, t) and type(dout) is float):
        return DECLINE
    dx = y.copy()
    dx[np.arange(len(y)), t] -= 1.0
    dx *= dout / len(y)
    return dx


def _is_plain(class_weights: NDArray | None, label_smoothing: float, sample_weight: NDArray | None) -> bool:
    """Return whether nothing is weighted or smoothed; the generic op serves the others."""
    return class_weights is None and not label_smoothing and sample_weight is None


def _labelled(x: NDArray, t: NDArray) -> bool:
    """Return whether `t` has one of the K classes for each row of `x` (N, K); otherwise the generic op raises."""
    return (
        x.dtype.kind == "f"
        and x.itemsize > 2  # float16 is computed in float32
        and type(t) is np.ndarray
        and t.dtype.kind in "iu"
        and x.ndim == 2
        and t.shape == x.shape[:1]
        and x.size > 0
        # without a sign, negative labels are the largest of all
        and bool(np.maximum.reduce(t.view(_UNSIGNED[t.itemsize])) < x.shape[1])
    )
