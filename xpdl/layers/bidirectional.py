"""The bidirectional layer: a recurrent layer, and another that reads sequences from their end."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, ClassVar

from xpdl.backends import Backend
from xpdl.backends.namespaces import Array, array_namespace
from xpdl.backends.random import Stream
from xpdl.layers.base import Layer, Shape, first_shape, row_shape
from xpdl.layers.building import stream_for
from xpdl.layers.composite import Composite
from xpdl.layers.recurrent import GRU, LSTM, RNN
from xpdl.ops.checks import require_floating


class Bidirectional(Composite):
    """A recurrent layer in both directions, whose outputs are joined along the last axis (Schuster and Paliwal 1997).

    Parameters
    ----------
    layer : RNN, LSTM or GRU
        Reads from the first step to the last; an equal layer with parameters of its own reads from the last to the first. It
        has no parameters yet, and is not stateful: what comes after a sequence is not known before it.

    Raises
    ------
    TypeError
        If `layer` is something else.
    ValueError
        If it is stateful, or has parameters.

    Notes
    -----
    Sequences (N, T, F) give (N, T, 2 H), the states of both directions at each step, or (N, 2 H), their last states, of
    which that of the second is at the first step. Masks are those of the layer, so that padding at the end changes nothing.
    Parameters are ``forwards.Wx`` and ``backwards.Wx``, and so on.

    Examples
    --------
    >>> Bidirectional(LSTM(3)).build((5, 2)), Bidirectional(LSTM(3, return_sequences=False)).build((5, 2))
    ((5, 6), (6,))
    """

    accepts_train_flg: ClassVar[bool] = False

    def __init__(self, layer: RNN | LSTM | GRU) -> None:
        super().__init__()
        if not isinstance(layer, (RNN, LSTM, GRU)):
            raise TypeError(f"{self.name}: layer must be an RNN, LSTM or GRU, got {layer!r}")
        if layer.stateful or layer.built:
            problem = "be stateful" if layer.stateful else "have parameters before both directions get theirs"
            raise ValueError(f"{self.name}: layer must not {problem}, got {layer!r}")
        self.layer, self._other = layer, copy.deepcopy(layer)

    def children(self) -> Iterator[tuple[str, Layer]]:
        yield "forwards", self.layer
        yield "backwards", self._other

    def get_config(self) -> dict[str, Any]:
        return {"layer": self.layer}

    def build(self, input_shape: Any, *, stream: Stream | None = None, backend: Backend | None = None) -> Shape:
        """As in `Layer.build`, both directions."""
        stream, shape = stream_for(self, stream), row_shape(first_shape(input_shape), self.name)
        for name, layer in self.children():
            layer.build(shape, stream=stream.child(name), backend=backend)
        return self.output_shape(shape)

    def output_shape(self, input_shape: Shape, mask_shape: Any = None) -> Shape:
        *steps, units = self.layer.output_shape(input_shape)
        return (*steps, 2 * units)

    def forward(self, x: Array, mask: Array | None = None) -> Array:
        """(N, T, 2 H) for sequences `x` (N, T, F), or the last states (N, 2 H); `mask` (N, T) as in `RNN`."""
        require_floating(x, self.name)
        self.build_for(x)
        xp = array_namespace(x, owner=self.name)
        first = self.layer.forward(x, mask)
        second = self._other.forward(xp.flip(x, axis=1), None if mask is None else xp.flip(mask, axis=1))
        second = xp.flip(second, axis=1) if self.layer.return_sequences else second
        return xp.concat([first, second], axis=-1)

    def backward(self, dout: Array) -> Array:
        """``dx`` (N, T, F) for `dout` of the shape of the output, from both directions."""
        x = self.layer.require_saved(self.layer.saved)[0]
        *steps, units = self.layer.output_shape(tuple(x.shape[1:]))
        self.require_dout(dout, (x.shape[0], *steps, 2 * units), x)
        xp = array_namespace(dout)
        first, second = dout[..., :units], dout[..., units:]
        second = xp.flip(second, axis=1) if self.layer.return_sequences else second
        return xp.add(self.layer.backward(first), xp.flip(self._other.backward(second), axis=1))
