"""The roofline's table of kernels has all that a training step launches."""

import pytest

from tests.backends.cupy.test_launch_counts import STEPS, launches_of_a_step, pytestmark
from xpdl.bench import roofline

__all__ = ["pytestmark"]

# Kernels of CuPy's own, which no row of the table counts: the mean of `GlobalAveragePooling` and its gradient.
GLOBAL_MEAN = {
    "cub_device_segmented_reduce",
    "cupy_true_divide__float32_float_float32",
    "cupy_add__float32_float32_float32",
}


@pytest.mark.parametrize("name", STEPS)
def test_the_roofline_has_every_kernel_of_a_step(backend, name):
    from hostcuda import core

    before = {}
    (count,) = launches_of_a_step(backend, name, 2, before_last=lambda: before.update(core.launches()))
    launched = {kernel: number - before.get(kernel, 0) for kernel, number in core.launches().items()}
    launched = {kernel: number for kernel, number in launched.items() if number}
    assert sum(launched.values()) == count > 0
    others = set(launched) - set(roofline.KERNELS)
    assert others == (GLOBAL_MEAN if name.startswith("ResNet") else set())
    # one layer's, forward and backward: no sum of branches and no update is among them
    assert sum(launched[kernel] for kernel in others) <= 4
