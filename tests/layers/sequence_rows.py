"""Rows of the table for layers of sequences."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests import row_oracles as oracles
from tests.layers.row import Arrays, Row
from tests.pairs import sample
from xpdl import layers as L

_rng = np.random.default_rng(2020)
_GATES: dict[type, int] = {L.RNN: 1, L.LSTM: 4, L.GRU: 3}


def _x(*shape: int) -> Any:
    return sample(_rng, *shape)


def _with(layer: Any, params: Arrays) -> Any:
    layer.params = dict(params)
    return layer


def _parameters(cls: type, features: int, units: int, prefix: str = "") -> Arrays:
    width = _GATES[cls] * units
    found = {"Wx": _x(features, width), "Wh": _x(units, width), "b": _x(width)}
    found |= {"bh": _x(units)} if cls is L.GRU else {}
    return {prefix + key: 0.5 * value for key, value in found.items()}  # of saturated gates little is left in bfloat16


def _under(p: Arrays, prefix: str) -> Arrays:
    return {key.removeprefix(prefix): value for key, value in p.items() if key.startswith(prefix)}


def _states(cls: type, x: Any, p: Arrays, mask: Any = None) -> Any:
    """The states of all steps, from zeros."""
    zeros = np.zeros((x.shape[0], p["Wh"].shape[0]))
    if cls is L.LSTM:
        return oracles.lstm(x, zeros, zeros, *p.values(), mask)[0]
    return oracles.rnn(x, zeros, *p.values(), mask) if cls is L.RNN else oracles.gru(x, zeros, *p.values(), mask)[0]


def _recurrent(cls: Any, sequences: bool, masked: bool, core: bool = False) -> Row:
    def make(p: Arrays) -> Any:
        layer = cls(2, return_sequences=sequences)
        layer.params = dict(p)
        return layer

    def oracle(x: Any, *mask: Any) -> Any:
        y = _states(cls, x, mask[-1], *mask[:-1])
        return y if sequences else y[:, -1]

    mask = (np.array([[True, False, True], [True, True, False]]),) if masked else ()
    name = f"{cls.__name__} {'of all steps' if sequences else 'of the last'}{', masked' if masked else ''}"
    return Row(name, make, oracle, (_x(2, 3, 2), *mask), _parameters(cls, 2, 2), core=core)


RECURRENT = [
    _recurrent(cls, sequences, masked, core=sequences != masked)
    for cls in _GATES
    for sequences, masked in ((True, False), (False, False), (True, True), (False, True))
]


def _bidirectional(cls: Any, sequences: bool, core: bool = False) -> Row:
    def make(p: Arrays) -> Any:
        layer = L.Bidirectional(cls(2, return_sequences=sequences))
        for name, child in layer.children():
            child.params = _under(p, f"{name}.")
        return layer

    def oracle(x: Any, p: Arrays) -> Any:
        first = _states(cls, x, _under(p, "forwards."))
        second = _states(cls, x[:, ::-1], _under(p, "backwards."))
        if sequences:
            return np.concatenate([first, second[:, ::-1]], axis=-1)
        return np.concatenate([first[:, -1], second[:, -1]], axis=-1)

    name = f"Bidirectional {cls.__name__} {'of all steps' if sequences else 'of the last'}"
    params = {**_parameters(cls, 2, 2, "forwards."), **_parameters(cls, 2, 2, "backwards.")}
    return Row(name, make, oracle, (_x(2, 3, 2),), params, core=core)


BIDIRECTIONAL = [
    _bidirectional(L.LSTM, True, core=True),
    _bidirectional(L.LSTM, False),
    _bidirectional(L.GRU, True),
    _bidirectional(L.RNN, False),
]


def _attention(
    name: str, t: int, s: int, heads: int, *, masked: bool = False, core: bool = False, **options: Any
) -> Row:
    """Of a sequence with itself or, where `s` is not 0, with another.

    A bias of keys adds the same to all scores of a query, unless they are rotated: it has no gradient to compare.
    """
    context = (_x(2, s, 4), *([np.arange(s) < np.array([[s], [2]])] if masked else [])) if s else ()

    def oracle(*arrays: Any) -> Any:
        x, *rest, p = arrays
        causal, rotate = options.get("causal", False), options.get("rotary", False)
        return oracles.multi_head_attention(
            x, rest[0] if rest else x, p, heads, *rest[1:], causal=causal, rotate=rotate
        )

    keys = [f"{kind}{one}" for one in "qkvo" for kind in ("Wb" if options.get("use_bias", True) else "W")]
    params = {key: 0.5 * (_x(4, 4) if key[0] == "W" else _x(4)) for key in keys}
    return Row(
        f"MultiHeadAttention {name}",
        lambda p: _with(L.MultiHeadAttention(heads, **options), p),
        oracle,
        (_x(2, t, 4), *context),
        params,
        wrt=2 if s else 1,
        core=core,
    )


ATTENTION = [
    _attention("plain", 3, 0, 2, use_bias=False, core=True),
    _attention("causal, rotary", 5, 0, 2, causal=True, rotary=True, core=True),
    _attention("of a single head", 2, 0, 1, rotary=True),
    _attention("of a context", 2, 3, 2, use_bias=False),
    _attention("of a masked context", 3, 4, 2, rotary=True, masked=True),
]

POSITIONS = [
    Row(
        "SinusoidalPositions",
        lambda p: L.SinusoidalPositions(),
        lambda x, p: oracles.sinusoidal_positions(x),
        (_x(2, 3, 4),),
        core=True,
    ),
    Row(
        "LearnedPositions",
        lambda p: _with(L.LearnedPositions(5), p),
        lambda x, p: oracles.learned_positions(x, p["W"]),
        (_x(2, 3, 4),),
        {"W": _x(5, 4)},
        core=True,
    ),
]

ROWS = RECURRENT + BIDIRECTIONAL + ATTENTION + POSITIONS
