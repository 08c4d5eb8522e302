"""The relu layer."""

from __future__ import annotations

from xpdl.backends.namespaces import Array
from xpdl.layers.base import Layer
from xpdl.ops import activations
from xpdl.ops.checks import as_floating


class Relu(Layer):
    """Rectified linear unit: ``max(x, 0)``.

    The derivative at 0 is taken as 0.

    Notes
    -----
    Saves its output for the backward pass, or its input where it is computed with the layer after it: both are positive at
    the same places. Training and evaluation do not differ.

    Examples
    --------
    >>> layer = Relu()
    >>> layer.forward(np.array([[-1.0, 0.0, 2.0]]))
    array([[0., 0., 2.]])
    >>> layer.backward(np.array([[1.0, 1.0, 1.0]]))
    array([[0., 0., 1.]])
    """

    def __init__(self) -> None:
        super().__init__()
        self.saved: Array | None = None

    def forward(self, x: Array) -> Array:
        """The activation of an array of any shape; integers become floats."""
        self.saved = y = activations.relu(as_floating(x, self.name))
        return y

    def backward(self, dout: Array) -> Array:
        """``dx`` for `dout` of the shape of the output."""
        saved = self.require_saved(self.saved)
        dout = self.require_dout(dout, saved.shape, saved)
        return activations.relu_backward(dout, saved)
