"""The affine map as matrix products in a few pieces, each on one thread; `dW` and `dx` are computed side by side.

The threads of BLAS are left alone: after a product they spin for a tenth of a second and take the processor from ours.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np

from xpdl.backends.arrays import NDArray
from xpdl.backends.cpu import buffer_pool, thread_pool
from xpdl.backends.cpu.partition import pieces, split
from xpdl.backends.cpu.tuning import TUNING
from xpdl.backends.epilogues import is_relu, relu_output
from xpdl.backends.numpy.elementwise import before_relu, relu_in_place
from xpdl.backends.numpy.float16 import in_float32
from xpdl.backends.registry import DECLINE, kernel


@kernel("numpy", "affine")
@in_float32
def affine(x: NDArray, W: NDArray, b: NDArray | None = None, *, activation: str | None = None) -> NDArray:
    """As `xpdl.ops.affine.affine`."""
    relu = is_relu(activation)
    if not _supports(x, W) or (b is not None and b.dtype != x.dtype):
        return DECLINE
    rows, weights = _matching(x, W)
    y = buffer_pool.empty((rows.shape[0], W.shape[1]), x.dtype)
    if len(rows) * W.size <= TUNING.affine_tiny_products:  # BLAS multiplies in one thread anyway
        np.matmul(rows, weights, out=y)
        _finish(y, b, relu)
    else:
        _product_in_tasks(rows, weights, y, functools.partial(_finish, b=b, relu=relu))
    return y


def _product_in_tasks(rows: NDArray, weights: NDArray, y: NDArray, finish: Callable[[NDArray], None]) -> None:
    """Write the finished product to `y`."""
    # Few columns, or few of them for a task, are gone through quicker here, without a struggle for the GIL.
    finish_in_tasks = y.size >= 2 * TUNING.affine_cached

    def rows_task(part: slice) -> None:
        np.matmul(rows[part], weights, out=y[part])
        if finish_in_tasks:
            finish(y[part])

    def columns_task(part: slice) -> None:
        np.matmul(rows, weights[:, part], out=y[:, part])

    # The longer side is cut: each task copies all of the other one into the order that BLAS multiplies in.
    tall, products = len(y) >= y.shape[1], len(y) * weights.size
    _run(products, (rows_task, len(y)) if tall else (columns_task, y.shape[1]))
    if not finish_in_tasks:
        finish(y)
    elif not tall:
        _run(products, (lambda part: finish(y[part]), len(y)))


def _finish(y: NDArray, b: NDArray | None, relu: bool) -> None:
    """Add the bias to rows and apply the relu, to as many rows at a time as stay in the cache meanwhile."""
    if y.size > TUNING.affine_cached and len(y) > 1:
        for part in pieces(len(y), max(1, TUNING.affine_cached // y.shape[1])):
            _finish(y[part], b, relu)
        return
    if b is not None:
        y += b
    if relu:
        relu_in_place(y)


@kernel("numpy", "affine_backward")
@in_float32
def affine_backward(
    dy: NDArray,
    x: NDArray,
    W: NDArray,
    *,
    y: NDArray | None = None,
    activation: str | None = None,
    need_dx: bool = True,
    need_db: bool = True,
) -> tuple[NDArray | None, NDArray, NDArray | None]:
    """As `xpdl.ops.affine.affine_backward`."""
    y = relu_output(activation, y)
    if not _supports(x, W) or dy.dtype != x.dtype:
        return DECLINE
    dy = before_relu(dy, y)
    rows, weights = _matching(x, W)
    dW = buffer_pool.empty(weights.shape, x.dtype)
    # in the memory order of x
    drows = buffer_pool.empty_like(rows) if need_dx else None

    db = np.empty(dy.shape[1], dy.dtype) if need_db else None
    _fill_gradients(dy, rows, weights, dW, drows, db)
    dx = None if drows is None else _restored(drows, x)
    if weights is not W:
        _, c, h, w = x.shape
        dW = np.ascontiguousarray(dW.reshape(h, c, w, -1).transpose(1, 0, 2, 3)).reshape(W.shape)
    return dx, dW, db


def _fill_gradients(
    dy: NDArray, rows: NDArray, weights: NDArray, dW: NDArray, drows: NDArray | None, db: NDArray | None
) -> None:
    """Fill `dW`, and `drows` and `db` where they are asked for; of each product the longer side is cut."""
    (n, m), d = dy.shape, len(weights)
    # `numpy.matmul` multiplies a column by a row without BLAS: 100 us for 784 x 50, and 5 by `numpy.dot`, which only writes
    # to contiguous memory
    multiply: Callable[..., NDArray] = np.dot if n == 1 else np.matmul
    wide, tall = m > d and n > 1, n >= d
    products = n * weights.size * (1 if drows is None else 2)
    if products <= TUNING.affine_tiny_products:
        multiply(rows.T, dy, out=dW)
        if drows is not None:
            np.matmul(dy, weights.T, out=drows)
        if db is not None:
            np.add.reduce(dy, axis=0, out=db)
        return

    def dW_task(part: slice) -> None:
        if not wide:
            multiply(rows[:, part].T, dy, out=dW[part])
            return
        np.matmul(rows.T, dy[:, part], out=dW[:, part])
        if db is not None:
            np.add.reduce(dy[:, part], axis=0, out=db[part])

    def dx_task(part: slice) -> None:
        assert drows is not None
        if tall:
            np.matmul(dy[part], weights.T, out=drows[part])
        else:
            np.matmul(dy, weights[part].T, out=drows[:, part])

    work = [(dW_task, m if wide else d)]
    work += [(dx_task, n if tall else d)] if drows is not None else []
    _run(products, *work)
    if db is not None and not wide:
        np.add.reduce(dy, axis=0, out=db)


def _supports(x: NDArray, W: NDArray) -> bool:
    dtype = x.dtype
    # `numpy.dot` writes in the native byte order
    is_served = dtype == W.dtype and dtype.char in "fd" and dtype.isnative
    return is_served and x.size > 0 and math.prod(x.shape[1:]) == len(W)


def _matching(x: NDArray, W: NDArray) -> tuple[NDArray, NDArray]:
    """`x` as rows (N, D) and `W` (D, M), both in the order of features that spares copying `x`."""
    if x.ndim == 2:
        return x, W
    if x.ndim != 4 or not _images_innermost(x):
        return x.reshape(len(x), -1), W
    _, c, h, w = x.shape
    return x.transpose(2, 1, 3, 0).reshape(-1, len(x)).T, W.reshape(c, h, w, -1).transpose(1, 0, 2, 3).reshape(W.shape)


def _restored(rows: NDArray, like: NDArray) -> NDArray:
    """Undo `_matching`: bring its result back to the shape and memory order of `like`."""
    if like.ndim != 4 or not _images_innermost(like):
        return rows.reshape(like.shape)
    n, c, h, w = like.shape
    return rows.T.reshape(h, c, w, n).transpose(3, 1, 0, 2)


def _images_innermost(x: NDArray) -> bool:
    """Return whether memory is in the order (H, C, W, N), in which convolutions leave it, and in no other as well."""
    return x.transpose(2, 1, 3, 0).flags.c_contiguous and not x.flags.c_contiguous


def _run(products: int, *work: tuple[Callable[[slice], None], int]) -> None:
    """Do each function of `work` on equal parts of its range; in all, there are so many products."""
    # powers of 2, which few threads share evenly
    most = 8 if products >= TUNING.affine_eight_tasks else 4 if products >= TUNING.affine_four_tasks else 2
    count = min(most, products // TUNING.affine_task_products)

    def everything() -> None:
        for task, length in work:
            task(slice(0, length))

    if count <= 1:
        thread_pool.run([everything])
    else:
        each = max(1, count // len(work))
        thread_pool.run([functools.partial(f, part) for f, length in work for part in split(length, min(each, length))])
