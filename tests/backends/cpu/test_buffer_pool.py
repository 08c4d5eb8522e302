"""Memory of results is used again when nobody holds it, and never before."""

import sys
import threading

import numpy as np
import pytest

from tests.harness import nonempty
from xpdl import layers
from xpdl.backends.cpu import buffer_pool
from xpdl.backends.cpu.tuning import TUNING, tuned

SHAPE = (300, 400)

pytestmark = pytest.mark.skipif(not buffer_pool._counts_are_exact, reason="references are not counted exactly here")


@pytest.fixture(autouse=True)
def no_blocks(monkeypatch):
    monkeypatch.setattr(buffer_pool, "_blocks", type(buffer_pool._blocks)())


def address(array):
    return array.ctypes.data


def test_arrays_are_as_asked_for_and_begin_on_a_line_of_the_cache():
    for shape, dtype in [(SHAPE, np.float32), ((7, 100, 100), np.float64), ((3,), np.float32), ((), np.float64)]:
        array = buffer_pool.empty(shape, dtype)
        assert array.shape == shape and array.dtype == dtype and array.flags.c_contiguous and array.flags.writeable
        assert array.nbytes < TUNING.buffer_pool_smallest or address(array) % 64 == 0


def test_is_used_again_when_the_last_view_is_gone():
    array = buffer_pool.empty(SHAPE, np.float32)
    place = address(array)
    view = array.reshape(-1)[5:].view(np.int32)[::2]
    del array
    assert not np.shares_memory(buffer_pool.empty(SHAPE, np.float32), view)
    del view
    assert address(buffer_pool.empty(SHAPE, np.float32)) == place


@pytest.mark.parametrize(
    "hold",
    [
        lambda array: array.T[3:5],
        lambda array: memoryview(array),
        lambda array: np.lib.stride_tricks.as_strided(array, (2, 2), (4, 4)),
        lambda array: np.frombuffer(array, np.uint8),
        lambda array: {"deep": [array]},
        lambda array: np.from_dlpack(array),
    ],
    ids=["view", "memoryview", "as_strided", "frombuffer", "container", "dlpack"],
)
def test_is_not_used_again_while_anything_holds_it(hold):
    array = buffer_pool.empty(SHAPE, np.float32)
    place, held = address(array), hold(array)
    del array
    assert all(address(buffer_pool.empty(SHAPE, np.float32)) != place for _ in range(3))
    del held
    assert place in {address(kept) for kept in [buffer_pool.empty(SHAPE, np.float32) for _ in range(5)]}


def test_size_may_differ_by_a_quarter():
    place = address(buffer_pool.empty((100_000,), np.float32))
    assert address(buffer_pool.empty((90_000,), np.float32)) == place
    assert address(buffer_pool.empty((70_000,), np.float32)) != place


def test_like_keeps_the_memory_order():
    x = np.empty((40, 30, 20, 10), np.float32).transpose(3, 1, 0, 2)
    found = buffer_pool.empty_like(x)
    assert found.shape == x.shape and found.strides == x.strides


@tuned(buffer_pool_kept=3_000_000)
def test_what_nobody_uses_is_dropped_when_there_is_too_much():
    held = [buffer_pool.empty((250_000,), np.float32) for _ in range(2)]
    buffer_pool.empty((200_000 + 50_000,), np.float32)
    assert buffer_pool._kept() <= 3_000_000
    large = buffer_pool.empty((400_000,), np.float64)  # more than may be kept: it goes back to the system
    del large
    assert buffer_pool._kept() <= 3_000_000
    del held
    buffer_pool.empty((600_000,), np.float32)
    assert buffer_pool._kept() <= 3_000_000 and len(buffer_pool._blocks) == 1


def test_threads_never_get_the_same_memory():
    failures = []

    def work(number):
        for _ in range(300):
            array = buffer_pool.empty(SHAPE, np.float32)
            array[...] = number
            if not (array == number).all():
                failures.append(number)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    finally:
        sys.setswitchinterval(interval)
    assert not failures


def test_results_that_are_kept_stay_as_they_are():
    rng = np.random.default_rng(0)
    layer = layers.Convolution(rng.normal(size=(8, 4, 3, 3)).astype(np.float32), pad=1)
    kept = []
    for _ in range(4):
        x = rng.normal(size=(30, 4, 20, 20)).astype(np.float32)
        y = layer.forward(x)
        dx = layer.backward(y)
        kept += [(array, array.copy()) for array in (y, dx, layer.dW)]
    for array, copy in nonempty(kept):
        np.testing.assert_array_equal(array, copy)


def test_memory_that_is_let_go_is_not_used_again():
    held = buffer_pool.empty((1 << 20,), np.float32)
    held[:] = 1
    buffer_pool.clear()
    other = buffer_pool.empty((1 << 20,), np.float32)
    other[:] = 2
    assert len(buffer_pool._blocks) == 1 and np.all(held == 1)
