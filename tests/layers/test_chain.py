"""Layers in a row."""

import numpy as np
import pytest

from xpdl.backends.dispatch import generic_only
from xpdl.errors import ShapeError
from xpdl.layers import Affine, AveragePooling, Pooling, Relu, Tanh
from xpdl.layers.chain import Chain
from xpdl.ops import activations, epilogues


def images(shape, seed=0):
    # few different values, so that there are ties, and windows without a positive value
    return np.random.default_rng(seed).integers(-3, 2, shape).astype(np.float64)


@pytest.mark.backends("values")
@pytest.mark.parametrize("args", [(2, 2), (3, 3, 2, 1), (3, 2, 1), (2, 2, 3)])
def test_rectifying_after_max_pooling_is_the_same(backend, args):
    host = images((3, 2, 8, 9))
    x = backend.asarray(host)
    chain, relu, pooling = Chain(Pooling(1, 1, 1), Relu(), Pooling(*args)), Relu(), Pooling(*args)
    y = chain.forward(x)
    expected = pooling.forward(relu.forward(x))
    dy = images(expected.shape, 1)
    dx = chain.backward(backend.asarray(dy))
    np.testing.assert_array_equal(backend.to_numpy(y), backend.to_numpy(expected))
    expected_dx = relu.backward(pooling.backward(backend.asarray(dy)))
    np.testing.assert_array_equal(backend.to_numpy(dx), backend.to_numpy(expected_dx))
    # also layer by layer, as the book's nets go back through theirs
    chain.forward(x)
    by_hand = backend.asarray(dy)
    for layer in reversed(chain.layers.values()):
        by_hand = layer.backward(by_hand)
    np.testing.assert_array_equal(backend.to_numpy(by_hand), backend.to_numpy(expected_dx))


def test_fewer_values_are_rectified(monkeypatch):
    shapes = []
    relu = activations.relu
    for module in (activations, epilogues):
        monkeypatch.setattr(module, "relu", lambda x: shapes.append(x.shape) or relu(x))
    with generic_only():
        Chain(Relu(), Pooling(2, 2), Relu()).forward(images((1, 1, 4, 6)))
    assert shapes == [(1, 1, 2, 3), (1, 1, 2, 3)]


def test_a_dout_of_another_shape_names_the_layer():
    chain = Chain(Relu(), Pooling(2, 2))
    chain.forward(images((1, 1, 4, 6)))
    with pytest.raises(ShapeError, match=r"Pooling1: dout must have the shape of the output, \(1, 1, 2, 3\)"):
        chain.backward(np.ones((1, 1, 4, 6)))


def test_only_max_pooling_changes_places_with_relu():
    chain = Chain(Pooling(1, 1, 1), Relu(), AveragePooling(2, 2))
    np.testing.assert_array_equal(chain.forward(np.array([[[[-4.0, 4.0], [8.0, -8.0]]]])), [[[[3.0]]]])


def test_layers_are_called_by_their_class_and_number_or_as_they_are_told():
    chain = Chain(Relu(), ("middle", Tanh()), Relu(), ("Tanh2", Tanh()), Tanh())
    assert [name for name, _ in chain.children()] == ["Relu1", "middle", "Relu2", "Tanh2", "Tanh1"]
    assert [layer.name for layer in chain.layers.values()] == list(chain.layers)


def test_layers_inside_are_told_their_whole_path():
    inner = Chain(Tanh())
    chain = Chain(Relu(), ("block", inner))
    chain.set_name("net")
    assert [layer.name for layer in (*chain.layers.values(), *inner.layers.values())] == [
        "net.Relu1",
        "net.block",
        "net.block.Tanh1",
    ]


@pytest.mark.parametrize("item", [Relu, (1, Relu()), ("a", Relu), ("a", Relu(), 1), "relu", None], ids=repr)
def test_what_is_no_layer_is_an_error(item):
    with pytest.raises(TypeError, match=r"Chain: expected layers or pairs \(name, layer\), got"):
        Chain(Tanh(), item)


def test_two_layers_of_one_name_are_an_error():
    with pytest.raises(ValueError, match="Chain: two layers are named 'Relu1'"):
        Chain(("Relu1", Tanh()), Relu())


def test_one_layer_in_two_places_is_an_error():
    layer = Relu()
    with pytest.raises(ValueError, match="Chain: the same layer stands in two places"):
        Chain(layer, Tanh(), ("again", layer))


@pytest.mark.parametrize("front", [0, 1, 2])
def test_gradients_of_parameters_alone_are_the_same(front):
    rng = np.random.default_rng(front)
    layers = [*(Tanh() for _ in range(front)), Affine(rng.random((3, 3))), Tanh(), Affine(rng.random((3, 2)))]
    chain = Chain(*layers)
    x = rng.random((4, 3))
    dout = rng.random(chain.forward(x).shape)
    chain.backward(dout)
    full = chain.grads
    for layer in layers:
        layer.grads = {}
    chain.forward(x)
    assert chain.backward_parameters(dout) is None
    assert list(chain.grads) == list(full) == ["Affine1.W", "Affine2.W"]
    for name, grad in full.items():
        np.testing.assert_array_equal(chain.grads[name], grad)


def test_a_chain_without_parameters_has_no_gradients_to_fill():
    chain = Chain(Relu(), Tanh())
    chain.forward(np.ones((1, 2)))
    assert chain.backward_parameters(np.ones((1, 2))) is None
    assert chain.grads == {}
