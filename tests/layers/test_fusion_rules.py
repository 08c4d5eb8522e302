"""Every rule of fusion against the same layers called one by one."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest

import xpdl
from tests.harness import Backend, nonempty
from xpdl.layers import Affine, BatchNormalization, Chain, Convolution, Identity, Pooling, Relu, Residual
from xpdl.layers.base import Layer
from xpdl.layers.fusion import RULES, FusedStep, fuse
from xpdl.models import Sequential

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


def chain(kinds: tuple[type[Layer], ...], fuse: bool) -> Chain:
    return Chain(*(MAKE[kind]() for kind in kinds), fuse=fuse)


def pair(backend: Backend, kinds: tuple[type[Layer], ...]) -> tuple[Chain, Chain]:
    """A fused chain and one of the same parameters and statistics that is not."""
    with xpdl.use("numpy", dtype="float64"):
        fused = chain(kinds, True)
        fused.build(SHAPE[1:], stream=xpdl.backends.random.Stream(3))
    single = chain(kinds, False)
    single.build(SHAPE[1:])
    rng = np.random.default_rng(5)
    for name in fused.params:
        fused.params[name] = backend.asarray(rng.normal(size=fused.params[name].shape))
        single.params[name] = backend.asarray(backend.to_numpy(fused.params[name]))
    for name in fused.buffers:
        fused.buffers[name] = backend.asarray(np.abs(rng.normal(size=fused.buffers[name].shape)) + 0.5)
        single.buffers[name] = backend.asarray(backend.to_numpy(fused.buffers[name]))
    return fused, single


@pytest.mark.backends("values")
@pytest.mark.skip_backend("jit", reason="layers remember arrays between calls")
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kinds", KINDS, ids=IDS)
def test_is_that_of_its_layers(backend: Backend, kinds: tuple[type[Layer], ...], training: bool) -> None:
    fused, single = pair(backend, kinds)
    assert [type(step) for step in fused.steps()] == [FusedStep]
    assert single.steps() == tuple(single.layers.values())
    rng = np.random.default_rng(0)
    x = backend.asarray(rng.normal(size=SHAPE))
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
        fused.backward_parameters(dout)
    for name, grad in grads.items():
        backend.check(fused.grads[name], grad)
    by_hand = dout
    with backend.rules():
        for layer in reversed(fused.layers.values()):
            by_hand = layer.backward(by_hand)
    backend.check(by_hand, backend.to_numpy(wanted_dx))


@pytest.mark.parametrize("kinds", KINDS, ids=IDS)
def test_gradients_are_those_of_differences(kinds: tuple[type[Layer], ...]) -> None:
    with xpdl.use("numpy", dtype="float64"):
        net = chain(kinds, True)
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


def test_passes_survive_a_copy_between_forward_and_backward() -> None:
    for kinds in nonempty(KINDS):
        fused = chain(kinds, True)
        y = fused.forward(np.random.default_rng(0).normal(size=SHAPE), False)
        dout = np.random.default_rng(1).normal(size=y.shape)
        np.testing.assert_array_equal(copy.deepcopy(fused).backward(dout), fused.backward(dout))
