"""Steps in pieces are the steps of whole arrays, bit for bit, for every rule."""

import numpy as np
import pytest

from xpdl import SGD, AdaDelta, AdaGrad, Adam, AdamW, Momentum, Nesterov, Optimizer, RMSprop
from xpdl.backends import dispatch
from xpdl.backends.numpy import optimizers as kernels

RULES = [SGD, AdaDelta, AdaGrad, Adam, AdamW, Momentum, Nesterov, RMSprop]
SIZE = 2 * kernels._TASK_SIZE + kernels._PIECE + 17


def trained(rule, steps=3, **options):
    rng = np.random.default_rng(0)
    params = {"W": rng.normal(size=(SIZE,)).astype(np.float32), "b": rng.normal(size=5).astype(np.float32)}
    optimizer = rule(0.01, **options)
    for _ in range(steps):
        grads = {name: rng.normal(size=p.shape).astype(np.float32) for name, p in params.items()}
        optimizer.update(params, grads)
    return params, optimizer.state_dict()


@pytest.mark.parametrize("options", [{}, {"max_norm": 0.5, "clip_norm": 1.0}], ids=str)
@pytest.mark.parametrize("rule", RULES)
def test_every_rule_gives_the_same_bits(rule, options):
    params, state = trained(rule, **options)
    with dispatch.generic_only():
        expected, expected_state = trained(rule, **options)
    for name, value in expected.items():
        np.testing.assert_array_equal(params[name], value)
    for kind in rule.memory:
        for name, value in expected_state[kind].items():
            np.testing.assert_array_equal(state[kind][name], value)


def test_is_called_in_place_and_generic_only_switches_it_off(monkeypatch):
    calls = []
    run = kernels.threads.run
    monkeypatch.setattr(kernels.threads, "run", lambda tasks: calls.append(len(tasks)) or run(tasks))
    W = np.ones(SIZE, np.float32)
    params = {"W": W, "b": np.ones(5, np.float32)}
    Adam().update(params, {"W": W.copy(), "b": np.ones(5, np.float32)})
    assert calls == [3] and params["W"] is W and W[0] != 1
    with dispatch.generic_only():
        Adam().update(params, {"W": W.copy(), "b": np.ones(5, np.float32)})
    assert calls == [3]


def test_gradients_are_not_modified():
    grads = {"W": np.ones(SIZE, np.float32)}
    grads["W"].flags.writeable = False
    Adam().update({"W": np.ones(SIZE, np.float32)}, grads)


@pytest.mark.parametrize("make", [lambda a: a.reshape(2, -1).T, lambda a: np.repeat(a, 2)[::2]])
def test_other_memory_orders_are_left_to_the_generic_step(make):
    even = np.ones(2 * kernels._TASK_SIZE, np.float32)
    params = {"W": make(even)}
    Adam(0.1).update(params, {"W": np.ones(params["W"].shape, np.float32)})
    np.testing.assert_allclose(params["W"], 0.9, rtol=1e-4)


def test_read_only_parameters_are_rebound():
    W = np.ones(SIZE, np.float32)
    W.flags.writeable = False
    params = {"W": W}
    SGD(0.5).update(params, {"W": np.ones(SIZE, np.float32)})
    assert W[0] == 1 and params["W"][0] == 0.5


def test_rule_that_is_not_elementwise_sees_whole_arrays():
    class Normed(Adam):
        """Divides by the norm of the gradient."""

        def step(self, p, g, *memory):
            seen.append(g.shape)
            return (p - self.lr * g / np.linalg.norm(g), *memory)

    seen = []
    assert not Normed.elementwise and not Optimizer.elementwise
    Normed().update({"W": np.ones(SIZE, np.float32)}, {"W": np.ones(SIZE, np.float32)})
    assert seen == [(SIZE,)]
