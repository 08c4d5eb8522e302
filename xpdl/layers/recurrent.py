"""Recurrent layers: over the steps of a sequence, with a state that one step gives to the next."""

from __future__ import annotations

from typing import Any, ClassVar

from xpdl import initializers
from xpdl.backends.namespaces import Array, array_namespace, device
from xpdl.errors import DTypeError, ShapeError
from xpdl.layers.base import Layer, Make, Shape, first_shape, gradient, parameter
from xpdl.layers.layouts import sequence_cure
from xpdl.ops import recurrent as ops
from xpdl.ops.checks import flag, positive_int, require_shape
from xpdl.ops.positions import without_masked


class Recurrent(Layer):
    """Base of the three; a subclass has the number of its gates, its states and its ops."""

    gates: ClassVar[int] = 1
    state_names: ClassVar[tuple[str, ...]] = ("h",)
    saved_names: ClassVar[tuple[str, ...]] = ("saved",)
    Wx, Wh, b = parameter("Wx"), parameter("Wh"), parameter("b")
    dWx, dWh, db = gradient("Wx"), gradient("Wh"), gradient("b")

    def __init__(
        self, units: int, *, return_sequences: bool = True, stateful: bool = False, init: Any = "xavier"
    ) -> None:
        super().__init__()
        self.units = positive_int(units, "units", self.name)
        self.return_sequences = flag(return_sequences, "return_sequences", self.name)
        self.stateful = flag(stateful, "stateful", self.name)
        initializers.resolve(init, f"{self.name}: init")
        self.init = init
        self.h: Array | None = None
        self.dh: Array | None = None
        self.saved: Any = None

    def reset_state(self) -> None:
        """Begin the next sequence with a state of zeros."""
        for name in self.state_names:
            setattr(self, name, None)

    def output_shape(self, input_shape: Shape, mask_shape: Any = None) -> Shape:
        if len(input_shape) != 2 or (self.Wx is not None and input_shape[1] != self.Wx.shape[0]):
            features = "F" if self.Wx is None else self.Wx.shape[0]
            raise ShapeError(
                f"{self.name}: expected sequences (N, T, {features}), got rows of shape {input_shape}"
                f"{sequence_cure(input_shape)}"
            )
        return (input_shape[0], self.units) if self.return_sequences else (self.units,)

    def create_parameters(self, input_shape: Any, make: Make) -> None:
        width = self.gates * self.units
        self.params["Wx"] = make("Wx", (first_shape(input_shape)[1], width), self.init)
        self.params["Wh"] = make("Wh", (self.units, width), self.init)
        self.params["b"] = make("b", (width,), "zeros")

    def forward(self, x: Array, mask: Array | None = None) -> Array:
        """(N, T, H) for sequences `x` (N, T, F), or the last state (N, H); `mask` (N, T) is True at steps that count."""
        self.prepare(x)
        self.output_shape(tuple(x.shape[1:]))
        if x.shape[1] == 0:
            raise ShapeError(f"{self.name}: expected at least one step, got shape {tuple(x.shape)}")
        self._check_mask(x, mask)
        if mask is not None:
            x = without_masked(x, mask)
        states = [self._initial(name, x) for name in self.state_names]
        results = self._forward(x, states, mask)
        self.saved = (x, states, results, mask)
        if self.stateful:
            for name, one in zip(self.state_names, results, strict=False):
                setattr(self, name, one[:, -1, :])
        y = results[0]
        return y if self.return_sequences else y[:, -1, :]

    def backward(self, dout: Array) -> Array:
        """``dx`` (N, T, F) for `dout` of the shape of the output; fills the gradients, and ``dh`` of the first state."""
        x, states, results, mask = self.require_saved(self.saved)
        y = results[0]
        self.require_dout(dout, y.shape if self.return_sequences else (y.shape[0], self.units), x)
        if not self.return_sequences:
            xp, before = array_namespace(dout), (x.shape[0], x.shape[1] - 1, self.units)
            zeros = xp.zeros(before, dtype=dout.dtype, device=device(dout))
            dout = xp.concat([zeros, xp.expand_dims(dout, axis=1)], axis=1)
        dx, dstates, gradients = self._backward(dout, x, states, results, mask)
        self.grads = dict(zip(self.params, gradients, strict=True)) if self.trainable else {}
        for name, one in zip(self.state_names, dstates, strict=True):
            setattr(self, f"d{name}", one)
        return dx

    def _initial(self, name: str, x: Array) -> Array:
        kept, shape = getattr(self, name), (x.shape[0], self.units)
        if kept is None:
            return array_namespace(x).zeros(shape, dtype=x.dtype, device=device(x))
        array_namespace(x, kept, owner=self.name)
        if tuple(kept.shape) != shape:
            raise ShapeError(
                f"{self.name}: the state {name} is of {kept.shape[0]} sequences with {kept.shape[1]} units, but this batch "
                f"needs {shape}; call reset_state() before batches of another size"
            )
        return kept

    def _check_mask(self, x: Array, mask: Array | None) -> None:
        if mask is None:
            return
        xp = array_namespace(x, mask, owner=f"{self.name}: mask")
        require_shape(mask, x.shape[:2], self.name, "mask, one for each step,")
        if not xp.isdtype(mask.dtype, "bool"):
            raise DTypeError(f"{self.name}: mask must be booleans, got {mask.dtype}; pass mask != 0")

    def _forward(self, x: Array, states: Any, mask: Array | None) -> tuple[Array, ...]:
        """The states of all steps, and what else backward needs."""
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def _backward(
        self, dout: Array, x: Array, states: Any, results: Any, mask: Array | None
    ) -> tuple[Array, list[Array], list[Array | None]]:
        """``dx``, the gradients of the states before, and those of the parameters, each None in a frozen layer."""
        raise NotImplementedError(f"{type(self).__name__} has no backward")


