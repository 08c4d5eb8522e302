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
    given = _targets(x, t) if _is_plain(class_weights, label_smoothing, sample_weight) else None
    if given is None:
        return DECLINE
    rows, classes = x.shape
    y, losses, loss = (
        empty(x.shape, x.dtype),
        empty((rows,), computing_dtype(x.dtype)),
        empty((), computing_dtype(x.dtype)),
    )
    grid, block = row_shares(rows, classes)
    launch(
        "losses",
        "softmax_with_loss",
        dtype_name(x.dtype),
        grid,
        block,
        (contiguous(x), *given, y, losses, rows, classes),
        x.size,
    )
    launch("losses", "mean_loss", dtype_name(x.dtype), (1,), (BLOCK,), (losses, loss, rows), rows)
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
    given = _targets(y, t) if _is_plain(class_weights, label_smoothing, sample_weight) else None
    number = isinstance(dout, (int, float))
    if given is None or not (number or (same_device(y, dout) and is_floating(dout) and dout.size == 1)):  # type: ignore[union-attr]
        return DECLINE
    rows, classes = y.shape
    dx = empty(y.shape, y.dtype)
    computed = computing_dtype(y.dtype)
    factor: tuple[Any, float] = (0, float(dout)) if number else (dout.astype(computed, copy=False), 1.0)  # type: ignore[union-attr]
    grid, block = row_shares(rows, classes)
    args = (contiguous(y), *given, *factor, dx, rows, classes)
    launch("losses", "softmax_with_loss_backward", dtype_name(y.dtype), grid, block, args, y.size)
    return dx


def _is_plain(class_weights: Array | None, label_smoothing: float, sample_weight: Array | None) -> bool:
    """Return whether nothing is weighted or smoothed; the generic op serves the others."""
    return class_weights is None and not label_smoothing and sample_weight is None


def _targets(x: Array, t: Array) -> tuple[Any, Any] | None:
    """Labels and weights for the kernel, one of them a null pointer; None for what the generic op is to look at."""
    if x.ndim != 2 or not supports(x) or not same_device(x, t):
        return None
    if t.shape == x.shape:
        return 0, contiguous(t if t.dtype == x.dtype else t.astype(x.dtype))
    if t.shape != x.shape[:1] or t.dtype.kind not in "iu":
        return None
    return contiguous(t if dtype_name(t.dtype) == "int64" else t.astype(cupy().int64)), 0
