"""The nets that are timed, each with the shape of its input."""

from __future__ import annotations

from collections.abc import Callable

from xpdl.layers import Affine, BatchNormalization, Convolution, GlobalAveragePooling, Relu, Residual, SoftmaxWithLoss
from xpdl.models import DeepConvNet, MultiLayerNet, Sequential, SimpleConvNet, TwoLayerNet

Shape = tuple[int, ...]


def resnet() -> Sequential:
    """A small residual net for 32x32 images in colour: three stages of 16, 32 and 64 channels, two blocks in each."""
    layers: list[Residual | Convolution | BatchNormalization | Relu] = [*_normalized(16, 1), Relu()]
    depth = 16
    for filters in (16, 32, 64):
        for block in range(2):
            stride = 2 if block == 0 and filters > 16 else 1
            shortcut = None
            if stride > 1 or filters != depth:
                shortcut = Convolution(filters=filters, size=1, stride=stride, use_bias=False)
            layers += [
                Residual(*_normalized(filters, stride), Relu(), *_normalized(filters, 1), shortcut=shortcut),
                Relu(),
            ]
            depth = filters
    return Sequential(*layers, GlobalAveragePooling(), Affine(units=10), loss=SoftmaxWithLoss, seed=0)


def _normalized(filters: int, stride: int) -> tuple[Convolution, BatchNormalization]:
    return Convolution(filters=filters, size=3, stride=stride, pad=1, use_bias=False), BatchNormalization()


NETS: dict[str, tuple[Callable[[], Sequential], Shape]] = {
    "TwoLayerNet": (lambda: TwoLayerNet(784, 50, 10, seed=0), (784,)),
    "MLP": (lambda: MultiLayerNet(784, [1024, 1024], 10, seed=0), (784,)),
    "SimpleConvNet": (lambda: SimpleConvNet(seed=0), (1, 28, 28)),
    "DeepConvNet": (lambda: DeepConvNet(seed=0), (1, 28, 28)),
    "ResNet": (resnet, (3, 32, 32)),
}
