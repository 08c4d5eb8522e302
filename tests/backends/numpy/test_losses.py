"""Softmax with cross entropy on NumPy equals the generic one, for every float, kind of label and extreme scores."""

import numpy as np
import pytest

from xpdl.backends import dispatch
from xpdl.backends.numpy import losses as kernels
from xpdl.errors import LabelError
from xpdl.ops import losses as ops

EXTREME = [[np.nan, 0.0, 1.0], [1e30, -1e30, 0.0], [-np.inf, 0.0, 1.0], [0.0, 0.0, 0.0], [88.0, -88.0, 500.0]]


def both(op, *arrays):
    with dispatch.generic_only():
        expected = op(*arrays)
    return op(*arrays), expected


@pytest.mark.parametrize("labels", ["int64", "uint8", "int32"])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (7, 3), (100, 10), (300, 70)], ids=str)
@pytest.mark.parametrize("order", ["C", "F", "strided"])
def test_equals_the_generic_op(shape, dtype, labels, order):
    rng = np.random.default_rng(0)
    x = np.asarray(3 * rng.normal(size=shape), dtype, order="F" if order == "F" else "C")
    x = np.repeat(x, 2, axis=1)[:, ::2] if order == "strided" else x
    t = rng.integers(0, shape[1], shape[0]).astype(labels)
    x.flags.writeable = t.flags.writeable = False
    tolerance = {"float16": 4e-3, "float32": 2e-6, "float64": 1e-14}[dtype]
    (loss, y), (wanted, wanted_y) = both(ops.softmax_with_loss, x, t)
    assert loss.shape == () and y.dtype == dtype
    assert loss.dtype == ("float32" if dtype == "float16" else dtype)
    np.testing.assert_allclose(loss, wanted, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(y, wanted_y, rtol=tolerance, atol=0)
    y.flags.writeable = False
    for dout in (1.0, -0.3):
        dx, wanted_dx = both(ops.softmax_with_loss_backward, y, t, dout)
        assert dx.dtype == dtype
        np.testing.assert_array_equal(dx, wanted_dx)


@pytest.mark.parametrize("row", EXTREME, ids=str)
@pytest.mark.parametrize("label", range(3))
def test_extreme_scores(row, label):
    x, t = np.array([row], np.float32), np.array([label])
    (loss, y), (wanted, wanted_y) = both(ops.softmax_with_loss, x, t)
    np.testing.assert_allclose(loss, wanted, rtol=1e-6)
    np.testing.assert_allclose(y, wanted_y, rtol=1e-6, atol=0)


def test_is_called_and_generic_only_switches_it_off(monkeypatch):
    seen = []
    monkeypatch.setattr(kernels, "_labelled", lambda x, t: seen.append(x.shape) or False)
    x, t = np.ones((2, 3)), np.array([0, 1])
    ops.softmax_with_loss(x, t)
    ops.softmax_with_loss_backward(x, t)
    assert seen == [(2, 3)] * 2
    with dispatch.generic_only():
        ops.softmax_with_loss(x, t)
    assert len(seen) == 2


@pytest.mark.parametrize(
    "x, t",
    [
        (np.ones((2, 3)), np.eye(3)[:2]),
        (np.ones((2, 3)), np.array([0, 3])),
        (np.ones((2, 3)), np.array([0, -1])),
        (np.ones((2, 3)), np.array([0.0, 1.0])),
        (np.ones((2, 3)), np.array([0])),
    ],
)
def test_declines_what_it_does_not_serve(x, t):
    assert kernels.softmax_with_loss(x, t) is dispatch.DECLINE
    assert kernels.softmax_with_loss_backward(x, t) is dispatch.DECLINE


@pytest.mark.parametrize("options", [{"label_smoothing": 0.1}, {"class_weights": np.ones(3)}], ids=lambda o: str([*o]))
def test_declines_weights_and_smoothing(options):
    x, t = np.ones((2, 3)), np.array([0, 1])
    assert kernels.softmax_with_loss(x, t) is not dispatch.DECLINE
    assert kernels.softmax_with_loss(x, t, **options) is dispatch.DECLINE
    assert kernels.softmax_with_loss_backward(x, t, **options) is dispatch.DECLINE


def test_a_gradient_from_above_of_a_wider_dtype_decides_as_in_the_generic_op():
    y, t = np.full((2, 2), 0.5, np.float32), np.array([0, 1])
    dx, wanted = both(ops.softmax_with_loss_backward, y, t, np.float64(2.0).reshape(()))
    assert dx.dtype == wanted.dtype
    np.testing.assert_array_equal(dx, wanted)


def test_a_wrong_label_is_named():
    with pytest.raises(LabelError, match=r"label 3 of row \d is not one of the 3 classes"):
        ops.softmax_with_loss(np.ones((2, 3)), np.array([0, 3]))
