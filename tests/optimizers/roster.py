"""Every optimizer with independent numbers: loops over Python floats, written from the papers and not from the code.

Where a paper's form differs from the one computed, the paper's is here: Nesterov looks ahead from a position, running
means are sums over the whole history, Adam's are corrected one by one.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from tests.harness import Backend
from xpdl import optimizers
from xpdl.optimizers import Optimizer

# the values of one number after each step, from its start and its gradients
Oracle = Callable[..., Iterator[float]]


@dataclasses.dataclass(frozen=True)
class Rule:
    """An optimizer class, hyper-parameters other than its defaults, its oracle, and the one of torch.optim.

    `torch` is the class's name and arguments that make PyTorch compute the same formula.
    """

    cls: type[Optimizer]
    oracle: Oracle
    hyper_parameters: dict[str, float]
    torch: tuple[str, dict[str, Any]]

    def make(self, **more: Any) -> Optimizer:
        return self.cls(**{**self.hyper_parameters, **more})

    @property
    def id(self) -> str:
        return self.cls.__name__


def _mean(terms: Sequence[float], decay: float) -> float:
    """The running mean that starts at 0, written out."""
    last = len(terms) - 1
    return (1 - decay) * math.fsum(decay ** (last - i) * term for i, term in enumerate(terms))


def _sgd(p: float, gradients: Sequence[float], lr: float) -> Iterator[float]:
    for g in gradients:
        p -= lr * g
        yield p


def _momentum(p: float, gradients: Sequence[float], lr: float, momentum: float) -> Iterator[float]:
    v = 0.0
    for g in gradients:
        v = momentum * v - lr * g
        p += v
        yield p


def nesterov(p: float, gradients: Sequence[float], lr: float, momentum: float) -> Iterator[float]:
    """The gradients are those at the points looked ahead to, which are what is yielded."""
    position, v = p, 0.0
    for g in gradients:
        v = momentum * v - lr * g
        position += v
        yield position + momentum * v


def _ada_grad(p: float, gradients: Sequence[float], lr: float, eps: float = 1e-7) -> Iterator[float]:
    for t, g in enumerate(gradients, 1):
        p -= lr * g / (math.sqrt(math.fsum(x * x for x in gradients[:t])) + eps)
        yield p


def _rmsprop(
    p: float, gradients: Sequence[float], lr: float = 0.01, decay_rate: float = 0.99, eps: float = 1e-7
) -> Iterator[float]:
    for t, g in enumerate(gradients, 1):
        p -= lr * g / (math.sqrt(_mean([x * x for x in gradients[:t]], decay_rate)) + eps)
        yield p


def _ada_delta(
    p: float, gradients: Sequence[float], lr: float = 1.0, rho: float = 0.95, eps: float = 1e-6
) -> Iterator[float]:
    steps: list[float] = []
    for t, g in enumerate(gradients, 1):
        rms_g = math.sqrt(_mean([x * x for x in gradients[:t]], rho) + eps)
        rms_step = math.sqrt(_mean([x * x for x in steps], rho) + eps)
        steps.append(-rms_step / rms_g * g)
        p += lr * steps[-1]
        yield p


def _adam(
    p: float,
    gradients: Sequence[float],
    lr: float = 0.001,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-7,
    weight_decay: float = 0.0,
) -> Iterator[float]:
    for t in range(1, len(gradients) + 1):
        p -= lr * weight_decay * p
        m = _mean(gradients[:t], beta1) / (1 - beta1**t)
        v = _mean([x * x for x in gradients[:t]], beta2) / (1 - beta2**t)
        # the book's eps stands beside the uncorrected root
        p -= lr * m / (math.sqrt(v) + eps / math.sqrt(1 - beta2**t))
        yield p


def _adam_w(
    p: float,
    gradients: Sequence[float],
    lr: float = 0.001,
    beta1: float = 0.9,
    beta2: float = 0.999,
    weight_decay: float = 0.01,
    eps: float = 1e-7,
) -> Iterator[float]:
    return _adam(p, gradients, lr, beta1, beta2, eps, weight_decay)


_BETAS = {"betas": (0.8, 0.95)}

RULES = [
    Rule(optimizers.SGD, _sgd, {"lr": 0.3}, ("SGD", {})),
    Rule(optimizers.Momentum, _momentum, {"lr": 0.2, "momentum": 0.8}, ("SGD", {"momentum": 0.8})),
    Rule(optimizers.Nesterov, nesterov, {"lr": 0.2, "momentum": 0.8}, ("SGD", {"momentum": 0.8, "nesterov": True})),
    Rule(optimizers.AdaGrad, _ada_grad, {"lr": 0.1}, ("Adagrad", {"eps": 1e-7})),
    Rule(optimizers.RMSprop, _rmsprop, {"lr": 0.02, "decay_rate": 0.9}, ("RMSprop", {"alpha": 0.9, "eps": 1e-7})),
    Rule(optimizers.AdaDelta, _ada_delta, {"lr": 0.7, "rho": 0.8}, ("Adadelta", {"rho": 0.8, "eps": 1e-6})),
    # with an eps that is lost in rounding, its place makes no difference to PyTorch
    Rule(optimizers.Adam, _adam, {"lr": 0.05, "beta1": 0.8, "beta2": 0.95}, ("Adam", _BETAS)),
    Rule(
        optimizers.AdamW,
        _adam_w,
        {"lr": 0.05, "beta1": 0.8, "beta2": 0.95, "weight_decay": 0.1},
        ("AdamW", {**_BETAS, "weight_decay": 0.1}),
    ),
]

SHAPES = {"W": (3, 4), "b": (4,), "scale": ()}


def sample(steps: int = 30, seed: int = 0) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Parameters, and gradients for each step, on the host in float64.

    The gradients are of very different sizes, so that the place of every eps shows, and some are 0 in all steps.
    """
    rng = np.random.default_rng(seed)
    params = {name: rng.standard_normal(shape) for name, shape in SHAPES.items()}
    sizes = {name: 10.0 ** rng.integers(-7, 2, shape) for name, shape in SHAPES.items()}
    sizes["W"][0, 1] = sizes["b"][2] = 0.0
    sizes["W"][0, 2], sizes["W"][2, 3] = 1e-7, 10.0
    grads = [{name: sizes[name] * rng.standard_normal(shape) for name, shape in SHAPES.items()} for _ in range(steps)]
    return params, grads


