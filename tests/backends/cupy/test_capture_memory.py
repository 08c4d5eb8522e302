"""Memory of the device and of the host while CuPy records a step."""

import numpy as np
import pytest

import xpdl
from xpdl import Affine, Relu, Sequential, SoftmaxWithLoss, Trainer
from xpdl.backends.cupy import capture as captures

pytestmark = pytest.mark.backends("cupy")
X, T = np.ones((30, 4), "float32"), np.arange(30) % 3


def trained(backend, *layers, capture=True):
    with backend.use("float32"):
        net = Sequential(Affine(units=5), *layers, Relu(), Affine(units=3), loss=SoftmaxWithLoss, seed=0)
        trainer = Trainer(net, X, T, X, T, 2, 5, "adam", {}, verbose=False, seed=0, compile=capture)
    trainer.train()
    return trainer


def test_out_of_memory_leaves_steps_uncaptured(backend, monkeypatch):
    import cupy

    expected = trained(backend)

    class Full:
        def malloc(self, size):
            raise cupy.cuda.memory.OutOfMemoryError(size, 0, 0)

    monkeypatch.setattr(cupy.cuda, "MemoryPool", Full)
    with pytest.warns(UserWarning, match="cannot be compiled, and all are made eagerly: Out of memory") as warned:
        found = trained(backend)
    assert len(warned) == 1
    assert found.history.train_loss_list == expected.history.train_loss_list
    assert found.current_iter == 12


class Looks(xpdl.Layer):
    """Notes what the default pool keeps for later, when the step is recorded."""

    def __init__(self, cupy):
        super().__init__()
        self.pool, self.kept = cupy.get_default_memory_pool(), []

    def forward(self, x):
        self.kept.append(self.pool.free_bytes())
        return x

    def backward(self, dout):
        return dout


def test_the_pool_gives_back_what_it_keeps_before_a_step_is_recorded(backend):
    import cupy

    with backend.device:
        kept = [cupy.ones(1 << 20, "float32") for _ in range(4)]
    del kept
    layer = Looks(cupy)
    trained(backend, layer)
    # uncaptured ones, and then the recorded step; one of the blocks, of 4 MiB each, may be split among arrays in use
    assert min(layer.kept[: captures.Recorder.warm_up]) >= 12 << 20
    assert layer.kept[captures.Recorder.warm_up] < 4 << 20


def test_an_allocator_of_pinned_memory_stays(backend):
    import cupy

    asked, pool = [], cupy.cuda.PinnedMemoryPool()

    def malloc(size):
        asked.append(size)
        return pool.malloc(size)

    cupy.cuda.set_pinned_memory_allocator(malloc)
    try:
        trained(backend)
        asked.clear()
        with backend.device:
            cupy.asarray(np.ones(1000))
        assert asked
    finally:
        cupy.cuda.set_pinned_memory_allocator(cupy.get_default_pinned_memory_pool().malloc)
