"""Rows of the table for activations, affine maps of positions and normalizations beyond the book's."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests import row_oracles as oracles
from tests.layers.row import Row
from tests.pairs import distinct, sample
from xpdl import layers as L

_rng = np.random.default_rng(2018)


def _x(*shape: int) -> Any:
    return sample(_rng, *shape)


UNITS = [
    Row(
        f"{cls.__name__} {shape} {options or ''}".strip(),
        lambda p, cls=cls, options=options: cls(**options),
        lambda x, p, f=f, options=options: f(x, **options),
        (_x(*shape),),
        core=shape == (3, 4),
    )
    for cls, f, configurations in (
        (L.Gelu, oracles.gelu, ({}, {"approximate": "tanh"})),
        (L.Silu, oracles.silu, ({},)),
        (L.LeakyRelu, oracles.leaky_relu, ({}, {"slope": 0.25})),
        (L.Elu, oracles.elu, ({}, {"alpha": 0.5})),
        (L.Softplus, oracles.softplus, ({},)),
    )
    for shape in ((3, 4), (2, 3, 2, 2), (5,), (1, 1))
    for options in configurations
]

POOLING = [
    Row(
        "GlobalMaxPooling",
        lambda p: L.GlobalMaxPooling(),
        lambda x, p: oracles.global_max_pooling(x),
        (distinct(_rng, 2, 3, 3, 2),),
        core=True,
    )
]

AFFINE = [
    Row(
        f"Affine of positions {shape} {'with' if bias else 'without'} bias",
        lambda p: L.Affine(p["W"], p.get("b"), axis=-1),
        lambda x, p: oracles.affine_of_positions(x, p["W"], p.get("b")),
        (_x(*shape),),
        {"W": _x(shape[-1], 3), **({"b": _x(3)} if bias else {})},
        core=bias and len(shape) == 3,
    )
    for shape, bias in (((2, 4, 3), True), ((2, 2, 3, 2), True), ((3, 2), False), ((1, 2, 4), False))
]


def _normalization(cls: Any, oracle: Any, *shape: int, size: int, core: bool, **options: Any) -> Row:
    keys = ("gamma",) if cls is L.RMSNormalization else ("gamma", "beta")
    return Row(
        f"{cls.__name__} {shape} {options.get('groups', '')}".strip(),
        lambda p: cls(**options, eps=1e-3, **p),
        lambda x, p: oracle(x, *p.values(), **options, eps=1e-3)[0],
        (_x(*shape),),
        {key: _x(size) for key in keys},
        core=core,
    )


NORMALIZATION = [
    _normalization(cls, oracle, *shape, size=shape[-1], core=len(shape) == 3)
    for cls, oracle in (
        (L.LayerNormalization, oracles.layer_normalization),
        (L.RMSNormalization, oracles.rms_normalization),
    )
    for shape in ((3, 4), (2, 3, 5), (2, 2, 1, 3))
] + [
    _normalization(L.GroupNormalization, oracles.group_normalization, *shape, size=shape[1], core=core, groups=groups)
    for shape, groups, core in (((2, 4, 3, 2), 2, True), ((3, 6), 3, False), ((2, 3, 4), 1, False))
]

ROWS = UNITS + POOLING + AFFINE + NORMALIZATION