class RNN(Recurrent):
    """Simple recurrent layer: ``h_t = tanh(x_t Wx + h_{t-1} Wh + b)`` (the second volume's ch. 5).

    Parameters
    ----------
    units : int
        H, the size of the state.
    return_sequences : bool
        Whether to return the states of all steps (N, T, H), or the last one (N, H).
    stateful : bool
        Whether a sequence goes on with the state that the one before ended with, as pieces of a long text do. No gradient
        flows back into the piece before: backpropagation is truncated. `reset_state` begins anew.
    init : str, float or callable
        How ``Wx`` and ``Wh`` are drawn, see `xpdl.initializers`; `b` starts at 0.

    Attributes
    ----------
    h : array (N, H) or None
        The state before the next sequence, which may be set, as by an encoder for its decoder; None stands for zeros.
    dh : array (N, H)
        After `backward`, the gradient of the state before the sequence.

    Raises
    ------
    ShapeError
        If an input is no batch of sequences, does not fit ``Wx``, or has another size than the state that is kept.
    DTypeError
        If the input is not floating, or a mask not boolean.

    Notes
    -----
    Inputs are (N, T, F), parameters ``Wx`` (F, H), ``Wh`` (H, H) and ``b`` (H,). Where a `mask` (N, T) is False, as at
    padding, a step is skipped, whatever it holds: the state stays as it is, so that the last state is that of the last
    step that counts, and its ``dx`` is 0; in a `Graph`, ``layer(x, mask)`` takes it from an `Input` that gets booleans. The
    layer saves its input and the states of all steps. It equals ``torch.nn.RNN``, whose two biases are added up here.

    Examples
    --------
    >>> layer = RNN(1)
    >>> layer.Wx, layer.Wh, layer.b = np.ones((1, 1)), np.ones((1, 1)), np.zeros(1)
    >>> layer.forward(np.array([[[1.0], [0.0]]])).round(3)
    array([[[0.762],
            [0.642]]])
    """

    def _forward(self, x: Array, states: Any, mask: Array | None) -> tuple[Array, ...]:
        (h,) = states
        return (ops.rnn(x, h, self.Wx, self.Wh, self.b, mask),)

    def _backward(
        self, dout: Array, x: Array, states: Any, results: Any, mask: Array | None
    ) -> tuple[Array, list[Array], list[Array | None]]:
        (h,), (y,) = states, results
        dx, dh, *gradients = ops.rnn_backward(dout, x, h, self.Wx, self.Wh, y, mask, need_dW=self.trainable)
        return dx, [dh], gradients


