"""The dropout layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from xpdl.backends import Backend
from xpdl.backends.namespaces import Array, array_namespace, rounded_to, widened
from xpdl.backends.random import Stream
from xpdl.layers.base import Layer, Shape
from xpdl.layers.building import stream_for
from xpdl.ops import dropout as ops
from xpdl.ops.checks import flag, number, require_floating


class Dropout(Layer):
    """Set a random share of the values to 0 in training (Srivastava et al., JMLR 15, 2014; the book's ch. 6.4).

    Parameters
    ----------
    dropout_ratio : float
        Probability that a value is dropped, in [0, 1).
    inverted : bool
        False, the book's way: training drops, evaluation multiplies by ``1 - dropout_ratio``. True, the way of other
        libraries: training multiplies what is left by ``1 / (1 - dropout_ratio)``, evaluation changes nothing.

    Raises
    ------
    ValueError
        If `dropout_ratio` does not lie in [0, 1).

    Notes
    -----
    The mask of step k is a hash of the layer's stream, k and the position: with one seed it is the same on every backend,
    and different at each step. ``mask`` is the last one drawn. Stream and k are kept in `state`, and so by checkpoints.

    Examples
    --------
    >>> layer = Dropout(0.25)
    >>> layer.eval().forward(np.array([[4.0, 8.0]]))
    array([[3., 6.]])
    """

    accepts_train_flg: ClassVar[bool] = True
    saved_names: ClassVar[tuple[str, ...]] = ("mask", "_shape")

    def __init__(self, dropout_ratio: float = 0.5, *, inverted: bool = False) -> None:
        super().__init__()
        self.dropout_ratio = number(dropout_ratio, "dropout_ratio", self.name, "in [0, 1)")
        self.inverted = flag(inverted, "inverted", self.name)
        self.mask: Array | None = None
        self.state["step"] = 0
        self._scale = 1.0
        self._shape: Shape | None = None

    @property
    def built(self) -> bool:
        return "stream" in self.state

    def build(
        self, input_shape: Sequence[int | None], *, stream: Stream | None = None, backend: Backend | None = None
    ) -> Shape:
        """As in `Layer.build`; what a dropout layer needs is the stream of its masks."""
        if not self.built:
            self._draw_from(stream)
        return super().build(input_shape, stream=stream, backend=backend)

    def forward(self, x: Array, train_flg: bool | None = None) -> Array:
        """The input with some values dropped, in its shape; `train_flg` stands for the layer's mode when given."""
        require_floating(x, self.name)
        keep = 1.0 - self.dropout_ratio
        self._shape = tuple(x.shape)
        if self.training if train_flg is None else train_flg:
            if not self.built:
                self._draw_from(None)
            words, first_row = tuple(self.state["stream"]), 0 if self.share is None else self.share.start
            self.mask = ops.dropout_mask(x, self.dropout_ratio, words, self.state["step"], first_row)
            self.state["step"] += 1
            self._scale = 1.0 / keep if self.inverted else 1.0
            return ops.dropout(x, self.mask, self._scale)
        self.mask = None
        self._scale = 1.0 if self.inverted else keep
        return _scaled(x, self._scale)

    def backward(self, dout: Array) -> Array:
        """``dx``: `dout` through the same mask and scale."""
        dout = self.require_dout(dout, self.require_saved(self._shape), self.mask)
        return _scaled(dout, self._scale) if self.mask is None else ops.dropout(dout, self.mask, self._scale)

    def _draw_from(self, stream: Stream | None) -> None:
        # a run that goes on draws the masks that it would have drawn, whatever the seed of the network is then
        self.state["stream"] = stream_for(self, stream).words("mask")


def _scaled(x: Array, scale: float) -> Array:
    """``scale * x``, where half precision rounds the product alone."""
    return rounded_to(x.dtype, array_namespace(x).multiply(widened(x), scale))
