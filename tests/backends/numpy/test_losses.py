"""Softmax with cross entropy on NumPy beside test_roster.py: extreme scores, labels, what is declined."""

import numpy as np
import pytest

import xpdl
from xpdl.backends import dispatch
from xpdl.backends.cpu.tuning import tuned
from xpdl.backends.numpy import losses as kernels
from xpdl.errors import LabelError
from xpdl.ops import losses as ops

EXTREME = [[np.nan, 0.0, 1.0], [1e30, -1e30, 0.0], [-np.inf, 0.0, 1.0], [0.0, 0.0, 0.0], [88.0, -88.0, 500.0]]


def both(op, *arrays):
    with dispatch.generic_only():
        expected = op(*arrays)
    return op(*arrays), expected


@pytest.mark.parametrize("row", EXTREME, ids=str)
@pytest.mark.parametrize("label", range(3))
def test_extreme_scores(row, label):
    x, t = np.array([row], np.float32), np.array([label])
    (loss, y), (wanted, wanted_y) = both(ops.softmax_with_loss, x, t)
    np.testing.assert_allclose(loss, wanted, rtol=1e-6)
    np.testing.assert_allclose(y, wanted_y, rtol=1e-6, atol=0)


@pytest.mark.parametrize("row", EXTREME, ids=str)
@pytest.mark.parametrize("label", range(3))
def test_extreme_scores_among_many(row, label):
    """Of more classes than are reduced in columns, the others with scores below all of these."""
    x, t = np.full((2, 300), -1e31, np.float32), np.array([label, label])
    x[:, :3], x[1] = row, x[1] * 0.0
    (loss, y), (wanted, wanted_y) = both(ops.softmax_with_loss, x, t)
    np.testing.assert_allclose(loss, wanted, rtol=1e-6)
    np.testing.assert_allclose(y, wanted_y, rtol=2e-6, atol=0)


def test_is_called_and_generic_only_switches_it_off(monkeypatch):
    seen = []
    monkeypatch.setattr(kernels, "labelled", lambda x, t: seen.append(x.shape) or False)
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


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(37, 300), (9, 65), (3, 5000)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_rows_are_shared_by_tasks(shape, dtype, order, code):
    rng = np.random.default_rng(0)
    x, t = np.asarray(3 * rng.normal(size=shape), dtype, order=order), rng.integers(0, shape[1], shape[0])
    (_, y), (wanted, wanted_y) = both(ops.softmax_with_loss, x.astype("float64"), t)
    results = []
    for threads in (1, 2, 3):
        with xpdl.use("numpy", threads=threads), tuned(loss_task=1000):
            results.append((*ops.softmax_with_loss(x, t), ops.softmax_with_loss_backward(y.astype(dtype), t, 0.3)))
    tolerance = {"float32": 2e-6, "float64": 1e-13}[dtype]
    np.testing.assert_allclose(results[0][0], wanted, rtol=tolerance)
    np.testing.assert_allclose(results[0][1], wanted_y, rtol=tolerance)
    np.testing.assert_array_equal(
        results[0][2], (y.astype(dtype) - np.eye(shape[1], dtype=dtype)[t]) * np.asarray(0.3 / shape[0], dtype)
    )
    for others in zip(*results, strict=True):
        assert len({other.tobytes() for other in others}) == 1
    assert ("softmax_with_loss" in code.ran) == (code.name == "compiled" and dtype == "float32")
