"""Identities of convolution, pooling and the unfolding of windows, for sizes and values drawn at random."""

import numpy as np
import pytest

pytest.importorskip("hypothesis", reason="hypothesis is not installed")

from hypothesis import assume, given
from hypothesis import strategies as st

from xpdl.backends.dispatch import generic_only
from xpdl.ops.convolution import convolution, convolution_backward
from xpdl.ops.pooling import (
    average_pooling,
    average_pooling_backward,
    max_pooling,
    max_pooling_backward,
)
from xpdl.ops.windows import col2im, conv_output_size, im2col

PAIR = st.tuples(st.integers(1, 3), st.integers(1, 3))
PADS = st.tuples(st.integers(0, 2), st.integers(0, 2))


@st.composite
def windows(draw, most_pad=2):
    """Images, and a window with stride and padding that fits into them."""
    size, stride = draw(PAIR), draw(PAIR)
    pad = tuple(min(draw(st.integers(0, most_pad)), size[i] - 1) for i in (0, 1))
    shape = (draw(st.integers(1, 3)), draw(st.integers(1, 3)), *(size[i] + draw(st.integers(0, 5)) for i in (0, 1)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return rng, rng.standard_normal(shape), size, stride, pad


def padded(x, pad, value=0.0):
    return np.pad(x, ((0, 0), (0, 0), (pad[0], pad[0]), (pad[1], pad[1])), constant_values=value)


def close(one, other):
    np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-10)


@pytest.fixture(params=["kernels", "generic"])
def kind(request):
    if request.param == "generic":
        with generic_only():
            yield request.param
    else:
        yield request.param


@given(windows())
def test_padding_is_convolution_of_padded_images(kind, drawn):
    rng, x, size, stride, pad = drawn
    W, b = rng.standard_normal((2, x.shape[1], *size)), rng.standard_normal(2)
    close(convolution(x, W, b, stride=stride, pad=pad), convolution(padded(x, pad), W, b, stride=stride))


@given(windows())
def test_stride_leaves_out_windows(kind, drawn):
    rng, x, size, stride, pad = drawn
    W, b = rng.standard_normal((2, x.shape[1], *size)), rng.standard_normal(2)
    every = convolution(x, W, b, pad=pad)
    close(convolution(x, W, b, stride=stride, pad=pad), every[:, :, :: stride[0], :: stride[1]])


@given(windows(), st.floats(-3, 3))
def test_convolution_is_linear_in_images_and_filters(kind, drawn, a):
    rng, x, size, stride, pad = drawn
    x2, W, W2 = rng.standard_normal(x.shape), *rng.standard_normal((2, 2, x.shape[1], *size))
    options = {"stride": stride, "pad": pad}
    close(
        convolution(a * x + x2, W, None, **options),
        a * convolution(x, W, None, **options) + convolution(x2, W, None, **options),
    )
    close(
        convolution(x, a * W + W2, None, **options),
        a * convolution(x, W, None, **options) + convolution(x, W2, None, **options),
    )


@given(windows())
def test_backward_of_convolution_is_its_adjoint(kind, drawn):
    """``<dy, conv(v, W)> = <dx, v>`` for every v, and likewise for filters and bias."""
    rng, x, size, stride, pad = drawn
    W, b = rng.standard_normal((2, x.shape[1], *size)), rng.standard_normal(2)
    options = {"stride": stride, "pad": pad}
    y = convolution(x, W, b, **options)
    dy, v, V = rng.standard_normal(y.shape), rng.standard_normal(x.shape), rng.standard_normal(W.shape)
    dx, dW, db = convolution_backward(dy, x, W, **options)
    close(np.sum(dy * convolution(v, W, None, **options)), np.sum(dx * v))
    close(np.sum(dy * convolution(x, V, None, **options)), np.sum(dW * V))
    close(dy.sum(axis=(0, 2, 3)), db)


@given(windows())
def test_col2im_is_the_adjoint_of_im2col(kind, drawn):
    rng, x, size, stride, pad = drawn
    cols = im2col(x, *size, stride, pad)
    c = rng.standard_normal(cols.shape)
    close(np.sum(cols * c), np.sum(x * col2im(c, x.shape, *size, stride, pad)))


@given(windows())
def test_convolution_is_a_product_with_unfolded_windows(kind, drawn):
    rng, x, size, stride, pad = drawn
    W = rng.standard_normal((2, x.shape[1], *size))
    product = im2col(x, *size, stride, pad) @ W.reshape(2, -1).T
    y = convolution(x, W, None, stride=stride, pad=pad)
    close(product, y.transpose(0, 2, 3, 1).reshape(-1, 2))


@given(windows())
def test_padding_of_pooling(kind, drawn):
    _, x, size, stride, pad = drawn
    close(max_pooling(x, size, stride, pad), max_pooling(padded(x, pad, -np.inf), size, stride))
    close(average_pooling(x, size, stride, pad), average_pooling(padded(x, pad), size, stride))


@given(windows())
def test_maximum_pooling_keeps_the_sum_of_gradients(kind, drawn):
    rng, x, size, stride, pad = drawn
    y = max_pooling(x, size, stride, pad)
    dy = rng.standard_normal(y.shape)
    dx = max_pooling_backward(dy, x, y, size, stride, pad)
    close(dx.sum(axis=(2, 3)), dy.sum(axis=(2, 3)))
    assert np.count_nonzero(dx) <= y.size


@given(windows(most_pad=0))
def test_average_pooling_keeps_the_sum_of_gradients(kind, drawn):
    rng, x, size, stride, _ = drawn
    dy = rng.standard_normal(average_pooling(x, size, stride).shape)
    close(average_pooling_backward(dy, x, size, stride).sum(axis=(2, 3)), dy.sum(axis=(2, 3)))


@given(windows(), st.floats(-5, 5))
def test_pooling_of_shifted_images_is_shifted(kind, drawn, by):
    _, x, size, stride, _ = drawn
    close(max_pooling(x + by, size, stride), max_pooling(x, size, stride) + by)
    close(average_pooling(x + by, size, stride), average_pooling(x, size, stride) + by)


@given(*[st.integers(1, 40)] * 3, st.integers(0, 10), st.integers(1, 4))
def test_output_size_counts_the_windows(size, window, stride, pad, dilation):
    extent = dilation * (window - 1) + 1
    assume(size + 2 * pad >= extent)
    starts = [place for place in range(0, size + 2 * pad, stride) if place + extent <= size + 2 * pad]
    assert conv_output_size(size, window, stride, pad, dilation=dilation) == len(starts)
