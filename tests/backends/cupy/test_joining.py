"""Arrays joined by one launch, in captured steps too: values, layouts and dtypes of all kinds."""

import numpy as np
import pytest

from tests.backends.cupy.test_captured_steps import BATCH, ROWS, both, graphs
from tests.harness import nonempty
from xpdl import Affine, Concatenate, Graph, Input, SoftmaxWithLoss
from xpdl.backends.cupy import capture as captures
from xpdl.backends.cupy.joining import PARTS

__all__ = ["graphs"]
pytestmark = [pytest.mark.backends("cupy"), pytest.mark.backends("current")]
RNG = np.random.default_rng(0)


def parts_of(count, axis, dtype):
    shapes = nonempty([5 if k == axis else size for k, size in enumerate((2, 3, 4))] for _ in range(count))
    return [(9 * RNG.normal(size=shape)).astype(dtype) for shape in shapes]


@pytest.mark.parametrize(
    "dtype", ["bool", "uint8", "int16", "int32", "int64", "float16", "float32", "float64", "complex64"]
)
@pytest.mark.parametrize("count", [1, 2, 9, PARTS, PARTS + 1])
def test_joined_arrays_are_those_of_numpy(backend, count, dtype):
    for axis in (0, 1, -1):
        hosts = parts_of(count, axis % 3, dtype)
        arrays = [backend.asarray(a) for a in hosts]
        y = backend.call(lambda *a, axis=axis: backend.xp.concat(a, axis=axis), *arrays)
        backend.check(y, np.concatenate(hosts, axis=axis))
        z = backend.call(lambda *a, axis=axis: backend.xp.stack(a, axis=axis), *arrays)
        backend.check(z, np.stack(hosts, axis=axis))


@pytest.mark.parametrize("count", [2, 9])
def test_what_no_kernel_joins_is_left_to_cupy(backend, count):
    hosts = parts_of(count, 0, "float32")
    arrays = [backend.asarray(a) for a in hosts]
    xp = backend.xp
    backend.check(xp.concat(arrays, axis=None), np.concatenate(hosts, axis=None))
    backend.check(xp.concat([a[:, ::-1] for a in arrays]), np.concatenate([a[:, ::-1] for a in hosts]))
    doubles = [xp.astype(arrays[0], xp.float64), *arrays[1:]]
    backend.check(xp.concat(doubles), np.concatenate([hosts[0].astype("float64"), *hosts[1:]]))
    empty = [a[:0] for a in arrays]
    backend.check(xp.concat(empty), np.concatenate([a[:0] for a in hosts]))
    for wrong in ([*arrays, arrays[0][0]], [*arrays, arrays[0][:, :1]]):
        with pytest.raises(ValueError, match="All arrays"):
            xp.concat(wrong)


def test_nan_of_any_bits_goes_through(backend):
    bits = [np.array([0x7FC00001, 0xFFC12345, 0x7F800000], np.uint32), np.array([0x7FE00007], np.uint32)]
    y = backend.xp.concat([backend.asarray(a.view("float32")) for a in bits])
    np.testing.assert_array_equal(backend.to_numpy(y).view(np.uint32), np.concatenate(bits))


def branches(count, size=3):
    x = Input((4,))
    joined = Concatenate()(*[Affine(units=size)(x) for _ in range(count)])
    return Graph(x, Affine(units=3)(joined), loss=SoftmaxWithLoss(), seed=0)


@pytest.mark.parametrize("count", [2, 3, 4, 8, 9, pytest.param(PARTS + 1, marks=pytest.mark.exhaustive)])
def test_a_captured_step_joins_any_number_of_branches(backend, graphs, count):
    """Of more than eight arrays, CuPy sends addresses from the host, which a stream that is captured refuses."""
    rng = np.random.default_rng(3)
    ours = both(backend, lambda: branches(count), rng.normal(size=(ROWS, 4)), rng.integers(0, 3, ROWS))
    assert ours.step.problem is None
    assert graphs == [2 * (ROWS // BATCH) - captures.Recorder.warm_up]
