"""Layers computed as one: every rule against the same layers called one by one, and what the layers are left with."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import numpy as np
import pytest

import xpdl
from tests.harness import Backend, nonempty
from xpdl.errors import ShapeError
from xpdl.layers import Affine, BatchNormalization, Chain, Convolution, Identity, Pooling, Relu, Residual
from xpdl.layers.base import Layer
from xpdl.layers.fusion import RULES, FusedStep, fuse
from xpdl.models import Sequential
from xpdl.ops import activations, normalization

MAKE: dict[type[Layer], Callable[[], Layer]] = {
    Affine: lambda: Affine(units=4),
    Convolution: lambda: Convolution(filters=3, size=2, pad=1),
    BatchNormalization: lambda: BatchNormalization(eps=1e-2),
    Pooling: lambda: Pooling(2, 2, 1),
    Relu: Relu,
    Residual: lambda: Residual(Convolution(filters=2, size=1), BatchNormalization(eps=1e-2)),
}
KINDS = list(RULES)
IDS = [" ".join(kind.__name__ for kind in kinds) for kinds in KINDS]
SHAPE = (4, 2, 3, 5)

Make = Callable[[], list[Layer]]


def layers_of(kinds: tuple[type[Layer], ...]) -> Make:
    return lambda: [MAKE[kind]() for kind in kinds]


#: groups of layers and the shape of their input: one for each rule, and other forms of some
GROUPS: dict[str, tuple[Make, tuple[int, ...]]] = {
    **{name: (layers_of(kinds), SHAPE) for name, kinds in zip(IDS, KINDS, strict=True)},
    "Affine Relu of rows": (layers_of((Affine, Relu)), (5, 6)),
    "BatchNormalization Relu of rows": (layers_of((BatchNormalization, Relu)), (6, 3)),
    "BatchNormalization Relu of each activation": (
        lambda: [BatchNormalization(np.ones(12), np.zeros(12), eps=1e-3), Relu()],
        (3, 2, 2, 3),
    ),
    "Convolution BatchNormalization Relu without bias": (
        lambda: [Convolution(filters=2, size=3, use_bias=False), BatchNormalization(eps=1e-3), Relu()],
        SHAPE,
    ),
    "Residual Relu with a shortcut": (
        lambda: [
            Residual(
                Convolution(filters=3, size=3, pad=1),
                BatchNormalization(eps=1e-3),
                shortcut=Convolution(filters=3, size=1),
            ),
            Relu(),
        ],
        SHAPE,
    ),
    "Residual Relu with a convolution last": (
        lambda: [Residual(Convolution(filters=2, size=3, pad=1)), Relu()],
        SHAPE,
    ),
}
# signals and volumes, by each rule of layers with windows
for _shape, _size in (((4, 2, 6), (2,)), ((3, 2, 3, 2, 3), (2, 1, 2))):
    _axes = f"over {len(_size)} axes"
    GROUPS |= {
        f"Convolution Relu {_axes}": (
            lambda size=_size: [Convolution(filters=3, size=size, pad="same"), Relu()],
            _shape,
        ),
        f"Convolution BatchNormalization Relu {_axes}": (
            lambda size=_size: [Convolution(filters=3, size=size), BatchNormalization(eps=1e-2), Relu()],
            _shape,
        ),
        f"BatchNormalization Relu {_axes}": (lambda: [BatchNormalization(eps=1e-2), Relu()], _shape),
        f"Relu Pooling {_axes}": (lambda size=_size: [Relu(), Pooling(size=size, stride=1, pad="same")], _shape),
        f"Residual Relu {_axes}": (
            lambda size=_size: [Residual(Convolution(filters=2, size=size, pad="same"), BatchNormalization()), Relu()],
            _shape,
        ),
    }


def pair(backend: Backend, make: Make, shape: tuple[int, ...]) -> tuple[Chain, Chain]:
    """A fused chain and one of the same parameters and statistics that is not."""
    with xpdl.use("numpy", dtype="float64"):
        fused, single = Chain(*make()), Chain(*make(), fuse=False)
        for net in (fused, single):
            net.build(shape[1:], stream=xpdl.backends.random.Stream(3))
    rng = np.random.default_rng(5)
    for name in fused.params:
        fused.params[name] = backend.asarray(rng.normal(size=fused.params[name].shape))
        single.params[name] = backend.asarray(backend.to_numpy(fused.params[name]))
    for name in fused.buffers:
        fused.buffers[name] = backend.asarray(np.abs(rng.normal(size=fused.buffers[name].shape)) + 0.5)
        single.buffers[name] = backend.asarray(backend.to_numpy(fused.buffers[name]))
    return fused, single


@pytest.mark.backends("values")
@pytest.mark.skip_backend("jit", reason="layers save arrays between calls")
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("make", "shape"), GROUPS.values(), ids=GROUPS)
def test_is_that_of_its_layers(backend: Backend, make: Make, shape: tuple[int, ...], training: bool) -> None:
    fused, single = pair(backend, make, shape)
    assert [type(step) for step in fused.steps()] == [FusedStep]
    assert single.steps() == tuple(single.layers.values())
    rng = np.random.default_rng(0)
    x = backend.asarray(rng.normal(size=shape))
    with backend.rules():
        y, wanted = fused.forward(x, training), single.forward(x, training)
        dout = backend.asarray(rng.normal(size=tuple(y.shape)))
        dx, wanted_dx = fused.backward(dout), single.backward(dout)
    backend.check(y, backend.to_numpy(wanted))
    backend.check(dx, backend.to_numpy(wanted_dx))
    assert list(fused.grads) == list(single.grads)
    for name, grad in single.grads.items():
        backend.check(fused.grads[name], backend.to_numpy(grad))
    for name, value in single.buffers.items():
        backend.check(fused.buffers[name], backend.to_numpy(value))
    grads = {name: backend.to_numpy(grad) for name, grad in single.grads.items()}
    # also without a gradient of the data, and layer by layer, as the book's nets go back
    with backend.rules():
        fused.forward(x, training)
        fused.backward_parameters(dout)
    for name, grad in grads.items():
        backend.check(fused.grads[name], grad)
    by_hand = dout
    with backend.rules():
        fused.forward(x, training)
        for layer in reversed(fused.layers.values()):
            by_hand = layer.backward(by_hand)
    backend.check(by_hand, backend.to_numpy(wanted_dx))


@pytest.mark.parametrize("kinds", KINDS, ids=IDS)
def test_gradients_are_those_of_differences(kinds: tuple[type[Layer], ...]) -> None:
    with xpdl.use("numpy", dtype="float64"):
        net = Chain(*layers_of(kinds)())
        net.build(SHAPE[1:], stream=xpdl.backends.random.Stream(1))
    report = xpdl.check_gradients(net, np.random.default_rng(2).normal(size=SHAPE))
    assert set(report.errors) >= set(net.params)


def test_the_longest_group_and_the_last_of_two_that_overlap_win() -> None:
    kinds = Convolution, BatchNormalization, Relu, Pooling, Affine, Relu, Convolution, BatchNormalization, Relu
    steps = fuse([MAKE[kind]() for kind in kinds])
    found = [[type(layer) for layer in step.layers] if isinstance(step, FusedStep) else type(step) for step in steps]
    assert found == [
        Convolution,
        BatchNormalization,
        [Relu, Pooling],
        [Affine, Relu],
        [Convolution, BatchNormalization, Relu],
    ]


def test_steps_follow_the_layers_and_the_option() -> None:
    net = Chain(Affine(units=2), Relu())
    assert net.steps() is net.steps()
    net.fuse = False
    assert net.steps() == tuple(net.layers.values())
    net.fuse = True
    net.layers["Relu1"] = Identity()
    assert net.steps() == tuple(net.layers.values())


@pytest.mark.parametrize("fused", [True, False])
def test_option_reaches_a_block_and_goes_into_a_file(fused: bool, tmp_path) -> None:
    block = Residual(Convolution(filters=2, size=1), Relu(), fuse=fused)
    net = Sequential(block, Relu(), loss=xpdl.SoftmaxWithLoss, fuse=fused)
    assert isinstance(block.body.steps()[0], FusedStep) == isinstance(net.steps()[0], FusedStep) == fused
    net.build(SHAPE[1:])
    net.save(tmp_path / "net")
    again = xpdl.load_model(tmp_path / "net")
    assert again.fuse == again.layers["Residual1"].body.fuse == fused


def test_a_copy_is_fused_and_needs_a_forward_of_its_own() -> None:
    for kinds in nonempty(KINDS):
        fused = Chain(*layers_of(kinds)())
        x = np.random.default_rng(0).normal(size=SHAPE)
        dout = np.random.default_rng(1).normal(size=fused.forward(x, False).shape)
        for other in (copy.deepcopy(fused), pickle.loads(pickle.dumps(fused))):
            assert sum(isinstance(step, FusedStep) for step in other.steps()) > 0
            with pytest.raises(RuntimeError, match="backward needs a forward first"):
                other.backward(dout)
            fused.forward(x, False)
            other.forward(x, False)
            np.testing.assert_array_equal(other.backward(dout), fused.backward(dout))


def test_relu_is_not_computed_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(x: object) -> None:
        raise AssertionError("relu by itself")

    monkeypatch.setattr(activations, "relu", refuse)
    chain = Chain(BatchNormalization(), Relu())
    assert chain.forward(np.random.default_rng(7).normal(size=(4, 3, 2, 2))).min() == 0
    with pytest.raises(AssertionError, match="relu by itself"):
        Chain(_Doubled(), Relu()).forward(np.random.default_rng(7).normal(size=(4, 3)))


class _Doubled(BatchNormalization):
    """Its `forward_fused` is that of the class it derives from, and would not double."""

    def forward(self, x: np.ndarray, train_flg: bool | None = None) -> np.ndarray:
        return 2 * super().forward(x, train_flg)


def test_a_derived_layer_computes_its_own() -> None:
    x = np.random.default_rng(7).normal(size=(4, 3))
    np.testing.assert_array_equal(Chain(_Doubled(), Relu()).forward(x), np.maximum(_Doubled().forward(x), 0))


def test_errors_name_the_layer() -> None:
    chain = Chain(BatchNormalization(), Relu())
    with pytest.raises(RuntimeError, match="Relu1: backward needs a forward first"):
        chain.backward(np.ones((2, 3)))
    chain.forward(np.ones((2, 3)))
    with pytest.raises(ShapeError, match=r"Relu1: dout must have the shape of the output, \(2, 3\)"):
        chain.backward(np.ones((2, 4)))


def test_a_block_without_layers_takes_a_relu() -> None:
    x = np.random.default_rng(7).normal(size=(3, 2))
    np.testing.assert_array_equal(Chain(Residual(), Relu()).forward(x), np.maximum(2 * x, 0))


def test_layers_that_are_put_in_later_compute() -> None:
    x = np.array([[-1.0, 2.0]])
    chain = Chain(Affine(np.eye(2)), Relu())
    np.testing.assert_array_equal(chain.forward(x), [[0, 2]])
    chain.layers["Relu1"] = Identity()
    np.testing.assert_array_equal(chain.forward(x), x)
    chain.layers["Affine1"] = Affine(2 * np.eye(2))
    np.testing.assert_array_equal(chain.forward(x), 2 * x)


def test_evaluation_folds_the_statistics_into_the_filters(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **epilogue: object) -> None:
        raise AssertionError("normalised by itself")

    net = Chain(Convolution(filters=3, size=3), BatchNormalization(), Relu())
    x = np.random.default_rng(7).normal(size=(2, 2, 5, 5))
    net.build(x.shape[1:])
    each = copy.deepcopy(net)
    each.fuse = False
    dout = np.random.default_rng(8).normal(size=each.forward(x, False).shape)
    monkeypatch.setattr(normalization, "normalize", refuse)
    net.forward(x, False)
    np.testing.assert_allclose(net.backward(dout), each.backward(dout), rtol=1e-12)
    # statistics of each activation are none of a filter
    each = Chain(Convolution(np.ones((3, 2, 3, 3))), BatchNormalization(np.ones(27)), Relu())
    with pytest.raises(AssertionError, match="normalised by itself"):
        each.forward(x, False)


@pytest.mark.parametrize("name", ["Convolution1", "Relu1", "Pooling1", "Residual1", "Relu2"])
def test_each_layer_is_called_without_fusion(name: str) -> None:
    body = Residual(Convolution(np.ones((3, 3, 1, 1))), BatchNormalization())
    chain = Chain(Convolution(np.ones((3, 2, 3, 3))), Relu(), Pooling(2, 2), body, Relu())
    x, dout = np.random.default_rng(7).normal(size=(4, 2, 6, 6)), np.random.default_rng(7).normal(size=(4, 3, 2, 2))
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
