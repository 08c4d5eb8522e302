"""The silu layer."""

from __future__ import annotations

from xpdl.backends.namespaces import Array
from xpdl.layers.base import Layer
from xpdl.ops import activations
from xpdl.ops.checks import as_floating


class Silu(Layer):
    """Sigmoid linear unit: ``x * sigmoid(x)``, also called swish (arXiv:1702.03118).

    Notes
    -----
    Saves its input for the backward pass. Training and evaluation do not differ.

    Examples
    --------
    >>> layer = Silu()
    >>> layer.forward(np.array([[-1.0, 0.0, 2.0]])).round(3)
    array([[-0.269,  0.   ,  1.762]])
    >>> layer.backward(np.array([[1.0, 1.0, 1.0]])).round(3)
    array([[0.072, 0.5  , 1.091]])
    """

    def __init__(self) -> None:
        super().__init__()
        self.saved: Array | None = None

    def forward(self, x: Array) -> Array:
        """The activation of an array of any shape; integers become floats."""
        self.saved = x = as_floating(x, self.name)
        return activations.silu(x)

    def backward(self, dout: Array) -> Array:
        """``dx`` for `dout` of the shape of the output."""
        x = self.require_saved(self.saved)
        return activations.silu_backward(self.require_dout(dout, x.shape, x), x)
