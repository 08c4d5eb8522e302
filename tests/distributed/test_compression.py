"""The forms of vectors in messages."""

from __future__ import annotations

import numpy as np
import pytest

from xpdl.distributed.compression import FORMS

FLOAT16 = FORMS["float16"]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("factor", [2.0**-20, 1.0, 2.0**14])
def test_values_in_float16_are_within_the_bound_and_take_two_bytes(dtype: str, factor: float) -> None:
    rng = np.random.default_rng(0)
    rows = (rng.normal(size=(3, 400)) * 10.0 ** rng.uniform(-6, 0, (3, 400)) * factor / 8).astype(dtype)
    data = FLOAT16.pack(rows)
    assert (data.dtype, data.shape) == (np.uint8, (3, 4 + 800))
    found, exact = FLOAT16.unpack(data, np.dtype(dtype)).astype(np.float64), rows.astype(np.float64)
    bound = np.maximum(2.0**-11 * np.abs(exact), 2.0**-39 * np.abs(exact).max(axis=1, keepdims=True))
    assert (np.abs(found - exact) <= bound).all()
    assert dtype == "float16" or (found != exact).any()


@pytest.mark.parametrize(
    "row",
    [
        [0.0, 0.0],
        [],
        [3e38, -3e38],
        [1.9999999, 1.0],
        [np.finfo(np.float32).smallest_subnormal, 0.0],
        [1e-30, -5e-31],
        [-65504.0, 1.0],
    ],
)
def test_no_row_overflows_or_is_lost(row: list[float]) -> None:
    rows = np.array([row], np.float32)
    np.testing.assert_allclose(FLOAT16.unpack(FLOAT16.pack(rows), np.float32), rows, rtol=2.0**-11)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_stays_so(value: float) -> None:
    found = FLOAT16.unpack(FLOAT16.pack(np.array([[1.0, value], [1.0, 2.0]])), np.float64)
    np.testing.assert_array_equal(found, [[1.0, value], [1.0, 2.0]])


def test_values_as_they_are_come_back_bitwise() -> None:
    rows = np.array([[1.0, np.nan], [-0.0, 5e-324]])
    assert FORMS[None].unpack(FORMS[None].pack(rows), rows.dtype).tobytes() == rows.tobytes()
