"""The tangens hyperbolicus and the logistic function in float32, which LLVM computes in vectors; libm's would be called."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpdl.backends.numba.jit import inline

# tanh(x) = x P(x^2) / Q(x^2), least squares on [0, 8.5] reweighted until the relative errors were even, which are 1.2e-8 at
# most; farther out the quotient is above 1. Rounded at each step it is within 4e-7 of tanh, relative to it.
_P = tuple(map(np.float32, (1.0, 0.134132728, 0.00353405811, 2.12515497e-5, 1.42699133e-8)))
_Q = tuple(map(np.float32, (1.0, 0.467465967, 0.0260228701, 3.34891549e-4, 8.14540670e-7)))
_FAR = np.float32(8.5)
_HALF, _ONE = np.float32(0.5), np.float32(1.0)


@inline
def tanh(x: Any) -> Any:
    """``tanh(x)`` of a float32; NaN gives NaN."""
    u = min(x * x, _FAR * _FAR)
    p = _P[0] + u * (_P[1] + u * (_P[2] + u * (_P[3] + u * _P[4])))
    q = _Q[0] + u * (_Q[1] + u * (_Q[2] + u * (_Q[3] + u * _Q[4])))
    y = x * (p / q)
    y = _ONE if y > _ONE else y
    return -_ONE if y < -_ONE else y


@inline
def sigmoid(x: Any) -> Any:
    """``1 / (1 + exp(-x))`` of a float32; NaN gives NaN."""
    return _HALF + _HALF * tanh(_HALF * x)
