"""The arguments of launches."""

import numpy as np
import pytest

from tests.backends.cupy import fake
from xpdl import optimizers
from xpdl.backends.cupy import launch
from xpdl.models import DeepConvNet


@pytest.fixture
def passed(host, monkeypatch):
    """Arguments of all launches, by the kernels' names."""
    found, args_by_name = launch._function, {}

    def recorded(file, name, dtype, wide):
        function = found(file, name, dtype, wide)

        def call(grid, block, args):
            args_by_name.setdefault(name, []).append(args)
            function(grid, block, args)

        return call

    monkeypatch.setattr(launch, "_function", recorded)
    return args_by_name


class TestStructures:
    def test_are_raw_bytes(self, host, passed):
        """Those with fields cost up to 40 us a launch, in which NumPy describes them to CuPy."""
        with host.use("float32"):
            net = DeepConvNet(input_dim=(1, 8, 8), hidden_size=5, seed=0)
        rng = np.random.default_rng(0)
        x, t = fake.module.asarray(rng.random((2, 1, 8, 8), np.float32)), fake.module.asarray(np.array([3, 1]))
        optimizers.AdamW().update(net.params, net.gradient(x, t))
        structures = {
            name: [a for args in calls for a in args if isinstance(a, np.ndarray)] for name, calls in passed.items()
        }
        assert all(a.dtype.names is None and a.size == 1 for found in structures.values() for a in found)
        assert {name for name, found in structures.items() if found} >= {"im2col", "max_pooling", "adam_w_step"}

    def test_are_made_once_for_equal_fields(self):
        first = launch.struct("a b", 1, 2)
        assert launch.struct("a b", 1, 2) is first is not launch.struct("a b", 2, 1)
        assert first.tobytes() == np.array([1, 2]).tobytes()
        with pytest.raises(ValueError, match="read-only"):
            first[...] = np.zeros(1, first.dtype)
