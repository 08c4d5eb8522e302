"""Every public layer with sample inputs: the rows that tests/layers/test_table.py drives on all backends.

What a layer must compute is said by `tests.oracles`, composed by hand where layers are composed.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from tests import oracles
from tests.layers import row_rows, sequence_rows, window_rows
from tests.layers.row import Arrays, Row
from tests.oracles import central_differences
from tests.pairs import distinct, sample
from xpdl import layers as L
from xpdl.backends.random import Stream
from xpdl.models import Input

_rng = np.random.default_rng(1998)
_x = functools.partial(sample, _rng)


@dataclasses.dataclass(frozen=True)
class Wanted:
    output: Any
    dout: Any
    dinputs: tuple[Any, ...]
    dparams: Arrays


@functools.cache
def wanted(row: Row) -> Wanted:
    """Values of the oracle, with a random upstream gradient; computed once for all backends."""
    names = list(row.params)
    arrays = [*row.inputs, *row.params.values()]

    def value(*arrays: Any) -> Any:
        inputs, params = arrays[: len(row.inputs)], arrays[len(row.inputs) :]
        return row.oracle(*inputs, {**row.constants, **dict(zip(names, params, strict=True))})

    output = np.asarray(value(*arrays))
    dout = np.asarray(sample(np.random.default_rng(len(row.id)), *output.shape))
    first = len(row.inputs)
    return Wanted(
        output,
        dout,
        tuple(central_differences(value, arrays, i, dout) for i in range(row.wrt)),
        {name: central_differences(value, arrays, first + i, dout) for i, name in enumerate(names)},
    )


# --- elementwise

ELEMENTWISE = [
    Row(
        f"{cls.__name__} {shape}", lambda p, cls=cls: cls(), lambda x, p, f=f: f(x), (_x(*shape),), core=shape == (3, 4)
    )
    for cls, f in (
        (L.Relu, oracles.relu),
        (L.Sigmoid, oracles.sigmoid),
        (L.Tanh, oracles.tanh),
        (L.Softmax, oracles.softmax),
        (L.LogSoftmax, oracles.log_softmax),
        (L.Identity, np.array),
    )
    for shape in ((3, 4), (2, 3, 2, 2), (5,), (1, 1))
]

NODES = [
    Row("AddLayer", lambda p: L.AddLayer(), lambda x, y, p: x + y, (_x(3, 4), _x(3, 4)), wrt=2, core=True),
    Row("MulLayer", lambda p: L.MulLayer(), lambda x, y, p: x * y, (_x(3, 4), _x(3, 4)), wrt=2, core=True),
]

# --- with weights


def _affine(x: Any, p: Arrays) -> Any:
    return oracles.affine(x, p["W"], p.get("b"))


AFFINE = [
    Row(
        f"Affine {shape} {'with' if bias else 'without'} bias",
        lambda p: L.Affine(p["W"], p.get("b")),
        _affine,
        (_x(*shape),),
        {"W": _x(int(np.prod(shape[1:])), 3), **({"b": _x(3)} if bias else {})},
        core=bias and len(shape) in (2, 4),
    )
    for shape, bias in (((4, 5), True), ((2, 2, 3, 2), True), ((3, 2), False), ((1, 1, 4), True))
]


def _convolution(
    name: str,
    x: tuple[int, ...],
    W: tuple[int, ...],
    bias: bool = True,
    core: bool = False,
    border: Any = None,
    **o: Any,
) -> Row:
    """`border` is what the option `pad` stands for, where it is not that itself."""
    rank = len(W) - 2
    options: dict[str, Any] = {"stride": 1, "pad": 0, "dilation": 1, **o}
    options = {
        key: (value,) * rank if key != "groups" and isinstance(value, int) else value for key, value in options.items()
    }
    options["pad"] = options["pad"] if border is None else border
    return Row(
        f"Convolution {name}",
        lambda p: L.Convolution(p["W"], p.get("b"), **o),
        lambda x, p: oracles.convolution(x, p["W"], p.get("b"), **options),
        (_x(*x),),
        {"W": _x(*W), **({"b": _x(W[0])} if bias else {})},
        core=core,
    )


CONVOLUTION = [
    _convolution("plain", (2, 2, 5, 4), (3, 2, 3, 2), core=True),
    _convolution("without bias", (1, 2, 4, 4), (2, 2, 3, 3), bias=False),
    _convolution("strided and padded", (2, 1, 5, 6), (2, 1, 3, 3), stride=2, pad=1, core=True),
    _convolution("of pairs", (1, 2, 6, 5), (2, 2, 3, 2), stride=(2, 1), pad=(0, 2), dilation=(1, 2)),
    _convolution("dilated, in groups", (1, 4, 6, 5), (4, 2, 2, 2), dilation=2, groups=2, core=True),
    _convolution("1x1", (2, 3, 2, 2), (2, 3, 1, 1)),
    _convolution("one-sided pad", (2, 1, 4, 3), (2, 1, 2, 3), pad=((1, 0), (0, 2)), core=True),
    _convolution("same", (1, 2, 4, 5), (2, 2, 2, 4), pad="same", border=((0, 1), (1, 2))),
    _convolution("same, strided", (1, 2, 5, 6), (2, 2, 3, 3), pad="same", stride=2, border=(1, (0, 1))),
    _convolution("of signals", (2, 4, 7), (2, 2, 3), stride=2, pad=1, dilation=2, groups=2, core=True),
    _convolution("of signals, same", (2, 1, 5), (2, 1, 4), pad="same", border=((1, 2),)),
    _convolution("of volumes", (2, 2, 3, 4, 3), (3, 2, 2, 3, 2), pad=(1, 0, (1, 0)), stride=(2, 1, 1), core=True),
]

# --- shapes and windows

POOLING = (
    [
        Row(
            f"{cls.__name__} {args}",
            lambda p, cls=cls, args=args: cls(*args),
            lambda x, p, f=f, args=args: f(
                x,
                size=args[:2],
                stride=oracles.as_pair((*args, 2)[2]),
                pad=oracles.as_pair((*args, 0)[3] if args[3:] else 0),
            ),
            (distinct(_rng, *shape),),
            core=args == (3, 3, 2, 1),
        )
        for cls, f in ((L.Pooling, oracles.max_pooling), (L.AveragePooling, oracles.average_pooling))
        for shape, args in (
            ((2, 2, 4, 6), (2, 2)),
            ((1, 2, 5, 4), (3, 3, 2, 1)),
            ((2, 1, 5, 5), (2, 2, 2)),
            ((1, 1, 6, 5), (2, 3, (3, 1), (1, 2))),
        )
    ]
    + [
        Row(
            f"GlobalAveragePooling {name}",
            lambda p: L.GlobalAveragePooling(),
            lambda x, p: np.array([[np.sum(c) / c.size for c in image] for image in x]),
            (_x(*shape),),
            core=len(shape) == 4,
        )
        for name, shape in (("of images", (2, 3, 3, 2)), ("of signals", (2, 3, 4)), ("of volumes", (1, 2, 2, 3, 2)))
    ]
    + [
        Row(
            "Flatten images",
            lambda p: L.Flatten(),
            lambda x, p: np.stack([row.ravel() for row in x]),
            (_x(2, 3, 2, 2),),
            core=True,
        ),
        Row("Flatten rows", lambda p: L.Flatten(), lambda x, p: x, (_x(3, 4),)),
    ]
)


def _pooling(cls: Any, title: str, shape: tuple[int, ...], options: dict[str, Any], want: dict[str, Any]) -> Row:
    """`want` is what the options stand for."""
    oracle = oracles.max_pooling if cls is L.Pooling else oracles.average_pooling
    x = (distinct(np.random.default_rng(len(title)), *shape),)
    make = functools.partial(cls, **options)
    return Row(f"{cls.__name__} {title}", lambda p: make(), lambda x, p: oracle(x, **want), x, core=title == "volumes")


#: title, shape, options of the layer, those of the oracle: for the mean, also which border counts
_WINDOWS: tuple[tuple[str, tuple[int, ...], dict[str, Any], dict[str, Any]], ...] = (
    (
        "one-sided pad",
        (1, 2, 4, 5),
        {"size": 3, "pad": ((1, 0), (0, 2))},
        {"size": (3, 3), "stride": (2, 2), "pad": ((1, 0), (0, 2))},
    ),
    (
        "same",
        (1, 2, 4, 5),
        {"size": (2, 3), "stride": (1, 2), "pad": "same"},
        {"size": (2, 3), "stride": (1, 2), "pad": ((0, 1), 1)},
    ),
    (
        "rounded up",
        (2, 1, 6, 5),
        {"size": 3, "stride": 2, "pad": (1, 0), "ceil_mode": True},
        {"size": (3, 3), "stride": (2, 2), "pad": ((1, 2), 0), "counted_pad": (1, 0)},
    ),
    (
        # a window that would start behind the image is none
        "rounded up to fewer",
        (1, 1, 3, 4),
        {"size": 2, "stride": 2, "pad": (1, 0), "ceil_mode": True},
        {"size": (2, 2), "stride": (2, 2), "pad": (1, 0)},
    ),
    (
        "dilated",
        (1, 2, 6, 5),
        {"size": 2, "dilation": (3, 2), "pad": (2, 1)},
        {"size": (2, 2), "stride": (2, 2), "pad": (2, 1), "dilation": (3, 2)},
    ),
    ("signals", (2, 2, 7), {"size": (3,), "pad": 1}, {"size": (3,), "stride": (2,), "pad": (1,)}),
    (
        "volumes",
        (1, 2, 4, 3, 5),
        {"size": (2, 3, 2), "stride": (2, 1, 2), "pad": (0, 1, 1), "ceil_mode": True},
        {"size": (2, 3, 2), "stride": (2, 1, 2), "pad": (0, 1, 1)},
    ),
)

POOLING += [
    _pooling(
        cls, title, shape, options, {k: v for k, v in want.items() if k != "counted_pad" or cls is L.AveragePooling}
    )
    for cls in (L.Pooling, L.AveragePooling)
    for title, shape, options, want in _WINDOWS
]
POOLING += [
    _pooling(
        L.AveragePooling,
        f"{title}, pixels alone",
        shape,
        {**options, "count_include_pad": False},
        {**want, "counted_pad": (0,) * len(want["size"])},
    )
    for title, shape, options, want in _WINDOWS
]

# --- batch normalisation

_EPS = 1e-3


def _normalisation(name: str, *shape: int, size: int, training: bool, core: bool = False) -> Row:
    """`size` is that of gamma: the number of channels, or that of all activations of a row."""
    statistics = {"running_mean": _x(size), "running_var": np.abs(_x(size))}

    def make(p: Arrays) -> Any:
        given = {key: p[key] for key in statistics}
        return L.BatchNormalization(p["gamma"], p["beta"], eps=_EPS, **given).train(training)

    def oracle(x: Any, p: Arrays) -> Any:
        rows = x if size == shape[1] else np.stack([row.ravel() for row in x])
        if training:
            y = oracles.batch_normalization(rows, p["gamma"], p["beta"], eps=_EPS)[0]
        else:
            y = oracles.normalize(rows, p["gamma"], p["beta"], p["running_mean"], p["running_var"], eps=_EPS)
        return y.reshape(shape)

    return Row(
        f"BatchNormalization {name}",
        make,
        oracle,
        (_x(*shape),),
        {"gamma": _x(size), "beta": _x(size)},
        statistics,
        core=core,
    )


NORMALISATION = [
    _normalisation("of features", 5, 3, size=3, training=True, core=True),
    _normalisation("of channels", 3, 2, 2, 3, size=2, training=True, core=True),
    _normalisation("of activations", 4, 2, 2, 1, size=4, training=True),
    _normalisation("of features, evaluated", 4, 3, size=3, training=False),
    _normalisation("of channels, evaluated", 2, 2, 2, 2, size=2, training=False, core=True),
    _normalisation("of activations, evaluated", 2, 3, 1, 2, size=6, training=False),
    _normalisation("of signals", 3, 2, 4, size=2, training=True),
    _normalisation("of signals, evaluated", 2, 2, 3, size=2, training=False),
    _normalisation("of volumes", 2, 2, 2, 1, 3, size=2, training=True),
    _normalisation("of volumes, evaluated", 2, 2, 1, 3, 2, size=2, training=False),
]

# --- dropout

_STREAM = Stream(7, "dropout")


def _dropout(ratio: float, inverted: bool, training: bool, shape: tuple[int, ...], core: bool = False) -> Row:
    def make(p: Arrays) -> Any:
        layer = L.Dropout(ratio, inverted=inverted)
        layer.build(shape[1:], stream=_STREAM)
        return layer.train(training)

    def oracle(x: Any, p: Arrays) -> Any:
        if not training:
            return x if inverted else x * (1 - ratio)
        mask = oracles.dropout_mask(shape, ratio, _STREAM.words("mask"), 0)
        return oracles.dropout(x, mask, scale=1 / (1 - ratio) if inverted else 1.0)

    kind = f"{ratio}{' inverted' if inverted else ''}{'' if training else ', evaluated'}"
    return Row(f"Dropout {kind}", make, oracle, (_x(*shape),), core=core)


DROPOUT = [
    _dropout(0.5, False, True, (4, 5), core=True),
    _dropout(0.25, True, True, (2, 2, 3, 2), core=True),
    _dropout(0.0, False, True, (3, 2)),
    _dropout(0.25, False, False, (3, 2), core=True),
    _dropout(0.25, True, False, (3, 2)),
]

# --- compositions


def _block(p: Arrays) -> Any:
    return L.Residual(L.Affine(p["body.Affine1.W"], p["body.Affine1.b"]), L.Tanh())


def _block_oracle(x: Any, p: Arrays) -> Any:
    return x + oracles.tanh(oracles.affine(x, p["body.Affine1.W"], p["body.Affine1.b"]))


def _strided_block(p: Arrays) -> Any:
    return L.Residual(
        L.Convolution(p["body.Convolution1.W"], stride=2, pad=1),
        L.Tanh(),
        shortcut=L.Convolution(p["shortcut.Convolution1.W"], stride=2),
    )


def _strided_block_oracle(x: Any, p: Arrays) -> Any:
    body = oracles.convolution(x, p["body.Convolution1.W"], stride=(2, 2), pad=(1, 1))
    return oracles.tanh(body) + oracles.convolution(x, p["shortcut.Convolution1.W"], stride=(2, 2))


def _chain(p: Arrays) -> Any:
    return L.Chain(
        ("first", L.Affine(p["first.W"], p["first.b"])),
        L.Residual(L.Affine(p["Residual1.body.Affine1.W"]), L.Sigmoid()),
        L.Affine(p["Affine1.W"]),
    )


def _chain_oracle(x: Any, p: Arrays) -> Any:
    h = oracles.affine(x, p["first.W"], p["first.b"])
    h = h + oracles.sigmoid(oracles.affine(h, p["Residual1.body.Affine1.W"]))
    return oracles.affine(h, p["Affine1.W"])


def _branches(p: Arrays) -> Any:
    x = Input((4,))
    tanh, twice = L.Tanh(), L.Affine(p["twice.W"], p["twice.b"])
    left = twice(tanh(twice(x, name="twice")))
    return L.Dag(x, L.Affine(p["Affine1.W"])(L.Concatenate()(left, x)))


def _branches_oracle(x: Any, p: Arrays) -> Any:
    left = oracles.tanh(oracles.affine(x, p["twice.W"], p["twice.b"]))
    left = oracles.affine(left, p["twice.W"], p["twice.b"])
    return oracles.affine(np.concatenate([left, x], axis=1), p["Affine1.W"])


COMPOSITIONS = [
    Row(
        "Residual", _block, _block_oracle, (_x(3, 4),), {"body.Affine1.W": _x(4, 4), "body.Affine1.b": _x(4)}, core=True
    ),
    Row(
        "Residual with a shortcut",
        _strided_block,
        _strided_block_oracle,
        (_x(2, 2, 5, 4),),
        {"body.Convolution1.W": _x(3, 2, 3, 3), "shortcut.Convolution1.W": _x(3, 2, 1, 1)},
    ),
    Row(
        "Chain",
        _chain,
        _chain_oracle,
        (_x(2, 4),),
        {"first.W": _x(4, 3), "first.b": _x(3), "Residual1.body.Affine1.W": _x(3, 3), "Affine1.W": _x(3, 2)},
        core=True,
    ),
    Row(
        "Dag",
        _branches,
        _branches_oracle,
        (_x(2, 4),),
        {"twice.W": _x(4, 4), "twice.b": _x(4), "Affine1.W": _x(8, 2)},
        core=True,
    ),
]

# --- of several inputs, and other orders of values


def _several(name: str, layer: Any, oracle: Any, *shapes: tuple[int, ...], core: bool = False) -> Row:
    inputs = tuple(_x(*shape) for shape in shapes)
    return Row(name, lambda p: layer(), lambda *given: oracle(*given[:-1]), inputs, wrt=len(inputs), core=core)


MERGING = [
    _several("Add", L.Add, lambda x, y: x + y, (3, 4), (3, 4), core=True),
    _several("Add of three, repeated", L.Add, lambda x, y, z: x + y + z, (2, 3, 2, 2), (2, 3, 1, 1), (2, 1, 2, 2)),
    _several("Add of one", L.Add, np.array, (2, 3)),
    _several("Multiply", L.Multiply, lambda x, y: x * y, (3, 4), (3, 4), core=True),
    _several("Multiply gate", L.Multiply, lambda x, y: x * y, (2, 3, 2, 2), (2, 3, 1, 1), core=True),
    _several("Multiply of three", L.Multiply, lambda x, y, z: x * y * z, (2, 1), (2, 3), (2, 3)),
    _several("Multiply of one", L.Multiply, np.array, (2, 3)),
    _several("Concatenate", L.Concatenate, lambda *xs: np.concatenate(xs, axis=1), (2, 3), (2, 1), (2, 2), core=True),
    _several(
        "Concatenate along the last axis",
        lambda: L.Concatenate(-1),
        lambda *xs: np.concatenate(xs, axis=3),
        (2, 3, 2, 1),
        (2, 3, 2, 2),
    ),
]

REARRANGING = [
    _several(
        "Reshape", lambda: L.Reshape((3, -1)), lambda x: np.stack([row.reshape(3, 2) for row in x]), (2, 6), core=True
    ),
    _several("Reshape images", lambda: L.Reshape((4,)), lambda x: np.stack([row.ravel() for row in x]), (3, 1, 2, 2)),
    _several("Permute", lambda: L.Permute((2, 3, 1)), lambda x: np.moveaxis(x, 1, 3), (2, 3, 2, 4), core=True),
    _several("Permute rows", lambda: L.Permute((2, 1)), lambda x: np.stack([row.T for row in x]), (2, 3, 2)),
    _several("Slice", lambda: L.Slice(1, 3), lambda x: np.stack([row[1:3] for row in x]), (2, 5), core=True),
    _several("Slice from the end", lambda: L.Slice(-2, axis=2), lambda x: x[:, :, -2:], (2, 3, 4, 2)),
    _several("Slice to the end", lambda: L.Slice(None, -1, axis=-1), lambda x: x[..., :-1], (2, 3, 4)),
]

# --- losses

_LABELS = np.array([0, 3, 1, 1])
_CLASS_WEIGHTS: dict[str, Any] = {"class_weights": [0.5, 2.0, 0.0, 1.25, 3.0]}


def _loss(cls: type, oracle: Callable[..., Any], name: str, x: Any, t: Any, core: bool = False, **options: Any) -> Row:
    def value(x: Any, t: Any, p: Arrays) -> Any:
        result = oracle(x, t, **options)
        return result[0] if isinstance(result, tuple) else result

    return Row(f"{cls.__name__} {name}", lambda p: cls(**options), value, (x, t), core=core)


def _one_sample(x: Any, t: Any, **options: Any) -> Any:
    return oracles.softmax_with_loss(x[None], t[None], **options)


def _column(x: Any, t: Any) -> Any:
    return oracles.sigmoid_with_loss(x, t[:, None])


LOSSES = [
    _loss(L.SoftmaxWithLoss, oracles.softmax_with_loss, "labels", _x(4, 5), _LABELS, core=True),
    _loss(L.SoftmaxWithLoss, oracles.softmax_with_loss, "uint8 labels", _x(4, 5), _LABELS.astype(np.uint8)),
    _loss(L.SoftmaxWithLoss, oracles.softmax_with_loss, "one-hot", _x(4, 5), np.eye(5)[_LABELS], core=True),
    _loss(L.SoftmaxWithLoss, oracles.softmax_with_loss, "weights", _x(2, 3), np.abs(_x(2, 3))),
    _loss(L.SoftmaxWithLoss, _one_sample, "one sample, label", _x(4), np.array(2)),
    _loss(L.SoftmaxWithLoss, _one_sample, "one sample, one-hot", _x(4), np.eye(4)[1]),
    _loss(L.SoftmaxWithLoss, oracles.softmax_with_loss, "smooth", _x(4, 5), _LABELS, label_smoothing=0.1),
    _loss(L.SoftmaxWithLoss, oracles.softmax_with_loss, "weighted", _x(4, 5), _LABELS, **_CLASS_WEIGHTS),
    _loss(
        L.SoftmaxWithLoss,
        oracles.softmax_with_loss,
        "weighted smooth labels",
        _x(4, 5),
        _LABELS,
        core=True,
        label_smoothing=0.25,
        **_CLASS_WEIGHTS,
    ),
    _loss(
        L.SoftmaxWithLoss,
        oracles.softmax_with_loss,
        "weighted smooth rows",
        _x(4, 5),
        np.abs(_x(4, 5)),
        core=True,
        label_smoothing=0.25,
        **_CLASS_WEIGHTS,
    ),
    _loss(
        L.SoftmaxWithLoss, _one_sample, "one weighted label", _x(5), np.array(3), label_smoothing=0.1, **_CLASS_WEIGHTS
    ),
    _loss(L.SigmoidWithLoss, oracles.sigmoid_with_loss, "", _x(3, 2), (_x(3, 2) > 0).astype(float), core=True),
    _loss(L.SigmoidWithLoss, oracles.sigmoid_with_loss, "integers", _x(4), np.array([0, 1, 1, 0])),
    _loss(L.SigmoidWithLoss, _column, "one column", _x(4, 1), np.array([0, 1, 1, 0])),
    _loss(L.IdentityWithLoss, oracles.identity_with_loss, "", _x(3, 2), _x(3, 2), core=True),
    _loss(L.IdentityWithLoss, oracles.identity_with_loss, "images", _x(2, 1, 2, 2), _x(2, 1, 2, 2)),
]

ROWS = [
    *(*ELEMENTWISE, *NODES, *AFFINE, *CONVOLUTION, *POOLING, *NORMALISATION, *DROPOUT, *COMPOSITIONS, *LOSSES),
    *MERGING,
    *REARRANGING,
    *row_rows.ROWS,
    *window_rows.ROWS,
    *sequence_rows.ROWS,
]
CORE = [row for row in ROWS if row.core]
# one per class, for what is slow
FIRST = list({row.cls: row for row in reversed(CORE)}.values())