def expected(oracle: Oracle, p: Any, gradients: Sequence[Any], **hyper_parameters: float) -> Any:
    """The oracle on every element of `p`; the values after each step, stacked."""
    flat = np.stack([np.asarray(g).reshape(-1) for g in gradients])
    columns = [
        list(oracle(float(start), [float(g) for g in flat[:, i]], **hyper_parameters))
        for i, start in enumerate(np.asarray(p).reshape(-1))
    ]
    return np.array(columns).T.reshape(len(gradients), *np.shape(p))


each_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)


def moved(backend: Backend, arrays: dict[str, Any], dtype: str | None = None) -> dict[str, Any]:
    return {name: backend.asarray(a, dtype) for name, a in arrays.items()}


def values(backend: Backend, arrays: dict[str, Any]) -> dict[str, Any]:
    """On the host; of arrays without values, zeros of their shapes."""
    return {
        name: backend.to_numpy(a) if backend.spec.values else np.zeros(tuple(a.shape)) for name, a in arrays.items()
    }


def snapshot(backend: Backend, params: dict[str, Any], optimizer: Optimizer) -> dict[str, Any]:
    """Every number there is, flat."""
    found = {f"params {name}": a for name, a in values(backend, params).items()}
    for key, value in optimizer.state_dict().items():
        if isinstance(value, dict):
            found.update({f"{key} {name}": a for name, a in values(backend, value).items()})
        else:
            found[key] = value
    return found


def assert_same(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert set(found) == set(wanted)
    for name, a in wanted.items():
        np.testing.assert_array_equal(found[name], a, err_msg=name)
