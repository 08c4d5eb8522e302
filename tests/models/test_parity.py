"""One seed is one run: the same parameters on every library, one floating dtype throughout, nothing read back on the way."""

import functools
import importlib

import numpy as np
import pytest

from tests.harness import nonempty
from xpdl import (
    Adam,
    Affine,
    BatchNormalization,
    Convolution,
    DeepConvNet,
    Dropout,
    MultiLayerNetExtend,
    Pooling,
    Relu,
    Residual,
    Sequential,
    SimpleConvNet,
    SoftmaxWithLoss,
    TwoLayerNet,
    use,
)

RNG = np.random.default_rng(0)
ROWS, IMAGES, LABELS = RNG.random((10, 12)), RNG.random((10, 1, 12, 12)), RNG.integers(0, 10, 10)


def residual():
    block = Residual(Convolution(filters=4, size=3, pad=1, use_bias=False), BatchNormalization(), Relu(), Dropout(0.2))
    first = Convolution(filters=4, size=3, stride=2)
    return Sequential(first, block, Pooling(2, 2, 1, pad=1), Affine(units=10), loss=SoftmaxWithLoss, seed=1)


def extended():
    options = {"weight_decay_lambda": 0.01, "use_dropout": True, "dropout_ration": 0.3, "use_batchnorm": True}
    return MultiLayerNetExtend(12, [8, 8], 10, activation="sigmoid", **options, seed=2)


NETS = {
    "TwoLayerNet": (lambda: TwoLayerNet(12, 8, 10, seed=0), ROWS),
    "MultiLayerNetExtend": (extended, ROWS),
    "SimpleConvNet": (lambda: SimpleConvNet((1, 12, 12), {"filter_num": 4}, hidden_size=8, seed=3), IMAGES),
    "DeepConvNet": (lambda: DeepConvNet((1, 12, 12), *[{"filter_num": 3}] * 6, hidden_size=8, seed=4), IMAGES),
    "Residual": (residual, IMAGES),
}


def trained(build, x, t, count):
    """The network after `count` steps of Adam, on the backend in use."""
    network, adam = build(), Adam(0.01)
    network.build(x.shape[1:])
    for _ in range(count):
        adam.update(network.params, network.gradient(x, t))
    return network


@functools.cache
def reference(name):
    build, x = NETS[name]
    with use("numpy", dtype="float64"):
        network = trained(build, x, LABELS, 20)
    return {**network.params, **network.buffers}


@pytest.mark.parametrize("name", NETS)
@pytest.mark.backends("values")
@pytest.mark.backends("float64")
@pytest.mark.skip_backend("jit", reason="a training loop is not traced")
# JAX compiles every operation for every shape: two nets are enough
@pytest.mark.applies(lambda backend, name: backend.library != "jax" or name in ("TwoLayerNet", "SimpleConvNet"))
def test_twenty_steps_give_the_same_parameters_everywhere(backend, name):
    """In float64 to 1e-10; where host reads are forbidden, this shows also that none is made."""
    build, x = NETS[name]
    with backend.use("float64"), backend.rules():
        network = trained(build, backend.asarray(x), backend.asarray(LABELS), 20)
    found = {**network.params, **network.buffers}
    for key, desired in nonempty(reference(name).items()):
        # atol: a bias before batch normalisation has the gradient 0, and Adam makes steps of its rounding errors
        backend.check(found[key], desired, rtol=1e-10, atol=1e-10, dtype="float64")


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_no_array_of_another_floating_dtype_is_made_in_a_step(monkeypatch, name, dtype):
    """array_api_strict makes each of its arrays, views and temporaries too, in one place, which is watched here."""
    strict = importlib.import_module("array_api_strict")
    array_type = type(strict.asarray([0.0]))
    make, seen = array_type._new.__func__, set()

    def watched(cls, *args, **kwargs):
        array = make(cls, *args, **kwargs)
        seen.add(np.asarray(array._array).dtype.name)
        return array

    build, x = NETS[name]
    with use("array_api_strict", dtype=dtype) as backend:
        x, t = backend.asarray(x), backend.asarray(LABELS)
        network, adam = build(), Adam()
        network.build(x.shape[1:])
        monkeypatch.setattr(array_type, "_new", classmethod(watched))
        for _ in range(2):
            adam.update(network.params, network.gradient(x, t))
    assert {kind for kind in seen if "float" in kind} == {dtype}


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_kernels_leave_arrays_of_one_floating_dtype(name, dtype):
    build, x = NETS[name]
    with use("numpy", dtype=dtype):
        network = trained(build, x.astype(dtype), LABELS, 2)
    left = [network.last_loss, *network.grads.values(), *network.params.values(), *network.buffers.values()]
    left += [
        value for layer in network.layers.values() for value in vars(layer).values() if isinstance(value, np.ndarray)
    ]
    assert {array.dtype.name for array in left if array.dtype.kind == "f"} == {dtype}


def test_backprop_agrees_with_the_numerical_gradient_as_in_the_book():
    """Mean absolute differences below 1e-8, in float64."""
    with use("numpy", dtype="float64"):
        network = TwoLayerNet(20, 8, 10, seed=0)
    x, t = RNG.random((3, 20)), np.array([1, 5, 9])
    backprop, numerical = network.gradient(x, t), network.numerical_gradient(x, t)
    for name, gradient in nonempty(backprop.items()):
        assert np.abs(gradient - numerical[name]).mean() < 1e-8


def test_seed_makes_the_net_and_another_seed_another():
    first, same, other = TwoLayerNet(4, 5, 3, seed=1), TwoLayerNet(4, 5, 3, seed=1), TwoLayerNet(4, 5, 3, seed=2)
    np.testing.assert_array_equal(first.params["W1"], same.params["W1"])
    assert not np.array_equal(first.params["W1"], other.params["W1"])
