"""Gradients with respect to inputs, beside central differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.harness import Backend
from tests.oracles import central_differences
from xpdl import (
    Affine,
    BatchNormalization,
    Concatenate,
    Dropout,
    Graph,
    IdentityWithLoss,
    Input,
    LabelError,
    Sequential,
    ShapeError,
    SoftmaxWithLoss,
    Tanh,
)

_rng = np.random.default_rng(31)
X = _rng.standard_normal((5, 4))
T = np.asarray([0, 2, 1, 1, 0])


def row() -> Sequential:
    return Sequential(
        Affine(units=6), BatchNormalization(), Tanh(), Dropout(0.5), Affine(units=3), loss=SoftmaxWithLoss, seed=0
    )


def graph() -> Graph:
    x = Input((4,))
    h = Dropout(0.5)(Tanh()(Affine(units=6)(x)))
    return Graph(x, Affine(units=3)(Concatenate()(h, x)), loss=SoftmaxWithLoss, seed=0)


@pytest.mark.parametrize("make", [row, graph])
def test_gradient_of_the_loss_in_evaluation(make: Any) -> None:
    net = make()
    net.predict(X, train_flg=True)
    got = net.input_gradient(X, T)
    want = central_differences(lambda x: np.asarray(net.loss(x, T)), (X,), 0, np.ones(()))
    np.testing.assert_allclose(got, want, atol=1e-7)
    np.testing.assert_array_equal(net.input_gradient(X, T), got)


@pytest.mark.parametrize("make", [row, graph])
@pytest.mark.parametrize("output", [2, np.asarray([0, 2, 1, 1, 0])], ids=["one", "each"])
def test_gradient_of_the_score_of_a_class(make: Any, output: Any) -> None:
    net = make()
    chosen = np.eye(3)[np.broadcast_to(output, (5,))]
    got = net.input_gradient(X, output=output)
    want = central_differences(lambda x: np.asarray(net.predict(x)), (X,), 0, chosen)
    np.testing.assert_allclose(got, want, atol=1e-7)


def test_several_inputs_have_a_gradient_each() -> None:
    left, right = Input((4,), "left"), Input((4,), "right")
    outputs = [Affine(units=3)(Concatenate()(Tanh()(left), right)), Affine(units=2)(left)]
    net = Graph([left, right], outputs, loss=[SoftmaxWithLoss, IdentityWithLoss], seed=0)
    t = T, X[:, :2]
    by_name = net.input_gradient({"left": X, "right": -X}, t)
    by_place = net.input_gradient((X, -X), t)
    for place, name in enumerate(("left", "right")):
        inputs = [X, -X]
        want = central_differences(lambda *xs: np.asarray(net.loss(xs, t)), inputs, place, np.ones(()))
        np.testing.assert_allclose(by_name[name], want, atol=1e-7)
        np.testing.assert_array_equal(by_name[name], by_place[place])
    with pytest.raises(ShapeError, match=r"output= is for scores .* of classes, got 2 outputs"):
        net.input_gradient((X, -X), output=1)


@pytest.mark.backends("values")
@pytest.mark.backends("eager")
def test_the_gradient_is_where_the_input_is(backend: Backend) -> None:
    net = row()
    net.build((4,))
    want = net.input_gradient(X.astype("float32"), output=1)
    got = net.input_gradient(backend.asarray(X, "float32"), output=1)
    backend.check(got, want, rtol=1e-5, atol=1e-6)
    assert type(net.input_gradient(X.tolist(), output=1)) is np.ndarray


def test_a_step_along_the_sign_raises_the_loss() -> None:
    net = row()
    before = float(net.loss(X, T))
    assert float(net.loss(X + 0.1 * np.sign(net.input_gradient(X, T)), T)) > before
    assert float(net.loss(X - 0.1 * np.sign(net.input_gradient(X, T)), T)) < before


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({}, TypeError, "and not both"),
        ({"t": T, "output": 1}, TypeError, "and not both"),
        ({"output": 3}, LabelError, "label 3 of row 0 is not one of the 3 classes"),
        ({"output": -1}, LabelError, "label -1"),
        ({"output": 1.0}, ShapeError, r"output must be an int or an array of 5 ints, got 1\.0"),
        ({"output": T[:2]}, ShapeError, "output must have shape"),
    ],
)
def test_wrong_arguments_are_refused(options: dict[str, Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        row().input_gradient(X, **options)


def test_a_model_without_a_loss_has_gradients_of_scores_alone() -> None:
    net = Sequential(Affine(units=3), seed=0)
    assert net.input_gradient(X, output=0).shape == X.shape
    with pytest.raises(TypeError, match="has no loss"):
        net.input_gradient(X, T)
