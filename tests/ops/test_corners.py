"""Activations and losses at infinities, far out, at subnormals and at NaN: values of PyTorch, but where a table says."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.harness import Backend
from xpdl import layers
from xpdl.layers import (
    Elu,
    GaussianKL,
    Gelu,
    Hinge,
    Huber,
    IdentityWithLoss,
    LeakyRelu,
    LogSoftmax,
    MeanAbsoluteError,
    MeanSquaredError,
    Relu,
    Sigmoid,
    SigmoidWithLoss,
    Silu,
    Softmax,
    SoftmaxWithLoss,
    Softplus,
    Tanh,
)

pytestmark = [pytest.mark.needs("torch"), pytest.mark.backends("plain"), pytest.mark.exhaustive]

INF, NAN, FAR, TINY = float("inf"), float("nan"), 3e38, 1e-40
POINTS = [-INF, -FAR, -1e30, -100.0, -50.0, -TINY, -0.0, 0.0, TINY, 1e-3, 50.0, 100.0, 1e30, FAR, INF, NAN]
ROWS = [
    *([0.0, 1.0, 2.0], [-INF, 0.0, 1.0], [-INF, -INF, 0.0], [-INF] * 3, [INF, 0.0, 1.0], [INF, INF, 0.0]),
    *([INF, -INF, 0.0], [NAN, 0.0, 1.0], [FAR, -FAR, 0.0], [-FAR] * 3, [TINY, -TINY, 0.0], [100.0, -100.0, 0.0]),
]
F: Any = pytest.importorskip("torch.nn.functional", reason="the values are PyTorch's")
TORCH: Any = pytest.importorskip("torch", reason="the values are PyTorch's")

#: layer -> (the layer, PyTorch's function, {point: (y, dx) where we differ})
ACTIVATIONS: dict[str, tuple[Callable[[], Any], Any, dict[float, tuple[float, float]]]] = {
    "relu": (Relu, F.relu, {}),
    "sigmoid": (Sigmoid, TORCH.sigmoid, {}),
    "tanh": (Tanh, TORCH.tanh, {}),
    "leaky relu": (lambda: LeakyRelu(0.1), lambda x: F.leaky_relu(x, 0.1), {}),
    "elu": (Elu, F.elu, {}),
    # limits, where PyTorch has NaN, or infinity
    "gelu": (Gelu, F.gelu, {-INF: (-0.0, 0.0), FAR: (FAR, 1.0), INF: (INF, 1.0)}),
    "gelu by tanh": (
        lambda: Gelu("tanh"),
        lambda x: F.gelu(x, approximate="tanh"),
        {-INF: (-0.0, 0.0), -FAR: (-0.0, 0.0), -1e30: (-0.0, 0.0), 1e30: (1e30, 1.0), FAR: (FAR, 1.0), INF: (INF, 1.0)},
    ),
    "silu": (Silu, F.silu, {-INF: (-0.0, 0.0), INF: (INF, 1.0)}),
    # PyTorch's own softplus is the input itself above 20
    "softplus": (Softplus, lambda x: TORCH.logaddexp(x, TORCH.zeros(())), {}),
}
#: PyTorch's own functions compute these on its tensors
OF_PYTORCH = ("gelu", "gelu by tanh")


def of_torch(function: Any, x: Any, dy: Any = None) -> tuple[Any, Any]:
    leaf = TORCH.tensor(x, requires_grad=True)
    y = function(leaf)
    y.backward(TORCH.ones_like(y) if dy is None else TORCH.tensor(dy))
    return y.detach().numpy(), leaf.grad.numpy()


def passes(backend: Backend, layer: Any, x: Any, dy: Any) -> tuple[Any, Any]:
    with warnings.catch_warnings():  # of NumPy, where NaN is what comes out
        warnings.simplefilter("ignore", RuntimeWarning)
        y = layer.forward(backend.asarray(x, "float32"))
        return backend.to_numpy(y), backend.to_numpy(layer.backward(backend.asarray(dy, "float32")))


def assert_alike(found: Any, want: Any, what: str, atol: float = 1e-20) -> None:
    # JAX flushes subnormal numbers to 0, and the gradient of elu is one of its output, of which 1 is added
    np.testing.assert_allclose(found, want, rtol=2e-5, atol=atol, equal_nan=True, err_msg=what)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(backend: Backend, name: str) -> None:
    make, function, others = ACTIVATIONS[name]
    x = np.asarray(POINTS, "float32")
    y, dx = of_torch(function, x)
    if not (backend.spec.library == "torch" and name in OF_PYTORCH):
        for place, point in enumerate(POINTS):
            y[place], dx[place] = others.get(point, (y[place], dx[place]))
    found_y, found_dx = passes(backend, make(), x, np.ones_like(x))
    assert_alike(found_y, y, "y")
    # a kink cannot be told from a subnormal number that is flushed; at NaN some pass dy, and some 0 or NaN
    smooth = ~np.isnan(x) & ((np.abs(x) > TINY * 2) | (x == 0))
    assert_alike(found_dx[smooth], dx[smooth], "dx")
    assert np.isnan(found_y[-1])


def test_every_activation_is_in_the_table() -> None:
    made = {type(make()) for make, _, _ in ACTIVATIONS.values()}
    units = {"Relu", "Sigmoid", "Tanh", "LeakyRelu", "Elu", "Gelu", "Silu", "Softplus"}
    assert {kind.__name__ for kind in made} == units <= set(layers.__all__)


@pytest.mark.parametrize("name", ["softmax", "log softmax"])
def test_softmax(backend: Backend, name: str) -> None:
    layer, function = {"softmax": (Softmax(), F.softmax), "log softmax": (LogSoftmax(), F.log_softmax)}[name]
    x = np.asarray(ROWS, "float32")
    dy = np.random.default_rng(0).normal(size=x.shape).astype("float32")
    (y, dx), (want, want_dx) = passes(backend, layer, x, dy), of_torch(lambda x: function(x, -1), x, dy)
    assert_alike(y, want, "y")
    assert_alike(dx, want_dx, "dx")


def of_loss(backend: Backend, layer: Any, x: Any, t: Any) -> tuple[float, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        loss = layer.forward(backend.asarray(x, "float32"), backend.asarray(t, str(t.dtype)))
        return float(backend.to_numpy(loss)), backend.to_numpy(layer.backward())


def _hinge(x: Any, t: Any) -> Any:
    others = [k for k in range(x.shape[-1]) if k != int(t[0])]
    return F.relu(x[:, others] - x[:, t] + 1.0).sum()


@pytest.mark.parametrize("row", ROWS, ids=str)
@pytest.mark.parametrize("label", range(3))
def test_losses_of_classes(backend: Backend, row: list[float], label: int) -> None:
    x, t = np.asarray([row], "float32"), np.asarray([label])
    for layer, function in ((SoftmaxWithLoss(), F.cross_entropy), (Hinge(), _hinge)):
        (loss, dx), (want, want_dx) = (
            of_loss(backend, layer, x, t),
            of_torch(lambda x, f=function: f(x, TORCH.tensor(t)), x),
        )
        assert_alike(loss, want, f"{layer.name}: loss")
        if not (isinstance(layer, Hinge) and np.isnan(want)):  # where it has no slope
            assert_alike(dx, want_dx, f"{layer.name}: dx")


def _kl(x: Any, t: Any) -> Any:
    mean, log_variance = x[:, 0].double(), x[:, 1].double()
    return 0.5 * (log_variance.exp() + mean**2 - 1 - log_variance).sum().float()


#: loss -> (the layer, PyTorch's function)
OF_NUMBERS: dict[str, tuple[Callable[[], Any], Any]] = {
    "sigmoid": (SigmoidWithLoss, F.binary_cross_entropy_with_logits),
    "identity": (IdentityWithLoss, lambda x, t: (0.5 * ((x - t).double() ** 2).sum()).float()),
    "squared error": (MeanSquaredError, F.mse_loss),
    "absolute error": (MeanAbsoluteError, F.l1_loss),
    "huber": (Huber, F.huber_loss),
    "mean of a Gaussian": (GaussianKL, _kl),
    "variance of a Gaussian": (GaussianKL, _kl),
}
#: (loss, score, target) -> the limit of the loss, where PyTorch has NaN
LIMITS = {
    ("sigmoid", -INF, 0.0): 0.0,
    ("sigmoid", INF, 1.0): 0.0,
    ("sigmoid", -INF, 1.0): INF,
    ("sigmoid", -INF, 0.5): INF,
}


@pytest.mark.parametrize("name", OF_NUMBERS)
def test_losses_of_numbers(backend: Backend, name: str) -> None:
    make, function = OF_NUMBERS[name]
    for point in POINTS:
        for target in (0.0, 0.5, 1.0):
            x, t = np.asarray([[point]], "float32"), np.asarray([[target]], "float32")
            if "Gaussian" in name:
                x = np.asarray([[point, 0.0] if name.startswith("mean") else [0.0, point]], "float32")
                t = np.zeros((1, 2), "float32")
            loss, dx = of_loss(backend, make(), x, t)
            want, want_dx = of_torch(lambda x, t=t: function(x, TORCH.tensor(t)), x)
            assert_alike(loss, LIMITS.get((name, point, target), want), f"loss at {point}, {target}", atol=1e-7)
            # PyTorch's absolute error has a gradient of 0 at NaN; a kink cannot be told from a flushed subnormal number
            is_kink = name == "absolute error" and (np.isnan(point) or (target == 0 and abs(point) == TINY))
            if not is_kink:
                assert_alike(dx, want_dx, f"dx at {point}, {target}", atol=1e-7)
