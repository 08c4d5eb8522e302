"""The nets that are timed, each with the shape of its input."""

from __future__ import annotations

from collections.abc import Callable

from xpdl.layers import Affine, BatchNormalization, Convolution, GlobalAveragePooling, Relu, Residual, SoftmaxWithLoss
from xpdl.models import DeepConvNet, MultiLayerNet, Sequential, SimpleConvNet, TwoLayerNet

Shape = tuple[int, ...]


def resnet(stages: tuple[int, ...] = (16, 32, 64)) -> Sequential:
    """A residual net for 32x32 images in colour: so many channels in each of its stages, two blocks in each.

    ``(64, 128, 256, 512)`` makes a ResNet-18 (arXiv:1512.03385) with the entrance that small images have and no
    batch norm in the shortcuts.
    """
    depth = stages[0]
    layers: list[Residual | Convolution | BatchNormalization | Relu] = [*_normalized(depth, 1), Relu()]
    for filters in stages:
        for block in range(2):
            stride = 2 if block == 0 and filters > stages[0] else 1
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
