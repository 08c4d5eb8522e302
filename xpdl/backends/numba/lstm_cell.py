"""A step of long short-term memory for one sequence, in float32: loops over units, from which LLVM makes vectors."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpdl.backends.numba.jit import inline
from xpdl.backends.numba.tanh import sigmoid, tanh

_ONE = np.float32(1.0)


@inline
def open_gate(product: Any, gate: Any) -> None:
    for k in range(len(gate)):
        gate[k] = sigmoid(gate[k] + product[k])


@inline
def propose(product: Any, gate: Any) -> None:
    for k in range(len(gate)):
        gate[k] = tanh(gate[k] + product[k])


@inline
def remember(i: Any, f: Any, g: Any, c: Any, cells: Any) -> None:
    for k in range(len(cells)):
        cells[k] = f[k] * c[k] + i[k] * g[k]


@inline
def answer(o: Any, cells: Any, y: Any) -> None:
    for k in range(len(y)):
        y[k] = o[k] * tanh(cells[k])


@inline
def of_answer(dh: Any, o: Any, cells: Any, dc: Any, do: Any) -> None:
    for k in range(len(do)):
        tanh_c, d = tanh(cells[k]), dh[k] * o[k]
        dc[k] += d * (_ONE - tanh_c * tanh_c)
        do[k] = d * tanh_c * (_ONE - o[k])


@inline
def of_memory(i: Any, f: Any, g: Any, before: Any, dc: Any, di: Any, df: Any, dg: Any) -> None:
    for k in range(len(dc)):
        d = dc[k]
        di[k] = d * g[k] * i[k] * (_ONE - i[k])
        df[k] = d * before[k] * f[k] * (_ONE - f[k])
        dg[k] = d * i[k] * (_ONE - g[k] * g[k])
        dc[k] = d * f[k]
