"""tanh and the logistic function of compiled code beside NumPy's in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.needs("numba")

EDGES = [0.0, -0.0, 1e-40, -1e-30, 1e-8, 8.4999, 8.5, 8.5001, -9.0, 9.1, 40.0, -1e20, 3e38, np.inf, -np.inf, np.nan]
VALUES = np.concatenate([EDGES, np.linspace(-20.0, 20.0, 100_001), np.geomspace(1e-30, 1.0, 1001)]).astype("float32")


def applied(name: str, x: Any) -> Any:
    """A function of `xpdl.backends.numba.tanh` of each value."""
    import numba

    from xpdl.backends.numba import tanh

    function = getattr(tanh, name)

    @numba.njit
    def loop(x: Any, y: Any) -> None:
        for k in range(len(x)):
            y[k] = function(x[k])

    y = np.empty_like(x)
    loop(x, y)
    return y


def test_tanh_is_close_relative_to_itself_and_within_one() -> None:
    found = applied("tanh", VALUES)
    np.testing.assert_allclose(found, np.tanh(VALUES.astype("float64")), rtol=5e-7)
    np.testing.assert_array_equal(np.signbit(found[:2]), [False, True])
    assert np.nanmax(abs(found)) == 1.0


def test_sigmoid_is_close_and_between_zero_and_one() -> None:
    found = applied("sigmoid", VALUES)
    with np.errstate(over="ignore"):
        expected = 1.0 / (1.0 + np.exp(-VALUES.astype("float64")))
    np.testing.assert_allclose(found, expected, atol=3e-7, rtol=0.0)
    assert np.nanmin(found) == 0.0
    assert np.nanmax(found) == 1.0
