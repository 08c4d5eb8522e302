"""Device memory: hidden reads on the host are found, fresh memory is NaN, and there is only so much of it."""

import signal

import numpy as np
import pytest

from tests.hostcuda.child import on_host, run

pytestmark = pytest.mark.needs("cupy")

HIDDEN_READ = """
import ctypes, cupy
from hostcuda import core
a = cupy.arange(8.0)
value = ctypes.c_double.from_address(a.data.ptr + 8)
with core.open_memory():
    print(value.value)
print(core.protection())
def hidden_read(): print("read", value.value)
hidden_read()
"""


def test_read_through_an_address_ends_the_process():
    # by memory protection keys where the processor has them, else by mprotect
    done = run("-c", HIDDEN_READ, HOSTCUDA_PROTECT="1")
    assert done.returncode == -signal.SIGSEGV and "in hidden_read" in done.stderr, done.stderr
    value, protection = done.stdout.split(maxsplit=1)
    assert value == "1.0" and protection.strip() in ("memory protection keys", "mprotect")


@on_host()
def test_no_reads_refuses_every_read_on_the_host():
    import cupy as cp
    from hostcuda import core

    a = cp.arange(3.0)
    for read in (float, bool, int):
        with core.no_reads(), pytest.raises(Exception, match="a value was read on the host"):
            read(a[1])
        assert read(a[1]) == 1
    with core.no_reads(), pytest.raises(Exception, match="a value was read on the host"):
        a.get()
    with core.no_reads():
        a += 1  # no read
        with core.no_reads(refuse=False):
            a.get()
        with pytest.raises(Exception, match="a value was read on the host"):
            a.get()
    np.testing.assert_array_equal(a.get(), [1, 2, 3])


@on_host()
def test_launches_reads_and_waits_are_counted():
    import cupy as cp
    from hostcuda import core

    a = cp.arange(4.0)
    a + a
    before, add = core.counted(), core.launches()["cupy_add__float64_float64_float64"]
    a + a
    a + a
    a.get()
    cp.cuda.Stream.null.synchronize()
    after = core.counted()
    counts = {name: after[name] - before[name] for name in after}
    assert counts["launches"] == 2 and counts["reads"] == 1 and counts["waits"] >= 1
    assert core.launches()["cupy_add__float64_float64_float64"] - add == 2


@on_host()
def test_fresh_memory_is_nan():
    import cupy as cp

    for dtype in ("float16", "float32", "float64"):
        assert np.isnan(cp.empty(1000, dtype).get()).all()


@on_host(HOSTCUDA_MEMORY=str(64 << 20))
def test_memory_is_limited():
    import cupy as cp

    assert cp.cuda.Device().mem_info[1] == 64 << 20
    a = cp.empty(40 << 20, "uint8")
    with pytest.raises(cp.cuda.memory.OutOfMemoryError):
        cp.empty(40 << 20, "uint8")
    del a
    cp.get_default_memory_pool().free_all_blocks()
    assert cp.zeros(40 << 20, "uint8").sum() == 0


@on_host(HOSTCUDA_DEVICES="2")
def test_devices_have_memory_of_their_own():
    import cupy as cp

    with cp.cuda.Device(1):
        b = cp.arange(3, dtype="float32")
    assert cp.cuda.runtime.getDeviceCount() == 2 and b.device.id == 1
    kernel = cp.RawKernel('extern "C" __global__ void f(float* a) { a[0] = 1; }', "f")
    with pytest.raises(Exception, match="argument 0 lies on another device"):
        kernel((1,), (1,), (b,))
    with pytest.raises(ValueError, match="device"):
        b + cp.arange(3, dtype="float32")
    with cp.cuda.Device(1):
        kernel((1,), (1,), (b,))
    np.testing.assert_array_equal(b.get(), [1, 1, 2])
    np.testing.assert_array_equal(cp.asarray(b).get(), [1, 1, 2])
