"""Dropout masks on NumPy beside test_roster.py: memory orders, and tasks."""

import numpy as np
import pytest

from xpdl.backends import dispatch
from xpdl.backends.cpu.tuning import TUNING
from xpdl.backends.numpy import dropout as kernels
from xpdl.ops.dropout import dropout_mask

TASK = TUNING.dropout_mask_task


@pytest.mark.parametrize("first", [1, 5, TASK + 1])
def test_a_share_of_a_batch_has_its_rows_of_the_mask(first, code):
    whole = dropout_mask(np.zeros((first + 4, 3), np.float32), 0.5, (5, 6), 3)
    part = dropout_mask(np.zeros((4, 3), np.float32), 0.5, (5, 6), 3, first)
    np.testing.assert_array_equal(part, whole[first:])
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
