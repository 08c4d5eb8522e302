"""The number of launches of a training step on the real CuPy, which hostcuda counts: kernels of ours and CuPy's own.

Matrix products are cuBLAS's and not counted. Without cuDNN, as here, a convolution is counted as two kernels about its
product forward, two more for the gradient of its filters, and one for that of its input.
"""

import numpy as np
import pytest

from tests.harness import on_host
from xpdl import MixedPrecision
from xpdl.backends import numerics
from xpdl.bench.nets import NETS, resnet
from xpdl.optimizers import Adam

pytestmark = [
    pytest.mark.backends("cupy"),
    pytest.mark.backends("current"),
    pytest.mark.applies(lambda: on_host()),
]

# Net -> rows of a batch, launches at most. Of large batches, sums for the bias of a convolution take a second launch.
# A mean is two launches, as on a GPU: the sum by CUB, and the division.
STEPS = {
    "TwoLayerNet": (100, 9),
    "MLP": (100, 12),
    "SimpleConvNet": (20, 17),
    "DeepConvNet": (20, 61),
    "ResNet": (4, 148),
    "ResNet-18": (2, 193),
}
MADE = {**NETS, "ResNet-18": (lambda: resnet((64, 128, 256, 512)), (3, 32, 32))}


def launches_of_a_step(backend, name, rows, steps=1, precision=None, before_last=lambda: None):
    """Of each of `steps` after a first one."""
    from hostcuda import core

    make, shape = MADE[name]
    rng, counts = np.random.default_rng(0), []
    with backend.use("float32"):
        net, optimizer = make(), Adam()
        net.build(shape)
    x = backend.asarray(rng.random((rows, *shape), np.float32))
    t = backend.asarray(rng.integers(0, 10, rows))
    for step in range(1 + steps):
        if step == steps:
            before_last()
        before = core.counted()["launches"]
        with backend.rules():
            if precision is None:
                optimizer.update(net.params, net.gradient(x, t))
            else:
                precision.update(optimizer, net.params, precision.gradient(net, x, t))
        counts.append(core.counted()["launches"] - before)
    return counts[1:]


# With cuDNN: net -> launches at most in float32 and TF32, in mixed precision, and of them transposes of images. These are of
# the first images, forward and for the gradient of filters, or of those before a fully connected layer, twice, and of their
# gradient; an image of one channel needs none.
WITH_CUDNN = {
    "SimpleConvNet": (13, 16, 24, 3),
    "DeepConvNet": (32, 39, 47, 3),
    "ResNet": (74, 74, 82, 2),
    "ResNet-18": (94, 94, 102, 2),
}


@pytest.mark.parametrize("mode", ["highest", "tf32", "bfloat16"])
@pytest.mark.parametrize("name", WITH_CUDNN)
def test_a_step_with_cudnn_transposes_images_at_the_border_alone(backend, gpu, library, name, mode):
    library()
    *most, transposes = WITH_CUDNN[name]
    rows, _ = STEPS[name]
    with numerics.numerics(precision="tf32" if mode == "tf32" else "highest"):
        precision = MixedPrecision("bfloat16") if mode == "bfloat16" else None
        [launches] = launches_of_a_step(backend, name, rows, precision=precision, before_last=gpu.launches.clear)
    assert launches <= most[["highest", "tf32", "bfloat16"].index(mode)]
    assert [each.name for each in gpu.launches].count("transpose") == (0 if mode == "highest" else transposes)


@pytest.mark.parametrize("name", STEPS)
def test_a_step_has_no_more_launches(backend, name):
    rows, most = STEPS[name]
    assert launches_of_a_step(backend, name, rows)[0] <= most


def test_every_step_has_the_same_launches(backend):
    """Denormals are flushed every 64 steps, and not by launches."""
    assert len(set(launches_of_a_step(backend, "TwoLayerNet", 3, steps=66))) == 1
