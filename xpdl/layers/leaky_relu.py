"""The leaky relu layer."""

from __future__ import annotations

from xpdl.backends.namespaces import Array
from xpdl.layers.base import Layer
from xpdl.ops import activations
from xpdl.ops.checks import as_floating, number


class LeakyRelu(Layer):
    """Leaky rectified linear unit: `x` where it is positive, else ``slope * x``.

    Parameters
    ----------
    slope : float
        At least 0. The derivative at 0 is taken as `slope`.

    Notes
    -----
    Saves its output for the backward pass. Training and evaluation do not differ.

    Examples
    --------
    >>> layer = LeakyRelu(0.1)
    >>> layer.forward(np.array([[-1.0, 0.0, 2.0]]))
    array([[-0.1,  0. ,  2. ]])
    >>> layer.backward(np.array([[1.0, 1.0, 1.0]]))
    array([[0.1, 0.1, 1. ]])
    """

    def __init__(self, slope: float = 0.01) -> None:
        super().__init__()
        self.slope = number(slope, "slope", self.name, "at least 0")
        self.saved: Array | None = None

    def forward(self, x: Array) -> Array:
        """The activation of an array of any shape; integers become floats."""
        self.saved = y = activations.leaky_relu(as_floating(x, self.name), self.slope)
        return y

    def backward(self, dout: Array) -> Array:
        """``dx`` for `dout` of the shape of the output."""
        y = self.require_saved(self.saved)
        return activations.leaky_relu_backward(self.require_dout(dout, y.shape, y), y, self.slope)
