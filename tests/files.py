"""Arrays to put into files, and to compare with what comes out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

ARRAYS = {
    "W1": np.arange(6.0).reshape(2, 3).astype(np.float32),
    "b1": np.arange(3.0),
    "empty": np.zeros((0, 4), np.float32),
    "count": np.asarray(7),
    "columns": np.asfortranarray(np.arange(12.0).reshape(3, 4)),
    "strided": np.arange(10.0)[::3],
}


def assert_same(found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype and found[name].shape == array.shape
        np.testing.assert_array_equal(found[name], array)
