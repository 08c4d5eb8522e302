"""The softplus layer."""

from __future__ import annotations

from xpdl.backends.namespaces import Array
from xpdl.layers.base import Layer
from xpdl.ops import activations
from xpdl.ops.checks import as_floating


class Softplus(Layer):
    """Softplus: ``log(1 + exp(x))``, a smooth relu that is positive everywhere.

    Notes
    -----
    Saves its output for the backward pass. Training and evaluation do not differ.

    Examples
    --------
    >>> layer = Softplus()
    >>> layer.forward(np.array([[-1.0, 0.0, 2.0]])).round(3)
    array([[0.313, 0.693, 2.127]])
    >>> layer.backward(np.array([[1.0, 1.0, 1.0]])).round(3)
    array([[0.269, 0.5  , 0.881]])
    """

    def __init__(self) -> None:
        super().__init__()
        self.saved: Array | None = None

    def forward(self, x: Array) -> Array:
        """The activation of an array of any shape; integers become floats."""
        self.saved = y = activations.softplus(as_floating(x, self.name))
        return y

    def backward(self, dout: Array) -> Array:
        """``dx`` for `dout` of the shape of the output."""
        y = self.require_saved(self.saved)
        return activations.softplus_backward(self.require_dout(dout, y.shape, y), y)
