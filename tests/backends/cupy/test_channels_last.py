"""Channels-last images: every op gives the values of the generic op, whatever the memory order of each of its operands."""

import itertools

import numpy as np
import pytest

from tests.backends.cupy.channels_last import DTYPES, ROWS, SHAPES, close, compare, outputs, place
from tests.harness import nonempty
from xpdl.backends.cupy.layout import empty_images, in_layout, is_channels_last

pytestmark = [pytest.mark.backends("cupy"), pytest.mark.backends("current")]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_op_in_every_order_of_its_operands(gpu, row, dtype):
    rng = np.random.default_rng(0)
    for shape in SHAPES:
        compare(gpu, row, dtype, rng, shape, itertools.product([False, True], repeat=row.images))


@pytest.mark.parametrize("dtype", [*DTYPES, "bool", "uint8"])
def test_copies_from_one_order_to_the_other(gpu, dtype):
    rng = np.random.default_rng(0)
    for shape in [*SHAPES, (3, 40, 7, 9), (2, 33, 8, 8), (0, 3, 2, 2), (1, 64, 1, 65)]:
        host = rng.integers(0, 2 if dtype == "bool" else 100, shape)
        a = gpu.array(host).astype(gpu.array(np.ones(1), dtype).dtype)
        last = in_layout(a, True)
        back = in_layout(last, False)
        for moved in (last, back):
            np.testing.assert_array_equal(moved.get().astype("int64"), host)
        both = min(shape[1], shape[2] * shape[3]) == 1 or not a.size
        assert back.flags.c_contiguous and last.transpose(0, 2, 3, 1).flags.c_contiguous
        assert is_channels_last(last) == (not both) and (last is a) == both
        assert in_layout(last, True) is last and in_layout(a, False) is a
        made = empty_images(shape, a.dtype, True)
        assert made.shape == shape and (both or made.strides == last.strides)


def test_arrays_that_are_neither_are_copied(gpu):
    a = gpu.array(np.arange(2 * 6 * 4 * 5.0).reshape(2, 6, 4, 5))
    for view in (a[:, ::2], a[:, :, 1:], in_layout(a, True)[:, :, ::2], a.transpose(1, 0, 3, 2)):
        assert not is_channels_last(view)
        for last in (False, True):
            moved = in_layout(view, last)
            assert is_channels_last(moved) == last
            np.testing.assert_array_equal(moved.get(), view.get())


def test_operands_at_unaligned_addresses(gpu):
    shape, rng = (3, 8, 4, 5), np.random.default_rng(0)
    for dtype in ("float16", "float32"):
        for row in ROWS:
            arrays, static = row.make(rng, shape)
            aligned = [place(gpu, a, dtype, k < row.images) for k, a in enumerate(arrays)]
            given = [shifted(gpu, a) if k < row.images else a for k, a in enumerate(aligned)]
            actual, desired = (outputs(row.op(*arrays, **static)) for arrays in (given, aligned))
            for got, want in zip(nonempty(actual), desired, strict=True):
                close(got, want.get().astype("float64"), dtype)


def shifted(gpu, a):
    """A copy in the same order, at an address that is a multiple of the size of a value alone."""
    moved = gpu.unaligned(np.ascontiguousarray(a.get().transpose(0, 2, 3, 1))).transpose(0, 3, 1, 2)
    assert is_channels_last(moved)
    return moved
