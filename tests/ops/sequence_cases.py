"""Cases of the table for ops of sequences."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests import row_oracles as oracles
from tests.pairs import Case, Pair, sample
from xpdl.ops import attention, positional, recurrent

_rng = np.random.default_rng(2019)


def _x(*shape: int) -> Any:
    return sample(_rng, *shape)


def _rnn_backward(backward: Any, dy: Any, outputs: Any, arrays: Any, static: Any) -> Any:
    x, h, Wx, Wh, _, *mask = arrays
    return backward(dy, x, h, Wx, Wh, *outputs, *mask)


def _lstm_backward(backward: Any, dy: Any, outputs: Any, arrays: Any, static: Any) -> Any:
    x, h, c, Wx, Wh, _, *mask = arrays
    return backward(dy, x, h, c, Wx, Wh, *outputs, *mask)


def _gru_backward(backward: Any, dy: Any, outputs: Any, arrays: Any, static: Any) -> Any:
    x, h, Wx, Wh, _, _, *mask = arrays
    return backward(dy, x, h, Wx, Wh, *outputs, *mask)


_PAIRS = (
    (1, 1, 1, Pair(recurrent.rnn, oracles.rnn, recurrent.rnn_backward, _rnn_backward, (0, 1, 2, 3, 4))),
    (4, 2, 1, Pair(recurrent.lstm, oracles.lstm, recurrent.lstm_backward, _lstm_backward, (0, 1, 2, 3, 4, 5))),
    (3, 1, 2, Pair(recurrent.gru, oracles.gru, recurrent.gru_backward, _gru_backward, (0, 1, 2, 3, 4, 5))),
)

RECURRENT = [
    Case(
        f"{pair.forward.__name__} {n, t, f, h}{' masked' if masked else ''}",
        pair,
        (
            _x(n, t, f),
            *(_x(n, h) for _ in range(states)),
            *(_x(f, gates * h), _x(h, gates * h), _x(gates * h)),
            *(_x(h) for _ in range(biases - 1)),
            *([_rng.random((n, t)) < 0.6] if masked else []),
        ),
        core=(n, t) == (2, 3),
    )
    for gates, states, biases, pair in _PAIRS
    for n, t, f, h, masked in ((2, 3, 2, 2, True), (1, 1, 1, 1, False), (3, 2, 1, 3, False), (2, 4, 3, 1, True))
]


def _attention_backward(backward: Any, dy: Any, outputs: Any, arrays: Any, static: Any) -> Any:
    q, k, v, *mask = arrays
    return backward(dy, q, k, v, *outputs, *mask, **static)


_ATTENTION = Pair(
    attention.attention, oracles.attention, attention.attention_backward, _attention_backward, (0, 1, 2), (1,)
)


def _attention(
    n: int, h: int, t: int, s: int, d: int, *, masked: bool = False, core: bool = False, **static: Any
) -> Case:
    arrays = (_x(n, h, t, d), _x(n, h, s, d), _x(n, h, s, d))
    mask = (np.arange(s) < np.arange(s, s - 2 * n, -2)[:, None],) if masked else ()
    name = f"attention {n, h, t, s, d}{' masked' if masked else ''} {static or ''}".strip()
    return Case(name, _ATTENTION, (*arrays, *mask), static, core)


ATTENTION = [
    _attention(2, 2, 3, 3, 2),
    _attention(2, 2, 5, 5, 2, causal=True, block=2, masked=True, core=True),
    _attention(1, 2, 4, 6, 3, block=3, masked=True),
    _attention(1, 1, 3, 5, 2, causal=True, block=2, core=True),
    _attention(1, 2, 4, 2, 3, causal=True, block=3),
    _attention(1, 1, 1, 1, 1),
    Case(
        "attention of no key",
        _ATTENTION,
        (_x(2, 1, 2, 2), _x(2, 1, 3, 2), _x(2, 1, 3, 2), np.array([[False] * 3, [True, False, True]])),
        {"block": 2},
    ),
]


def _rotary_backward(backward: Any, dy: Any, outputs: Any, arrays: Any, static: Any) -> Any:
    return (backward(dy, **{**static, "inverse": not static.get("inverse", False)}),)


_ROTARY = Pair(attention.rotary, oracles.rotary, attention.rotary, _rotary_backward)
_SINUSOIDAL = Pair(positional.sinusoidal_positions, oracles.sinusoidal_positions)
_LEARNED = Pair(
    positional.learned_positions,
    oracles.learned_positions,
    positional.learned_positions_backward,
    lambda backward, dy, outputs, arrays, static: backward(dy, arrays[1].shape[0]),
    (0, 1),
)

POSITIONS = [
    Case("rotary", _ROTARY, (_x(2, 1, 3, 4),), core=True),
    Case("rotary of later steps", _ROTARY, (_x(2, 3, 2),), {"base": 100.0, "first": 5}),
    Case("rotary backwards", _ROTARY, (_x(1, 2, 3, 6),), {"inverse": True}),
    Case("sinusoidal_positions", _SINUSOIDAL, (_x(2, 4, 6),), core=True),
    Case("sinusoidal_positions of an odd size", _SINUSOIDAL, (_x(1, 3, 5),), {"base": 50.0}),
    Case("learned_positions", _LEARNED, (_x(2, 3, 2), _x(5, 2)), core=True),
    Case("learned_positions of all", _LEARNED, (_x(1, 4, 3), _x(4, 3))),
]

CASES = RECURRENT + ATTENTION + POSITIONS
