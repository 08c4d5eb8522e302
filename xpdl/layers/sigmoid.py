"""The sigmoid layer."""

from __future__ import annotations

from typing import ClassVar

from xpdl.backends.namespaces import Array
from xpdl.layers.base import Layer
from xpdl.ops import activations
from xpdl.ops.checks import as_floating


class Sigmoid(Layer):
    """Logistic function: ``1 / (1 + exp(-x))``.

    Computed so that no input overflows. Its derivative is ``y (1 - y)``.

    Notes
    -----
    Keeps its output for the backward pass. Training and evaluation do not differ.

    Examples
    --------
    >>> layer = Sigmoid()
    >>> layer.forward(np.array([[-1.0, 0.0, 2.0]]))
    array([[0.26894142, 0.5       , 0.88079708]])
    >>> layer.backward(np.array([[1.0, 1.0, 1.0]]))
    array([[0.19661193, 0.25      , 0.10499359]])
    """

    saved_names: ClassVar[tuple[str, ...]] = ("out",)

    def __init__(self) -> None:
        super().__init__()
        self.out: Array | None = None

    def forward(self, x: Array) -> Array:
        """The activation of an array of any shape; integers become floats."""
        self.out = activations.sigmoid(as_floating(x, self.name))
        return self.out

    def backward(self, dout: Array) -> Array:
        """``dx`` for `dout` of the shape of the output."""
        y = self.require_saved(self.out)
        dout = self.require_dout(dout, y.shape, y)
        return activations.sigmoid_backward(dout, y)
