"""Dropout masks of NumPy are the generic ones, bit for bit, for any size and number of threads."""

import numpy as np
import pytest

import xpdl
from xpdl.backends import dispatch
from xpdl.backends.cpu.tuning import TUNING
from xpdl.backends.numpy import dropout as kernels
from xpdl.ops.dropout import dropout_mask

TASK = TUNING.dropout_mask_task
SIZES = [(), (0, 3), (1,), (7, 5), (TASK,), (TASK + 1,), (3, TASK // 2 + 5)]


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("shape", SIZES, ids=str)
@pytest.mark.parametrize("ratio", [0.0, 0.5, 0.9, 1 - 2**-30])
def test_equals_the_generic_op(shape, ratio, threads, code):
    x = np.zeros(shape, np.float32)
    with dispatch.generic_only():
        expected = dropout_mask(x, ratio, (5, 6), 3)
    with xpdl.use("numpy", threads=threads):
        found = dropout_mask(x, ratio, (5, 6), 3)
    assert found.dtype == np.bool_ and found.shape == shape
    np.testing.assert_array_equal(found, expected)
    if found.size:
        code.assert_compiled("dropout_mask")


@pytest.mark.parametrize("order", ["F", "strided"])
def test_memory_order_of_the_array_makes_no_difference(order):
    x = np.zeros((6, 8), order="F") if order == "F" else np.zeros((6, 16))[:, ::2]
    np.testing.assert_array_equal(dropout_mask(x, 0.5, (1, 2), 0), dropout_mask(np.zeros((6, 8)), 0.5, (1, 2), 0))


def test_is_called_and_generic_only_switches_it_off(monkeypatch):
    calls = []
    run = kernels.thread_pool.run
    monkeypatch.setattr(kernels.thread_pool, "run", lambda tasks: calls.append(len(tasks)) or run(tasks))
    x = np.zeros(2 * TASK + 1)
    dropout_mask(x, 0.5, (1, 2), 0)
    with dispatch.generic_only():
        dropout_mask(x, 0.5, (1, 2), 0)
    assert calls == [3]
