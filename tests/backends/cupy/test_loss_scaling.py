"""Mixed precision on the GPU: kernels give the bits of the generic ops, a step reads nothing and launches few of them."""

import sys

import numpy as np
import pytest

from tests.backends.cupy.every_kernel import same
from tests.selection import host_dtypes
from xpdl import Adam, Affine, BatchNormalization, DTypeError, MixedPrecision, Relu, Sequential, SoftmaxWithLoss
from xpdl.backends import dispatch, dtypes
from xpdl.backends.cupy import loss_scaling as kernels
from xpdl.ops import normalization
from xpdl.training.precision import loss_scale

pytestmark = [pytest.mark.backends("cupy"), pytest.mark.backends("current")]


@pytest.mark.parametrize("dtype", host_dtypes("float16", "bfloat16"))
def test_many_arrays_take_few_launches(gpu, dtype):
    arrays = [gpu.array(np.full(3, k, "float32")) for k in range(kernels.TENSORS + 2)]
    for k, a in enumerate(loss_scale.cast_all(arrays, dtype)):
        np.testing.assert_array_equal(a.get().astype("float32"), k)
    assert len(gpu.launches) == 2


@pytest.mark.parametrize("dtype", host_dtypes("float16", "bfloat16", "float32"))
def test_packs_and_single_values_are_bitwise_identical(gpu, dtype):
    rng = np.random.default_rng(0)
    sizes = (1, 5, 64, kernels.CHUNK + 11)
    wide = [(10 * rng.normal(size=size)).astype("float32") for size in sizes]
    for place in (gpu.array, gpu.unaligned):
        same(gpu, loss_scale.cast_all, [place(a) for a in wide], dtype)
        grads = [place(a.astype(dtype)) for a in wide]
        same(gpu, loss_scale.unscale, grads, gpu.array(np.array(3.0, "float32")), "float32")
        for k, size in enumerate(sizes):
            for at in {0, size // 2, size - 1}:
                spoiled = wide[k].astype(dtype)
                spoiled[at] = np.inf
                same(gpu, loss_scale.all_finite, [*grads[:k], place(spoiled), *grads[k + 1 :]])


def test_strided_empty_and_other_dtypes(gpu):
    array = gpu.array
    columns = array(np.arange(12.0, dtype="float16").reshape(3, 4)).T
    same(gpu, loss_scale.unscale, [columns, columns], None, "float32")
    gpu.launches.clear()
    empty = array(np.ones((0, 3), "float32"))
    assert loss_scale.cast_all([empty], "float16")[0].shape == (0, 3)
    assert loss_scale.unscale([columns], None, "float64")[0].dtype == "float64"
    assert loss_scale.cast_all([array(np.ones(2, "float64"))], "float16")[0].dtype == "float16"
    assert not gpu.launches, "left to the generic op"


@pytest.mark.parametrize("dtype", host_dtypes("float16", "bfloat16"))
@pytest.mark.parametrize("shape", [(40, 3), (3, 4, 7, 6)])
@pytest.mark.parametrize("activation", [None, "relu"])
def test_normalization_has_statistics_in_float32(gpu, dtype, shape, activation):
    rng, array = np.random.default_rng(0), gpu.array
    x, dy = (array(rng.normal(size=shape).astype(dtype)) for _ in range(2))
    gamma, beta, mean, var = (array(np.abs(rng.normal(size=shape[1])).astype("float32")) for _ in range(4))

    def answers():
        y, *statistics = normalization.batch_normalization(x, gamma, beta, 1e-3, activation=activation)
        back = normalization.batch_normalization_backward(dy, x, gamma, *statistics, 1e-3, y=y, activation=activation)
        given = normalization.normalize(x, gamma, beta, mean, var, 1e-3, activation=activation)
        around = normalization.normalize_backward(dy, x, gamma, mean, var, 1e-3, y=y, activation=activation)
        return [y, back[0], given, around[0]], [*statistics, *back[1:], *around[1:]]

    images, channels = answers()
    kernels = {name if len(shape) == 4 else f"{name}_of_rows" for name in ("batch_normalization", "normalize")}
    assert kernels <= {name for name, d, *_ in gpu.launches if d == dtype}
    with dispatch.generic_only():
        want_images, want_channels = answers()
    coarse = {"float16": 4e-3, "bfloat16": 3e-2}[dtype]
    for found, wanted, kind, rtol in ((images, want_images, dtype, coarse), (channels, want_channels, "float32", 2e-5)):
        for actual, desired in zip(found, wanted, strict=True):
            assert actual.dtype.name == desired.dtype.name == kind
            a, b = actual.get().astype("float64"), desired.get().astype("float64")
            np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * np.abs(b).max())


def test_a_step_launches_a_kernel_for_all_parameters_at_once(backend, gpu):
    with backend.use("float32") as made:
        layers = [Affine(units=6), BatchNormalization(), Relu(), Affine(units=3)]
        net = Sequential(*layers, loss=SoftmaxWithLoss, seed=0)
        net.build((4,))
        rng = np.random.default_rng(0)
        x, t = made.asarray(rng.normal(size=(8, 4))), made.asarray(rng.integers(0, 3, 8))
        scaled, adam = MixedPrecision(), Adam()
        with gpu.rules():
            for _ in range(2):
                gpu.launches.clear()
                scaled.update(adam, net.params, scaled.gradient(net, x, t))
    names = [(name, dtype) for name, dtype, *_ in gpu.launches]
    # parameters are rounded for the way forward and again for the way back
    assert names.count(("cast_all", "float16")) == 2
    # gradients of batch normalization are in float32 already
    assert names.count(("unscale", "float16")) == names.count(("unscale", "float32")) == 1
    tail = ["all_finite", "update_loss_scale", "corrected_rate", "adam_step"]
    assert names[-4:] == [(name, "float32") for name in tail]
    assert ("batch_normalization_of_rows", "float16") in names and ("softmax_with_loss", "float32") in names


def test_bfloat16_without_its_package_says_what_to_install(backend, monkeypatch):
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    monkeypatch.delitem(vars(backend.xp), "bfloat16", raising=False)
    with pytest.raises(DTypeError, match="pip install ml_dtypes"):
        dtypes.dtype_by_name("bfloat16", backend.xp)
