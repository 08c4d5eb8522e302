"""The residual block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from xpdl.backends import Backend
from xpdl.backends.namespaces import Array
from xpdl.backends.random import Stream, next_stream
from xpdl.errors import ShapeError
from xpdl.layers.base import Layer, Shape, row_shape
from xpdl.layers.chain import Chain
from xpdl.layers.composite import Composite
from xpdl.layers.identity import Identity
from xpdl.ops.activations import relu_backward
from xpdl.ops.arithmetic import add
from xpdl.ops.checks import require_floating


class Residual(Composite):
    """``y = f(x) + s(x)``: layers in sequence, added to a shortcut (arXiv:1512.03385).

    Parameters
    ----------
    *layers : Layer
        f, in order.
    shortcut : Layer, optional
        s, where f changes the shape, say a strided 1x1 convolution; the identity when not given.

    Raises
    ------
    ShapeError
        If f and s give different shapes.
    """

    def __init__(self, *layers: Layer | tuple[str, Layer], shortcut: Layer | None = None) -> None:
        super().__init__()
        if not (shortcut is None or isinstance(shortcut, Layer)):
            raise TypeError(f"{self.name}: shortcut must be a layer, got {shortcut!r}; write Relu() rather than Relu")
        self.body = Chain(*layers)
        self.shortcut = Chain(Identity() if shortcut is None else shortcut)

    def children(self) -> Iterator[tuple[str, Layer]]:
        yield "body", self.body
        yield "shortcut", self.shortcut

    def get_config(self) -> dict[str, Any]:
        return {**self.body.get_config(), "shortcut": next(iter(self.shortcut.layers.values()))}

    def build(
        self, input_shape: Sequence[int | None], *, stream: Stream | None = None, backend: Backend | None = None
    ) -> Shape:
        """As in `Layer.build`, both paths."""
        stream = stream or next_stream(type(self).__name__)
        for name, path in self.children():
            path.build(input_shape, stream=stream.child(name), backend=backend)
        return self.output_shape(row_shape(input_shape, self.name))

    def output_shape(self, input_shape: Shape) -> Shape:
        out, short = self.body.output_shape(input_shape), self.shortcut.output_shape(input_shape)
        if out != short:
            raise ShapeError(
                f"{self.name}: the layers give rows of shape {out} but the shortcut {short}; "
                "give a shortcut= layer that changes the shape likewise"
            )
        return out

    def forward(self, x: Array, train_flg: bool | None = None) -> Array:
        """``f(x) + s(x)``; `train_flg` stands for the mode of all layers inside when given."""
        self._check(x)
        return add(self.body.forward(x, train_flg), self.shortcut.forward(x, train_flg))

    def backward(self, dout: Array) -> Array:
        """``dx``, the sum of both paths."""
        return add(self.body.backward(dout), self.shortcut.backward(dout))

    def forward_rectified(self, x: Array, train_flg: bool | None = None) -> Array:
        """The output of a relu after `forward`, in one."""
        self._check(x)
        return self.body.forward_to_rectified_sum(x, train_flg, self.shortcut.forward(x, train_flg))

    def backward_rectified(self, dout: Array, y: Array) -> Array:
        """`backward` from the gradient of that output, which is `y`."""
        return self.backward(relu_backward(dout, y))

    def _check(self, x: Array) -> None:
        require_floating(x, self.name)
        self.build_for(x)
        self.output_shape(tuple(x.shape[1:]))
