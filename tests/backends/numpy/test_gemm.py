"""Products cut along their columns equal those of the whole matrices."""

import numpy as np
import pytest

from xpdl.backends.numpy import gemm

# filters, weights, columns, images: as they lie, cut in equal pieces, cut with a rest, too narrow to cut, many filters, ...
SIZES = [(3, 5, 4, 7), (16, 144, 8, 100), (16, 144, 7, 131), (32, 576, 3, 100), (64, 144, 9, 50), (16, 9, 5, 20)]


def factors(filters, weights, columns, images):
    rng = np.random.default_rng(0)
    memory = rng.normal(size=(4, weights, columns * images))
    return rng.normal(size=(filters, weights)), memory[:3], rng.normal(size=(3, filters, columns + 1, images))[:, :, 1:]


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_equals_the_product_of_whole_matrices(sizes):
    weights, seen, x = factors(*sizes)
    out = np.empty((3, sizes[0], seen.shape[2]))
    gemm.product(weights, seen, out)
    np.testing.assert_allclose(out, weights @ seen, rtol=1e-11, atol=1e-11)
    lines = x.reshape(3, sizes[0], -1)
    expected = (seen @ lines.swapaxes(1, 2)).sum(axis=0)
    np.testing.assert_allclose(gemm.sum_of_products(seen, x), expected, rtol=1e-10, atol=1e-10)


def test_long_products_of_few_filters_are_cut(monkeypatch):
    widths = []
    matmul = np.matmul
    monkeypatch.setattr(gemm.np, "matmul", lambda a, b, **out: widths.append(b.shape[-1]) or matmul(a, b, **out))
    for sizes in SIZES:
        weights, seen, _ = factors(*sizes)
        gemm.product(weights, seen, np.empty((3, sizes[0], seen.shape[2])))
    # 800 = 2 * 400, 917 = 2 * 320 + 277
    assert widths == [28, 400, 320, 277, 300, 450, 100]
