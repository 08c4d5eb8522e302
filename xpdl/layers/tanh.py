"""The tanh layer."""

from __future__ import annotations

from typing import ClassVar

from xpdl.backends.namespaces import Array
from xpdl.layers.base import Layer
from xpdl.ops import activations
from xpdl.ops.checks import as_floating


class Tanh(Layer):
    """Hyperbolic tangent.

    Its derivative is ``1 - y^2``.

    Notes
    -----
    Keeps its output for the backward pass. Training and evaluation do not differ.

    Examples
    --------
    >>> layer = Tanh()
    >>> layer.forward(np.array([[-1.0, 0.0, 2.0]]))
    array([[-0.76159416,  0.        ,  0.96402758]])
    >>> layer.backward(np.array([[1.0, 1.0, 1.0]]))
    array([[0.41997434, 1.        , 0.07065082]])
    """

    saved_names: ClassVar[tuple[str, ...]] = ("out",)

    def __init__(self) -> None:
        super().__init__()
        self.out: Array | None = None

    def forward(self, x: Array) -> Array:
        """The activation of an array of any shape; integers become floats."""
        self.out = activations.tanh(as_floating(x, self.name))
        return self.out

    def backward(self, dout: Array) -> Array:
        """``dx`` for `dout` of the shape of the output."""
        y = self.require_saved(self.out)
        dout = self.require_dout(dout, y.shape, y)
        return activations.tanh_backward(dout, y)
