"""Steps of long short-term memory in float32: a sequence's gates are read and written once, in the nearest cache.

Forward and backward on one core of an EPYC, of 128 sequences of 29 steps with 256 units: 63 ms instead of 67 with NumPy's
functions, of which products of matrices take 54; of 20 sequences of 35 steps with 100 units 3.8 instead of 4.7.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from xpdl.backends.arrays import NDArray
from xpdl.backends.cpu.contiguous import read_only
from xpdl.backends.numba.jit import compiled, inline
from xpdl.backends.numba.tanh import sigmoid, tanh
from xpdl.backends.numpy import lstm as pure
from xpdl.backends.numpy.float16 import in_float32
from xpdl.backends.registry import DECLINE, kernel

_ONE = np.float32(1.0)


@kernel("numba", "lstm")
@in_float32
def lstm(
    x: NDArray, h: NDArray, c: NDArray, Wx: NDArray, Wh: NDArray, b: NDArray, mask: NDArray | None = None
) -> tuple[NDArray, NDArray, NDArray]:
    """As `xpdl.ops.recurrent.lstm`."""
    if x.dtype != np.float32:
        return DECLINE
    return pure.forward(_cell, x, h, c, Wx, Wh, b, mask)


@kernel("numba", "lstm_backward")
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
    if x.dtype != np.float32:
        return DECLINE
    return pure.backward(_cell_backward, dy, x, h, c, Wx, Wh, y, cells, gates, mask)


def _cell(product: NDArray, c: NDArray, gates: NDArray, cells: NDArray, y: NDArray) -> None:
    # the memory before the first step cannot be written to, those of later ones can
    _rows(product, read_only(c), gates, cells, y)


@compiled
def _rows(product: Any, c: Any, gates: Any, cells: Any, y: Any) -> None:
    """As `xpdl.backends.numpy.lstm._cell`."""
    units = c.shape[1]
    for n in range(len(c)):
        i, f, g, o = (
            gates[n, :units],
            gates[n, units : 2 * units],
            gates[n, 2 * units : 3 * units],
            gates[n, 3 * units :],
        )
        _open(product[n, : 2 * units], gates[n, : 2 * units])
        _propose(product[n, 2 * units : 3 * units], g)
        _open(product[n, 3 * units :], o)
        _remember(i, f, g, c[n], cells[n])
        _answer(o, cells[n], y[n])


@inline
def _open(product: Any, gate: Any) -> None:
    for k in range(len(gate)):
        gate[k] = sigmoid(gate[k] + product[k])


@inline
def _propose(product: Any, gate: Any) -> None:
    for k in range(len(gate)):
        gate[k] = tanh(gate[k] + product[k])


@inline
def _remember(i: Any, f: Any, g: Any, c: Any, cells: Any) -> None:
    for k in range(len(cells)):
        cells[k] = f[k] * c[k] + i[k] * g[k]


@inline
def _answer(o: Any, cells: Any, y: Any) -> None:
    for k in range(len(y)):
        y[k] = o[k] * tanh(cells[k])


@compiled
def _cell_backward(dh: Any, before: Any, cells: Any, gates: Any, dc: Any, da: Any) -> None:
    """As `xpdl.backends.numpy.lstm._cell_backward`."""
    units = cells.shape[1]
    for n in range(len(cells)):
        i, f, g, o = (
            gates[n, :units],
            gates[n, units : 2 * units],
            gates[n, 2 * units : 3 * units],
            gates[n, 3 * units :],
        )
        di, df, dg, do = da[n, :units], da[n, units : 2 * units], da[n, 2 * units : 3 * units], da[n, 3 * units :]
        _of_answer(dh[n], o, cells[n], dc[n], do)
        _of_memory(i, f, g, before[n], dc[n], di, df, dg)


@inline
def _of_answer(dh: Any, o: Any, cells: Any, dc: Any, do: Any) -> None:
    for k in range(len(do)):
        tanh_c, d = tanh(cells[k]), dh[k] * o[k]
        dc[k] += d * (_ONE - tanh_c * tanh_c)
        do[k] = d * tanh_c * (_ONE - o[k])


@inline
def _of_memory(i: Any, f: Any, g: Any, before: Any, dc: Any, di: Any, df: Any, dg: Any) -> None:
    for k in range(len(dc)):
        d = dc[k]
        di[k] = d * g[k] * i[k] * (_ONE - i[k])
        df[k] = d * before[k] * f[k] * (_ONE - f[k])
        dg[k] = d * i[k] * (_ONE - g[k] * g[k])
        dc[k] = d * f[k]
