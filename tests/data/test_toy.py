"""Generated sets: shapes, classes, the same points everywhere."""

import numpy as np
import pytest

import xpdl
from xpdl import Affine, Sequential, ShapeError, SoftmaxWithLoss, moons, spiral, xor_points

SETS = pytest.mark.parametrize(
    "make, rows, classes", [(lambda **k: spiral(40, 3, **k), 120, 3), (moons, 200, 2), (xor_points, 200, 2)]
)


@SETS
@pytest.mark.backends("values")
@pytest.mark.skip_backend("jit", reason="nothing to trace")
def test_same_points_on_every_backend(backend, make, rows, classes):
    host_x, host_t = make(seed=1)
    with backend.use():
        x, t = make(seed=1)
    backend.check(t, host_t)
    backend.check(x, backend.to_numpy(x), dtype=backend.float)
    np.testing.assert_allclose(backend.to_numpy(x), host_x, rtol=1e-6, atol=1e-7)
    assert host_x.shape == (rows, 2) and host_x.dtype == np.float32
    assert np.bincount(host_t).tolist() == [rows // classes] * classes


@SETS
def test_repeats_by_seed(make, rows, classes):
    np.testing.assert_array_equal(make(seed=1)[0], make(seed=1)[0])
    assert not np.array_equal(make(seed=1)[0], make(seed=2)[0])
    xpdl.seed(4)
    first, second = make()[0], make()[0]
    xpdl.seed(4)
    np.testing.assert_array_equal(make()[0], first)
    assert not np.array_equal(first, second)


@SETS
def test_no_line_separates_the_classes(make, rows, classes):
    x, t = make(seed=0)
    network = Sequential(Affine(units=classes), loss=SoftmaxWithLoss, seed=0)
    xpdl.Trainer(network, x, t, x, t, 100, 40, "adam", verbose=False, seed=0).train()
    assert network.accuracy(x, t) < 0.95


def test_moons_are_an_upper_and_a_lower_half_circle():
    x, t = moons(60, noise=0.0, seed=0)
    upper, lower = x[t == 0], x[t == 1] - np.asarray([1.0, 0.5], x.dtype)
    for half in (upper, lower):
        np.testing.assert_allclose((half**2).sum(axis=1), 1, rtol=1e-5)
    assert (upper[:, 1] >= 0).all() and (lower[:, 1] <= 0).all()


@pytest.mark.parametrize(("make", "rows"), [(moons, 200), (xor_points, 200), (spiral, 300)])
def test_number_of_points_by_default(make, rows):
    assert [a.shape[0] for a in make(seed=0)] == [rows, rows]


def test_xor_is_the_exclusive_or():
    x, t = xor_points(40, noise=0.0, seed=0)
    np.testing.assert_array_equal(t, (x[:, 0] != x[:, 1]))


@pytest.mark.parametrize("make", [moons, xor_points, spiral])
@pytest.mark.parametrize("n", [0, -2, 2.5])
def test_counts_are_positive_ints(make, n):
    with pytest.raises(ShapeError, match=r"n(_per_class)? must be"):
        make(n)


@pytest.mark.parametrize("make", [moons, xor_points, spiral])
@pytest.mark.parametrize("noise", [-0.1, float("nan"), float("inf"), "loud", None])
def test_noise_is_a_finite_number(make, noise):
    with pytest.raises(ValueError, match=f"{make.__name__}: noise must be a finite number at least 0"):
        make(noise=noise)


@pytest.mark.parametrize("draw", [moons, xor_points])
def test_classes_are_in_random_order(draw):
    """In turn, every second row would be a row of one class."""
    _, t = draw(400, seed=0)
    for rows in (t[::2], t[1::2], t[:200], t[200:]):
        assert 60 < int(rows.sum()) < 140
