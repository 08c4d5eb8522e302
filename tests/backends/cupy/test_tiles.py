"""Kernels that stage arrays in shared memory: every way to cut them, at every alignment, gives what the generic op gives."""

import numpy as np
import pytest

from tests.backends.cupy.every_kernel import compare_taps
from tests.harness import nonempty
from tests.selection import host_dtypes
from xpdl.backends.cupy import pooling, sources, tiles, windows
from xpdl.ops import losses
from xpdl.ops import pooling as ops


def quotient(n, divisor):
    """As the kernels' function of this name."""
    return ((n * (divisor & 0xFFFFFFFF) >> 32) + n) >> (divisor >> 32)


@pytest.mark.parametrize("value", [1, 2, 3, 5, 7, 10, 28, 641, 1000, 4095, 4096, 65537, 2**30 + 1, 2**31 - 1])
def test_division_by_a_multiplication_is_exact(value):
    rng = np.random.default_rng(value)
    near = [value * int(k) + d for k in rng.integers(0, 2**31 // value + 1, 50) for d in (-1, 0, 1)]
    numbers = [0, 1, 2**31 - 1, *near, *map(int, rng.integers(0, 2**31, 200))]
    divisor = tiles.divisor(value)
    assert divisor < 2**63
    for n in numbers:
        if 0 <= n < 2**31:
            assert quotient(n, divisor) == n // value, n


@pytest.mark.parametrize("seed", range(20))
def test_bands_cover_each_row_once_and_fit_a_tile(seed):
    rng = np.random.default_rng(seed)
    planes, rows, columns, height, width = (int(v) for v in np.exp(rng.uniform(0, 8, 5)))
    window = int(rng.integers(1, 6))
    bands = tiles.bands(planes, (rows, columns), (height, width), lambda k: min(height, k + window), 4)
    assert bands.total == -(-planes // bands.planes) * bands.per_plane
    assert bands.per_plane == -(-rows // bands.rows) and (bands.planes == 1 or bands.per_plane == 1)
    fits = columns * 4 <= tiles.TILE_BYTES and min(height, 1 + window) * width * 4 <= tiles.TILE_BYTES
    assert bands.staged == fits
    if bands.staged:
        seen = height if bands.per_plane == 1 else min(height, bands.rows + window)
        assert max(bands.planes * bands.rows * columns, bands.planes * seen * width) * 4 <= tiles.TILE_BYTES


#: cut of the arrays -> values of a tile
CUTS = {"planes": 117 * 2, "rows": 60, "in place": 8}


@pytest.fixture(params=CUTS)
def cut(request, monkeypatch, dtype):
    """The name of a way to cut arrays, which small tiles bring about."""
    monkeypatch.setattr(tiles, "TILE_BYTES", CUTS[request.param] * {"float64": 8, "float32": 4}.get(dtype, 2))
    plans = (pooling._plan, windows._bands)
    for plan in plans:
        plan.cache_clear()
    yield request.param
    for plan in plans:
        plan.cache_clear()


def kind_of(bands):
    _, _, per_plane, _, staged = np.frombuffer(bands.tobytes(), np.int64)[:5]
    return "planes" if per_plane == 1 and staged else "rows" if staged else "in place"


OPTIONS = {"size": (3, 2), "stride": (2, 3), "pad": (1, 1)}
# Of a plane: 117 values of images, 21 windows.
SHAPE = (2, 3, 13, 9)


@pytest.mark.backends("cupy")
@pytest.mark.parametrize("dtype", host_dtypes(*sources.TYPES))
class TestPooling:
    def arrays(self, dtype):
        rng = np.random.default_rng(0)
        x = rng.integers(-2, 3, SHAPE).astype(float)
        y = ops.max_pooling(x, **OPTIONS)
        return x, y, rng.integers(-8, 9, y.shape) / 8

    def test_each_cut_gives_what_the_generic_op_gives(self, gpu, cut, dtype):
        x, y, dy = self.arrays(dtype)
        options = {"dtype": dtype, **OPTIONS}
        gpu.compare(ops.max_pooling, x, **options)
        gpu.compare(ops.max_pooling_backward, dy, x, y, **options)
        gpu.compare(ops.average_pooling, x, **options)
        gpu.compare(ops.average_pooling_backward, dy, x, **options)
        for activation in (None, "relu"):
            compare_taps(gpu, dy, x, activation, **options)
        assert {kind_of(each.structures[-1]) for each in gpu.launches} == {cut}

    def test_alignment_changes_no_bit(self, gpu, cut, dtype):
        x, y, dy = self.arrays(dtype)
        x, y, dy = (a.astype(dtype) for a in (x, y, dy))
        taps = ops.max_pooling_with_taps(gpu.array(x), **OPTIONS)[1].get()
        results = []
        for array in (gpu.array, gpu.unaligned):
            top, marks = ops.max_pooling_with_taps(array(x), **OPTIONS)
            results.append(
                [
                    top,
                    marks,
                    ops.max_pooling_backward(array(dy), array(x), array(y), **OPTIONS),
                    ops.max_pooling_backward(array(dy), array(x), array(y), **OPTIONS, taps=array(taps)),
                    ops.average_pooling(array(x), **OPTIONS),
                    ops.average_pooling_backward(array(dy), array(x), **OPTIONS),
                ]
            )
        for one, other in nonempty(zip(*results, strict=True)):
            assert one.get().tobytes() == other.get().tobytes()


@pytest.mark.backends("cupy")
def test_many_tiles_of_a_block(gpu, monkeypatch):
    """Blocks go on where there are more tiles than a launch has blocks."""
    monkeypatch.setattr(tiles, "MOST_BLOCKS", 2)
    pooling._plan.cache_clear()
    x = np.random.default_rng(1).integers(-2, 3, (3, 2, 61, 60)).astype(float)
    y = ops.max_pooling(x, (2, 2), (2, 2))
    gpu.compare(ops.max_pooling, x, size=(2, 2), stride=(2, 2))
    gpu.compare(ops.max_pooling_backward, y, x, y, size=(2, 2), stride=(2, 2))
    pooling._plan.cache_clear()
    assert {each.grid for each in gpu.launches} == {(2,)}


@pytest.mark.backends("cupy")
@pytest.mark.parametrize("dtype", host_dtypes(*sources.TYPES))
class TestLosses:
    # A tile has 1024 to 4096 values: rows of one block, a row of its own, and a row in chunks.
    @pytest.mark.parametrize("rows, classes", [(70, 10), (3, 129), (2, 1000), (3, 4099)])
    @pytest.mark.parametrize("target", ["labels", "weights"])
    def test_rows_of_any_length(self, gpu, dtype, rows, classes, target):
        rng = np.random.default_rng(classes)
        x = (4 * rng.normal(size=(rows, classes))).astype(dtype)
        t = rng.integers(0, classes, rows)
        if target == "weights":
            t = rng.dirichlet(np.ones(classes), rows).astype(dtype)
        gpu.compare(losses.softmax_with_loss, x, t, dtype=dtype)
        y = losses.softmax_with_loss(gpu.array(x), gpu.array(t))[1].get()
        gpu.compare(losses.softmax_with_loss_backward, y, t, dtype=dtype)
        results = []
        for array in (gpu.array, gpu.unaligned):
            loss, probabilities = losses.softmax_with_loss(array(x), gpu.array(t) if target == "labels" else array(t))
            results.append([loss, probabilities, losses.softmax_with_loss_backward(array(y), array(t))])
        for one, other in nonempty(zip(*results, strict=True)):
            assert one.get().tobytes() == other.get().tobytes()


@pytest.mark.backends("cupy")
@pytest.mark.parametrize("dtype", host_dtypes(*sources.TYPES))
class TestWindows:
    #: filter, stride, pad, dilation
    OPTIONS = (((3, 2), (1, 1), (1, 1), (1, 1)), ((3, 2), (2, 3), (1, 0), (2, 1)), ((1, 1), (1, 1), (0, 0), (1, 1)))

    @pytest.mark.parametrize("size, stride, pad, dilation", OPTIONS)
    def test_columns_of_each_cut_are_the_transpose_of_rows(self, gpu, cut, dtype, size, stride, pad, dilation):
        # values that half precision has
        x = np.random.default_rng(0).integers(-99, 100, SHAPE).astype(dtype)
        image = SHAPE[2:]
        out = tuple((image[k] + 2 * pad[k] - dilation[k] * (size[k] - 1) - 1) // stride[k] + 1 for k in (0, 1))
        padded = np.pad(x.astype("float64"), ((0, 0), (0, 0), *((p, p) for p in pad)))
        seen = np.stack(
            [
                padded[:, :, u * dilation[0] :, v * dilation[1] :][
                    :, :, : (out[0] - 1) * stride[0] + 1 : stride[0], : (out[1] - 1) * stride[1] + 1 : stride[1]
                ]
                for u in range(size[0])
                for v in range(size[1])
            ]
        )
        rows = seen.transpose(1, 3, 4, 2, 0)
        for array in (gpu.array, gpu.unaligned):
            for in_rows, desired in ((True, rows), (False, rows.transpose(3, 4, 0, 1, 2))):
                # one value more in front, so that it is not aligned
                shift = array is gpu.unaligned
                buffer = gpu.array(np.full(desired.size + shift, np.nan).astype(dtype))
                windows.gather(array(x), buffer[shift:], out, size, stride, pad, dilation, rows=in_rows)
                np.testing.assert_array_equal(buffer.get()[shift:].astype("float64"), desired.ravel())
                assert not shift or np.isnan(buffer.get()[0].astype("float64"))
        kinds = {kind_of(each.structures[-1]) for each in gpu.launches if each.name == "im2col"}
        assert kinds == {cut}

    @pytest.mark.parametrize("places", [(4, 8), (7, 7)], ids=["whole packs", "single values"])
    def test_rows_and_images_are_swapped_and_rectified(self, gpu, dtype, places):
        rng = np.random.default_rng(1)
        images = rng.integers(-9, 10, (3, 5, *places)).astype(dtype)
        b = rng.integers(-3, 4, 5).astype(dtype)
        wide, of_rows = images.astype("float64"), images.astype("float64").transpose(1, 0, 2, 3)
        for array in (gpu.array, gpu.unaligned):
            rows = windows.rows_of_images(array(images))
            np.testing.assert_array_equal(rows.get().astype("float64"), of_rows.reshape(5, -1))
            for bias, relu in ((None, False), (array(b), True)):
                y = array(np.zeros_like(images))
                windows.images_of_rows(rows, y, bias, relu=relu)
                added = wide if bias is None else wide + b.astype("float64")[:, None, None]
                np.testing.assert_array_equal(y.get().astype("float64"), np.maximum(added, 0) if relu else added)
