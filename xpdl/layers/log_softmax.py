"""The log-softmax layer."""

from __future__ import annotations

from typing import ClassVar

from xpdl.backends.namespaces import Array
from xpdl.layers.base import Layer
from xpdl.ops import activations
from xpdl.ops.checks import as_floating, axis_of_rows, require_scores


class LogSoftmax(Layer):
    """Logarithm of softmax over an axis, by default the last: ``x - log(sum(exp(x)))``.

    Parameters
    ----------
    axis : int
        Of the batch (N, ...), but not its first: 1 are the channels of images (N, C, H, W).

    Raises
    ------
    ShapeError
        If the input has no such axis, or no value along it.

    Notes
    -----
    Finite for any finite input, unlike the logarithm of `Softmax`. Keeps its output for the backward pass. Before
    `SoftmaxWithLoss`, which takes the softmax of its input, it changes no loss.

    Examples
    --------
    >>> layer = LogSoftmax()
    >>> layer.forward(np.array([[-1.0, 0.0, 2.0]])).round(3)
    array([[-3.17, -2.17, -0.17]])
    >>> layer.backward(np.array([[0.0, 0.0, 1.0]])).round(3)
    array([[-0.042, -0.114,  0.156]])
    """

    saved_names: ClassVar[tuple[str, ...]] = ("out",)

    def __init__(self, axis: int = -1) -> None:
        super().__init__()
        self.axis = axis_of_rows(axis, self.name)
        self.out: Array | None = None

    def forward(self, x: Array) -> Array:
        """The activation of an array (N, ...); integers become floats."""
        x = as_floating(x, self.name)
        require_scores(x, self.name, self.axis)
        self.out = activations.log_softmax(x, self.axis)
        return self.out

    def backward(self, dout: Array) -> Array:
        """``dx`` for `dout` of the shape of the output."""
        y = self.require_saved(self.out)
        dout = self.require_dout(dout, y.shape, y)
        return activations.log_softmax_backward(dout, y, self.axis)