class LSTM(Recurrent):
    """Long short-term memory (Hochreiter and Schmidhuber 1997, with a forget gate; the second volume's ch. 6).

    ``c_t = f c_{t-1} + i g`` and ``h_t = o tanh(c_t)``, where the gates i, f and o are sigmoids, and g is the tanh, of
    ``x_t Wx + h_{t-1} Wh + b``.

    Parameters
    ----------
    units : int
        H, the size of state and memory.
    return_sequences, stateful, init
        As in `RNN`.

    Attributes
    ----------
    h, c : array (N, H) or None
        State and memory before the next sequence, as in `RNN`.
    dh, dc : array (N, H)
        After `backward`, their gradients.

    Raises
    ------
    ShapeError, DTypeError
        As in `RNN`.

    Notes
    -----
    Parameters are ``Wx`` (F, 4 H), ``Wh`` (H, 4 H) and ``b`` (4 H,), with the gates in the order input, forget, cell,
    output. That is the order of ``torch.nn.LSTM``, which the layer equals, and whose two biases are added up here; the
    second volume has forget, cell, input, output. Masks, and what is saved, as in `RNN`, and the gates of all steps.

    Examples
    --------
    >>> layer = LSTM(2, return_sequences=False)
    >>> layer.build((5, 3)), layer.Wx.shape, layer.Wh.shape, layer.b.shape
    ((2,), (3, 8), (2, 8), (8,))
    """

    gates: ClassVar[int] = 4
    state_names: ClassVar[tuple[str, ...]] = ("h", "c")

    def __init__(
        self, units: int, *, return_sequences: bool = True, stateful: bool = False, init: Any = "xavier"
    ) -> None:
        super().__init__(units, return_sequences=return_sequences, stateful=stateful, init=init)
        self.c: Array | None = None
        self.dc: Array | None = None

    def _forward(self, x: Array, states: Any, mask: Array | None) -> tuple[Array, ...]:
        h, c = states
        return ops.lstm(x, h, c, self.Wx, self.Wh, self.b, mask)

    def _backward(
        self, dout: Array, x: Array, states: Any, results: Any, mask: Array | None
    ) -> tuple[Array, list[Array], list[Array | None]]:
        (h, c), (y, cells, gates) = states, results
        dx, dh, dc, *gradients = ops.lstm_backward(
            dout, x, h, c, self.Wx, self.Wh, y, cells, gates, mask, need_dW=self.trainable
        )
        return dx, [dh, dc], gradients


class GRU(Recurrent):
    """Gated recurrent units (arXiv:1406.1078; the second volume's appendix C).

    ``h_t = (1 - z) n + z h_{t-1}``, where the gates r and z are sigmoids of ``x_t Wx + h_{t-1} Wh + b``, and
    ``n = tanh(x_t Wx + b + r (h_{t-1} Wh + bh))``.

    Parameters
    ----------
    units : int
        H, the size of the state.
    return_sequences, stateful, init
        As in `RNN`.

    Attributes
    ----------
    h, dh
        As in `RNN`.

    Raises
    ------
    ShapeError, DTypeError
        As in `RNN`.

    Notes
    -----
    Parameters are ``Wx`` (F, 3 H), ``Wh`` (H, 3 H) and ``b`` (3 H,), with the gates in the order reset, update, new, and
    ``bh`` (H,), which is part of what r multiplies. That is the order of ``torch.nn.GRU``, which the layer equals; in the
    paper and the second volume, r multiplies the state before the product with ``Wh``. Masks, and what is saved, as in
    `RNN`, and the gates of all steps.

    Examples
    --------
    >>> layer = GRU(2)
    >>> layer.build((5, 3)), layer.Wx.shape, layer.Wh.shape, layer.b.shape, layer.bh.shape
    ((5, 2), (3, 6), (2, 6), (6,), (2,))
    """

    gates: ClassVar[int] = 3
    bh, dbh = parameter("bh"), gradient("bh")

    def create_parameters(self, input_shape: Any, make: Make) -> None:
        super().create_parameters(input_shape, make)
        self.params["bh"] = make("bh", (self.units,), "zeros")

    def _forward(self, x: Array, states: Any, mask: Array | None) -> tuple[Array, ...]:
        (h,) = states
        return ops.gru(x, h, self.Wx, self.Wh, self.b, self.bh, mask)

    def _backward(
        self, dout: Array, x: Array, states: Any, results: Any, mask: Array | None
    ) -> tuple[Array, list[Array], list[Array | None]]:
        (h,), (y, gates) = states, results
        dx, dh, *gradients = ops.gru_backward(dout, x, h, self.Wx, self.Wh, y, gates, mask, need_dW=self.trainable)
        return dx, [dh], gradients
