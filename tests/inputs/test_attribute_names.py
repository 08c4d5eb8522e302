"""Attributes under the names of other libraries: to assign or read them is one error that says how it is done here."""

from __future__ import annotations

import copy
import inspect
import pickle
from typing import Any

import numpy as np
import pytest

import xpdl
from tests.harness import nonempty
from xpdl import attribute_names

LAYERS = [one for name in xpdl.__all__ if inspect.isclass(one := getattr(xpdl, name)) and issubclass(one, xpdl.Layer)]
OF_OPTIMIZERS = ("learning_rate", "clipnorm", "grad_clip", "max_grad_norm", "epsilon", "betas", "param_groups")


class Own(xpdl.Layer):
    """A layer of a user, whose attributes are its own affair."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen = True


def things() -> list[Any]:
    net = xpdl.Sequential(xpdl.Affine(units=2), xpdl.Residual(xpdl.Affine(units=2)), loss=xpdl.SoftmaxWithLoss)
    x = xpdl.Input((3,))
    graph = xpdl.Graph(x, xpdl.Affine(units=2)(x), loss=xpdl.SoftmaxWithLoss)
    return [net, graph, xpdl.GPT(5, 4, 4, 2, 1), xpdl.TwoLayerNet(3, 2, 2), *net.leaves(), xpdl.Relu(), xpdl.LSTM(2)]


@pytest.mark.parametrize("name", ["requires_grad", "frozen"])
@pytest.mark.parametrize("value", [True, False])
def test_freezing_by_another_name_is_refused(name: str, value: bool) -> None:
    for thing in nonempty(things()):
        with pytest.raises(AttributeError) as caught:
            setattr(thing, name, value)
        cure = "layer.trainable = False freezes a layer or a model, and True trains it again"
        assert str(caught.value) == f"{type(thing).__name__}: there is no attribute {name!r}; {cure}"
        assert thing.trainable and not hasattr(thing, name)


@pytest.mark.parametrize("name", attribute_names.OF_LAYER)
def test_what_layers_do_not_have_says_what_there_is(name: str) -> None:
    lacking = [thing for thing in things() if name not in dir(thing)]
    for thing in nonempty(lacking):
        with pytest.raises(AttributeError) as caught:
            getattr(thing, name)
        cure = attribute_names.OF_LAYER[name]
        assert str(caught.value) == f"{type(thing).__name__}: there is no attribute {name!r}; {cure}"
        assert getattr(thing, name, None) is None


@pytest.mark.parametrize("kind", LAYERS, ids=lambda kind: kind.__name__)
def test_no_layer_has_an_attribute_of_these_names(kind: Any) -> None:
    own = {
        name
        for base in kind.__mro__
        for name in vars(base)
        if not isinstance(vars(base)[name], attribute_names.Misnomer)
    }
    known = {"LossLayer": {"weight"}}
    allowed = set().union(*(known.get(base.__name__, set()) for base in kind.__mro__))
    assert not (own - allowed) & ({"requires_grad", "frozen"} | attribute_names.OF_LAYER.keys())


@pytest.mark.parametrize("name", OF_OPTIMIZERS)
@pytest.mark.parametrize("rule", [xpdl.SGD, xpdl.Momentum, xpdl.RMSprop, xpdl.Adam, xpdl.AdamW])
def test_hyper_parameters_by_another_name_are_refused(rule: Any, name: str) -> None:
    optimizer = rule()
    with pytest.raises(AttributeError, match=f"^{rule.__name__}: there is no attribute '{name}'; "):
        setattr(optimizer, name, 0.5)
    with pytest.raises(AttributeError, match=f"^{rule.__name__}: there is no attribute '{name}'; "):
        getattr(optimizer, name)


def test_classes_of_users_may_have_these_attributes() -> None:
    layer, other = Own(), xpdl.Affine(units=2)
    assert layer.frozen and layer.trainable
    layer.frozen = False
    again = pickle.loads(pickle.dumps(layer))
    assert not layer.frozen and not copy.deepcopy(layer).frozen and not again.frozen
    del layer.frozen
    assert not hasattr(layer, "frozen") and not hasattr(other, "frozen")


def test_errors_of_properties_and_of_unknown_names_are_their_own() -> None:
    class Half(xpdl.Layer):
        @property
        def size(self) -> int:
            return int(self.count)  # type: ignore[attr-defined]

    with pytest.raises(AttributeError, match="'Half' object has no attribute 'count'"):
        _ = Half().size
    with pytest.raises(AttributeError, match="'Affine' object has no attribute 'sizes'"):
        _ = xpdl.Affine(units=2).sizes  # type: ignore[attr-defined]


def test_copies_and_pickles_go_on() -> None:
    x = np.ones((2, 3), "float32")
    net = xpdl.Sequential(xpdl.Affine(units=2), loss=xpdl.SoftmaxWithLoss, seed=0)
    y = net.predict(x)
    for again in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        np.testing.assert_array_equal(again.predict(x), y)
