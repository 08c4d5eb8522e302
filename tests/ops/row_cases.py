"""Cases of the table for activations and normalizations beyond the book's."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests import row_oracles as oracles
from tests.pairs import Case, Pair, distinct, sample
from xpdl.ops import activations, gelu, pooling, row_normalization

_rng = np.random.default_rng(2017)


def _x(*shape: int) -> Any:
    return sample(_rng, *shape)


def _from_output(backward: Any, dy: Any, outputs: Any, arrays: Any, static: Any) -> Any:
    return backward(dy, outputs[0], **static)


def _from_input(backward: Any, dy: Any, outputs: Any, arrays: Any, static: Any) -> Any:
    return backward(dy, arrays[0], **static)


_UNITS: tuple[tuple[Any, Any, Any, Any, tuple[dict[str, Any], ...]], ...] = (
    (
        activations.leaky_relu,
        oracles.leaky_relu,
        activations.leaky_relu_backward,
        _from_output,
        ({}, {"slope": 0.3}, {"slope": 0.0}),
    ),
    (activations.elu, oracles.elu, activations.elu_backward, _from_output, ({}, {"alpha": 0.5})),
    (activations.silu, oracles.silu, activations.silu_backward, _from_input, ({},)),
    (activations.softplus, oracles.softplus, activations.softplus_backward, _from_output, ({},)),
    (gelu.gelu, oracles.gelu, gelu.gelu_backward, _from_input, ({}, {"approximate": "tanh"})),
)

UNITS = [
    Case(
        f"{forward.__name__} {shape} {static or ''}".strip(),
        Pair(forward, oracle, backward, call),
        (_x(*shape),),
        static,
        core=shape == (3, 4) and static in configurations[:2],
    )
    for forward, oracle, backward, call, configurations in _UNITS
    for shape in ((3, 4), (5,), (1, 1), (2, 3, 1, 2))
    for static in configurations
]

_MAX = Pair(pooling.global_max_pooling, oracles.global_max_pooling, pooling.global_max_pooling_backward)
POOLING = [
    Case(f"global_max_pooling {shape}", _MAX, (distinct(_rng, *shape),), core=shape[0] == 2)
    for shape in ((2, 3, 4, 5), (1, 2, 1, 1))
]


def _layer_backward(backward: Any, dy: Any, outputs: Any, arrays: Any, static: Any) -> Any:
    return backward(dy, *arrays[:2], *outputs[1:])


def _group_backward(backward: Any, dy: Any, outputs: Any, arrays: Any, static: Any) -> Any:
    return backward(dy, *arrays[:2], static["groups"], *outputs[1:])


_LAYER = Pair(
    row_normalization.layer_normalization,
    oracles.layer_normalization,
    row_normalization.layer_normalization_backward,
    _layer_backward,
    (0, 1, 2),
    wide=(1, 2),
)
_RMS = Pair(
    row_normalization.rms_normalization,
    oracles.rms_normalization,
    row_normalization.rms_normalization_backward,
    _layer_backward,
    (0, 1),
    wide=(1,),
)
_GROUP = Pair(
    row_normalization.group_normalization,
    oracles.group_normalization,
    row_normalization.group_normalization_backward,
    _group_backward,
    (0, 1, 2),
    wide=(1, 2),
)
_EPS = {"eps": 1e-3}

NORMALIZATION = [
    case
    for shape in ((3, 4), (2, 3, 5), (2, 2, 1, 3), (1, 2))
    for case in (
        Case(f"layer_normalization {shape}", _LAYER, (_x(*shape), _x(shape[-1]), _x(shape[-1])), _EPS, len(shape) == 3),
        Case(f"rms_normalization {shape}", _RMS, (_x(*shape), _x(shape[-1])), _EPS, len(shape) == 3),
    )
] + [
    Case(
        f"group_normalization {shape} {groups}",
        _GROUP,
        (_x(*shape), _x(shape[1]), _x(shape[1])),
        {"groups": groups, **_EPS},
        core=groups == 2,
    )
    for shape, groups in (((2, 4, 3, 2), 2), ((3, 6), 3), ((2, 3, 4), 1), ((1, 2, 2, 2), 2), ((2, 4, 1, 3), 4))
]

CASES = UNITS + POOLING + NORMALIZATION
