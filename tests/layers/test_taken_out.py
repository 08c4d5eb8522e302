"""Values that a mask or a weight of 0 takes out: NaN and infinity there reach neither a result nor a gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import xpdl
from tests.harness import RTOL, Backend, nonempty
from xpdl import layers as L
from xpdl.backends.namespaces import on_its_device

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


@pytest.mark.parametrize("layer", [L.SoftmaxWithLoss(), L.Hinge(), L.NegativeSampling(), L.SigmoidWithLoss()], ids=repr)
@pytest.mark.backends("values")
@pytest.mark.quick(lambda backend: backend.library == "numpy")
def test_scores_that_are_nan_are_wrong(backend: Backend, layer: Any) -> None:
    x = np.array([[np.nan, np.nan], [1.0, np.nan], [2.0, 1.0], [np.nan, 2.0], [-1.0, 3.0]])
    t = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    if by_label := isinstance(layer, L.SigmoidWithLoss):
        want = np.array([[0, 0], [0, 0], [1, 0], [0, 0], [1, 1]], bool)
    else:
        want = np.array([0, 0, 1, 0, 1], bool)
    backend.check(backend.call(layer.correct, backend.asarray(x), backend.asarray(t)), want)
    labels = t if by_label else np.argmax(t, axis=1)
    backend.check(backend.call(layer.correct, backend.asarray(x), backend.asarray(labels)), want)


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


_S, _MASK = _rng.standard_normal((2, 4, 4)), np.array([[True, False, True, False], [False, True, True, False]])

SEQUENCES: dict[str, Callable[[], Any]] = {
    "rnn": lambda: L.RNN(3),
    "lstm": lambda: L.LSTM(3),
    "gru": lambda: L.GRU(3),
    "last rnn": lambda: L.RNN(3, return_sequences=False),
    "last lstm": lambda: L.LSTM(3, return_sequences=False),
    "last gru": lambda: L.GRU(3, return_sequences=False),
    "both directions": lambda: L.Bidirectional(L.LSTM(3)),
    "last of both directions": lambda: L.Bidirectional(L.GRU(3, return_sequences=False)),
    "self attention": lambda: L.MultiHeadAttention(2),
    "causal self attention": lambda: L.MultiHeadAttention(2, True, rotary=True),
    "self attention of a graph": lambda: L.MultiHeadAttention(2),
    "cross attention": lambda: L.MultiHeadAttention(2, rotary=True),
}
# where each case takes a second to compile
COMPILED = ("rnn", "lstm", "gru", "self attention", "cross attention")
_QUERIES = _rng.standard_normal((2, 3, 4))


def _inputs(name: str, x: Any, queries: Any, mask: Any) -> tuple[Any, ...]:
    if name == "cross attention":
        return queries, x, mask
    if name == "self attention of a graph":
        return x, x, mask
    return (x, None, mask) if "attention" in name else (x, mask)


def _parts(layer: Any) -> list[Any]:
    """The layers inside that have parameters."""
    return [one for _, one in layer.children()] if isinstance(layer, L.Bidirectional) else [layer]


@on_its_device
def _upstream(y: Any) -> Any:
    return y * y - 0.3


def _everything(name: str, layer: Any, x: Any, queries: Any, mask: Any) -> list[Any]:
    """The output, the gradients of the inputs, and those of the parameters."""
    y = layer.forward(*_inputs(name, x, queries, mask))
    dx = layer.backward(_upstream(y))
    return [y, *(dx if isinstance(dx, tuple) else (dx,)), *(d for one in _parts(layer) for d in one.grads.values())]


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf], ids=str)
@pytest.mark.parametrize("name", SEQUENCES)
@pytest.mark.backends("values")
@pytest.mark.applies(lambda backend, odd: odd != odd or backend.library in ("numpy", "cupy"))
@pytest.mark.applies(lambda backend, name: backend.library != "jax" or (backend.jit and name in COMPILED))
@pytest.mark.quick(lambda backend, odd: backend.library == "numpy" and odd != odd)
def test_masked_positions(backend: Backend, name: str, odd: float) -> None:
    plain = SEQUENCES[name]()
    plain.build((4, 4), backend=xpdl.backends.make_backend("numpy", None, "float64"))
    want = _everything(name, plain, np.where(_MASK[..., None], _S, 0.0), _QUERIES, _MASK)
    if "attention" not in name:
        assert not np.any(want[1][~_MASK])

    def run(x: Any, queries: Any, mask: Any, *params: Any) -> Any:
        layer = SEQUENCES[name]()
        values = iter(params)
        for part, given in zip(_parts(layer), _parts(plain), strict=True):
            part.params = {key: next(values) for key in given.params}
        return _everything(name, layer, x, queries, mask)

    params = [a for part in _parts(plain) for a in part.params.values()]
    arrays = [np.where(_MASK[..., None], _S, odd), _QUERIES, _MASK, *params]
    # a bias of keys has no gradient but rounding
    rounding = RTOL[backend.float] * max(np.abs(one).max() for one in want)
    results = backend.call(run, *map(backend.asarray, arrays))
    for found, value in nonempty(zip(results, want, strict=True)):
        backend.check(found, value, atol=rounding)
