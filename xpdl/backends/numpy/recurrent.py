"""Recurrent layers step by step into preallocated time-major arrays, with one product for the inputs of all steps.

Memory is in the order (T, N, ...), so that what a step reads and writes is contiguous, and the products that belong to no
single step are ordinary matrix products; results are views of it as (N, T, ...). Sequences do not depend on each other:
where the products of a step are worth it, threads share the sequences of a batch, without a wait between steps.

Forward and backward on one core of an EPYC, of 20 sequences of 35 steps with 100 units: LSTM 4.9 ms instead of 7.9 with the
generic op, GRU 4.5 instead of 6.8; of 128 sequences of 29 steps with 256 units: LSTM 70 instead of 89, GRU 59 instead of 65.
"""

from __future__ import annotations

import numpy as np

from xpdl.backends.arrays import NDArray
from xpdl.backends.cpu import buffer_pool
from xpdl.backends.numpy.float16 import in_float32
from xpdl.backends.numpy.sequences import (
    Skipped,
    batch_major,
    cut,
    give_back,
    keep,
    part_of,
    products_of_inputs,
    run_by_sequences,
    skipped_steps,
    summed_products,
    supports,
    take_kept,
    through_inputs,
    time_major,
)
from xpdl.backends.registry import DECLINE, kernel


@kernel("numpy", "rnn")
@in_float32
def rnn(x: NDArray, h: NDArray, Wx: NDArray, Wh: NDArray, b: NDArray, mask: NDArray | None = None) -> NDArray:
    """As `xpdl.ops.recurrent.rnn`."""
    if not supports(x, Wx, h, Wh, b, mask=mask):
        return DECLINE
    y, skipped = products_of_inputs(x, Wx, b), skipped_steps(mask)
    run_by_sequences(lambda part: _rnn_steps(y[:, part], h[part], Wh, part_of(skipped, part)), h, Wh)
    return batch_major(y)


def _rnn_steps(y: NDArray, h: NDArray, Wh: NDArray, skipped: Skipped) -> None:
    """`y` (T, N, H) holds the products of the inputs and becomes the states."""
    product = np.empty_like(h)
    for t, new in enumerate(y):
        new += np.matmul(h, Wh, out=product)
        np.tanh(new, out=new)
        keep(new, h, skipped, t)
        h = new


@kernel("numpy", "rnn_backward")
@in_float32
def rnn_backward(
    dy: NDArray, x: NDArray, h: NDArray, Wx: NDArray, Wh: NDArray, y: NDArray, mask: NDArray | None = None
) -> tuple[NDArray, NDArray, NDArray, NDArray, NDArray]:
    """As `xpdl.ops.recurrent.rnn_backward`."""
    if not supports(x, Wx, dy, h, Wh, y, mask=mask):
        return DECLINE
    y, dy, skipped = time_major(y), time_major(dy), skipped_steps(mask)
    da, dh = buffer_pool.empty(y.shape, y.dtype), np.zeros(h.shape, h.dtype)
    run_by_sequences(
        lambda part: _rnn_steps_backward(dy[:, part], y[:, part], Wh, part_of(skipped, part), da[:, part], dh[part]),
        h,
        Wh,
    )
    dx, dWx, db = through_inputs(da, x, Wx)
    return dx, dh, dWx, summed_products(h, y, da), db


def _rnn_steps_backward(dy: NDArray, y: NDArray, Wh: NDArray, skipped: Skipped, da: NDArray, dh: NDArray) -> None:
    """`dh` becomes the gradient of the state before the first step, and `da` (T, N, H) that of the products."""
    slope = np.empty_like(dh)
    for t in reversed(range(len(dy))):
        dh += dy[t]
        kept = take_kept(dh, skipped, t)
        np.multiply(y[t], y[t], out=slope)
        np.subtract(1.0, slope, out=slope)
        np.multiply(dh, slope, out=da[t])
        np.matmul(da[t], Wh.T, out=dh)
        give_back(dh, kept)


@kernel("numpy", "lstm")
@in_float32
def lstm(
    x: NDArray, h: NDArray, c: NDArray, Wx: NDArray, Wh: NDArray, b: NDArray, mask: NDArray | None = None
) -> tuple[NDArray, NDArray, NDArray]:
    """As `xpdl.ops.recurrent.lstm`."""
    if not supports(x, Wx, h, c, Wh, b, mask=mask):
        return DECLINE
    gates, skipped = products_of_inputs(x, Wx, b), skipped_steps(mask)
    y, cells = (buffer_pool.empty((*gates.shape[:2], h.shape[1]), x.dtype) for _ in range(2))

    def task(part: slice) -> None:
        _lstm_steps(gates[:, part], h[part], c[part], Wh, part_of(skipped, part), y[:, part], cells[:, part])

    run_by_sequences(task, h, Wh)
    return batch_major(y), batch_major(cells), batch_major(gates)


