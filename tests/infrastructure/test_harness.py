"""The harness itself: a check that cannot fail proves nothing."""

from __future__ import annotations

import numpy as np
import pytest

import xpdl.backends
from tests.harness import Backend
from xpdl.backends.namespaces import array_namespace


def test_round_trip_keeps_values_shape_and_dtype(backend: Backend) -> None:
    for a in (np.ones((2, 3), np.float32), np.arange(4), np.array([True, False])):
        backend.check(backend.asarray(a), a)


@pytest.mark.backends("values")
def test_check_sees_a_wrong_value(backend: Backend) -> None:
    with pytest.raises(AssertionError):
        backend.check(backend.asarray(np.array([1.0, 2.0])), [1.0, 2.1])


def test_check_sees_a_wrong_shape_and_dtype(backend: Backend) -> None:
    x = backend.asarray(np.ones(3, np.float32))
    with pytest.raises(AssertionError, match="shape"):
        backend.check(x, np.ones((3, 1), np.float32))
    with pytest.raises(AssertionError, match="dtype"):
        backend.check(x, np.ones(3, np.float16))


@pytest.mark.backends("array_api_strict")
def test_check_sees_a_wrong_device(backend: Backend) -> None:
    elsewhere = backend.xp.ones(3, device=backend.xp.Device("CPU_DEVICE"))
    with pytest.raises(AssertionError, match="device"):
        backend.check(elsewhere, np.ones(3))


@pytest.mark.backends("nosync")
def test_reading_a_value_inside_a_call_is_an_error(backend: Backend) -> None:
    def reads(x):
        return x * float(array_namespace(x).max(x))

    x = backend.asarray(np.ones(3))
    with pytest.raises((RuntimeError, TypeError)):
        backend.call(reads, x)
    if backend.spec.library == "array_api_strict":
        assert float(backend.xp.max(x)) == 1.0, "outside the call it must work again"


@pytest.mark.backends("numpy:readonly")
def test_writing_to_an_input_is_an_error(backend: Backend) -> None:
    with pytest.raises(ValueError, match="read-only"):
        backend.asarray([1.0])[0] = 2.0


def test_use_chooses_this_backend_and_restores(backend: Backend) -> None:
    before = xpdl.backends.get_backend()
    with backend.use():
        made = xpdl.backends.asarray([1.0, 2.0])
        backend.check(made, np.array([1.0, 2.0]))
    assert xpdl.backends.get_backend() == before


def test_use_float32(backend: Backend) -> None:
    with backend.use("float32"):
        backend.check(xpdl.backends.asarray([1.0, 2.0]), np.array([1.0, 2.0], np.float32))
