"""Activations and masks on NumPy are the generic ones, to the bit, for every float and any memory order."""

import numpy as np
import pytest

from tests.backends.numpy.cases import ORDERS
from xpdl.backends import dispatch
from xpdl.backends.cpu import thread_pool
from xpdl.backends.cpu.tuning import TUNING, tuned
from xpdl.backends.numpy import elementwise
from xpdl.ops import activations, arithmetic
from xpdl.ops import dropout as dropout_ops

SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 1e-40, -1e-40, 3e38]
SHAPES = [(), (0,), (1,), (7, 3), (2, 3, 4, 5), (120, 6, 28, 28)]


def values(shape, dtype, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=shape)
    if x.size > len(SPECIAL):
        x.flat[rng.choice(x.size, len(SPECIAL), replace=False)] = SPECIAL
    with np.errstate(over="ignore"):
        return np.asarray(x, dtype)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_equal_the_generic_ops(shape, dtype, code):
    x, dy, mask = values(shape, dtype), values(shape, dtype, 1), np.random.default_rng(2).random(shape) < 0.5
    calls = [
        (activations.relu, (x,)),
        (activations.relu_backward, (dy, np.maximum(x, 0))),
        (arithmetic.add, (x, dy)),
        (dropout_ops.dropout, (dy, mask)),
        (dropout_ops.dropout, (dy, mask, 0.5)),
    ]
    for op, arrays in calls:
        found = op(*arrays)
        with dispatch.generic_only():
            expected = op(*arrays)
        assert found.dtype == expected.dtype and found.shape == expected.shape
        np.testing.assert_array_equal(found, expected)
    if dtype == "float16":
        assert not code.ran
    elif x.size >= TUNING.small_array:
        code.assert_compiled("relu_backward", "dropout")


@pytest.mark.parametrize("order", ORDERS)
@tuned(small_array=1)
def test_take_any_memory_order(order, code):
    x = ORDERS[order](values((3, 4, 6, 5), "float32"))
    dy = values((3, 4, 6, 5), "float32", 1)
    np.testing.assert_array_equal(activations.relu(x), np.maximum(x, 0))
    y = activations.relu(x)
    for other in ORDERS.values():
        np.testing.assert_array_equal(activations.relu_backward(other(dy), y), np.where(y > 0, dy, 0))
    if order != "strided":
        code.assert_compiled("relu_backward")
        large, addend = ORDERS[order](values((30, 6, 8, 8), "float32")), other(values((30, 6, 8, 8), "float32", 1))
        np.testing.assert_array_equal(arithmetic.add(large, addend), large + addend)


class Own(np.ndarray):
    """As `numpy.memmap` is one: a subclass with the arithmetic of its base."""


def test_arrays_of_subclasses_are_taken(code):
    x, dy = values((700, 400), "float32"), values((700, 400), "float32", 1)
    for op in (activations.relu_backward, arithmetic.add):
        np.testing.assert_array_equal(np.asarray(op(dy.view(Own), x)), op(dy, x))
    np.testing.assert_array_equal(np.asarray(activations.relu(x.view(Own))), activations.relu(x))


def test_large_arrays_are_shared_between_threads(monkeypatch):
    calls = []
    run = thread_pool.run
    monkeypatch.setattr(thread_pool, "run", lambda tasks: calls.append(len(tasks)) or run(tasks))
    x = values((120, 6, 28, 28), "float32")
    activations.relu(x)
    activations.relu_backward(x, x)
    arithmetic.add(x, np.zeros_like(x))
    assert calls == [3, 3, 3]
    with dispatch.generic_only():
        activations.relu(x)
        arithmetic.add(x, np.zeros_like(x))
    assert len(calls) == 3
    activations.relu(x[:1])
    arithmetic.add(x[:1], np.zeros_like(x[:1]))
    assert len(calls) == 3


def test_relu_of_some_thousand_values_compares_with_zeros(monkeypatch):
    asked, zeros = [], elementwise._zeros
    monkeypatch.setattr(elementwise, "_zeros", lambda *args: asked.append(args) or zeros(*args))
    x = np.random.default_rng(0).standard_normal((50, 60)).astype("f")
    x[0, 0] = np.nan
    for a, count in ((x, 1), (x.T, 1), (x[:10], 1), (x[::2], 1), (np.concatenate([x, x]), 2)):
        y = elementwise.relu(a)
        np.testing.assert_array_equal(y, np.where(a < 0, 0, a))
        assert y.strides == np.maximum(a, 0).strides
        assert len(asked) == count
