"""A relu and the layer beside it, computed as one.

Both layers are left as after a forward pass of their own, so that their backward passes may also be called one after the
other.
"""

from __future__ import annotations

from collections.abc import Iterator, Reversible
from typing import Any, ClassVar

from xpdl.backends.dispatch import has_kernel
from xpdl.backends.namespaces import Array
from xpdl.layers.base import Layer, Slot
from xpdl.layers.convolution import Convolution
from xpdl.layers.pooling import Pooling
from xpdl.layers.relu import Relu
from xpdl.ops.checks import as_floating
from xpdl.ops.convolution import rectified_convolution
from xpdl.ops.pooling import rectified_max_pooling, rectified_max_pooling_backward


def merged(layers: Reversible[Layer]) -> list[Layer]:
    """The layers, a `Relu` as one with the layer beside it.

    That is `Pooling` after it; else a layer before it that has `forward_rectified`, or a `Convolution` where a kernel does
    both.
    """
    steps: list[Layer] = []
    for layer in reversed(layers):
        after = steps[-1] if steps else None
        if type(layer) is Relu and type(after) is Pooling:
            steps[-1] = _RectifiedPooling(layer, after)
        # asked of the class itself: one derived from it may compute something else
        elif type(after) is Relu and "forward_rectified" in vars(type(layer)):
            steps[-1] = _Rectified(layer, after)
        elif type(layer) is Convolution and type(after) is Relu and has_kernel("rectified_convolution", layer.W):
            steps[-1] = _RectifiedConvolution(layer, after)
        else:
            steps.append(layer)
    return steps[::-1]


class _RectifiedPooling(Layer):
    """Max pooling of rectified values, computed as rectified largest values: the same bits, and fewer values to rectify.

    A step of SimpleConvNet takes 6 % less time on NumPy, and 7 MB less memory; with compiled kernels, which read and write
    everything once, 6 % less again.
    """

    def __init__(self, relu: Relu, pooling: Pooling) -> None:
        super().__init__()
        self.relu, self.pooling = relu, pooling

    def forward(self, x: Array) -> Array:
        x = as_floating(x, self.relu.name)
        # relu's backward asks for the sign of its output alone, which is that of its input
        self.relu.out = x
        # pooling's finds no winner where that is negative, and relu's has nothing to let through there
        return self.pooling.forward_by(rectified_max_pooling, x)

    def backward(self, dout: Array) -> Array:
        return self.pooling.backward_by(rectified_max_pooling_backward, dout)


class _RectifiedConvolution(Layer):
    """A convolution whose result is rectified before it is written to memory."""

    def __init__(self, convolution: Convolution, relu: Relu) -> None:
        super().__init__()
        self.convolution, self.relu = convolution, relu

    def forward(self, x: Array) -> Array:
        self.relu.out = self.convolution.forward_by(rectified_convolution, x)
        return self.relu.out

    def backward(self, dout: Array) -> Array:
        return self.convolution.backward(self.relu.backward(dout))

    def backward_parameters(self, dout: Array) -> None:
        self.convolution.backward_parameters(self.relu.backward(dout))

    def slots(self, kind: str) -> Iterator[Slot]:
        return self.convolution.slots(kind)


class _Rectified(Layer):
    """A layer with `forward_rectified` and its relu: nothing is written to memory, and read again, between the two."""

    has_modes: ClassVar[bool] = True

    def __init__(self, layer: Any, relu: Relu) -> None:
        super().__init__()
        self.layer, self.relu = layer, relu

    def forward(self, x: Array, train_flg: bool | None = None) -> Array:
        self.relu.out = self.layer.forward_rectified(x, train_flg)
        return self.relu.out

    def backward(self, dout: Array) -> Array:
        y = self.relu.recall(self.relu.out)
        dx: Array = self.layer.backward_rectified(self.relu.require_dout(dout, y.shape, y), y)
        return dx

    def slots(self, kind: str) -> Iterator[Slot]:
        slots: Iterator[Slot] = self.layer.slots(kind)
        return slots
