"""The arguments of launches."""

import numpy as np
import pytest

from xpdl import optimizers
from xpdl.backends.cupy import launch
from xpdl.models import DeepConvNet

pytestmark = [pytest.mark.backends("cupy"), pytest.mark.backends("current")]


class TestStructures:
    def test_are_raw_bytes(self, backend, gpu):
        """Those with fields cost up to 40 us a launch, in which NumPy describes them to CuPy."""
        with backend.use("float32"):
            net = DeepConvNet(input_dim=(1, 8, 8), hidden_size=5, seed=0)
        rng = np.random.default_rng(0)
        x, t = gpu.array(rng.random((2, 1, 8, 8), np.float32)), gpu.array(np.array([3, 1]))
        optimizers.AdamW().update(net.params, net.gradient(x, t))
        assert all(a.dtype.names is None and a.size == 1 for launch in gpu.launches for a in launch.structures)
        with_structures = {launch.name for launch in gpu.launches if launch.structures}
        assert with_structures >= {"im2col", "max_pooling", "adam_w_step"}

    def test_are_made_once_for_equal_fields(self):
        first = launch.struct("a b", 1, 2)
        assert launch.struct("a b", 1, 2) is first is not launch.struct("a b", 2, 1)
        assert first.tobytes() == np.array([1, 2]).tobytes()
        with pytest.raises(ValueError, match="read-only"):
            first[...] = np.zeros(1, first.dtype)
