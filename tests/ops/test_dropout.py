"""Dropout as an op: what it keeps, what it scales. The masks themselves: tests/backends/test_random.py."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.harness import Backend
from xpdl.ops.dropout import dropout, dropout_mask

# JAX runs through the table; here each small case would be compiled anew
pytestmark = pytest.mark.backends("precompiled")


def test_mask_is_boolean_in_the_shape_of_its_input(backend: Backend) -> None:
    mask = backend.call(dropout_mask, backend.asarray(np.zeros((2, 3, 4))), drop_ratio=0.5, words=(1, 2), counter=0)
    assert tuple(mask.shape) == (2, 3, 4)
    assert backend.xp.isdtype(mask.dtype, "bool")


@pytest.mark.backends("values")
def test_a_dropped_entry_is_zero_even_where_it_was_infinite(backend: Backend) -> None:
    x = backend.asarray([math.inf, math.nan, 1.0])
    y = backend.call(dropout, x, backend.asarray([False, False, True]), scale=2.0)
    backend.check(y, np.array([0.0, 0.0, 2.0]))


@pytest.mark.parametrize("ratio", [0.0, 1.0])
@pytest.mark.backends("values")
def test_ratio_zero_keeps_all_and_one_keeps_none(backend: Backend, ratio: float) -> None:
    x = backend.asarray(np.zeros((30, 30), np.float32))
    mask = backend.call(dropout_mask, x, drop_ratio=ratio, words=(5, 6), counter=3)
    backend.check(mask, np.full((30, 30), ratio == 0.0))


def test_mask_does_not_depend_on_the_values_or_dtype() -> None:
    masks = [
        dropout_mask(a, 0.5, (1, 2), 3)
        for a in (np.zeros((4, 4)), np.full((4, 4), math.nan, np.float16), np.ones((4, 4), np.int8))
    ]
    np.testing.assert_array_equal(masks[0], masks[1])
    np.testing.assert_array_equal(masks[0], masks[2])
