"""Convolution in random configurations, against the oracle and against torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests import oracles
from tests.harness import Backend
from tests.pairs import sample
from xpdl.backends.dispatch import generic_only
from xpdl.errors import ShapeError
from xpdl.ops.convolution import convolution, convolution_backward

# JAX runs through the table; here each small case would be compiled anew
pytestmark = pytest.mark.backends("precompiled")


def configuration(seed: int) -> tuple[Any, Any, Any, dict[str, Any]]:
    """Random images, filters and bias that fit, with strides, pads, dilations and groups of all kinds."""
    rng = np.random.default_rng(seed)
    groups = int(rng.integers(1, 4))
    n, depth, per_group = (int(v) for v in rng.integers(1, 4, 3))
    pad = tuple(int(v) for v in rng.integers(0, 3, 2))
    stride = tuple(int(v) for v in rng.integers(1, 4, 2))
    dilation = tuple(int(v) for v in rng.integers(1, 4, 2))
    size = tuple(int(v) for v in rng.integers(1, 4, 2))
    least = [max(1, dilation[i] * (size[i] - 1) + 1 - 2 * pad[i]) for i in (0, 1)]
    image = tuple(least[i] + int(rng.integers(0, 5)) for i in (0, 1))
    x = sample(rng, n, groups * depth, *image)
    W = sample(rng, groups * per_group, depth, *size)
    b = sample(rng, groups * per_group)
    return x, W, b, {"stride": stride, "pad": pad, "dilation": dilation, "groups": groups}


@pytest.mark.parametrize("seed", range(150))
def test_random_configurations_agree_with_the_oracle(seed: int) -> None:
    x, W, b, static = configuration(seed)
    rng = np.random.default_rng(seed)
    y = convolution(x, W, b, **static)
    # sums of few products of 8-bit numbers are exact
    np.testing.assert_array_equal(y, oracles.convolution(x, W, b, **static))
    dy = sample(rng, *y.shape)
    dx, dW, db = convolution_backward(dy, x, W, **static)
    # linear in each argument: gradients are the adjoint, tried on random directions
    vx, vW = sample(rng, *x.shape), sample(rng, *W.shape)
    assert np.sum(dx * vx) == np.sum(dy * oracles.convolution(vx, W, **static))
    assert np.sum(dW * vW) == np.sum(dy * oracles.convolution(x, vW, **static))
    np.testing.assert_array_equal(db, dy.sum(axis=(0, 2, 3)))


@pytest.mark.needs("torch")
@pytest.mark.parametrize("seed", range(150, 400))
def test_random_configurations_agree_with_torch(seed: int) -> None:
    import torch

    x, W, b, static = configuration(seed)
    tensors = [torch.tensor(a, requires_grad=True) for a in (x, W, b)]
    y = torch.nn.functional.conv2d(
        *tensors, stride=static["stride"], padding=static["pad"], dilation=static["dilation"], groups=static["groups"]
    )
    dy = sample(np.random.default_rng(seed), *y.shape)
    y.backward(torch.tensor(dy))
    np.testing.assert_allclose(convolution(x, W, b, **static), y.detach().numpy(), rtol=1e-12, atol=1e-12)
    for got, tensor in zip(convolution_backward(dy, x, W, **static), tensors, strict=True):
        np.testing.assert_allclose(got, tensor.grad.numpy(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("seed", range(400, 440))
def test_the_generic_form_agrees_with_what_numpy_dispatches_to(seed: int) -> None:
    x, W, b, static = configuration(seed)
    y = convolution(x, W, b, **static)
    dy = sample(np.random.default_rng(seed), *y.shape)
    gradients = convolution_backward(dy, x, W, **static)
    with generic_only():
        np.testing.assert_array_equal(y, convolution(x, W, b, **static))
        for got, want in zip(gradients, convolution_backward(dy, x, W, **static), strict=True):
            np.testing.assert_array_equal(got, want)


def test_need_dx_false_skips_dx_alone(backend: Backend) -> None:
    x, W, b, static = configuration(7)
    dy = oracles.convolution(x, W, b, **static)
    arrays = [backend.asarray(a) for a in (dy, x, W)]
    _, dW, db = backend.call(convolution_backward, *arrays, **static)
    nothing, same_dW, same_db = backend.call(convolution_backward, *arrays, **static, need_dx=False)
    assert nothing is None
    if backend.spec.values:
        np.testing.assert_array_equal(backend.to_numpy(same_dW), backend.to_numpy(dW))
        np.testing.assert_array_equal(backend.to_numpy(same_db), backend.to_numpy(db))


def test_need_dW_false_skips_dW_alone_and_reads_no_images(backend: Backend) -> None:
    x, W, b, static = configuration(7)
    arrays = [backend.asarray(a) for a in (oracles.convolution(x, W, b, **static), x, W)]
    dx, _, db = backend.call(convolution_backward, *arrays, **static)
    arrays[1] = backend.asarray(np.full_like(x, np.nan))
    same_dx, nothing, same_db = backend.call(convolution_backward, *arrays, **static, need_dW=False)
    assert nothing is None
    if backend.spec.values:
        np.testing.assert_array_equal(backend.to_numpy(same_dx), backend.to_numpy(dx))
        np.testing.assert_array_equal(backend.to_numpy(same_db), backend.to_numpy(db))


def test_need_db_false_skips_db_alone(backend: Backend) -> None:
    x, W, b, static = configuration(7)
    arrays = [backend.asarray(a) for a in (oracles.convolution(x, W, b, **static), x, W)]
    dx, dW, _ = backend.call(convolution_backward, *arrays, **static)
    same_dx, same_dW, nothing = backend.call(convolution_backward, *arrays, **static, need_db=False)
    assert nothing is None
    if backend.spec.values:
        np.testing.assert_array_equal(backend.to_numpy(same_dx), backend.to_numpy(dx))
        np.testing.assert_array_equal(backend.to_numpy(same_dW), backend.to_numpy(dW))


def test_it_does_not_flip_the_filter() -> None:
    """The book and all libraries compute cross-correlation under the name of convolution."""
    x = np.arange(9.0).reshape(1, 1, 3, 3)
    W = np.zeros((1, 1, 3, 3))
    W[0, 0, 0, 2] = 1.0
    assert convolution(x, W).item() == x[0, 0, 0, 2]


def test_a_filter_larger_than_the_padded_image_is_an_error() -> None:
    with pytest.raises(ShapeError, match=r"convolution: the filter covers 5 but the padded input has only 2 \+ 2\*1"):
        convolution(np.zeros((1, 1, 2, 2)), np.zeros((1, 1, 3, 3)), pad=(1, 1), dilation=(2, 2))


@pytest.mark.skip_backend("meta", reason="has no values")
def test_relu_keeps_nan(backend: Backend) -> None:
    x, W = np.ones((1, 1, 3, 4)), np.ones((2, 1, 2, 2))
    x[0, 0, 0, 3] = np.nan
    y = backend.to_numpy(convolution(backend.asarray(x), backend.asarray(W), activation="relu"))
    np.testing.assert_array_equal(y, np.broadcast_to([[4, 4, np.nan], [4, 4, 4]], y.shape))
