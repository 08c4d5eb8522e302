"""The softmax layer."""

from __future__ import annotations

from typing import ClassVar

from xpdl.backends.namespaces import Array
from xpdl.layers.base import Layer
from xpdl.ops import activations
from xpdl.ops.checks import as_floating, require_scores


class Softmax(Layer):
    """Softmax over the last axis: ``exp(x) / sum(exp(x))``.

    Training puts `SoftmaxWithLoss` last instead, which is stabler and cheaper; this is for layers in between.

    Notes
    -----
    Keeps its output for the backward pass. Training and evaluation do not differ.

    Examples
    --------
    >>> layer = Softmax()
    >>> layer.forward(np.array([[-1.0, 0.0, 2.0]])).round(3)
    array([[0.042, 0.114, 0.844]])
    >>> layer.backward(np.array([[0.0, 0.0, 1.0]])).round(3)
    array([[-0.035, -0.096,  0.132]])
    """

    saved_names: ClassVar[tuple[str, ...]] = ("out",)

    def __init__(self) -> None:
        super().__init__()
        self.out: Array | None = None

    def forward(self, x: Array) -> Array:
        """The activation of an array (..., K); integers become floats."""
        x = as_floating(x, self.name)
        require_scores(x, self.name)
        self.out = activations.softmax(x)
        return self.out

    def backward(self, dout: Array) -> Array:
        """``dx`` for `dout` of the shape of the output."""
        y = self.require_saved(self.out)
        dout = self.require_dout(dout, y.shape, y)
        return activations.softmax_backward(dout, y)
