"""Buffers that a GPU copies to."""

from __future__ import annotations

import numpy as np
import pytest

import xpdl
from tests.harness import Backend
from xpdl.backends.staging import host_buffer


@pytest.mark.backends("cupy")
def test_values_are_there_after_the_wait(backend: Backend) -> None:
    arrays = [np.arange(6.0).reshape(2, 3), np.zeros((0, 4)), np.array(7.0), np.arange(8.0).reshape(2, 4).T]
    device = [backend.asarray(a) for a in arrays[:3]] + [backend.asarray(arrays[3].T).T]
    buffer = host_buffer(xpdl.backends.Backend.of(device[0]), 15, np.dtype(np.float64))
    assert buffer.is_ready()
    begin = 0
    for a in device:
        buffer.put(begin, a)
        begin += int(a.size)
    buffer.wait()
    assert buffer.is_ready()
    np.testing.assert_array_equal(buffer.values, np.concatenate([a.reshape(-1) for a in arrays]))
