"""The smoothing of loss curves against the book's construction, written out anew."""

import numpy as np
import pytest

from xpdl import ShapeError, smooth_curve


def expected(x):
    """Mirror, convolve with a Kaiser window of 11, cut 5 from each side."""
    window = np.kaiser(11, 2)
    mirrored = np.concatenate([x[10:0:-1], x, x[-1:-11:-1]])
    return np.convolve(window / window.sum(), mirrored, "valid")[5 : 5 + len(x)]


@pytest.mark.backends("values")
def test_is_the_book_s_for_long_curves(backend):
    x = np.random.default_rng(0).normal(size=40)
    found = backend.call(smooth_curve, backend.asarray(x))
    backend.check(found, expected(x))


@pytest.mark.parametrize("points", range(12))
def test_keeps_the_length_and_the_level_of_any_curve(points):
    """ERRATA 16: the book's gives no points back for fewer than 11."""
    np.testing.assert_allclose(smooth_curve([2.0] * points), [2.0] * points, rtol=1e-12)


def test_averages_noise_away():
    x = np.random.default_rng(0).normal(size=1000)
    assert np.std(smooth_curve(x)) < 0.5 * np.std(x)


def test_is_for_one_curve():
    with pytest.raises(ShapeError, match="one curve"):
        smooth_curve(np.zeros((3, 4)))


@pytest.mark.parametrize("wrong", ["123", {1.0: 2.0}, 3.0, None])
def test_is_for_numbers_in_a_row(wrong):
    with pytest.raises(TypeError, match="smooth_curve: expected an array or a sequence of numbers, got"):
        smooth_curve(wrong)


def test_any_iterable_is_a_sequence():
    np.testing.assert_array_equal(smooth_curve(float(n) for n in range(20)), smooth_curve(np.arange(20.0)))
