"""Steps of gated recurrent units in float32: a sequence's gates are read and written once, in the nearest cache.

Forward and backward on one core of an EPYC, of 128 sequences of 29 steps with 256 units: 50 ms instead of 57 with NumPy's
functions; of 20 sequences of 35 steps with 100 units 3.0 instead of 4.5.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from xpdl.backends.arrays import NDArray
from xpdl.backends.cpu.contiguous import read_only
from xpdl.backends.numba.jit import compiled, inline
from xpdl.backends.numba.row_loops import copy
from xpdl.backends.numba.tanh import sigmoid, tanh
from xpdl.backends.numpy import gru as pure
from xpdl.backends.numpy.float16 import in_float32
from xpdl.backends.registry import DECLINE, kernel

_ONE = np.float32(1.0)


@kernel("numba", "gru")
@in_float32
def gru(
    x: NDArray, h: NDArray, Wx: NDArray, Wh: NDArray, b: NDArray, bh: NDArray, mask: NDArray | None = None
) -> tuple[NDArray, NDArray]:
    """As `xpdl.ops.recurrent.gru`."""
    if x.dtype != np.float32:
        return DECLINE
    return pure.forward(_cell, x, h, Wx, Wh, b, bh, mask)


@kernel("numba", "gru_backward")
@in_float32
def gru_backward(
    dy: NDArray,
    x: NDArray,
    h: NDArray,
    Wx: NDArray,
    Wh: NDArray,
    y: NDArray,
    gates: NDArray,
    mask: NDArray | None = None,
    *,
    need_dW: bool = True,
) -> pure.Gradients:
    """As `xpdl.ops.recurrent.gru_backward`."""
    if x.dtype != np.float32:
        return DECLINE
    return pure.backward(_cell_backward, dy, x, h, Wx, Wh, y, gates, mask, need_dW)


def _cell(of_x: NDArray, product: NDArray, bh: NDArray, h: NDArray, gates: NDArray, y: NDArray) -> None:
    # the state before the first step cannot be written to, those of later ones can
    _rows(of_x, product, bh, read_only(h), gates, y)


@compiled
def _rows(of_x: Any, product: Any, bh: Any, h: Any, gates: Any, y: Any) -> None:
    """As `xpdl.backends.numpy.gru._cell`."""
    units = h.shape[1]
    for row in range(len(h)):
        r, z, n = gates[row, :units], gates[row, units : 2 * units], gates[row, 2 * units : 3 * units]
        _open(of_x[row, : 2 * units], product[row, : 2 * units], gates[row, : 2 * units])
        _propose(of_x[row, 2 * units :], product[row, 2 * units :], bh, r, n, gates[row, 3 * units :])
        _mix(h[row], z, n, y[row])


@inline
def _open(of_x: Any, product: Any, gate: Any) -> None:
    for k in range(len(gate)):
        gate[k] = sigmoid(of_x[k] + product[k])


@inline
def _propose(of_x: Any, product: Any, bh: Any, r: Any, n: Any, memory: Any) -> None:
    for k in range(len(n)):
        memory[k] = product[k] + bh[k]
        n[k] = tanh(of_x[k] + r[k] * memory[k])


@inline
def _mix(h: Any, z: Any, n: Any, y: Any) -> None:
    for k in range(len(y)):
        y[k] = n[k] + z[k] * (h[k] - n[k])


@compiled
def _cell_backward(dh: Any, before: Any, gates: Any, of_x: Any, of_h: Any) -> None:
    """As `xpdl.backends.numpy.gru._cell_backward`."""
    units = before.shape[1]
    for row in range(len(before)):
        r, z = gates[row, :units], gates[row, units : 2 * units]
        n, memory = gates[row, 2 * units : 3 * units], gates[row, 3 * units :]
        dr, dz, dn = of_x[row, :units], of_x[row, units : 2 * units], of_x[row, 2 * units :]
        _of_mixture(z, n, before[row], dh[row], dz, dn)
        _of_proposal(r, memory, dn, dr, of_h[row, 2 * units :])
        copy(of_x[row, : 2 * units], of_h[row, : 2 * units])


@inline
def _of_mixture(z: Any, n: Any, before: Any, dh: Any, dz: Any, dn: Any) -> None:
    for k in range(len(dn)):
        closed = dh[k] * (_ONE - z[k])
        dz[k] = closed * (before[k] - n[k]) * z[k]
        dn[k] = closed * (_ONE - n[k] * n[k])
        dh[k] *= z[k]


@inline
def _of_proposal(r: Any, memory: Any, dn: Any, dr: Any, dmemory: Any) -> None:
    for k in range(len(dn)):
        dr[k] = dn[k] * memory[k] * r[k] * (_ONE - r[k])
        dmemory[k] = dn[k] * r[k]
