"""float16 on NumPy is float32, rounded once at the end."""

import numpy as np
import pytest

from tests.backends.watched import kernels
from xpdl.backends import dispatch
from xpdl.ops import affine, convolution, recurrent

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    "forward, backward, shapes, static",
    [
        (affine.affine, affine.affine_backward, [(5, 7), (7, 3), (3,)], {}),
        (
            convolution.convolution,
            convolution.convolution_backward,
            [(5, 2, 6, 6), (4, 2, 3, 3), (4,)],
            {"pad": (1, 1)},
        ),
    ],
    ids=["affine", "convolution"],
)
def test_results_are_those_of_float32_rounded(forward, backward, shapes, static):
    x, W, b = (RNG.normal(size=shape).astype("float16") for shape in shapes)
    y = forward(x, W, b, **static)
    wide = forward(*(a.astype("float32") for a in (x, W, b)), **static)
    assert y.dtype == np.float16
    np.testing.assert_array_equal(y, wide.astype("float16"))
    for need_dx in (True, False):
        found = backward(y, x, W, need_dx=need_dx, **static)
        want = backward(*(a.astype("float32") for a in (y, x, W)), need_dx=need_dx, **static)
        for actual, desired in zip(found, want, strict=True):
            assert (actual is None) == (desired is None)
            if actual is not None:
                assert actual.dtype == np.float16
                np.testing.assert_array_equal(actual, desired.astype("float16"))


def test_what_overflows_is_infinite_without_a_warning():
    big = np.full((1, 2), 300.0, "float16")
    assert affine.affine(big, np.full((2, 1), 300.0, "float16")) == np.inf


def test_mixed_dtypes_are_the_generic_op_s():
    half, single = np.ones((2, 3), "float16"), np.ones((3, 2), "float32")
    with dispatch.generic_only():
        want = affine.affine(half, single)
    assert affine.affine(half, single).dtype == want.dtype == np.float32


def test_masks_go_with_half_precision():
    x, h, Wx, Wh, b = (RNG.normal(size=s).astype("float16") for s in ((3, 4, 2), (3, 5), (2, 5), (5, 5), (5,)))
    mask = RNG.random((3, 4)) < 0.6
    y = kernels.rnn(x, h, Wx, Wh, b, mask)
    want = recurrent.rnn(*(a.astype("float32") for a in (x, h, Wx, Wh, b)), mask)
    assert y.dtype == np.float16
    np.testing.assert_array_equal(y, want.astype("float16"))
