"""The exponential in float32 from additions, products and bits, which LLVM computes in vectors; libm's would be called.

``exp(x) = 2^n exp(r)`` with a whole n and ``|r| <= log(2) / 2``, where seven terms of the series are exact.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from xpdl.backends.numba.jit import inline

_LOG2_E, _LN2, _LN2_REST = np.float32(1.44269504), np.float32(0.693359375), np.float32(-2.12194440e-4)
_ZERO, _HALF, _ONE = np.float32(0.0), np.float32(0.5), np.float32(1.0)
_C3, _C4, _C5, _C6 = np.float32(1 / 6), np.float32(1 / 24), np.float32(1 / 120), np.float32(1 / 720)
# below, exp(x) is subnormal or 0
_LOWEST = np.float32(-87.0)


@inline
def exp_of_negative(x: Any) -> Any:
    """``exp(x)`` of a float32 of at most 0; those below -87 give 0. NaN gives NaN."""
    near = _LOWEST if x < _LOWEST else x
    n = np.floor(near * _LOG2_E + _HALF)
    r = near - n * _LN2 - n * _LN2_REST
    series = _ONE + r * (_ONE + r * (_HALF + r * (_C3 + r * (_C4 + r * (_C5 + r * _C6)))))
    exponent = np.int32(np.int32(np.int32(n) + np.int32(127)) << np.int32(23))
    return _ZERO if x < _LOWEST else series * exponent.view(np.float32)
