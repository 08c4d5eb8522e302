"""One mapping over the arrays of many dicts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.harness import nonempty
from xpdl import Layer, Sequential
from xpdl.errors import ShapeError
from xpdl.layers import Affine, Relu, Residual, SoftmaxWithLoss
from xpdl.layers.parameter_view import ParameterView
from xpdl.optimizers import SGD, Adam, Optimizer


@pytest.fixture
def owners() -> list[dict[str, np.ndarray]]:
    return [{"W": np.ones((2, 3)), "b": np.zeros(3)}, {"W": np.ones((3, 1))}]


@pytest.fixture
def view(owners: list[dict[str, np.ndarray]]) -> ParameterView:
    return ParameterView({"W1": (owners[0], "W"), "b1": (owners[0], "b"), "W2": (owners[1], "W")})


def test_reads_and_writes_where_the_arrays_are(view: ParameterView, owners: list[dict[str, np.ndarray]]) -> None:
    assert list(view) == ["W1", "b1", "W2"] and len(view) == 3
    assert view["W2"] is owners[1]["W"]
    new = np.full((2, 3), 5.0)
    view["W1"] = new
    assert owners[0]["W"] is new and view["W1"] is new
    assert owners[1]["W"].shape == (3, 1)


def test_an_unknown_name_is_an_error_that_lists_those_there_are(view: ParameterView) -> None:
    with pytest.raises(KeyError, match="no parameter 'W3'; there are W1, b1, W2"):
        view["W3"] = np.ones(2)
    with pytest.raises(KeyError, match="W3"):
        view["W3"]


@pytest.mark.parametrize("shape", [(3, 2), (3,), (2, 3, 1), ()])
def test_an_array_of_another_shape_is_an_error(
    view: ParameterView, owners: list[dict[str, np.ndarray]], shape: tuple[int, ...]
) -> None:
    before = owners[0]["W"]
    with pytest.raises(ShapeError, match=r"parameter 'W1' has shape \(2, 3\), got \("):
        view["W1"] = np.ones(shape)
    assert owners[0]["W"] is before


def test_what_is_no_array_is_an_error(view: ParameterView) -> None:
    with pytest.raises(TypeError, match="parameter 'b1'"):
        view["b1"] = [1.0, 2.0, 3.0]


def test_nothing_can_be_deleted(view: ParameterView) -> None:
    with pytest.raises(TypeError, match="parameter 'b1' belongs to a layer"):
        del view["b1"]
    assert len(view) == 3


def test_the_representation_shows_the_shapes(view: ParameterView) -> None:
    assert repr(view) == "ParameterView({'W1': (2, 3), 'b1': (3,), 'W2': (3, 1)})"


class Twice(Layer):
    """A layer whose child is made at the first pass."""

    def create_parameters(self, shape: tuple[int, ...], backend: Any) -> None:
        self.inner = Affine(units=shape[-1])

    def forward(self, x: Any) -> Any:
        return self.inner.forward(2 * x)

    def backward(self, dy: Any) -> Any:
        return 2 * self.inner.backward(dy)


def net_of(*layers: Any) -> Sequential:
    return Sequential(*layers, loss=SoftmaxWithLoss, seed=0)


def with_a_frozen_layer() -> Sequential:
    net = net_of(Affine(units=5), Relu(), Affine(units=3))
    net.layers["Affine1"].trainable = False
    return net


UNBUILT = {
    "chain": lambda: net_of(Affine(units=5), Relu(), Affine(units=3)),
    "some parameters made": lambda: net_of(
        Affine(np.ones((4, 5), np.float32), np.zeros(5, np.float32)), Relu(), Affine(units=3)
    ),
    "residual block": lambda: net_of(Residual(Affine(units=4), Relu()), Affine(units=3)),
    "net in a net": lambda: net_of(Sequential(Affine(units=5), Relu()), Affine(units=3)),
    "child made at the first pass": lambda: net_of(Twice(), Affine(units=3)),
    "frozen layer": with_a_frozen_layer,
}


@pytest.mark.parametrize("optimizer", [SGD, Adam])
@pytest.mark.parametrize("build", UNBUILT.values(), ids=UNBUILT)
def test_parameters_taken_before_the_first_pass_are_all_updated(
    build: Callable[[], Sequential], optimizer: type[Optimizer]
) -> None:
    x, t = np.random.default_rng(0).normal(size=(6, 4)).astype("float32"), np.arange(6) % 3
    before, after = build(), build()
    params = before.params  # evaluated first, as in optimizer.update(net.params, net.gradient(x, t))
    optimizer(lr=0.1).update(params, before.gradient(x, t))
    grads = after.gradient(x, t)
    optimizer(lr=0.1).update(after.params, grads)
    assert list(params) == list(after.params)
    for name in nonempty(list(after.params)):
        np.testing.assert_array_equal(params[name], after.params[name])
