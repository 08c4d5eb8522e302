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

EMBEDDING = [
    Row(
        f"Embedding {ids.shape}",
        lambda p: L.Embedding(W=p["W"]),
        lambda ids, p: oracles.embedding(p["W"], ids),
        (ids,),
        {"W": _x(5, 3)},
        wrt=0,
        core=ids.ndim == 2,
    )
    for ids in (_rng.integers(0, 5, (3, 4)), _rng.integers(0, 5, 6), _rng.integers(0, 5, (2, 2, 3)))
]

# --- losses

_LABELS = np.array([[0, 3, -1], [1, -1, -1]])


def _loss(cls: Any, oracle: Any, name: str, *inputs: Any, core: bool = False, **options: Any) -> Row:
    return Row(
        f"{cls.__name__} {name}".strip(),
        lambda p: cls(**options),
        lambda *arrays: oracle(*arrays[:-1], **options),
        inputs,
        core=core,
    )


def _masked(x: Any, t: Any, mask: Any) -> Any:
    return oracles.sequence_loss(x, t, mask=mask)


LOSSES = [
    _loss(L.SoftmaxWithLoss, oracles.sequence_loss, "of sequences", _x(2, 3, 4), np.array([[0, 3, 1], [1, 2, 2]])),
    _loss(L.SoftmaxWithLoss, oracles.sequence_loss, "of shares", _x(2, 3, 4), np.abs(_x(2, 3, 4))),
    _loss(L.SoftmaxWithLoss, oracles.sequence_loss, "with padding", _x(2, 3, 4), _LABELS, core=True, ignore_label=-1),
    _loss(L.SoftmaxWithLoss, oracles.sequence_loss, "padding alone", _x(2, 2, 4), np.full((2, 2), 3), ignore_label=3),
    _loss(L.SoftmaxWithLoss, oracles.sequence_loss, "some rows", _x(4, 3), np.array([0, 2, 1, 2]), ignore_label=2),
    _loss(
        L.SoftmaxWithLoss,
        _masked,
        "masked",
        _x(2, 2, 3),
        np.array([[0, 2], [1, 0]]),
        np.array([[1.0, 0.0], [2.0, 1.0]]),
    ),
    _loss(L.SoftmaxWithLoss, _masked, "by rows", _x(2, 2, 3), np.array([[0, 2], [1, 0]]), np.array([0.5, 2.0])),
    _loss(L.MeanSquaredError, oracles.squared_error, "", _x(3, 2), _x(3, 2), core=True),
    _loss(L.MeanAbsoluteError, oracles.absolute_error, "", _x(3, 2), _x(3, 2) + 0.25, core=True),
    _loss(L.Huber, oracles.huber, "", _x(3, 2), _x(3, 2), core=True),
    _loss(L.Huber, oracles.huber, "of delta 0.3", _x(3, 2, 2), _x(3, 2, 2), delta=0.3),
    _loss(L.GaussianKL, oracles.gaussian_kl, "", _x(3, 4), core=True),
    _loss(L.GaussianKL, oracles.gaussian_kl, "of two", _x(3, 4), _x(3, 4)),
    _loss(L.Hinge, oracles.hinge, "", _x(4, 5), np.array([0, 3, 1, 1]), core=True),
    _loss(L.NegativeSampling, oracles.negative_sampling, "", _x(4, 5), np.array([0, 3, 1, 1]), core=True),
    _loss(L.NegativeSampling, oracles.negative_sampling, "one-hot", _x(4, 3), np.eye(3)[[0, 2, 1, 1]]),
    _loss(L.NegativeSampling, oracles.negative_sampling, "of contexts", _x(2, 3, 4), np.array([[0, 0, 3], [1, 0, 0]])),
    _loss(L.Hinge, oracles.hinge, "one-hot", _x(4, 3), np.eye(3)[[0, 2, 1, 1]], margin=0.3),
]

ROWS = UNITS + POOLING + AFFINE + NORMALIZATION + EMBEDDING + LOSSES
