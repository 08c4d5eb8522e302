"""The gelu layer."""

from __future__ import annotations

from xpdl.backends.namespaces import Array
from xpdl.layers.base import Layer
from xpdl.ops import gelu as ops
from xpdl.ops.checks import as_floating


class Gelu(Layer):
    """Gaussian error linear unit: ``x * Phi(x)`` with the normal distribution function Phi (arXiv:1606.08415).

    Parameters
    ----------
    approximate : {"none", "tanh"}
        "tanh" takes ``(1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2`` for Phi, as GPT-2 does; it is off by up to 5e-4.

    Notes
    -----
    Saves its input for the backward pass. Training and evaluation do not differ.

    Examples
    --------
    >>> layer = Gelu()
    >>> layer.forward(np.array([[-1.0, 0.0, 2.0]])).round(3)
    array([[-0.159,  0.   ,  1.954]])
    >>> layer.backward(np.array([[1.0, 1.0, 1.0]])).round(3)
    array([[-0.083,  0.5  ,  1.085]])
    """

    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        if approximate not in ("none", "tanh"):
            raise ValueError(f"{self.name}: approximate must be 'none' or 'tanh', got {approximate!r}")
        self.approximate = approximate
        self.saved: Array | None = None

    def forward(self, x: Array) -> Array:
        """The activation of an array of any shape; integers become floats."""
        self.saved = x = as_floating(x, self.name)
        return ops.gelu(x, self.approximate)

    def backward(self, dout: Array) -> Array:
        """``dx`` for `dout` of the shape of the output."""
        x = self.require_saved(self.saved)
        return ops.gelu_backward(self.require_dout(dout, x.shape, x), x, self.approximate)