def _lstm_steps(
    gates: NDArray, h: NDArray, c: NDArray, Wh: NDArray, skipped: Skipped, y: NDArray, cells: NDArray
) -> None:
    """`gates` (T, N, 4 H) holds the products of the inputs and becomes the gates."""
    product, input_part = np.empty(gates.shape[1:], gates.dtype), np.empty_like(h)
    # sigmoid(a) = (1 + tanh(a / 2)) / 2: one function for all gates, which are contiguous together
    scale = _by_gate((0.5, 0.5, 1.0, 0.5), h)
    shift = _by_gate((0.5, 0.5, 0.0, 0.5), h)
    for t, a in enumerate(gates):
        a += np.matmul(h, Wh, out=product)
        a *= scale
        np.tanh(a, out=a)
        a *= scale
        a += shift
        i, f, g, o = cut(a, 4)
        np.multiply(f, c, out=cells[t])
        cells[t] += np.multiply(i, g, out=input_part)
        np.tanh(cells[t], out=y[t])
        y[t] *= o
        keep(y[t], h, skipped, t)
        keep(cells[t], c, skipped, t)
        h, c = y[t], cells[t]


@kernel("numpy", "lstm_backward")
@in_float32
def lstm_backward(
    dy: NDArray,
    x: NDArray,
    h: NDArray,
    c: NDArray,
    Wx: NDArray,
    Wh: NDArray,
    y: NDArray,
    cells: NDArray,
    gates: NDArray,
    mask: NDArray | None = None,
) -> tuple[NDArray, NDArray, NDArray, NDArray, NDArray, NDArray]:
    """As `xpdl.ops.recurrent.lstm_backward`."""
    if not supports(x, Wx, dy, h, c, Wh, y, cells, gates, mask=mask):
        return DECLINE
    dy, y, cells, gates = map(time_major, (dy, y, cells, gates))
    da, skipped = buffer_pool.empty(gates.shape, gates.dtype), skipped_steps(mask)
    dh, dc = (np.zeros(h.shape, h.dtype) for _ in range(2))

    def task(part: slice) -> None:
        forward = c[part], cells[:, part], gates[:, part]
        _lstm_steps_backward(dy[:, part], *forward, Wh, part_of(skipped, part), da[:, part], dh[part], dc[part])

    run_by_sequences(task, h, Wh)
    dx, dWx, db = through_inputs(da, x, Wx)
    return dx, dh, dc, dWx, summed_products(h, y, da), db


def _lstm_steps_backward(
    dy: NDArray,
    c: NDArray,
    cells: NDArray,
    gates: NDArray,
    Wh: NDArray,
    skipped: Skipped,
    da: NDArray,
    dh: NDArray,
    dc: NDArray,
) -> None:
    """`dh` and `dc` become the gradients of the states before the first step, and `da` (T, N, 4 H) that of the products."""
    tanh_c, slope, slopes = np.empty_like(dh), np.empty_like(dh), np.empty_like(da[0])
    one = _by_gate((1.0, 1.0, 0.0, 1.0), dh)
    for t in reversed(range(len(dy))):
        (i, f, g, o), (di, df, dg, do) = cut(gates[t], 4), cut(da[t], 4)
        # s (1 - s) of sigmoids, and -g g of the tanh, which lacks its 1
        np.subtract(one, gates[t], out=slopes)
        slopes *= gates[t]
        np.add(cut(slopes, 4)[2], 1.0, out=cut(slopes, 4)[2])
        dh += dy[t]
        kept, kept_c = take_kept(dh, skipped, t), take_kept(dc, skipped, t)
        np.tanh(cells[t], out=tanh_c)
        np.multiply(dh, tanh_c, out=do)
        # of the new memory: dc + dh o (1 - tanh_c^2)
        np.multiply(tanh_c, tanh_c, out=slope)
        np.subtract(1.0, slope, out=slope)
        slope *= o
        slope *= dh
        dc += slope
        np.multiply(dc, g, out=di)
        np.multiply(dc, cells[t - 1] if t else c, out=df)
        np.multiply(dc, i, out=dg)
        da[t] *= slopes
        dc *= f
        np.matmul(da[t], Wh.T, out=dh)
        give_back(dh, kept)
        give_back(dc, kept_c)


def _by_gate(factors: tuple[float, ...], h: NDArray) -> NDArray:
    """A row (gates H,) with one value for all units of a gate."""
    return np.repeat(np.asarray(factors, h.dtype), h.shape[1])
