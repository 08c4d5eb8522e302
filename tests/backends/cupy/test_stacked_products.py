"""Products of stacks of matrices, which grouped convolutions are made of, and of a row and a column."""

import numpy as np
import pytest

from xpdl.backends.cupy import cublas, products
from xpdl.backends.namespaces import on_device_of
from xpdl.backends.numerics import numerics

pytestmark = pytest.mark.backends("cupy")


@pytest.mark.parametrize("stacked", [False, True])
def test_a_row_by_a_column_is_summed_in_float32(backend, stacked):
    """300 * 300 is beyond float16."""
    row, column = (backend.asarray(v, "float16") for v in ([[300.0, -299.0]], [[300.0], [300.0]]))
    with on_device_of(row):
        c = backend.call(products.matmul, *((row[None], column[None]) if stacked else (row, column)))
    np.testing.assert_array_equal(backend.to_numpy(c).reshape(()), 300.0)


@pytest.mark.parametrize("precision", ["highest", "tf32"])
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_is_the_product_of_each_pair(backend, dtype, count, precision):
    rng, xp = np.random.default_rng(0), backend.xp
    # whole numbers, which all dtypes hold and sums of which are exact
    a, b = (rng.integers(-4, 5, shape).astype("float64") for shape in ((count, 5, 7), (count, 6, 7)))
    left, right = (xp.astype(backend.asarray(v), getattr(xp, dtype)) for v in (a, b))
    with numerics(precision=precision), on_device_of(left):
        c = backend.call(products.matmul, left, right.transpose(0, 2, 1))
    assert (c.dtype, c.device) == (left.dtype, left.device)
    np.testing.assert_array_equal(backend.to_numpy(c).astype("float64"), a @ b.transpose(0, 2, 1))


@pytest.mark.parametrize("called_directly", [True, False])
@pytest.mark.parametrize("shape", [(1, 70_000), (2, 1, 70_000)])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_row_by_column_accumulates_in_float32(backend, monkeypatch, dtype, shape, called_directly):
    """CuPy adds rounded products by CUB, in float16: 300 * 300 is inf there, and the sum of many ones stops at 2,048."""
    if not called_directly:
        monkeypatch.setattr(cublas, "problem", lambda: "not here")
    xp = backend.xp
    a = np.ones(shape)
    a[..., 0], a[..., 1] = 300, -300
    b = np.ones(shape)
    b[..., :2] = 300
    b[..., 1000:] = 0.5
    left, right = (xp.astype(backend.asarray(v), getattr(xp, dtype)) for v in (a, b))
    with on_device_of(left):
        c = backend.call(products.matmul, left, right.swapaxes(-1, -2))
    want = np.full(c.shape, 998 + 69_000 / 2)
    np.testing.assert_allclose(backend.to_numpy(c).astype("float64"), want, rtol=2**-8)
