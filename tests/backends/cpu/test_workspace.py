"""Scratch memory: kept by name and thread, aligned, as large as the largest that was asked for."""

import threading

import numpy as np

from xpdl.backends.cpu.workspace import scratch


def test_is_the_same_memory_for_the_same_name_and_grows():
    small = scratch("test", (3, 5), np.float32)
    assert small.shape == (3, 5) and small.dtype == np.float32
    small[...] = 7
    again = scratch("test", (15,), np.float32)
    assert np.shares_memory(small, again) and (again == 7).all()
    assert not np.shares_memory(small, scratch("test of another name", (15,), np.float32))
    large = scratch("test", (1000,), np.float64)
    assert large.shape == (1000,) and not np.shares_memory(small, large)
    assert np.shares_memory(large, scratch("test", (15,), np.float32))


def test_begins_on_a_line_of_the_cache():
    for size in range(1, 2000, 333):
        assert scratch(f"test {size}", (size,), np.float32).ctypes.data % 64 == 0


def test_every_thread_has_its_own():
    found = []
    threads = [threading.Thread(target=lambda: found.append(scratch("test", (10,), np.float32))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found.append(scratch("test", (10,), np.float32))
    assert not any(np.shares_memory(a, b) for a, b in zip(found, found[1:] + found[:1], strict=True))
