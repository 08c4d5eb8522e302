"""Softmax with cross entropy: probabilities and loss in one kernel, the gradient in another."""

from __future__ import annotations

from typing import Any

from xpdl.backends.cupy.launch import (
    BLOCK,
    computing_dtype,
    contiguous,
    cupy,
    dtype_name,
    empty,
    kernel,
    launch,
    same_device,
    supports,
)
from xpdl.backends.cupy.tiles import row_shares
from xpdl.backends.namespaces import Array, is_floating
from xpdl.backends.registry import DECLINE


@kernel("softmax_with_loss")
def softmax_with_loss(
    x: Array,
    t: Array,
    class_weights: Array | None = None,
    label_smoothing: float = 0.0,
    sample_weight: Array | None = None,
) -> tuple[Array, Array]:
    """As `xpdl.ops.losses.softmax_with_loss`."""
    given = _given(x, t, class_weights, label_smoothing, sample_weight)
    if given is None:
        return DECLINE
    rows, classes = x.shape
    computed = computing_dtype(x.dtype)
    y, losses, loss = empty(x.shape, x.dtype), empty((rows,), computed), empty((), computed)
    grid, block = row_shares(rows, classes)
    args = (contiguous(x), *given, y, losses, rows, classes)
    launch("losses", "softmax_with_loss", dtype_name(x.dtype), grid, block, args, x.size)
    launch("losses", "mean_loss", dtype_name(x.dtype), (1,), (BLOCK,), (losses, given[2], loss, rows), rows)
    return loss, y


@kernel("softmax_with_loss_backward")
def softmax_with_loss_backward(
    y: Array,
    t: Array,
    dout: Array | float = 1.0,
    class_weights: Array | None = None,
    label_smoothing: float = 0.0,
    sample_weight: Array | None = None,
) -> Array:
    """As `xpdl.ops.losses.softmax_with_loss_backward`."""
    given = _given(y, t, class_weights, label_smoothing, sample_weight)
    number = isinstance(dout, (int, float))
    if given is None or not (number or (same_device(y, dout) and is_floating(dout) and dout.size == 1)):  # type: ignore[union-attr]
        return DECLINE
    rows, classes = y.shape
    computed, total = computing_dtype(y.dtype), _total(y, given[2])
    factor: tuple[Any, float] = (0, float(dout)) if number else (dout.astype(computed, copy=False), 1.0)  # type: ignore[union-attr]
    dx = empty(y.shape, y.dtype)
    grid, block = row_shares(rows, classes)
    args = (contiguous(y), *given, total, *factor, dx, rows, classes)
    launch("losses", "softmax_with_loss_backward", dtype_name(y.dtype), grid, block, args, y.size)
    return dx


def _total(y: Array, of_rows: Any) -> Any:
    """The sum of the weights of the rows; a null pointer where there are none."""
    if isinstance(of_rows, int):
        return 0
    total, rows = empty((), of_rows.dtype), y.shape[0]
    launch("losses", "total_weight", dtype_name(y.dtype), (1,), (BLOCK,), (of_rows, total, rows), rows)
    return total


def _given(
    x: Array, t: Array, class_weights: Array | None, label_smoothing: float, sample_weight: Array | None
) -> tuple[Any, Any, Any] | None:
    """Labels, weights over the classes and weights of the rows for the kernels; null pointers for those there are not.

    None where the generic op is to serve or to say what does not fit.
    """
    if class_weights is not None or label_smoothing:
        return None
    targets, of_rows = _targets(x, t), _of_rows(x, sample_weight)
    return None if targets is None or of_rows is None else (*targets, of_rows)


def _of_rows(x: Array, weights: Array | None) -> Any:
    if weights is None:
        return 0
    if not same_device(x, weights) or weights.shape != x.shape[:1] or not _is_real(weights):
        return None
    return contiguous(weights.astype(computing_dtype(x.dtype), copy=False))


def _is_real(a: Array) -> bool:
    return bool(a.dtype.kind in "biu") or is_floating(a)


def _targets(x: Array, t: Array) -> tuple[Any, Any] | None:
    """Labels and weights for the kernel, one of them a null pointer; None for what the generic op is to look at."""
    if x.ndim != 2 or not supports(x) or not same_device(x, t):
        return None
    if t.shape == x.shape:
        return 0, contiguous(t if t.dtype == x.dtype else t.astype(x.dtype))
    if t.shape != x.shape[:1] or t.dtype.kind not in "iu":
        return None
    return contiguous(t if dtype_name(t.dtype) == "int64" else t.astype(cupy().int64)), 0
