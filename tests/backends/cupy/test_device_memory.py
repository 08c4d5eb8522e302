"""Free bytes of the device, and the advice where there is too little."""

import gc

import numpy as np
import pytest

from tests.backends.cupy.test_kernels import network
from xpdl import Trainer
from xpdl.backends import device_memory, make_backend
from xpdl.errors import OutOfMemoryError

pytestmark = [pytest.mark.backends("cupy"), pytest.mark.backends("current")]
MIB = 1 << 20


@pytest.fixture
def pool(gpu):
    """CuPy's memory pool, empty but for arrays in use; afterwards without a limit."""
    pool = gpu.cupy.get_default_memory_pool()
    # arrays of other tests must not be freed later
    gc.collect()
    pool.free_all_blocks()
    yield pool
    pool.set_limit(size=0)


@pytest.fixture
def device(backend):
    return make_backend("cupy", backend.device)


def leave(pool, mebibytes):
    """Limit the pool to what is in use and so much more."""
    pool.set_limit(size=pool.used_bytes() + mebibytes * MIB)


def test_free_is_what_the_device_and_the_pool_have(gpu, device, pool):
    before = device_memory.free_bytes(device)
    array = gpu.cupy.empty(30 * MIB, np.uint8)
    assert device_memory.free_bytes(device) <= before - 30 * MIB
    taken = device.device.mem_info[0]
    del array
    # the pool keeps it: the device has no more than before
    assert device.device.mem_info[0] == taken and pool.free_bytes() >= 30 * MIB
    assert device_memory.free_bytes(device) >= taken + 30 * MIB


def test_free_is_what_the_limit_of_the_pool_leaves(gpu, device, pool):
    leave(pool, 70)
    array = gpu.cupy.empty(30 * MIB, np.uint8)
    assert device_memory.free_bytes(device) == 40 * MIB
    del array
    assert device_memory.free_bytes(device) == 70 * MIB


def test_memory_of_the_host_is_not_asked_for():
    numpy = make_backend("numpy")
    assert device_memory.free_bytes(numpy) is None and device_memory.fits(numpy, np.zeros(3))
    with pytest.raises(MemoryError, match="as it was"), device_memory.explain_oom(numpy, 3):
        raise MemoryError("as it was")


@pytest.mark.parametrize("free, whole", [(7, False), (8, True)])
def test_half_of_what_is_free_may_stay(gpu, device, pool, free, whole):
    there = gpu.array(np.zeros(5 * MIB, np.uint8))
    leave(pool, free)
    # 4 MiB of float32, whatever came
    assert device_memory.fits(device, np.zeros(MIB, "float64")) is whole
    assert device_memory.fits(device, np.zeros(4 * MIB, "uint8")) is whole
    assert device_memory.fits(device, there), "it is there already"


def fail_after(gpu, pool, taken, asked, free):
    """Ask for more MiB than are free, with `taken` in use."""
    array = gpu.cupy.empty(taken * MIB, np.uint8)
    leave(pool, free)
    if asked > free:
        gpu.cupy.empty(asked * MIB, np.uint8)
    # in pieces, of which none is large enough
    raise gpu.cupy.cuda.memory.OutOfMemoryError(asked * MIB, array.nbytes)


@pytest.mark.parametrize(
    "taken, asked, free, said",
    [
        # 1000 rows need 8, and 4 are there
        (3, 5, 1, "at least 8 MiB for a step: 3 MiB taken, 5 MiB more asked for, 1 MiB free; try a batch size of 500 "),
        (3, 5, 9, "try a batch size of 999 or less"),
        (0, 5000, 1, "not one row fits"),
    ],
)
def test_error_says_what_was_needed_what_is_free_and_what_would_fit(gpu, device, pool, taken, asked, free, said):
    with (
        pytest.raises(OutOfMemoryError, match=r"a batch of 1000 needs") as error,
        device_memory.explain_oom(device, 1000),
    ):
        fail_after(gpu, pool, taken, asked, free)
    assert said in str(error.value)
    assert isinstance(error.value.__cause__, gpu.cupy.cuda.memory.OutOfMemoryError)


def trainer(backend):
    rng = np.random.default_rng(0)
    x, t = rng.normal(size=(20, 1, 8, 8)).astype("float32"), rng.integers(0, 10, 20)
    with backend.use("float32"):
        return Trainer(network(), x, t, x, t, epochs=1, mini_batch_size=8, seed=0, verbose=False)


def test_trainer_keeps_a_data_set_on_the_device_when_it_fits(backend, gpu):
    assert isinstance(trainer(backend).x_train, gpu.cupy.ndarray)


def test_trainer_moves_batches_of_a_data_set_that_does_not(backend, monkeypatch):
    whole = trainer(backend).train()
    monkeypatch.setattr(device_memory, "free_bytes", lambda backend: 0)
    made = trainer(backend)
    assert isinstance(made.x_train, np.ndarray)
    assert made.train().train_loss_list == whole.train_loss_list


def test_trainer_says_what_batch_size_would_fit(backend, gpu, pool, monkeypatch):
    made = trainer(backend)
    monkeypatch.setattr(made.network, "gradient", lambda x, t: fail_after(gpu, pool, 3, 5, 1))
    with pytest.raises(OutOfMemoryError, match=r"a batch of 8 needs at least 8 MiB .* try a batch size of 4 or less"):
        made.train()
