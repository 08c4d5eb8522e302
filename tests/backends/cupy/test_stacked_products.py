"""Products of stacks of matrices, which grouped convolutions are made of."""

import numpy as np
import pytest

from xpdl.backends.cupy import products
from xpdl.backends.namespaces import on_device_of
from xpdl.backends.numerics import numerics

pytestmark = pytest.mark.backends("cupy")


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
