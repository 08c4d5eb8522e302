"""Few images are convolved each by itself, as the generic op does it, in parts of any size, and left as images lie."""

import numpy as np
import pytest

from xpdl.backends import dispatch
from xpdl.backends.numpy import convolution as kernels
from xpdl.backends.numpy import few_images
from xpdl.ops import convolution as ops


@pytest.mark.parametrize("rectify", [False, True])
@pytest.mark.parametrize("task_bytes", [1, 1 << 11, few_images._TASK_BYTES])
@pytest.mark.parametrize("seed", range(12))
def test_equals_the_generic_op(monkeypatch, seed, task_bytes, rectify):
    monkeypatch.setattr(few_images, "_TASK_BYTES", task_bytes)
    monkeypatch.setattr(few_images, "_SHARED_PRODUCTS", 200)
    rng = np.random.default_rng(seed)
    size, stride, dilation = (tuple(int(v) for v in rng.integers(1, high, 2)) for high in (5, 4, 3))
    pad = tuple(int(v) for v in rng.integers(0, 4, 2))
    extent = [d * (k - 1) + 1 for d, k in zip(dilation, size, strict=True)]
    image = [max(1, e - 2 * p) + int(rng.integers(0, 7)) for e, p in zip(extent, pad, strict=True)]
    n, c, f, groups = int(rng.integers(1, few_images.MANY)), *(int(v) for v in rng.integers(1, 5, 3))
    x, W, b = (
        rng.normal(size=(n, c * groups, *image)),
        rng.normal(size=(f * groups, c, *size)),
        rng.normal(size=f * groups),
    )
    options = {"stride": stride, "pad": pad, "dilation": dilation, "groups": groups}
    op = ops.rectified_convolution if rectify else ops.convolution
    with dispatch.generic_only():
        expected = op(x, W, b, **options)
    found = op(np.asfortranarray(x), W, b, **options)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
    assert found.flags.c_contiguous


def test_runs_for_few_images_alone(monkeypatch):
    seen = []
    convolution = few_images.convolution
    monkeypatch.setattr(
        few_images, "convolution", lambda x, *args, **kw: seen.append(len(x)) or convolution(x, *args, **kw)
    )
    W = np.ones((2, 1, 3, 3), np.float32)
    for n in (1, few_images.MANY - 1, few_images.MANY):
        kernels.convolution(np.ones((n, 1, 5, 5), np.float32), W)
    assert seen == [1, few_images.MANY - 1]


def test_nan_is_not_rectified_away():
    x = np.full((1, 1, 3, 3), np.nan, np.float32)
    assert np.isnan(ops.rectified_convolution(x, np.ones((2, 1, 3, 3), np.float32))).all()
