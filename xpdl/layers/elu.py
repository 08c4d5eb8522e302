"""The elu layer."""

from __future__ import annotations

from xpdl.backends.namespaces import Array
from xpdl.layers.base import Layer
from xpdl.ops import activations
from xpdl.ops.checks import as_floating, number


class Elu(Layer):
    """Exponential linear unit: `x` where it is positive, else ``alpha * (exp(x) - 1)`` (arXiv:1511.07289).

    Parameters
    ----------
    alpha : float
        At least 0. The derivative at 0 is taken as `alpha`.

    Notes
    -----
    Saves its output for the backward pass. Training and evaluation do not differ.

    Examples
    --------
    >>> layer = Elu()
    >>> layer.forward(np.array([[-1.0, 0.0, 2.0]])).round(3)
    array([[-0.632,  0.   ,  2.   ]])
    >>> layer.backward(np.array([[1.0, 1.0, 1.0]])).round(3)
    array([[0.368, 1.   , 1.   ]])
    """

    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__()
        self.alpha = number(alpha, "alpha", self.name, "at least 0")
        self.saved: Array | None = None

    def forward(self, x: Array) -> Array:
        """The activation of an array of any shape; integers become floats."""
        self.saved = y = activations.elu(as_floating(x, self.name), self.alpha)
        return y

    def backward(self, dout: Array) -> Array:
        """``dx`` for `dout` of the shape of the output."""
        y = self.require_saved(self.saved)
        return activations.elu_backward(self.require_dout(dout, y.shape, y), y, self.alpha)
