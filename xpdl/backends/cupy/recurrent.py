"""Recurrent layers: a matrix product and one kernel for each step, and products of all steps at once for the rest.

The kernels read and write step t of arrays (N, T, ...) where they lie, so that nothing is cut, joined or transposed. Half
precision is computed with in float32, as by the generic ops.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from xpdl.backends.cupy.launch import contiguous, dtype_name, empty, kernel, launch, same_device, supports
from xpdl.backends.cupy.normalization import bias_gradient
from xpdl.backends.cupy.products import matmul
from xpdl.backends.cupy.tiles import divisor
from xpdl.backends.namespaces import Array, is_half, rounded_to, widened
from xpdl.backends.registry import DECLINE

P = ParamSpec("P")
R = TypeVar("R")

# Threads of a block, few, so that small layers use many multiprocessors; each has a pack of 16 bytes where units allow it.
_BLOCK, _BYTES = 64, 16


def _in_float32(function: Callable[P, R]) -> Callable[P, R]:
    """Compute in float32 for arrays in half precision, and round the results once."""
    first = next(iter(inspect.signature(function).parameters))

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        x: Any = args[0] if args else kwargs[first]
        if not (supports(x) and is_half(x)):
            return function(*args, **kwargs)
        wide: Any = function
        results = wide(*(_wide(x, a) for a in args), **{name: _wide(x, a) for name, a in kwargs.items()})
        if results is DECLINE:
            return DECLINE
        if isinstance(results, tuple):
            return tuple(one if one is None else rounded_to(x.dtype, one) for one in results)  # type: ignore[return-value]
        return rounded_to(x.dtype, results)

    return call


def _wide(x: Array, a: Any) -> Any:
    """`a` in float32 if it has the dtype of `x`; others are left to the generic op."""
    return widened(a) if same_device(x, a) and a is not None and a.dtype == x.dtype else a


@kernel("rnn")
@_in_float32
def rnn(x: Array, h: Array, Wx: Array, Wh: Array, b: Array, mask: Array | None = None) -> Array:
    """As `xpdl.ops.recurrent.rnn`."""
    if not _served(1, x, Wx, Wh, mask, (h,), (), (b,)):
        return DECLINE
    step = _Steps("rnn_step", x, h)
    y, given = _products(x, Wx), (contiguous(b), contiguous(h), _flags(mask))
    for t in range(x.shape[1]):
        step(t, matmul(y[:, t - 1] if t else h, Wh), *given, y)
    return y


@kernel("rnn_backward")
@_in_float32
def rnn_backward(
    dy: Array,
    x: Array,
    h: Array,
    Wx: Array,
    Wh: Array,
    y: Array,
    mask: Array | None = None,
    *,
    need_dW: bool = True,
) -> tuple[Array, Array, Array | None, Array | None, Array | None]:
    """As `xpdl.ops.recurrent.rnn_backward`."""
    if not _served(1, x, Wx, Wh, mask, (h,), (dy, y)):
        return DECLINE
    step, dy, y = _Steps("rnn_step_backward", x, h), contiguous(dy), contiguous(y)
    flags, kept, da = _flags(mask), _kept(h, mask), empty(y.shape, y.dtype)
    dh: Any = 0
    for t in reversed(range(x.shape[1])):
        step(t, dy, dh, y, flags, kept, da)
        dh = matmul(da[:, t], Wh.T)
    if not need_dW:
        return _products(da, Wx.T), _with_kept(dh, kept), None, None, None
    dx, dWx, db = _through_products(da, x, Wx)
    return dx, _with_kept(dh, kept), dWx, _weights(_before(h, y), da), db


@kernel("lstm")
@_in_float32
def lstm(
    x: Array, h: Array, c: Array, Wx: Array, Wh: Array, b: Array, mask: Array | None = None
) -> tuple[Array, Array, Array]:
    """As `xpdl.ops.recurrent.lstm`."""
    if not _served(4, x, Wx, Wh, mask, (h, c), (), (b,)):
        return DECLINE
    step, gates = _Steps("lstm_step", x, h), _products(x, Wx)
    y, cells = (_of_all_steps(x, h) for _ in range(2))
    given = (contiguous(b), contiguous(h), contiguous(c), _flags(mask))
    for t in range(x.shape[1]):
        step(t, matmul(y[:, t - 1] if t else h, Wh), *given, gates, y, cells)
    return y, cells, gates


@kernel("lstm_backward")
@_in_float32
def lstm_backward(
    dy: Array,
    x: Array,
    h: Array,
    c: Array,
    Wx: Array,
    Wh: Array,
    y: Array,
    cells: Array,
    gates: Array,
    mask: Array | None = None,
    *,
    need_dW: bool = True,
) -> tuple[Array, Array, Array, Array | None, Array | None, Array | None]:
    """As `xpdl.ops.recurrent.lstm_backward`."""
    if not _served(4, x, Wx, Wh, mask, (h, c), (dy, y, cells)) or not _is_gates(gates, x, h):
        return DECLINE
    step, dy = _Steps("lstm_step_backward", x, h), contiguous(dy)
    given = (contiguous(c), contiguous(cells), contiguous(gates), _flags(mask))
    kept, dc, da = _kept(h, mask), empty(h.shape, h.dtype), _of_all_steps(x, h, 4)
    dh: Any = 0
    for t in reversed(range(x.shape[1])):
        step(t, dy, dh, *given, kept, dc, da)
        dh = matmul(da[:, t], Wh.T)
    if not need_dW:
        return _products(da, Wx.T), _with_kept(dh, kept), dc, None, None, None
    dx, dWx, db = _through_products(da, x, Wx)
    return dx, _with_kept(dh, kept), dc, dWx, _weights(_before(h, y), da), db


@kernel("gru")
@_in_float32
def gru(
    x: Array, h: Array, Wx: Array, Wh: Array, b: Array, bh: Array, mask: Array | None = None
) -> tuple[Array, Array]:
    """As `xpdl.ops.recurrent.gru`."""
    if not _served(3, x, Wx, Wh, mask, (h,), (), (b,)) or not supports(x, bh) or bh.shape != h.shape[1:]:
        return DECLINE
    step, of_x = _Steps("gru_step", x, h), _products(x, Wx)
    gates, y = _of_all_steps(x, h, 4), _of_all_steps(x, h)
    given = (contiguous(b), contiguous(bh), contiguous(h), _flags(mask))
    for t in range(x.shape[1]):
        step(t, of_x, matmul(y[:, t - 1] if t else h, Wh), *given, gates, y)
    return y, gates


@kernel("gru_backward")
@_in_float32
def gru_backward(
    dy: Array,
    x: Array,
    h: Array,
    Wx: Array,
    Wh: Array,
    y: Array,
    gates: Array,
    mask: Array | None = None,
    *,
    need_dW: bool = True,
) -> tuple[Array, Array, Array | None, Array | None, Array | None, Array | None]:
    """As `xpdl.ops.recurrent.gru_backward`."""
    if not _served(3, x, Wx, Wh, mask, (h,), (dy, y)) or not _is_gates(gates, x, h):
        return DECLINE
    step, dy = _Steps("gru_step_backward", x, h), contiguous(dy)
    given = (contiguous(h), contiguous(y), contiguous(gates), _flags(mask))
    kept, of_x, of_h = empty(h.shape, h.dtype), _of_all_steps(x, h, 3), _of_all_steps(x, h, 3)
    dh: Any = 0
    for t in reversed(range(x.shape[1])):
        step(t, dy, dh, *given, kept, of_x, of_h)
        dh = matmul(of_h[:, t], Wh.T)
    if not need_dW:
        return _products(of_x, Wx.T), dh + kept, None, None, None, None
    dx, dWx, db = _through_products(of_x, x, Wx)
    dbh = bias_gradient(_rows(of_h))[2 * h.shape[1] :]
    return dx, dh + kept, dWx, _weights(_before(h, y), of_h), db, dbh


class _Steps:
    """Launches of a kernel for one step after the other."""

    def __init__(self, name: str, x: Array, h: Array) -> None:
        self.name, self.dtype = name, dtype_name(x.dtype)
        n, steps, _ = x.shape
        units = h.shape[1]
        self.sizes, self.largest = (steps, units, divisor(units), n * units), 4 * n * steps * units
        lanes = _BYTES // x.dtype.itemsize
        threads = n * units // (lanes if units % lanes == 0 else 1)
        self.grid = (-(-threads // _BLOCK),)

    def __call__(self, t: int, *args: Any) -> None:
        launch("recurrent", self.name, self.dtype, self.grid, (_BLOCK,), (*args, t, *self.sizes), self.largest)


def _served(
    parts: int,
    x: Array,
    Wx: Array,
    Wh: Array,
    mask: Array | None,
    states: tuple[Array, ...],
    results: tuple[Array, ...],
    biases: tuple[Array, ...] = (),
) -> bool:
    """Return whether all are of one dtype and of the shapes of a layer with so many `parts` side by side in its products."""
    if not supports(x, Wx, Wh, *states, *results, *biases) or x.ndim != 3 or Wh.ndim != 2:
        return False
    (n, steps, features), units = x.shape, Wh.shape[0]
    if Wx.shape != (features, parts * units) or Wh.shape != (units, parts * units):
        return False
    if any(a.shape != (n, units) for a in states) or any(a.shape != (n, steps, units) for a in results):
        return False
    if any(b.shape != (parts * units,) for b in biases):
        return False
    return mask is None or (same_device(x, mask) and dtype_name(mask.dtype) == "bool" and mask.shape == (n, steps))


def _is_gates(gates: Array, x: Array, h: Array) -> bool:
    return supports(x, gates) and bool(gates.shape == (*x.shape[:2], 4 * h.shape[1]))


def _of_all_steps(x: Array, h: Array, parts: int = 1) -> Array:
    """Memory for so many values of each unit at each step."""
    return empty((*x.shape[:2], parts * h.shape[1]), x.dtype)


def _flags(mask: Array | None) -> Any:
    return 0 if mask is None else contiguous(mask)


def _kept(h: Array, mask: Array | None) -> Any:
    """Memory for gradients that go past steps, if any do."""
    return 0 if mask is None else empty(h.shape, h.dtype)


def _with_kept(dh: Array, kept: Any) -> Array:
    return dh if isinstance(kept, int) else dh + kept


def _rows(a: Array) -> Array:
    """(N, T, F) as (N T, F)."""
    return contiguous(a).reshape(a.shape[0] * a.shape[1], a.shape[2])


def _products(x: Array, W: Array) -> Array:
    """``x W`` of all steps, in one product."""
    return matmul(_rows(x), W).reshape(*x.shape[:2], W.shape[1])


def _weights(x: Array, da: Array) -> Array:
    """The sum over all steps of ``x^T da``, in one product."""
    return matmul(_rows(x).T, _rows(da))


def _through_products(da: Array, x: Array, W: Array) -> tuple[Array, Array, Array]:
    """``dx, dW`` of `_products`, and the gradient of a bias."""
    return _products(da, W.T), _weights(x, da), bias_gradient(_rows(da))


def _before(h: Array, y: Array) -> Array:
    """The states before each step."""
    before = empty(y.shape, y.dtype)
    before[:, 0], before[:, 1:] = h, y[:, :-1]
    return before
