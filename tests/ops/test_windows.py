"""Sliding windows: sizes, im2col and its adjoint."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests import oracles
from tests.harness import Backend
from tests.pairs import sample
from xpdl.errors import ShapeError
from xpdl.ops.windows import col2im, conv_output_size, im2col

# JAX runs through the table; here each small case would be compiled anew
pytestmark = pytest.mark.backends("precompiled")


class TestConvOutputSize:
    @pytest.mark.parametrize("seed", range(50))
    def test_counts_the_windows_that_fit(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        size, taps, stride, pad, dilation = (int(v) for v in rng.integers(1, [12, 5, 5, 4, 4]))
        (want,) = oracles.sizes([size], [taps], [stride], [pad], [dilation])
        if want:
            got = conv_output_size(size, taps, stride, pad, dilation=dilation)
            assert got == want
            assert type(got) is int
        else:
            with pytest.raises(ShapeError, match="smaller filter"):
                conv_output_size(size, taps, stride, pad, dilation=dilation)

    def test_is_an_int_where_the_book_returns_a_float(self) -> None:
        assert conv_output_size(28, 4, 2, 0) == 13
        assert type(conv_output_size(28, 4, 2, 0)) is int

    def test_windows_are_next_to_each_other_and_images_bare_unless_said_otherwise(self) -> None:
        assert conv_output_size(28, 5) == 24
        assert conv_output_size(28, 5, 2) == 12

    def test_is_a_plain_int_for_numpy_integers(self) -> None:
        assert type(conv_output_size(np.int64(28), np.int32(3), np.int64(1))) is int

    @pytest.mark.parametrize(
        ("name", "arguments"),
        [
            ("input_size", (0, 1)),
            ("filter_size", (3, 0)),
            ("stride", (3, 1, 0)),
            ("pad", (3, 1, 1, -1)),
            ("filter_size", (3, 1.5)),
            ("stride", (3, 1, True)),
            ("filter_size", (3, (1, 1))),
            ("pad", (3, 1, 1, None)),
        ],
    )
    def test_names_the_argument_that_is_out_of_range(self, name: str, arguments: Any) -> None:
        with pytest.raises(ShapeError, match=f"conv_output_size: {name} must be"):
            conv_output_size(*arguments)


def configuration(seed: int) -> tuple[tuple[int, ...], dict[str, Any]]:
    """A random shape of images and windows that fit."""
    rng = np.random.default_rng(seed)
    shape = tuple(int(v) for v in rng.integers(1, [4, 4, 8, 8]))
    pad = tuple(int(v) for v in rng.integers(0, 3, 2))
    size = [int(rng.integers(1, min(4, shape[2 + i] + 2 * pad[i]) + 1)) for i in (0, 1)]
    stride = tuple(int(v) for v in rng.integers(1, 4, 2))
    return shape, {"filter_h": size[0], "filter_w": size[1], "stride": stride, "pad": pad}


@pytest.mark.parametrize("seed", range(60))
def test_col2im_is_the_adjoint_of_im2col(seed: int) -> None:
    shape, static = configuration(seed)
    rng = np.random.default_rng(seed)
    x = sample(rng, *shape)
    col = im2col(x, **static)
    np.testing.assert_array_equal(col, oracles.im2col(x, **static))
    other = sample(rng, *col.shape)
    # <im2col(x), other> = <x, col2im(other)>, and the sums of such numbers are exact
    assert np.sum(col * other) == np.sum(x * col2im(other, shape, **static))


def test_col2im_counts_how_often_a_pixel_is_seen() -> None:
    x = np.ones((1, 1, 3, 3))
    seen = col2im(im2col(x, 2, 2), x.shape, 2, 2)
    np.testing.assert_array_equal(seen[0, 0], [[1, 2, 1], [2, 4, 2], [1, 2, 1]])


def test_im2col_keeps_integers(backend: Backend) -> None:
    x = np.arange(2 * 3 * 4 * 4, dtype=np.int32).reshape(2, 3, 4, 4)
    got = backend.call(im2col, backend.asarray(x), filter_h=3, filter_w=2, stride=2, pad=1)
    backend.check(got, oracles.im2col(x, filter_h=3, filter_w=2, stride=2, pad=1).astype(np.int32))


def test_im2col_takes_its_arguments_by_name() -> None:
    x = np.arange(16.0).reshape(1, 1, 4, 4)
    np.testing.assert_array_equal(im2col(input_data=x, filter_h=2, filter_w=2), im2col(x, 2, 2))
    col = im2col(x, 2, 2)
    by_name = col2im(col=col, input_shape=x.shape, filter_h=2, filter_w=2)
    np.testing.assert_array_equal(by_name, col2im(col, x.shape, 2, 2))


@pytest.mark.parametrize(
    ("shape", "static", "message"),
    [
        ((3, 4, 4), {"filter_h": 2, "filter_w": 2}, r"im2col: expected images .*rank 4, got shape \(3, 4, 4\)"),
        ((1, 1, 4, 4), {"filter_h": 5, "filter_w": 2}, r"im2col: the filter covers 5 but .* only 4 \+ 2\*0"),
        ((1, 1, 4, 4), {"filter_h": 2, "filter_w": 0}, "im2col: filter size must be at least 1"),
        ((1, 1, 4, 4), {"filter_h": 2, "filter_w": 2, "stride": 0}, "im2col: stride must be at least 1"),
        ((1, 1, 4, 4), {"filter_h": 2, "filter_w": 2, "stride": (1, 2, 3)}, "im2col: stride must be an int or a pair"),
        ((1, 1, 4, 4), {"filter_h": 2, "filter_w": 2, "pad": -1}, "im2col: pad must be at least 0"),
        ((1, 1, 4, 4), {"filter_h": 2, "filter_w": 2, "pad": 0.5}, "im2col: pad must be an int or a pair"),
    ],
)
def test_im2col_names_what_does_not_fit(shape: Any, static: Any, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        im2col(np.zeros(shape), **static)


def test_col2im_names_the_shape_it_needs() -> None:
    with pytest.raises(ShapeError, match=r"col2im: col must have shape \(9, 4\), got \(9, 5\)"):
        col2im(np.zeros((9, 5)), (1, 1, 4, 4), 2, 2)
    with pytest.raises(ShapeError, match=r"col2im: input_shape must be \(N, C, H, W\)"):
        col2im(np.zeros((9, 4)), (1, 4, 4), 2, 2)
