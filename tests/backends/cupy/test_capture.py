"""Captured steps on the GPU: products by a kernel that may be captured, device_args, and what a recorded step does again."""

import numpy as np
import pytest

from tests.backends.cupy.every_kernel import product
from xpdl.backends.cupy import capture, products
from xpdl.backends.random import mask_keys

pytestmark = [pytest.mark.backends("cupy"), pytest.mark.backends("current")]


@pytest.mark.parametrize("seed", range(8))
def test_products_of_any_shape_and_layout(gpu, seed):
    rng = np.random.default_rng(seed)
    m, k, n, stack = (int(v) for v in rng.integers(1, (140, 70, 140, 4)))
    turned = tuple(bool(v) for v in rng.integers(0, 2, 2))
    product(gpu, rng, (m, k), (k, n), turned=turned)
    product(gpu, rng, (stack, m, k), (stack, k, n), turned=turned)


@pytest.mark.parametrize("k", [64, 65, 100, 128, 700])
def test_products_in_parts(gpu, k):
    rng = np.random.default_rng(k)
    product(gpu, rng, (3, k), (k, 5), turned=(True, False))
    product(gpu, rng, (2, 3, k), (2, k, 5), "float16", turned=(False, True))
    names = [name for name, *_ in gpu.launches]
    assert names == ["matmul", "add_parts"] * 2 if k > 64 else ["matmul"] * 2


def test_a_product_with_tiles_enough_is_in_one_part(gpu, monkeypatch):
    monkeypatch.setattr(products, "BLOCKS", 2)
    product(gpu, np.random.default_rng(0), (70, 200), (200, 3))
    assert [name for name, *_ in gpu.launches] == ["matmul"]


def test_products_of_whole_tiles_and_of_single_values(gpu):
    rng = np.random.default_rng(0)
    product(gpu, rng, (products.TILE, 16), (16, products.TILE))
    product(gpu, rng, (1, 1), (1, 1))
    product(gpu, rng, (1, 200), (200, 1))


def test_a_product_of_what_has_gaps(gpu):
    rng = np.random.default_rng(0)
    a, b = (gpu.array(rng.normal(size=(6, 8)))[:, ::2] for _ in range(2))
    np.testing.assert_allclose(products.tiled(a, b.T).get(), a.get() @ b.get().T, rtol=1e-12)


def test_not_a_number_beyond_an_edge_is_none_of_its_tile(gpu):
    whole = np.full((80, 80), np.nan, "float32")
    whole[:70, :20] = 1.0
    a = gpu.array(whole[:70, :20].copy())
    assert (products.tiled(a, a.T).get() == 20).all()


def test_device_arguments_are_numbers_and_keys_of_masks(gpu):
    device_args, words = capture._DeviceArgs(), (1, 2, 3, 4)
    lr, first, second, again = (
        device_args.number("lr"),
        device_args.mask(words, 5),
        device_args.mask(words, 6),
        device_args.mask(words, 5),
    )
    keep = device_args.number("keep")
    for counter, rate in ((9, 0.1), (10, 1e-3)):
        device_args.fill({"lr": rate, "keep": 0.5, "unused": 2.0}, {words: counter})
        assert (lr.get(), keep.get()) == (rate, 0.5)
        for keys, at in ((first, counter), (second, counter + 1), (again, counter)):
            assert tuple(keys.get()) == mask_keys(words, at)


def test_device_arguments_have_an_end(gpu):
    device_args = capture._DeviceArgs()
    for layer in range(capture.DEVICE_ARGS // 2 - 1):
        device_args.mask((layer,), 0)
    device_args.number("lr")
    with pytest.raises(RuntimeError, match="room for 31 dropout masks"):
        device_args.mask((99,), 0)
