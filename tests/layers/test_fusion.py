"""Layers computed as one: each is left as after passes of its own."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from tests.harness import Backend
from xpdl.errors import ShapeError
from xpdl.layers import Affine, BatchNormalization, Convolution, Identity, Pooling, Relu, Residual
from xpdl.layers.base import Layer
from xpdl.layers.chain import Chain
from xpdl.ops import activations, normalization

_rng = np.random.default_rng(7)


def _layers(backend: Backend, shape: tuple[int, ...], size: int) -> list[Chain]:
    """Twice the same, with parameters of their own arrays."""
    gamma, beta = _rng.normal(size=(2, size))
    return [
        Chain(BatchNormalization(backend.asarray(gamma), backend.asarray(beta), eps=1e-3), Relu()) for _ in range(2)
    ]


@pytest.mark.backends("values")
@pytest.mark.skip_backend("jit", reason="layers save arrays between calls")
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape, size", [((6, 3), 3), ((3, 4, 5, 2), 4), ((3, 2, 2, 3), 12)], ids=str)
def test_batch_normalization_and_relu_are_those_in_two_steps(
    backend: Backend, shape: tuple[int, ...], size: int, training: bool
) -> None:
    x, dy = (backend.asarray(_rng.normal(size=shape)) for _ in range(2))
    chain, by_hand = _layers(backend, shape, size)
    with backend.rules():
        y, dx = chain.forward(x, training), None
        dx = chain.backward(dy)
        normalization, relu = by_hand.layers.values()
        wanted = relu.forward(normalization.forward(x, training))
        wanted_dx = normalization.backward(relu.backward(dy))
    backend.check(y, backend.to_numpy(wanted))
    backend.check(dx, backend.to_numpy(wanted_dx))
    assert list(chain.grads) == list(by_hand.grads) == ["BatchNormalization1.gamma", "BatchNormalization1.beta"]
    for name, grad in by_hand.grads.items():
        backend.check(chain.grads[name], backend.to_numpy(grad))
    for name, statistics in by_hand.buffers.items():
        backend.check(chain.buffers[name], backend.to_numpy(statistics))
    # also layer by layer after the passes as one
    alone = dy
    with backend.rules():
        for layer in reversed(chain.layers.values()):
            alone = layer.backward(alone)
    backend.check(alone, backend.to_numpy(wanted_dx))


def test_relu_is_not_computed_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(x: object) -> None:
        raise AssertionError("relu by itself")

    monkeypatch.setattr(activations, "relu", refuse)
    chain = Chain(BatchNormalization(), Relu())
    assert chain.forward(_rng.normal(size=(4, 3, 2, 2))).min() == 0
    with pytest.raises(AssertionError, match="relu by itself"):
        Chain(_Doubled(), Relu()).forward(_rng.normal(size=(4, 3)))


class _Doubled(BatchNormalization):
    """Its `forward_fused` is that of the class it derives from, and would not double."""

    def forward(self, x: np.ndarray, train_flg: bool | None = None) -> np.ndarray:
        return 2 * super().forward(x, train_flg)


def test_a_derived_layer_computes_its_own() -> None:
    x = _rng.normal(size=(4, 3))
    np.testing.assert_array_equal(Chain(_Doubled(), Relu()).forward(x), np.maximum(_Doubled().forward(x), 0))


def test_errors_name_the_layer() -> None:
    chain = Chain(BatchNormalization(), Relu())
    with pytest.raises(RuntimeError, match="Relu1: backward needs a forward first"):
        chain.backward(np.ones((2, 3)))
    chain.forward(np.ones((2, 3)))
    with pytest.raises(ShapeError, match=r"Relu1: dout must have the shape of the output, \(2, 3\)"):
        chain.backward(np.ones((2, 4)))


def _blocks(backend: Backend, last: bool) -> list[Chain]:
    """Twice the same block, with or without batch normalisation at its end, and a relu."""
    rng = np.random.default_rng(3)
    gamma, beta, mean = (backend.asarray(a) for a in rng.normal(size=(3, 2)))
    weights = [backend.asarray(rng.normal(size=(2, 2, k, k))) for k in (3, 1)]
    made = []
    for _ in range(2):
        body: list[Layer] = [Convolution(weights[0], pad=1)]
        if last:
            body.append(BatchNormalization(gamma, beta, running_mean=mean, eps=1e-3))
        made.append(Chain(Residual(*body, shortcut=Convolution(weights[1])), Relu()))
    return made


@pytest.mark.backends("values")
@pytest.mark.skip_backend("jit", reason="layers save arrays between calls")
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("last", [True, False], ids=["batch normalisation last", "convolution last"])
def test_residual_block_and_relu_are_those_in_two_steps(backend: Backend, last: bool, training: bool) -> None:
    x, dy = (backend.asarray(_rng.normal(size=(3, 2, 4, 5))) for _ in range(2))
    chain, by_hand = _blocks(backend, last)
    with backend.rules():
        y = chain.forward(x, training)
        dx = chain.backward(dy)
        block, relu = by_hand.layers.values()
        wanted = relu.forward(block.forward(x, training))
        wanted_dx = block.backward(relu.backward(dy))
    backend.check(y, backend.to_numpy(wanted))
    backend.check(dx, backend.to_numpy(wanted_dx))
    assert list(chain.grads) == list(by_hand.grads)
    for name, grad in by_hand.grads.items():
        backend.check(chain.grads[name], backend.to_numpy(grad))
    for name, statistics in by_hand.buffers.items():
        backend.check(chain.buffers[name], backend.to_numpy(statistics))
    alone = dy
    with backend.rules():
        for layer in reversed(chain.layers.values()):
            alone = layer.backward(alone)
    backend.check(alone, backend.to_numpy(wanted_dx))


def test_a_block_without_layers_takes_a_relu() -> None:
    x = _rng.normal(size=(3, 2))
    np.testing.assert_array_equal(Chain(Residual(), Relu()).forward(x), np.maximum(2 * x, 0))


@pytest.mark.backends("values")
@pytest.mark.skip_backend("jit", reason="layers save arrays between calls")
def test_affine_and_relu_are_those_in_two_steps(backend: Backend) -> None:
    x, dy, W, b = (backend.asarray(_rng.normal(size=size)) for size in ((5, 2, 3), (5, 4), (6, 4), (4,)))
    chain, affine, relu = Chain(Affine(W, b), Relu()), Affine(W, b), Relu()
    with backend.rules():
        y = chain.forward(x)
        dx = chain.backward(dy)
        wanted = relu.forward(affine.forward(x))
        wanted_dx = affine.backward(relu.backward(dy))
    for found, expected in ((y, wanted), (dx, wanted_dx), (chain.grads["Affine1.W"], affine.dW)):
        backend.check(found, backend.to_numpy(expected))
    # also layer by layer after the passes as one, and without a gradient of the data
    alone = dy
    with backend.rules():
        for layer in reversed(chain.layers.values()):
            alone = layer.backward(alone)
        chain.backward_parameters(dy)
    backend.check(alone, backend.to_numpy(wanted_dx))
    backend.check(chain.grads["Affine1.b"], backend.to_numpy(affine.db))


def test_layers_that_are_put_in_later_compute() -> None:
    x = np.array([[-1.0, 2.0]])
    chain = Chain(Affine(np.eye(2)), Relu())
    np.testing.assert_array_equal(chain.forward(x), [[0, 2]])
    chain.layers["Relu1"] = Identity()
    np.testing.assert_array_equal(chain.forward(x), x)
    chain.layers["Affine1"] = Affine(2 * np.eye(2))
    np.testing.assert_array_equal(chain.forward(x), 2 * x)


@pytest.mark.backends("values")
@pytest.mark.skip_backend("jit", reason="layers save arrays between calls")
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("use_bias", [True, False])
def test_convolution_batch_normalization_and_relu_are_those_in_three_steps(
    backend: Backend, use_bias: bool, training: bool
) -> None:
    rng = np.random.default_rng(5)
    x, dy = (backend.asarray(rng.normal(size=(3, 2, 4, 5))) for _ in range(2))
    weights = [backend.asarray(rng.normal(size=size)) for size in ((2, 2, 3, 3), (2,), (2,), (2,), (2,), (2,))]
    W, b, gamma, beta, mean, root = weights
    chain, by_hand = (
        Chain(
            Convolution(W, b if use_bias else None, pad=1),
            BatchNormalization(gamma, beta, running_mean=mean, running_var=backend.xp.multiply(root, root), eps=1e-3),
            Relu(),
        )
        for _ in range(2)
    )
    with backend.rules():
        y = chain.forward(x, training)
        dx = chain.backward(dy)
        convolution, normalization, relu = by_hand.layers.values()
        wanted = relu.forward(normalization.forward(convolution.forward(x), training))
        wanted_dx = convolution.backward(normalization.backward(relu.backward(dy)))
    backend.check(y, backend.to_numpy(wanted))
    backend.check(dx, backend.to_numpy(wanted_dx))
    assert list(chain.grads) == list(by_hand.grads)
    for name, grad in by_hand.grads.items():
        backend.check(chain.grads[name], backend.to_numpy(grad))
    for name, statistics in by_hand.buffers.items():
        backend.check(chain.buffers[name], backend.to_numpy(statistics))
    alone = dy
    with backend.rules():
        for layer in reversed(chain.layers.values()):
            alone = layer.backward(alone)
    backend.check(alone, backend.to_numpy(wanted_dx))


def test_evaluation_folds_the_statistics_into_the_filters(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **epilogue: object) -> None:
        raise AssertionError("normalised by itself")

    net = Chain(Convolution(filters=3, size=3), BatchNormalization(), Relu())
    x = _rng.normal(size=(2, 2, 5, 5))
    net.build(x.shape[1:])
    monkeypatch.setattr(normalization, "normalize", refuse)
    y = net.forward(x, False)
    # and its saved state goes with a copy
    dx = pickle.loads(pickle.dumps(net)).backward(np.ones_like(y))
    np.testing.assert_array_equal(net.backward(np.ones_like(y)), dx)
    # statistics of each activation are none of a filter
    each = Chain(Convolution(np.ones((3, 2, 3, 3))), BatchNormalization(np.ones(27)), Relu())
    with pytest.raises(AssertionError, match="normalised by itself"):
        each.forward(x, False)


@pytest.mark.parametrize("name", ["Convolution1", "Relu1", "Pooling1", "Residual1", "Relu2"])
def test_each_layer_is_called_without_fusion(name: str) -> None:
    body = Residual(Convolution(np.ones((3, 3, 1, 1))), BatchNormalization())
    chain = Chain(Convolution(np.ones((3, 2, 3, 3))), Relu(), Pooling(2, 2), body, Relu())
    x, dout = _rng.normal(size=(4, 2, 6, 6)), _rng.normal(size=(4, 3, 2, 2))
    y, dx = chain.forward(x), chain.backward(dout)
    chain.fuse = False
    assert chain.steps() == tuple(chain.layers.values())
    layer, calls = chain.layers[name], []
    forward, backward = layer.forward, layer.backward
    layer.forward = lambda *args: calls.append("forward") or forward(*args)  # type: ignore[method-assign, func-returns-value]
    layer.backward = lambda dout: calls.append("backward") or backward(dout)  # type: ignore[method-assign, func-returns-value]
    np.testing.assert_allclose(chain.forward(x), y)
    np.testing.assert_allclose(chain.backward(dout), dx)
    assert calls == ["forward", "backward"]
