"""Arrays that PyTorch differentiates and JAX traces: xpdl keeps their values, and no graph or tracer of theirs."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import xpdl
from tests.layers.table import ROWS, Row
from tests.optimizers.roster import Rule, each_rule
from tests.pairs import as_tuple
from xpdl import data, functional, layers, models, optimizers
from xpdl.backends.graphs import detached
from xpdl.backends.namespaces import is_writable
from xpdl.layers.base import Layer
from xpdl.training import EMA, Trainer


def leaf(torch: Any, a: Any) -> Any:
    """A tensor that asks for a gradient."""
    made = torch.tensor(np.asarray(a))
    return made.requires_grad_() if made.is_floating_point() else made


def middle(torch: Any, a: Any) -> Any:
    """A tensor in the middle of a graph."""
    made = leaf(torch, a)
    return made * 1.0 if made.requires_grad else made


def hangs(a: Any) -> bool:
    return bool(getattr(a, "requires_grad", False))


@pytest.mark.parametrize("make", [leaf, middle])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_no_layer_gives_or_keeps_what_hangs_on_a_graph(torch: Any, row: Row, make: Callable[[Any, Any], Any]) -> None:
    """The parameters, which hang on nothing but themselves, stay the objects that they were."""
    params = {name: leaf(torch, a) for name, a in row.params.items()}
    constants = {name: make(torch, a) for name, a in row.constants.items()}
    layer = row.make({**params, **constants})
    y = layer.forward(*(make(torch, a) for a in row.inputs))
    dx = as_tuple(layer.backward(make(torch, np.ones(tuple(y.shape)))))
    assert not any(map(hangs, (y, *dx, *getattr(layer, "grads", {}).values())))
    for name, p in params.items():
        assert layer.params[name] is p and p.requires_grad
    inside = {name: value for name, value in vars(layer).items() if name not in ("params", "state")}
    assert not [name for name, value in inside.items() if hangs(value)]


def test_every_layer_is_in_the_table() -> None:
    exported = {getattr(layers, name) for name in layers.__all__}
    bases = {layers.LossLayer, Layer, layers.Chain, layers.Residual}
    assert exported - bases <= {type(row.make(row.params | row.constants)) for row in ROWS}


def test_a_layer_of_ones_own_is_cut_off_too(torch: Any) -> None:
    class Scale(Layer):
        def forward(self, x: Any) -> Any:
            self.x = x
            return x * self.params["s"]

        def backward(self, dout: Any) -> Any:
            self.grads = {"s": (dout * self.x).sum()}
            return dout * self.params["s"]

    layer = Scale()
    layer.params["s"] = torch.nn.Parameter(torch.tensor(2.0))
    y = layer.forward(x=leaf(torch, [1.0, 3.0]))
    assert y.tolist() == [2.0, 6.0] and not hangs(y) and not hangs(layer.x)
    assert not hangs(layer.backward(dout=leaf(torch, [1.0, 1.0]))) and not hangs(layer.grads["s"])


def network(**options: Any) -> Any:
    stack = [layers.Affine(units=8), layers.BatchNormalization(), layers.Relu(), layers.Affine(units=3)]
    return models.Sequential(*stack, loss=layers.SoftmaxWithLoss, seed=0, **options)


def test_memory_is_flat_over_a_thousand_steps(torch: Any) -> None:
    def megabytes() -> float:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

    with xpdl.use("torch"):
        x, t = torch.randn(64, 32, requires_grad=True), torch.randint(0, 3, (64,))
        net, adam = network(), optimizers.Adam()
        found = []
        for step in range(1001):
            adam.update(net.params, net.gradient(x, t))
            if step in (100, 1000):
                found.append(megabytes())
    # a graph takes more than 20 kB a step here
    assert found[1] - found[0] < 10
    assert not any(map(hangs, (*net.params.values(), *net.buffers.values(), *adam.m.values(), *adam.v.values())))


@each_rule
def test_parameters_of_torch_are_updated_in_place(torch: Any, rule: Rule) -> None:
    host, g = np.array([0.5, -1.0, 2.0]), np.array([0.1, 0.2, -0.3])
    module, plain = torch.nn.Linear(3, 1, bias=False).double(), {"W": host.copy()}
    with torch.no_grad():
        module.weight[...] = torch.tensor(host)
    W = module.weight
    params, one, other = {"W": W}, rule.make(clip_norm=0.2, max_norm=1.5), rule.make(clip_norm=0.2, max_norm=1.5)
    for _ in range(3):
        one.update(params, {"W": middle(torch, g[None])})
        other.update(plain, {"W": g})
        assert params["W"] is W is module.weight and W.requires_grad and W.is_leaf
    np.testing.assert_allclose(W.detach().numpy()[0], plain["W"], rtol=1e-12)
    assert not any(hangs(a) for kind in rule.cls.state_names for a in getattr(one, kind).values())
    module(torch.ones(1, 3).double()).sum().backward()
    assert W.grad is not None


def test_a_module_and_a_layer_share_a_parameter(torch: Any) -> None:
    module = torch.nn.Linear(4, 3)
    net = models.Sequential(layers.Affine(module.weight.T, module.bias), loss=layers.SoftmaxWithLoss)
    x, t = torch.randn(8, 4), torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])
    for _ in range(3):
        optimizers.SGD(0.1).update(net.params, net.gradient(x, t))
    assert net.params["Affine1.b"] is module.bias
    torch.testing.assert_close(net.predict(x), module(x).detach())


def test_tensors_that_cannot_be_written_to_are_rebound(torch: Any) -> None:
    with torch.inference_mode():
        frozen = torch.ones(3)
    for p in (frozen, torch.ones(1).expand(3)):
        assert not is_writable(p)
        params, optimizer = {"W": p}, optimizers.Momentum(0.5)
        for _ in range(2):
            optimizer.update(params, {"W": torch.ones(3)})
        assert params["W"] is not p and optimizer.iter == 2
        np.testing.assert_allclose(params["W"].numpy(), 1 - 0.5 - 0.95)


def test_empty_tensors_are_writable_whatever_their_strides(torch: Any) -> None:
    empty = torch.empty(0).as_strided((0, 3), (0, 0))
    assert empty.stride() == (0, 0) and is_writable(empty) and not is_writable(torch.ones(1).expand(3))


def test_a_step_that_fails_changes_nothing(torch: Any) -> None:
    class Failing(optimizers.Momentum):
        def step(self, p: Any, g: Any, *memory: Any) -> Any:
            if tuple(p.shape) == (2,):
                raise RuntimeError("out of memory")
            return super().step(p, g, *memory)

    for make in (np.ones, torch.ones):
        params, optimizer = {"W": make(3), "b": make(2)}, Failing()
        kept = dict(params)
        with pytest.raises(RuntimeError, match="out of memory"):
            optimizer.update(params, {"W": make(3), "b": make(2)})
        assert optimizer.iter == 0 and optimizer.v == {}
        assert all(params[name] is p and bool((p == 1).all()) for name, p in kept.items())


def test_conversions_and_views_give_values(torch: Any) -> None:
    x = leaf(torch, np.ones((4, 3)))
    with xpdl.use("torch", dtype="float64"), warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not hangs(xpdl.asarray(x)) and not hangs(xpdl.asarray(torch.nn.Parameter(x.detach())))
        net = network()
        net.build((3,))
        assert not hangs(net.predict(x)) and not hangs(net.loss(x, torch.tensor([0, 1, 2, 0])))
        for _ in range(3):
            for name, p in net.params.items():
                net.params[name] = p.requires_grad_() * 0.5
        assert not any(map(hangs, net.params.values()))
        net.layers["Affine1"].W = net.params["Affine1.W"].requires_grad_() * 2.0
        assert not hangs(net.params["Affine1.W"])
        assert not any(map(hangs, net.state_dict().values()))
        net.load_state_dict({name: leaf(torch, a) for name, a in net.state_dict().items()})
        assert not any(map(hangs, net.params.values()))
    for batch in data.Batches(x, torch.arange(4), 2):
        assert not any(map(hangs, batch))


def test_a_trainer_takes_tensors_and_parameters_that_ask_for_gradients(torch: Any) -> None:
    x, t = torch.randn(40, 5, requires_grad=True), torch.randint(0, 3, (40,))
    with xpdl.use("torch"):
        net = network()
        net.build((5,))
        for p in net.params.values():
            p.requires_grad_()
        kept, average = dict(net.params), EMA(0.9)
        trainer = Trainer(
            net, x, t, x, t, epochs=2, mini_batch_size=8, accumulate_grad_batches=2, verbose=False, callbacks=[average]
        )
        trainer.train()
    assert all(net.params[name] is p for name, p in kept.items())
    assert not any(map(hangs, (*average.average.values(), *net.buffers.values(), trainer.x_train)))


def test_weight_decay_of_a_network_is_cut_off(torch: Any) -> None:
    with xpdl.use("torch"):
        net = models.MultiLayerNet(4, [5], 3, weight_decay_lambda=0.1, seed=0)
    for p in net.params.values():
        p.requires_grad_()
    grads = net.gradient(torch.randn(6, 4), torch.tensor([0, 1, 2] * 2))
    assert not any(map(hangs, grads.values())) and not hangs(net.last_loss)


def test_numerical_gradients_are_values(torch: Any) -> None:
    x = leaf(torch, [3.0, 4.0])
    g = functional.numerical_gradient(lambda x: (x * x).sum(), x)
    np.testing.assert_allclose(g.numpy(), [6.0, 8.0], rtol=1e-6)
    end = functional.gradient_descent(lambda x: (x * x).sum(), x, lr=0.1, step_num=3)
    assert not hangs(g) and not hangs(end) and x.is_leaf and x.tolist() == [3.0, 4.0]


def test_pure_functions_stay_differentiable(torch: Any) -> None:
    x = leaf(torch, [[1.0, 2.0, 0.5]])
    functional.softmax_cross_entropy(x, torch.tensor([1])).backward()
    want = functional.softmax(detached(x)) - torch.tensor([[0.0, 1.0, 0.0]])
    torch.testing.assert_close(x.grad, want)


# --- JAX


def test_layers_run_traced_where_nothing_is_kept(jax: Any) -> None:
    net = network()
    with xpdl.use("jax"):
        net.build((4,))
        x = xpdl.asarray(np.random.default_rng(0).normal(size=(6, 4)))
    np.testing.assert_allclose(jax.jit(net.predict)(x), net.predict(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("transform", ["jit", "grad"])
def test_traced_values_do_not_become_running_statistics(jax: Any, transform: str) -> None:
    with xpdl.use("jax"):
        layer = layers.BatchNormalization()
        layer.build((4,))
        x = xpdl.asarray(np.random.default_rng(0).normal(size=(6, 4)))
    before = dict(layer.state)
    run = getattr(jax, transform)(lambda x: layer.forward(x, True).sum())
    with pytest.raises(TypeError, match="BatchNormalization: running statistics would be replaced by values that JAX"):
        run(x)
    assert all(layer.state[key] is value for key, value in before.items())
    layer.forward(x, True)


def test_an_update_does_not_keep_traced_values(jax: Any) -> None:
    W = jax.numpy.ones(3)
    optimizer, params = optimizers.Adam(), {"W": W}

    def step(g: Any) -> Any:
        optimizer.update(params, {"W": g})
        return params["W"]

    with pytest.raises(TypeError, match="Adam: parameter 'W' would be replaced by values that JAX traces"):
        jax.jit(step)(W)

    def outside(p: Any, g: Any) -> Any:
        own = {"W": p}
        optimizer.update(own, {"W": g})
        return own["W"]

    message = "Adam: the state of parameter 'W' would be replaced by values that JAX"
    with pytest.raises(TypeError, match=message):
        jax.jit(outside)(W, W)
    assert optimizer.iter == 0 and params["W"] is W and not optimizer.m
    optimizer.update(params, {"W": W})
    with pytest.raises(TypeError, match=message):
        jax.jit(outside)(W, W)
    assert optimizer.iter == 1


def test_an_optimizer_made_in_a_traced_function_lives_in_it(jax: Any) -> None:
    made = []

    def step(p: Any, g: Any) -> Any:
        optimizer, params = optimizers.Adam(), {"W": p}
        made.append(optimizer)
        for _ in range(2):
            optimizer.update(params, {"W": g})
        return params["W"]

    W = jax.numpy.ones(3)
    found, params = jax.jit(step)(W, W), {"W": W}
    other = optimizers.Adam()
    for _ in range(2):
        other.update(params, {"W": W})
    np.testing.assert_allclose(found, params["W"], rtol=1e-6)
    with pytest.raises(TypeError, match="Adam: the state of parameter 'W' was computed in a function that JAX traced"):
        made[0].update({"W": W}, {"W": W})


# --- subclasses of NumPy's array


@pytest.mark.parametrize(
    ("call", "owner"),
    [
        (lambda a: functional.softmax(a), "softmax"),
        (lambda a: functional.softmax_cross_entropy(np.ones((2, 2)), a), "softmax_cross_entropy"),
        (lambda a: layers.Relu().forward(a), "Relu"),
        (lambda a: layers.Affine(units=2).forward(a), "Affine"),
        (lambda a: layers.Affine(a), "Affine"),
        (lambda a: layers.Affine(np.ones((2, 2))).forward(a), "Affine"),
        (lambda a: optimizers.SGD().update({"W": a}, {"W": np.ones((2, 2))}), "SGD"),
        (lambda a: optimizers.SGD().update({"W": np.ones((2, 2))}, {"W": a}), "SGD"),
    ],
)
@pytest.mark.filterwarnings("ignore:the matrix subclass")
def test_matrices_and_masked_arrays_are_refused_with_the_cure(call: Callable[[Any], Any], owner: str) -> None:
    with pytest.raises(TypeError, match=rf"{owner}.*got a matrix of NumPy; .*np\.asarray"):
        call(np.matrix([[1.0, 0.0], [0.0, 1.0]]))
    with pytest.raises(TypeError, match=rf"{owner}.*got a masked array; .*\.filled"):
        call(np.ma.masked_invalid([[1.0, np.nan], [0.0, 1.0]]))


@pytest.mark.filterwarnings("ignore:the matrix subclass")
def test_asarray_takes_a_matrix_and_no_masked_values() -> None:
    for a in (np.matrix([[1.0, 2.0]]), np.ma.array([[1.0, 2.0]])):
        made = xpdl.asarray(a)
        assert type(made) is np.ndarray and made.tolist() == [[1.0, 2.0]]
    with pytest.raises(TypeError, match=r"asarray: some values of this array are masked; .*\.filled"):
        xpdl.asarray(np.ma.masked_invalid([1.0, np.nan]))
    x, t = np.ma.masked_less(np.ones((4, 2)) * [[0], [1], [1], [1]], 0.5), np.array([0, 1, 0, 1])
    with pytest.raises(TypeError, match="masked"):
        Trainer(network(), x, t, x, t, verbose=False)
