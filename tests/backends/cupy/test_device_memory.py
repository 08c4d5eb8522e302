"""What is asked of the device's memory, and what is said when there is too little."""

import numpy as np
import pytest

from tests.backends.cupy import fake
from tests.backends.cupy.test_kernels import network
from xpdl import Trainer
from xpdl.backends import device_memory, make_backend
from xpdl.errors import OutOfMemoryError

MIB = 1 << 20


@pytest.fixture
def device(host, monkeypatch):
    """Sets what is free: ``device(free, used, unused, limit)`` in MiB."""

    def set_to(free, used=0, unused=0, limit=0):
        monkeypatch.setattr(fake.Device, "mem_info", (free * MIB, 1 << 40))
        for name, value in (("used", used), ("unused", unused), ("limit", limit)):
            monkeypatch.setattr(fake.pool, name, value * MIB)

    return set_to


@pytest.fixture
def stand_in(host):
    return make_backend(fake.module)


def test_free_is_what_the_device_and_the_pool_have(device, stand_in):
    device(free=100, used=30, unused=20)
    assert device_memory.free_bytes(stand_in) == 120 * MIB


def test_free_is_what_the_limit_of_the_pool_leaves(device, stand_in):
    device(free=100, used=30, unused=20, limit=70)
    assert device_memory.free_bytes(stand_in) == 40 * MIB


def test_memory_of_the_host_is_not_asked_for():
    numpy = make_backend("numpy")
    assert device_memory.free_bytes(numpy) is None and device_memory.fits(numpy, np.zeros(3))
    with pytest.raises(MemoryError, match="as it was"), device_memory.explained(numpy, 3):
        raise MemoryError("as it was")


@pytest.mark.parametrize("free,whole", [(7, False), (8, True)])
def test_half_of_what_is_free_may_stay(device, stand_in, free, whole):
    device(free=free)
    # 4 MiB of float32, whatever came
    assert device_memory.fits(stand_in, np.zeros(MIB, "float64")) is whole
    assert device_memory.fits(stand_in, np.zeros(4 * MIB, "uint8")) is whole
    assert device_memory.fits(stand_in, fake.module.asarray(np.zeros(1))), "it is there already"


def failing_after(device, taken, asked, free):
    device(free=free, used=100 + taken)
    raise fake.OutOfMemoryError(asked * MIB, 0)


@pytest.mark.parametrize(
    "taken,asked,free,said",
    [
        # 1000 rows need 800, and 400 are there
        (
            300,
            500,
            100,
            "at least 800 MiB for a step: 300 MiB taken, 500 MiB more asked for, 100 MiB free; try a batch size of 500 ",
        ),
        # in pieces: there seems to be enough
        (300, 500, 900, "try a batch size of 999 or less"),
        (0, 5000, 1, "not one row fits"),
    ],
)
def test_error_says_what_was_needed_what_is_free_and_what_would_fit(device, stand_in, taken, asked, free, said):
    device(free=1000, used=100)
    with (
        pytest.raises(OutOfMemoryError, match=r"a batch of 1000 needs") as error,
        device_memory.explained(stand_in, 1000),
    ):
        failing_after(device, taken, asked, free)
    assert said in str(error.value) and isinstance(error.value.__cause__, fake.OutOfMemoryError)


def trainer(host, rows, **options):
    rng = np.random.default_rng(0)
    x, t = rng.normal(size=(rows, 1, 8, 8)).astype("float32"), rng.integers(0, 10, rows)
    with host.use("float32"):
        return Trainer(network(), x, t, x, t, epochs=1, mini_batch_size=8, seed=0, verbose=False, **options)


def test_trainer_keeps_a_data_set_on_the_device_when_it_fits(host):
    assert isinstance(trainer(host, 20).x_train, fake.ndarray)


def test_trainer_moves_batches_of_a_data_set_that_does_not(host, device):
    whole = trainer(host, 20).train()
    device(free=0)
    made = trainer(host, 20)
    assert isinstance(made.x_train, np.ndarray)
    assert made.train().train_loss_list == whole.train_loss_list


def test_trainer_says_what_batch_size_would_fit(host, device, monkeypatch):
    made = trainer(host, 20)
    device(free=10, used=100)
    monkeypatch.setattr(made.network, "gradient", lambda x, t: failing_after(device, 30, 50, 10))
    with pytest.raises(OutOfMemoryError, match=r"a batch of 8 needs at least 80 MiB .* try a batch size of 4 or less"):
        made.train()
