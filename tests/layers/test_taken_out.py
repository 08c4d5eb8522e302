"""Values that a mask or a weight of 0 takes out: NaN and infinity there reach neither a result nor a gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.harness import Backend
from xpdl import layers as L

_rng = np.random.default_rng(0)
_X, _LABELS = _rng.standard_normal((6, 4)), np.array([2, 0, 1, 3, 0, 1])
_ROWS = _rng.random((6, 4))
_WEIGHTS, _OUT = np.array([2.0, 0.0, 1.0, 0.0, 0.5, 0.0]), np.array([1, 3, 5])
_ODD = np.array([[np.nan] * 4, [np.inf, 1.0, -np.inf, np.inf], [1.0, np.nan, np.inf, 2.0]])

LOSSES: dict[str, tuple[Callable[[], L.LossLayer], Any]] = {
    "softmax of labels": (L.SoftmaxWithLoss, _LABELS),
    "softmax of rows": (L.SoftmaxWithLoss, _ROWS),
    "softmax, smoothed": (lambda: L.SoftmaxWithLoss(0.1, class_weights=[1.0, 2.0, 0.5, 1.0]), _LABELS),
    "sigmoid": (L.SigmoidWithLoss, _ROWS),
    "candidates": (L.NegativeSampling, _LABELS),
    "identity": (L.IdentityWithLoss, _ROWS),
    "squares": (L.MeanSquaredError, _ROWS),
    "absolutes": (L.MeanAbsoluteError, _ROWS),
    "huber": (lambda: L.Huber(0.7), _ROWS),
    "hinge of labels": (L.Hinge, _LABELS),
    "hinge of rows": (L.Hinge, np.eye(4)[_LABELS]),
    "gaussians": (L.GaussianKL, _ROWS),
}


def _with_odd_rows(a: Any) -> Any:
    """Floating rows of weight 0 replaced by NaN and infinities; labels stay."""
    if a.dtype.kind != "f":
        return a
    odd = a.copy()
    odd[_OUT] = _ODD
    return odd


@pytest.mark.parametrize("odd_targets", [False, True], ids=["outputs", "outputs and targets"])
@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.backends("values")
@pytest.mark.quick(lambda backend, odd_targets: odd_targets and backend.library == "numpy")
def test_rows_of_weight_0(backend: Backend, name: str, odd_targets: bool) -> None:
    make, t = LOSSES[name]
    kept = np.setdiff1d(np.arange(6), _OUT)
    alone = make()
    loss = alone.forward(_X[kept], t[kept], _WEIGHTS[kept])
    dx = np.zeros_like(_X)
    dx[kept] = alone.backward(0.7)

    def both(x: Any, t: Any, weights: Any) -> Any:
        layer = make()
        return layer.forward(x, t, weights), layer.backward(0.7)

    arrays = [_with_odd_rows(_X), _with_odd_rows(t) if odd_targets else t, _WEIGHTS]
    with np.errstate(invalid="ignore"):  # of the probabilities, which those of such rows are not
        found, gradient = backend.call(both, *map(backend.asarray, arrays))
    backend.check(found, np.asarray(loss))
    backend.check(gradient, dx)


@pytest.mark.backends("values")
@pytest.mark.quick(lambda backend: backend.library == "numpy")
def test_positions_with_the_label_to_ignore(backend: Backend) -> None:
    x, t = _with_odd_rows(_X), np.where(_WEIGHTS == 0, -1, _LABELS)
    kept = np.setdiff1d(np.arange(6), _OUT)
    alone = L.SoftmaxWithLoss()
    loss = alone.forward(_X[kept], _LABELS[kept])
    dx = np.zeros_like(_X)
    dx[kept] = alone.backward(0.7)

    def both(x: Any, t: Any) -> Any:
        layer = L.SoftmaxWithLoss(ignore_label=-1)
        return layer.forward(x, t), layer.backward(0.7)

    with np.errstate(invalid="ignore"):
        found, gradient = backend.call(both, backend.asarray(x.reshape(2, 3, 4)), backend.asarray(t.reshape(2, 3)))
    backend.check(found, np.asarray(loss))
    backend.check(gradient, dx.reshape(2, 3, 4))
