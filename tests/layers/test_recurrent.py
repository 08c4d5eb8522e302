"""Recurrent layers, beyond the values and gradients of the table: states that are kept, masks, training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import xpdl
from tests.harness import nonempty
from xpdl import GRU, LSTM, RNN, Affine, Bidirectional, Embedding, Sequential, SoftmaxWithLoss
from xpdl.errors import DTypeError, ShapeError

KINDS: Any = [RNN, LSTM, GRU]
each_kind = pytest.mark.parametrize("cls", KINDS)
X = np.random.default_rng(0).standard_normal((3, 6, 4))


def built(cls: Any, **options: Any) -> Any:
    layer = cls(5, **options)
    layer.build((None, 6, 4), backend=xpdl.backends.make_backend("numpy", None, "float64"))
    return layer


def alike(cls: Any, other: Any, **options: Any) -> Any:
    layer = built(cls, **options)
    layer.params = dict(other.params)
    return layer


@each_kind
def test_pieces_of_a_text_are_the_whole_when_stateful(cls: Any) -> None:
    whole = built(cls)
    pieces = alike(cls, whole, stateful=True)
    y = whole.forward(X)
    for _ in range(2):
        joined = np.concatenate([pieces.forward(X[:, :2]), pieces.forward(X[:, 2:])], axis=1)
        np.testing.assert_allclose(joined, y, rtol=1e-12)
        pieces.reset_state()
    assert not np.allclose(pieces.forward(X[:, 2:]), y[:, 2:])


@each_kind
def test_no_gradient_flows_into_the_piece_before(cls: Any) -> None:
    """Truncated backpropagation: that of a piece alone, from the state that it began with."""
    pieces = built(cls, stateful=True)
    pieces.forward(X[:, :2])
    alone = alike(cls, pieces)
    for name in pieces.state_names:
        setattr(alone, name, getattr(pieces, name))
    dout = np.cos(pieces.forward(X[:, 2:]))
    alone.forward(X[:, 2:])
    np.testing.assert_array_equal(pieces.backward(dout), alone.backward(dout))
    for name, gradient in pieces.grads.items():
        np.testing.assert_array_equal(gradient, alone.grads[name])


@each_kind
def test_the_gradient_of_a_state_is_that_of_differences(cls: Any) -> None:
    layer = built(cls)
    rng = np.random.default_rng(1)
    states = {name: rng.standard_normal((3, 5)) for name in layer.state_names}
    dout = rng.standard_normal((3, 6, 5))

    def value(**states: Any) -> float:
        for name, state in states.items():
            setattr(layer, name, state)
        return float(np.sum(layer.forward(X) * dout))

    value(**states)
    layer.backward(dout)
    for name, state in nonempty(states.items()):
        direction = rng.standard_normal(state.shape)
        above, below = (value(**{**states, name: state + h * direction}) for h in (1e-6, -1e-6))
        assert (above - below) / 2e-6 == pytest.approx(np.sum(getattr(layer, f"d{name}") * direction), rel=1e-6)


@each_kind
def test_padding_changes_nothing(cls: Any) -> None:
    layer = built(cls, return_sequences=False)
    mask = np.arange(6) < np.array([[2], [6], [4]])
    y = layer.forward(X, mask)
    dx = layer.backward(np.cos(y))
    assert (dx[~mask] == 0).all()
    for row, length in enumerate((2, 6, 4)):
        np.testing.assert_allclose(layer.forward(X[row : row + 1, :length]), y[row : row + 1], rtol=1e-12)
    both = Bidirectional(cls(5, return_sequences=False))
    both.build((6, 4), backend=xpdl.backends.make_backend("numpy", None, "float64"))
    np.testing.assert_allclose(both.forward(X, mask)[:1], both.forward(X[:1, :2]), rtol=1e-12)


@each_kind
def test_another_batch_size_needs_a_new_state(cls: Any) -> None:
    layer = built(cls, stateful=True)
    layer.forward(X)
    with pytest.raises(ShapeError, match=r"the state h is of 3 sequences with 5 units, .* call reset_state\(\)"):
        layer.forward(X[:2])
    layer.reset_state()
    assert layer.forward(X[:2]).shape == (2, 6, 5)


def test_masks_are_booleans_of_each_step() -> None:
    layer = built(GRU)
    with pytest.raises(ShapeError, match=r"mask, one for each step, must have shape \(3, 6\), got \(3, 5\)"):
        layer.forward(X, np.ones((3, 5), bool))
    with pytest.raises(DTypeError, match="mask must be booleans, got float64; pass mask != 0"):
        layer.forward(X, np.ones((3, 6)))


def test_what_cannot_be_read_in_both_directions_is_refused() -> None:
    with pytest.raises(ValueError, match="layer must not be stateful"):
        Bidirectional(RNN(2, stateful=True))
    with pytest.raises(ValueError, match="must not have parameters"):
        Bidirectional(built(RNN))


@pytest.mark.quick(lambda make: make in KINDS)
@pytest.mark.parametrize("make", [*KINDS, lambda units, **options: Bidirectional(LSTM(units, **options))])
def test_learns_what_came_first(make: Any) -> None:
    ids = np.random.default_rng(0).integers(0, 4, (48, 5))
    net = Sequential(
        Embedding(4, 6, init=0.5), make(8, return_sequences=False), Affine(units=4), loss=SoftmaxWithLoss, seed=0
    )
    options: Any = {"optimizer": "Adam", "optimizer_param": {"lr": 0.02}, "verbose": False, "seed": 0}
    history = xpdl.Trainer(net, ids, ids[:, 0], ids, ids[:, 0], epochs=50, mini_batch_size=8, **options).train()
    assert history.test_acc_list[-1] == 1.0
    report = xpdl.check_gradients(net, ids[:4], ids[:4, 0])
    assert report.passed
