"""Cases of the table for activations and normalizations beyond the book's."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from tests import row_oracles as oracles
from tests.pairs import Case, Pair, distinct, sample
from xpdl.ops import (
    activations,
    candidate_scores,
    embedding,
    gelu,
    hinge,
    pooling,
    regression_losses,
    row_normalization,
)

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


def _embedding_backward(backward: Any, dy: Any, outputs: Any, arrays: Any, static: Any) -> Any:
    return (backward(dy, arrays[1], arrays[0].shape[0]),)


_EMBEDDING = Pair(embedding.embedding, oracles.embedding, embedding.embedding_backward, _embedding_backward)
EMBEDDING = [
    Case(f"embedding {name}", _EMBEDDING, (_x(count, units), ids), core=core)
    for name, count, units, ids, core in (
        ("of sequences", 5, 3, _rng.integers(0, 5, (3, 4)), True),
        ("of a long row", 4, 2, _rng.integers(0, 4, 37), False),
        ("of one id", 3, 2, np.array([2]), False),
        ("of equal ids", 300, 1, np.full((2, 9), 7, np.uint8), False),
        ("of int32", 6, 2, _rng.integers(0, 6, (2, 2, 3)).astype(np.int32), False),
    )
]


def _scores_backward(backward: Any, dy: Any, outputs: Any, arrays: Any, static: Any) -> Any:
    return backward(dy, *arrays)


_SCORES = Pair(
    candidate_scores.candidate_scores,
    oracles.candidate_scores,
    candidate_scores.candidate_scores_backward,
    _scores_backward,
    wrt=(0, 1),
)
SCORES = [
    Case(f"candidate_scores {name}", _SCORES, (_x(len(ids), units), _x(count, units), ids), core=core)
    for name, count, units, ids, core in (
        ("of words", 6, 3, _rng.integers(0, 6, (4, 5)), True),
        ("of contexts", 5, 2, _rng.integers(0, 5, (3, 2, 4)), True),
        ("of equal words", 300, 2, np.full((3, 4), 7, np.uint8), False),
        ("of one", 4, 1, _rng.integers(0, 4, (2, 1)).astype(np.int32), False),
    )
]

# --- losses


def _loss_backward(backward: Any, dy: Any, outputs: Any, arrays: Any, static: Any) -> Any:
    return (backward(*arrays[:2], dy, **static),)


def _weighted_backward(backward: Any, dy: Any, outputs: Any, arrays: Any, static: Any) -> Any:
    return (backward(*arrays[:-1], dout=dy, sample_weight=arrays[-1], **static),)


def _alone_backward(backward: Any, dy: Any, outputs: Any, arrays: Any, static: Any) -> Any:
    return (backward(arrays[0], None, dy),)


def _by_row(function: Any) -> Any:
    """With the weights of the rows as an array behind the others."""
    return functools.wraps(function)(
        lambda *arrays, **static: function(*arrays[:-1], sample_weight=arrays[-1], **static)
    )


def _losses(forward: Any, oracle: Any, backward: Any, *arrays: Any, **static: Any) -> list[Case]:
    """Unweighted, with rows that count twice, half or nothing, and with none that counts."""
    weights, name = np.array([2.0, 0.0, 0.5, 1.25]), f"{forward.__name__} {arrays[0].shape} {static or ''}".strip()
    plain = Pair(forward, oracle, backward, _loss_backward, wide=(0,))
    weighted = Pair(_by_row(forward), _by_row(oracle), backward, _weighted_backward, wide=(0,))
    return [
        Case(name, plain, arrays, static, core=True),
        Case(f"{name} by rows", weighted, (*arrays, weights), static, core=True),
        Case(f"{name} of no weight", weighted, (*arrays, 0 * weights), static),
    ]


_SQUARED = regression_losses.squared_error, oracles.squared_error, regression_losses.squared_error_backward
_ABSOLUTE = regression_losses.absolute_error, oracles.absolute_error, regression_losses.absolute_error_backward
_HUBER = regression_losses.huber, oracles.huber, regression_losses.huber_backward
_KL = regression_losses.gaussian_kl, oracles.gaussian_kl, regression_losses.gaussian_kl_backward
_HINGE = hinge.hinge, oracles.hinge, hinge.hinge_backward
_FAR = np.array([[0.25, -3.0], [1.5, 0.5], [-0.125, 2.5], [0.75, -0.5]])  # errors off the kinks of the losses

LOSSES = [
    *_losses(*_SQUARED, _x(4, 2, 3), _x(4, 2, 3)),
    *_losses(*_SQUARED, _x(4), np.array([0, 1, -2, 3])),
    *_losses(*_ABSOLUTE, _FAR + 1, np.ones((4, 2))),
    *_losses(*_HUBER, _FAR + 1, np.ones((4, 2))),
    *_losses(*_HUBER, _FAR - 1, -np.ones((4, 2)), delta=0.3),
    *_losses(*_KL, _x(4, 6), _x(4, 6)),
    Case(
        "gaussian_kl from the standard normal",
        Pair(_KL[0], _KL[1], _KL[2], _alone_backward, wide=(0,)),
        (_x(3, 4),),
        core=True,
    ),
    *_losses(*_HINGE, _x(4, 5), np.array([0, 3, 1, 1])),
    *_losses(*_HINGE, _x(4, 3), np.eye(3)[[0, 2, 1, 1]], margin=0.3),
]

CASES = UNITS + POOLING + NORMALIZATION + EMBEDDING + SCORES + LOSSES
