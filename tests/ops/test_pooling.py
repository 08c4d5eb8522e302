"""Pooling in random configurations, ties and borders."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from tests import oracles
from tests.harness import Backend
from tests.pairs import distinct, sample
from xpdl.backends.dispatch import generic_only
from xpdl.errors import ShapeError
from xpdl.ops.pooling import (
    average_pooling,
    average_pooling_backward,
    max_pooling,
    max_pooling_backward,
    max_pooling_with_taps,
)

# JAX runs through the table; here each small case would be compiled anew
pytestmark = pytest.mark.backends("precompiled")


def configuration(seed: int) -> tuple[Any, dict[str, Any]]:
    rng = np.random.default_rng(seed)
    size = tuple(int(v) for v in rng.integers(1, 5, 2))
    stride = tuple(int(v) for v in rng.integers(1, 5, 2))
    pad = tuple(int(rng.integers(0, size[i])) for i in (0, 1))
    image = [max(1, size[i] - 2 * pad[i]) + int(rng.integers(0, 5)) for i in (0, 1)]
    x = distinct(rng, int(rng.integers(1, 4)), int(rng.integers(1, 4)), *image)
    return x, {"size": size, "stride": stride, "pad": pad}


def backward(name: str, dy: Any, x: Any, y: Any, static: dict[str, Any]) -> Any:
    if name == "max":
        return max_pooling_backward(dy, x, y, **static)
    return average_pooling_backward(dy, x, **static)


FORWARD = {"max": max_pooling, "average": average_pooling}
ORACLE = {"max": oracles.max_pooling, "average": oracles.average_pooling}


@pytest.mark.parametrize("name", FORWARD)
@pytest.mark.parametrize("seed", range(60))
def test_random_configurations_agree_with_the_oracle(seed: int, name: str) -> None:
    x, static = configuration(seed)
    y = FORWARD[name](x, **static)
    np.testing.assert_allclose(y, ORACLE[name](x, **static), rtol=1e-13, atol=1e-13)
    # a small step to the side changes no winner: the derivative along it is exact for both kinds
    rng = np.random.default_rng(seed)
    dy, v = sample(rng, *y.shape), sample(rng, *x.shape) / 4096
    change = ORACLE[name](x + v, **static) - ORACLE[name](x, **static)
    dy = np.where(np.isfinite(y), dy, 0.0)
    change = np.where(np.isfinite(y), change, 0.0)
    dx = backward(name, dy, x, y, static)
    np.testing.assert_allclose(np.sum(dx * v), np.sum(dy * change), rtol=1e-9, atol=1e-12)


@pytest.mark.needs("torch")
@pytest.mark.parametrize("name", FORWARD)
@pytest.mark.parametrize("seed", range(60, 140))
def test_random_configurations_agree_with_torch(seed: int, name: str) -> None:
    import torch

    x, static = configuration(seed)
    tensor = torch.tensor(x, requires_grad=True)
    (ph, pw), value = static["pad"], -math.inf if name == "max" else 0.0
    padded = torch.nn.functional.pad(tensor, (pw, pw, ph, ph), value=value)
    pool = torch.nn.functional.max_pool2d if name == "max" else torch.nn.functional.avg_pool2d
    want = pool(padded, static["size"], static["stride"])
    y = FORWARD[name](x, **static)
    np.testing.assert_allclose(y, want.detach().numpy(), rtol=1e-13, atol=1e-13)
    dy = sample(np.random.default_rng(seed), *y.shape)
    want.backward(torch.tensor(dy))
    np.testing.assert_allclose(backward(name, dy, x, y, static), tensor.grad.numpy(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", FORWARD)
@pytest.mark.parametrize("seed", range(140, 160))
def test_the_generic_form_agrees_with_what_numpy_dispatches_to(seed: int, name: str) -> None:
    x, static = configuration(seed)
    y = FORWARD[name](x, **static)
    dy = sample(np.random.default_rng(seed), *y.shape)
    dx = backward(name, dy, x, y, static)
    with generic_only():
        np.testing.assert_allclose(y, FORWARD[name](x, **static), rtol=1e-14, atol=0)
        np.testing.assert_allclose(dx, backward(name, dy, x, y, static), rtol=1e-13, atol=1e-13)


@pytest.mark.backends("values")
def test_of_equal_maxima_the_first_takes_the_gradient(backend: Backend) -> None:
    x = backend.asarray(np.zeros((1, 1, 4, 4)))
    static = {"size": (2, 2), "stride": (2, 2)}
    y = backend.call(max_pooling, x, **static)
    dx = backend.call(max_pooling_backward, backend.asarray(np.array([[[[1.0, 2], [3, 4]]]])), x, y, **static)
    want = np.zeros((1, 1, 4, 4))
    want[0, 0, ::2, ::2] = [[1, 2], [3, 4]]
    backend.check(dx, want)


@pytest.mark.parametrize("seed", range(20))
def test_ties_neither_lose_nor_double_the_gradient(seed: int) -> None:
    x, static = configuration(seed)
    x = np.round(x) // 2
    y = max_pooling(x, **static)
    dx = max_pooling_backward(np.ones_like(y), x, y, **static)
    # a window of border alone has no pixel to give its gradient to
    assert dx.sum() == np.isfinite(y).sum()


@pytest.mark.backends("values")
@pytest.mark.parametrize("seed", range(6))
def test_taps_change_no_result(backend: Backend, seed: int) -> None:
    host, static = configuration(seed)
    rng = np.random.default_rng(seed)
    host = rng.choice([-np.inf, -1.0, 0.0, 1.0, np.nan], host.shape, p=[0.1, 0.4, 0.2, 0.2, 0.1])
    x = backend.asarray(host)
    for activation in (None, "relu"):
        options = {**static, "activation": activation}
        y, taps = backend.call(max_pooling_with_taps, x, **options)
        want = backend.to_numpy(backend.call(max_pooling, x, **options))
        np.testing.assert_array_equal(backend.to_numpy(y), want)
        dy = backend.asarray(sample(rng, *want.shape))
        without = backend.to_numpy(backend.call(max_pooling_backward, dy, x, y, **options))
        with_taps = backend.to_numpy(backend.call(max_pooling_backward, dy, x, y, **options, taps=taps))
        np.testing.assert_array_equal(with_taps, without)


@pytest.mark.backends("values")
def test_the_border_never_wins_over_negative_values(backend: Backend) -> None:
    x = backend.asarray(np.full((1, 1, 2, 2), -5.0))
    y = backend.call(max_pooling, x, size=(3, 3), stride=(1, 1), pad=(1, 1))
    backend.check(y, np.full((1, 1, 2, 2), -5.0))


@pytest.mark.backends("values")
def test_an_infinite_value_takes_its_gradient_beside_a_border(backend: Backend) -> None:
    static = {"size": (2, 2), "stride": (2, 2), "pad": (1, 1)}
    x = backend.asarray(np.full((1, 1, 2, 2), np.inf))
    y = backend.call(max_pooling, x, **static)
    dx = backend.call(max_pooling_backward, backend.asarray([[[[1.0, 2.0], [3.0, 4.0]]]]), x, y, **static)
    backend.check(dx, np.array([[[[1.0, 2.0], [3.0, 4.0]]]]))


@pytest.mark.backends("values")
@pytest.mark.parametrize("images", [1, 40], ids=["few", "many"])
def test_of_a_window_of_minus_infinity_the_first_in_the_image_takes_the_gradient(backend: Backend, images: int) -> None:
    x = np.full((images, 1, 3, 4), -np.inf)
    x[..., 2, 3] = 1.0
    static = {"size": (2, 2), "stride": (2, 2), "pad": (1, 1)}
    want = np.zeros_like(x)
    # windows from the rows -1 and 1, and the columns -1, 1 and 3
    for row, column, value in ((0, 0, 1.0), (0, 1, 2.0), (0, 3, 3.0), (1, 0, 4.0), (1, 1, 5.0), (2, 3, 6.0)):
        want[..., row, column] = value
    given = backend.asarray(x)
    dy = backend.asarray(np.broadcast_to(np.arange(1.0, 7.0).reshape(1, 1, 2, 3), (images, 1, 2, 3)))
    y, taps = backend.call(max_pooling_with_taps, given, **static)
    backend.check(max_pooling_backward(dy, given, y, **static, taps=taps), want)
    backend.check(max_pooling_backward(dy, given, y, **static), want)
    with generic_only():
        backend.check(backend.call(max_pooling_backward, dy, given, y, **static), want)


@pytest.mark.backends("values")
def test_the_border_counts_in_the_average(backend: Backend) -> None:
    y = backend.call(
        average_pooling, backend.asarray(np.full((1, 1, 1, 1), 9.0)), size=(3, 3), stride=(1, 1), pad=(1, 1)
    )
    backend.check(y, np.ones((1, 1, 1, 1)))


@pytest.mark.backends("values")
def test_nan_is_not_hidden_by_a_maximum(backend: Backend) -> None:
    x = np.zeros((1, 1, 2, 4))
    x[0, 0, 1, 1] = math.nan
    y = backend.to_numpy(backend.call(max_pooling, backend.asarray(x), size=(2, 2), stride=(2, 2)))
    assert np.isnan(y[0, 0, 0, 0])
    assert y[0, 0, 0, 1] == 0.0


def test_a_window_larger_than_the_image_is_an_error() -> None:
    with pytest.raises(ShapeError, match="pooling: the filter covers 3 but the padded input has only 2"):
        max_pooling(np.zeros((1, 1, 2, 2)), size=(3, 3), stride=(1, 1))
