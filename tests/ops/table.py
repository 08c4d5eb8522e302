"""Every op of xpdl.ops with sample inputs: the rows that tests/ops/test_table.py drives on all backends."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np

from tests import oracles
from tests.ops import row_cases, sequence_cases, window_cases
from tests.pairs import Case, Pair, distinct, sample
from xpdl.ops import (
    activations,
    affine,
    arithmetic,
    convolution,
    dropout,
    joining,
    losses,
    normalization,
    pooling,
    windows,
)

_rng = np.random.default_rng(2016)


def _x(*shape: int) -> Any:
    return sample(_rng, *shape)


def _relu_after(oracle: Any) -> Any:
    """The oracle of an op with the epilogue that `activation` names."""

    def with_epilogue(*arrays: Any, activation: str | None = None, **static: Any) -> Any:
        y = oracle(*arrays, **static)
        return oracles.relu(y) if activation == "relu" else y

    return with_epilogue


def _through_epilogue(outputs: Any, static: Any) -> dict[str, Any]:
    """Arguments of a backward pass for the epilogue: the activation, and the output where there is one."""
    return {"y": outputs[0], "activation": static["activation"]} if "activation" in static else {}


def _from_output(backward: Any, dy: Any, outputs: Any, arrays: Any, static: Any) -> Any:
    return backward(dy, outputs[0], **static)


# --- activations

ACTIVATIONS = [
    Case(f"{name} {shape}", Pair(forward, oracle, backward, _from_output), (_x(*shape),), static, core=shape == (3, 4))
    for name, forward, oracle, backward, axes in (
        ("relu", activations.relu, oracles.relu, activations.relu_backward, ()),
        ("sigmoid", activations.sigmoid, oracles.sigmoid, activations.sigmoid_backward, ()),
        ("tanh", activations.tanh, oracles.tanh, activations.tanh_backward, ()),
        ("softmax", activations.softmax, oracles.softmax, activations.softmax_backward, (-1, 0)),
        ("log_softmax", activations.log_softmax, oracles.log_softmax, activations.log_softmax_backward, (-1, 0)),
    )
    for shape in ((3, 4), (5,), (1, 1), (2, 3, 1, 2))
    for static in ([{"axis": axis} for axis in axes] or [{}])
]

# --- affine


def _affine_backward(backward: Any, dy: Any, outputs: Any, arrays: Any, static: Any) -> Any:
    return backward(dy, arrays[0], arrays[1], **_through_epilogue(outputs, static))


_AFFINE = Pair(affine.affine, _relu_after(oracles.affine), affine.affine_backward, _affine_backward, (0, 1, 2))


def _affine(*shape: int, units: int, bias: bool = True, core: bool = False) -> Case:
    wrt = (0, 1, 2) if bias else (0, 1)
    arrays = (_x(*shape), _x(int(np.prod(shape[1:])), units), _x(units))
    pair = dataclasses.replace(_AFFINE, wrt=wrt)
    return Case(f"affine {shape} {units} {bias}", pair, arrays[: len(wrt)], core=core)


def _affine_relu(*shape: int, units: int) -> Case:
    rng = np.random.default_rng(7)
    arrays = sample(rng, *shape), sample(rng, int(np.prod(shape[1:])), units), sample(rng, units)
    return Case(f"affine relu {shape} {units}", _AFFINE, arrays, {"activation": "relu"}, core=True)


AFFINE = [
    _affine(3, 4, units=2, core=True),
    _affine(1, 1, units=1),
    _affine(1, 5, units=3, bias=False),
    _affine(2, 2, 3, 2, units=3, core=True),
    _affine(4, 3, 1, units=1, bias=False),
    _affine_relu(3, 2, 2, units=4),
]

# --- convolution


def _convolution_backward(backward: Any, dy: Any, outputs: Any, arrays: Any, static: Any) -> Any:
    return backward(dy, arrays[0], arrays[1], **{**static, **_through_epilogue(outputs, static)})


_CONVOLUTION = Pair(
    convolution.convolution,
    _relu_after(oracles.convolution),
    convolution.convolution_backward,
    _convolution_backward,
    (0, 1, 2),
)


def _convolution(
    name: str, x: tuple[int, ...], W: tuple[int, ...], *, bias: bool = True, core: bool = False, **static: Any
) -> Case:
    wrt = (0, 1, 2) if bias else (0, 1)
    pair = dataclasses.replace(_CONVOLUTION, wrt=wrt)
    return Case(f"convolution {name}", pair, (_x(*x), _x(*W), _x(W[0]))[: len(wrt)], static, core)


def _convolution_relu(x: tuple[int, ...], W: tuple[int, ...], **static: Any) -> Case:
    rng = np.random.default_rng(7)
    arrays = sample(rng, *x), sample(rng, *W), sample(rng, W[0])
    return Case("convolution relu", _CONVOLUTION, arrays, {"activation": "relu", **static}, core=True)


CONVOLUTION = [
    _convolution("plain", (2, 2, 5, 4), (3, 2, 3, 2), core=True),
    _convolution("no bias", (1, 2, 4, 4), (2, 2, 3, 3), bias=False),
    _convolution("pad 1", (1, 1, 4, 5), (2, 1, 3, 3), pad=(1, 1)),
    _convolution("pad of two numbers", (1, 2, 3, 4), (1, 2, 3, 3), pad=(2, 0)),
    _convolution("pad wider than the filter", (1, 1, 2, 2), (1, 1, 2, 1), pad=(3, 2)),
    _convolution("stride 2 with a remainder", (2, 1, 6, 5), (2, 1, 3, 2), stride=(2, 2)),
    _convolution("stride 2 without a remainder", (1, 1, 5, 7), (2, 1, 3, 3), stride=(2, 2)),
    _convolution("stride of two numbers", (1, 2, 6, 5), (1, 2, 2, 2), stride=(3, 1)),
    _convolution("stride larger than the filter", (1, 1, 7, 7), (1, 1, 2, 1), stride=(3, 4)),
    _convolution("stride and pad", (2, 1, 5, 4), (2, 1, 3, 3), stride=(2, 3), pad=(1, 2), core=True),
    _convolution("dilation", (1, 1, 6, 6), (2, 1, 2, 3), dilation=(2, 2)),
    _convolution("dilation of two numbers, pad", (1, 2, 5, 4), (1, 2, 3, 2), dilation=(1, 3), pad=(1, 2)),
    _convolution("dilation and stride", (1, 1, 8, 7), (1, 1, 3, 2), dilation=(2, 3), stride=(2, 2), pad=(1, 1)),
    _convolution("groups", (2, 4, 4, 3), (6, 2, 2, 2), groups=2, core=True),
    _convolution("depthwise", (1, 3, 4, 4), (3, 1, 3, 3), groups=3, pad=(1, 1)),
    _convolution(
        "everything", (2, 4, 6, 5), (2, 2, 2, 3), groups=2, stride=(2, 1), pad=(0, 1), dilation=(3, 1), core=True
    ),
    _convolution("1x1", (2, 3, 3, 2), (4, 3, 1, 1)),
    _convolution("1x1 with stride", (1, 2, 5, 4), (2, 2, 1, 1), stride=(2, 2)),
    _convolution("filter as large as the image", (2, 2, 3, 4), (3, 2, 3, 4)),
    _convolution("row filter", (1, 1, 3, 5), (2, 1, 1, 5)),
    _convolution("one pixel", (1, 1, 1, 1), (1, 1, 1, 1)),
    _convolution("remainder and pad", (1, 1, 6, 6), (1, 1, 3, 3), stride=(4, 4), pad=(1, 1)),
    _convolution_relu((2, 2, 5, 4), (4, 1, 3, 2), pad=(1, 0), groups=2),
]

# drawn apart from the rows above
_rng = np.random.default_rng(2017)
_LINE = {"stride": (1,), "pad": (0,), "dilation": (1,)}
_BOX = {"stride": (1, 1, 1), "pad": (0, 0, 0), "dilation": (1, 1, 1)}

CONVOLUTION += [
    _convolution("one-sided pad", (2, 1, 4, 3), (2, 1, 2, 3), pad=((1, 0), (0, 2)), core=True),
    _convolution("one-sided pad and stride", (1, 2, 5, 4), (1, 2, 3, 2), pad=((0, 1), (2, 1)), stride=(2, 2)),
    _convolution("signal", (2, 2, 6), (3, 2, 3), **_LINE, core=True),
    _convolution(
        "signal, everything", (1, 4, 9), (2, 2, 3), stride=(2,), pad=((1, 2),), dilation=(2,), groups=2, core=True
    ),
    _convolution("volume", (2, 2, 3, 4, 3), (3, 2, 2, 3, 2), **_BOX, core=True),
    _convolution(
        "volume, everything",
        (1, 4, 5, 4, 3),
        (2, 2, 2, 2, 3),
        stride=(2, 1, 2),
        pad=((0, 1), (1, 1), (2, 0)),
        dilation=(2, 1, 1),
        groups=2,
    ),
    _convolution("volume of one image", (1, 2, 1, 3, 3), (1, 2, 1, 2, 2), bias=False, **_BOX),
]

# --- pooling


def _max_backward(backward: Any, dy: Any, outputs: Any, arrays: Any, static: Any) -> Any:
    return backward(dy, arrays[0], outputs[0], **static)


def _average_backward(backward: Any, dy: Any, outputs: Any, arrays: Any, static: Any) -> Any:
    return backward(dy, arrays[0], **static)


def _with_taps(op: Any) -> Any:
    """The first result of an op that gives taps besides."""

    @functools.wraps(op)
    def forward(x: Any, **static: Any) -> Any:
        return op(x, **static)[0]

    return forward


def _taps_backward(backward: Any, dy: Any, outputs: Any, arrays: Any, static: Any) -> Any:
    y, taps = pooling.max_pooling_with_taps(arrays[0], **static)
    return backward(dy, arrays[0], y, **static, taps=taps)


_MAX_POOLING = _relu_after(oracles.max_pooling)
_MAX = Pair(pooling.max_pooling, _MAX_POOLING, pooling.max_pooling_backward, _max_backward)
_MAX_WITH_TAPS = Pair(
    _with_taps(pooling.max_pooling_with_taps), _MAX_POOLING, pooling.max_pooling_backward, _taps_backward
)
_AVERAGE = Pair(pooling.average_pooling, oracles.average_pooling, pooling.average_pooling_backward, _average_backward)
_RELU = {"activation": "relu"}

_POOLS: tuple[tuple[str, Pair, dict[str, Any]], ...] = (
    ("max_pooling", _MAX, {}),
    ("max_pooling relu", _MAX, _RELU),
    ("max_pooling with taps", _MAX_WITH_TAPS, {}),
    ("max_pooling relu with taps", _MAX_WITH_TAPS, _RELU),
    ("average_pooling", _AVERAGE, {}),
)

POOLING = [
    Case(f"{name} {title}", pair, (distinct(_rng, *shape),), {**static, **epilogue}, core)
    for name, pair, epilogue in _POOLS
    for title, shape, static, core in (
        ("2x2", (2, 3, 4, 6), {"size": (2, 2), "stride": (2, 2)}, True),
        ("with a remainder", (1, 2, 5, 7), {"size": (2, 2), "stride": (2, 2)}, False),
        ("overlapping", (1, 2, 5, 5), {"size": (3, 3), "stride": (2, 2)}, False),
        ("stride 1", (1, 1, 4, 3), {"size": (2, 2), "stride": (1, 1)}, False),
        ("padded", (2, 1, 4, 5), {"size": (3, 3), "stride": (2, 2), "pad": (1, 1)}, True),
        ("of two numbers", (1, 2, 6, 5), {"size": (3, 2), "stride": (1, 2), "pad": (1, 0)}, False),
        ("with gaps", (1, 1, 7, 6), {"size": (2, 1), "stride": (3, 2)}, False),
        ("whole image", (2, 2, 3, 4), {"size": (3, 4), "stride": (1, 1)}, False),
        ("1x1", (1, 2, 3, 3), {"size": (1, 1), "stride": (1, 1)}, False),
        ("1x1 with stride", (1, 1, 5, 4), {"size": (1, 1), "stride": (2, 3)}, False),
    )
    if core or not (epilogue or name.endswith("taps"))
]

_rng = np.random.default_rng(2018)
_POOLING_OPTIONS: tuple[tuple[str, tuple[int, ...], dict[str, Any], bool], ...] = (
    ("one-sided pad", (1, 2, 4, 5), {"size": (2, 3), "stride": (2, 2), "pad": ((1, 0), (0, 2))}, True),
    ("pad behind", (1, 2, 5, 5), {"size": (3, 3), "stride": (2, 2), "pad": ((0, 1), (1, 2))}, False),
    ("dilated", (1, 2, 6, 5), {"size": (2, 3), "stride": (1, 2), "pad": (1, 1), "dilation": (3, 2)}, True),
    ("signals", (2, 2, 7), {"size": (3,), "stride": (2,), "pad": (1,), "dilation": (1,)}, True),
    ("signals with everything", (2, 1, 8), {"size": (2,), "stride": (3,), "pad": ((1, 0),), "dilation": (2,)}, False),
    (
        "volumes",
        (1, 2, 4, 3, 5),
        {"size": (2, 3, 2), "stride": (2, 1, 2), "pad": (0, 1, 1), "dilation": (1, 1, 1)},
        True,
    ),
    (
        "volumes with everything",
        (1, 1, 5, 4, 3),
        {"size": (2, 2, 2), "stride": (1, 2, 1), "pad": ((1, 0), (0, 1), 0), "dilation": (2, 1, 2)},
        False,
    ),
)

POOLING += [
    Case(f"{name} {title}", pair, (distinct(_rng, *shape),), {**static, **epilogue}, core and not epilogue)
    for name, pair, epilogue in _POOLS
    for title, shape, static, core in _POOLING_OPTIONS
    if core or not (epilogue or name.endswith("taps"))
]

POOLING += [
    Case(f"average_pooling of pixels {title}", _AVERAGE, (distinct(_rng, *shape),), static, core)
    for title, shape, static, core in (
        (
            "alone",
            (1, 2, 5, 4),
            {"size": (3, 2), "stride": (2, 2), "pad": ((1, 2), (1, 0)), "counted_pad": (0, 0)},
            True,
        ),
        (
            "and a part of the border",
            (2, 1, 4, 4),
            {"size": (3, 3), "stride": (2, 2), "pad": ((1, 2), 2), "counted_pad": (1, (0, 1))},
            False,
        ),
        (
            "or none",
            (1, 1, 1, 3),
            {"size": (2, 2), "stride": (1, 1), "pad": (1, 1), "dilation": (2, 1), "counted_pad": (0, 0)},
            False,
        ),
        (
            "of volumes",
            (1, 1, 3, 3, 2),
            {
                "size": (2, 3, 2),
                "stride": (2, 2, 1),
                "pad": (1, 1, (0, 1)),
                "dilation": (1, 1, 1),
                "counted_pad": (0, (0, 1), 0),
            },
            False,
        ),
    )
]

POOLING += [
    Case(
        f"global_average_pooling {shape}",
        Pair(pooling.global_average_pooling, oracles.global_average_pooling, pooling.global_average_pooling_backward),
        (_x(*shape),),
        core=shape[0] == 2,
    )
    for shape in ((2, 3, 4, 5), (1, 2, 1, 1), (1, 2, 3), (1, 2, 2, 3, 2))
]

# --- normalization

# drawn apart from the rows above: two values of a batch that are nearly equal leave differences no digits
_rng = np.random.default_rng(2015)


def _batch_backward(backward: Any, dy: Any, outputs: Any, arrays: Any, static: Any) -> Any:
    _, mean, var, *_ = outputs
    return backward(dy, arrays[0], arrays[1], mean, var, static["eps"], **_through_epilogue(outputs, static))


def _batch(*shape: int, activation: str | None, core: bool) -> Case:
    pair = Pair(
        normalization.batch_normalization,
        oracles.batch_normalization,
        normalization.batch_normalization_backward,
        _batch_backward,
        (0, 1, 2),
        wide=(1, 2),
    )
    static = {"eps": 1e-3, "activation": activation}
    arrays = (_x(*shape), _x(shape[1]), _x(shape[1]))
    return Case(f"batch_normalization {shape} {activation or ''}".strip(), pair, arrays, static, core)


def _normalize_backward(backward: Any, dy: Any, outputs: Any, arrays: Any, static: Any) -> Any:
    x, gamma, _, mean, var = arrays
    return backward(dy, x, gamma, mean, var, static["eps"], **_through_epilogue(outputs, static))


def _normalize(*shape: int, activation: str | None, core: bool) -> Case:
    pair = Pair(
        normalization.normalize, oracles.normalize, normalization.normalize_backward, _normalize_backward, (0, 1, 2)
    )
    c = shape[1]
    arrays = (_x(*shape), _x(c), _x(c), _x(c), np.abs(_x(c)))
    static = {"eps": 1e-3, "activation": activation}
    return Case(f"normalize {shape} {activation or ''}".strip(), pair, arrays, static, core)


def _with_residual_last(function: Any) -> Any:
    """With the residual as an array behind the others."""
    return functools.wraps(function)(lambda *arrays, **static: function(*arrays[:-1], residual=arrays[-1], **static))


def _residual_backward(backward: Any, dy: Any, outputs: Any, arrays: Any, static: Any) -> Any:
    x, gamma, *_ = arrays
    statistics = outputs[1:3] or arrays[3:5]
    gradients = backward(dy, x, gamma, *statistics, static["eps"], **_through_epilogue(outputs, static))
    return (*gradients, activations.relu_backward(dy, outputs[0]) if static["activation"] else dy)


def _with_residual(forward: Any, oracle: Any, backward: Any, *more: Any, activation: str | None, **static: Any) -> Case:
    wide = () if len(more) == 2 and not static else (1, 2, 3, 4)  # statistics
    functions = _with_residual_last(forward), _with_residual_last(oracle), backward
    pair = Pair(*functions, _residual_backward, (0, 1, 2, 3 + len(more)), wide)
    arrays = (_x(3, 2, 2, 3), _x(2), _x(2), *more, _x(3, 2, 2, 3))
    name = f"{forward.__name__} residual {activation or ''}".strip()
    return Case(name, pair, arrays, {"eps": 1e-3, "activation": activation, **static}, core=True)


NORMALIZATION = [
    make(*shape, activation=activation, core=shape in ((4, 3), (3, 2, 2, 3)))
    for make in (_batch, _normalize)
    for activation, shapes in (
        (None, ((4, 3), (3, 2, 2, 3), (2, 1), (5, 1, 3, 1), (2, 3, 4))),
        ("relu", ((3, 2, 2, 3), (4, 2))),
    )
    for shape in shapes
] + [_normalize(*shape, activation=None, core=False) for shape in ((1, 3), (1, 2, 2, 2))]

_OF_BATCH = (
    normalization.batch_normalization,
    oracles.batch_normalization,
    normalization.batch_normalization_backward,
)
_OF_GIVEN = normalization.normalize, oracles.normalize, normalization.normalize_backward

NORMALIZATION += [
    case
    for activation in ("relu", None)
    for case in (
        _with_residual(*_OF_BATCH, activation=activation),
        _with_residual(*_OF_GIVEN, _x(2), np.abs(_x(2)), activation=activation),
    )
]

# --- dropout


def _dropout_backward(backward: Any, dy: Any, outputs: Any, arrays: Any, static: Any) -> Any:
    return (backward(dy, arrays[1], **static),)


_DROPOUT = Pair(dropout.dropout, oracles.dropout, dropout.dropout, _dropout_backward)


def _mask(x: Any, *, drop_ratio: float, words: tuple[int, ...], counter: int, first_row: int = 0) -> Any:
    return oracles.dropout_mask(x.shape, drop_ratio, words, counter, first_row)


DROPOUT = [
    Case("dropout", _DROPOUT, (_x(3, 4), _rng.random((3, 4)) < 0.5), core=True),
    Case("dropout scaled", _DROPOUT, (_x(2, 3, 2, 2), _rng.random((2, 3, 2, 2)) < 0.5), {"scale": 2.0}, core=True),
    Case("dropout none kept", _DROPOUT, (_x(2, 2), np.zeros((2, 2), bool)), {"scale": 1.25}),
    *(
        Case(
            f"dropout_mask {ratio} {shape}",
            Pair(dropout.dropout_mask, _mask),
            (_x(*shape),),
            {"drop_ratio": ratio, "words": (1, 2, 3, 4), "counter": counter},
            core=ratio == 0.5,
        )
        for ratio, shape, counter in ((0.5, (5, 7), 0), (0.25, (2, 3, 4, 2), 9), (0.0, (3, 3), 1), (1.0, (4,), 2))
    ),
    Case(
        "dropout_mask of a share",
        Pair(dropout.dropout_mask, _mask),
        (_x(2, 3, 2, 2),),
        {"drop_ratio": 0.5, "words": (1, 2, 3, 4), "counter": 5, "first_row": 3},
        core=True,
    ),
]

# --- losses


def _from_probabilities(backward: Any, dy: Any, outputs: Any, arrays: Any, static: Any) -> Any:
    return (backward(outputs[1], arrays[1], dy),)


def _from_probabilities_weighted(backward: Any, dy: Any, outputs: Any, arrays: Any, static: Any) -> Any:
    return (backward(outputs[1], arrays[1], dy, *arrays[2:], **static),)


def _from_inputs(backward: Any, dy: Any, outputs: Any, arrays: Any, static: Any) -> Any:
    return (backward(arrays[0], arrays[1], dy),)


_SOFTMAX = Pair(
    losses.softmax_with_loss,
    oracles.softmax_with_loss,
    losses.softmax_with_loss_backward,
    _from_probabilities,
    wide=(0,),
)
_WEIGHTED = dataclasses.replace(_SOFTMAX, call_backward=_from_probabilities_weighted)
_SIGMOID = Pair(
    losses.sigmoid_with_loss,
    oracles.sigmoid_with_loss,
    losses.sigmoid_with_loss_backward,
    _from_probabilities,
    wide=(0,),
)
_IDENTITY = Pair(
    losses.identity_with_loss, oracles.identity_with_loss, losses.identity_with_loss_backward, _from_inputs, wide=(0,)
)


def _by_row(function: Any) -> Any:
    """With the weights of the rows as an array behind the others."""
    return functools.wraps(function)(
        lambda *arrays, **static: function(*arrays[:-1], sample_weight=arrays[-1], **static)
    )


def _by_row_backward(of_output: int) -> Any:
    """Called with the probabilities, or else the inputs."""

    def call(backward: Any, dy: Any, outputs: Any, arrays: Any, static: Any) -> Any:
        first = outputs[of_output] if of_output else arrays[0]
        return (backward(first, arrays[1], dy, *arrays[2:-1], sample_weight=arrays[-1], **static),)

    return call


def _with_row_weights(name: str, pair: Pair, arrays: Any, core: bool = True, **static: Any) -> list[Case]:
    """Rows that count twice, half or nothing; and none that counts."""
    of_output = 0 if pair is _IDENTITY else 1
    backward = _by_row_backward(of_output)
    weighted = Pair(_by_row(pair.forward), _by_row(pair.oracle), pair.backward, backward, wide=pair.wide)
    weights = np.array([2.0, 0.0, 0.5, 1.25])
    return [
        Case(f"{name} by rows", weighted, (*arrays, weights), static, core=core),
        Case(f"{name} of no weight", weighted, (*arrays, weights * 0), static),
    ]


_LABELS = np.array([0, 3, 1, 1])
_CLASS_WEIGHTS = np.array([0.5, 2.0, 0.0, 1.25, 3.0])

LOSSES = [
    Case("softmax_with_loss labels", _SOFTMAX, (_x(4, 5), _LABELS), core=True),
    Case("softmax_with_loss int32 labels", _SOFTMAX, (_x(4, 5), _LABELS.astype(np.int32))),
    Case("softmax_with_loss uint8 labels", _SOFTMAX, (_x(4, 5), _LABELS.astype(np.uint8))),
    Case("softmax_with_loss one-hot", _SOFTMAX, (_x(4, 5), np.eye(5)[_LABELS]), core=True),
    Case("softmax_with_loss integer one-hot", _SOFTMAX, (_x(4, 5), np.eye(5, dtype=np.int64)[_LABELS])),
    Case("softmax_with_loss weights of any sum", _SOFTMAX, (_x(3, 4), np.abs(_x(3, 4)))),
    Case("softmax_with_loss one class", _SOFTMAX, (_x(3, 1), np.array([0, 0, 0]))),
    Case("softmax_with_loss one row", _SOFTMAX, (_x(1, 3), np.array([2]))),
    *(
        Case(f"softmax_with_loss {name}", _WEIGHTED, (_x(4, 5), t, *weights), smoothing, core=core)
        for kind, t in (("labels", _LABELS), ("shares", np.abs(_x(4, 5))), ("one-hot", np.eye(5, dtype=int)[_LABELS]))
        for name, weights, smoothing, core in (
            (f"smooth {kind}", (), {"label_smoothing": 0.1}, False),
            (f"weighted {kind}", (_CLASS_WEIGHTS,), {}, False),
            (f"weighted smooth {kind}", (_CLASS_WEIGHTS,), {"label_smoothing": 0.25}, kind != "one-hot"),
        )
    ),
    Case("sigmoid_with_loss", _SIGMOID, (_x(3, 2), (_x(3, 2) > 0).astype(float)), core=True),
    Case("sigmoid_with_loss integer targets", _SIGMOID, (_x(3, 2), np.array([[0, 1], [1, 1], [0, 0]]))),
    Case("sigmoid_with_loss boolean targets", _SIGMOID, (_x(2, 2), np.array([[False, True], [True, True]]))),
    Case("sigmoid_with_loss soft targets", _SIGMOID, (_x(3, 2), _rng.integers(0, 9, (3, 2)) / 8)),
    Case("sigmoid_with_loss flat", _SIGMOID, (_x(4), np.array([0.0, 1.0, 1.0, 0.0]))),
    Case("identity_with_loss", _IDENTITY, (_x(3, 2), _x(3, 2)), core=True),
    Case("identity_with_loss integer targets", _IDENTITY, (_x(2, 2), np.array([[0, 1], [2, -3]]))),
    Case("identity_with_loss flat", _IDENTITY, (_x(4), _x(4))),
    *_with_row_weights("softmax_with_loss labels", _SOFTMAX, (_x(4, 5), _LABELS)),
    *_with_row_weights("softmax_with_loss shares", _SOFTMAX, (_x(4, 5), np.abs(_x(4, 5))), label_smoothing=0.25),
    *_with_row_weights("softmax_with_loss class weights", _SOFTMAX, (_x(4, 5), _LABELS, _CLASS_WEIGHTS)),
    *_with_row_weights("sigmoid_with_loss", _SIGMOID, (_x(4, 2), (_x(4, 2) > 0).astype(float))),
    *_with_row_weights("sigmoid_with_loss flat", _SIGMOID, (_x(4), np.array([0.0, 1.0, 1.0, 0.0])), core=False),
    *_with_row_weights("identity_with_loss", _IDENTITY, (_x(4, 2, 1), _x(4, 2, 1))),
]

# --- windows


def _image_of_columns(backward: Any, dy: Any, outputs: Any, arrays: Any, static: Any) -> Any:
    return (backward(dy, arrays[0].shape, **static),)


def _columns_of_image(backward: Any, dy: Any, outputs: Any, arrays: Any, static: Any) -> Any:
    return (backward(dy, **{name: value for name, value in static.items() if name != "input_shape"}),)


_IM2COL = Pair(windows.im2col, oracles.im2col, windows.col2im, _image_of_columns)
_COL2IM = Pair(windows.col2im, oracles.col2im, windows.im2col, _columns_of_image)


def _windows(shape: tuple[int, ...], size: tuple[int, int], core: bool = False, **static: Any) -> list[Case]:
    """im2col with its adjoint as backward, and the other way round."""
    name = f"{shape} {size} {static}"
    static = {"filter_h": size[0], "filter_w": size[1], **static}
    x = _x(*shape)
    col = oracles.im2col(x, **static)
    return [
        Case(f"im2col {name}", _IM2COL, (x,), static, core),
        Case(f"col2im {name}", _COL2IM, (_x(*col.shape),), {"input_shape": shape, **static}, core),
    ]


WINDOWS = [
    case
    for cases in (
        _windows((2, 3, 4, 5), (3, 2), core=True),
        _windows((1, 1, 4, 4), (2, 2), stride=2),
        _windows((2, 1, 5, 4), (2, 3), stride=2, pad=1, core=True),
        _windows((1, 2, 5, 5), (3, 3), stride=(2, 1), pad=(0, 2)),
        _windows((1, 1, 7, 5), (2, 2), stride=3),
        _windows((1, 2, 3, 3), (3, 3)),
        _windows((2, 2, 2, 3), (1, 1)),
        _windows((1, 1, 1, 1), (1, 1)),
    )
    for case in cases
]

# --- arithmetic

_ADD = Pair(arithmetic.add, _relu_after(oracles.add))

ARITHMETIC = [
    Case(f"add {shape} {name}".strip(), _ADD, (_x(*shape), _x(*shape)), static, core=shape == (3, 4))
    for name, static in (("", {}), ("relu", _RELU))
    for shape in ((3, 4), (2, 3, 1, 2))
]

_MULTIPLY = Pair(
    arithmetic.multiply,
    oracles.multiply,
    arithmetic.multiply_backward,
    lambda backward, dy, outputs, arrays, static: backward(dy, *arrays),
    wrt=(0, 1),
)

ARITHMETIC += [
    Case(f"multiply {x} {y}", _MULTIPLY, (_x(*x), _x(*y)), core=x == (3, 4))
    for x, y in (((3, 4), (3, 4)), ((2, 3, 2, 2), (2, 3, 1, 1)), ((2, 1), (2, 3)))
]

_PART = Pair(
    joining.part,
    oracles.part,
    joining.part_backward,
    lambda backward, dy, outputs, arrays, static: backward(
        dy, arrays[0].shape[static["axis"]], static["start"], static["axis"]
    ),
)

ARITHMETIC += [
    Case(f"part {shape} {axis}", _PART, (_x(*shape),), {"start": 1, "stop": 3, "axis": axis}, core=axis == 1)
    for shape, axis in (((3, 4), 1), ((2, 3, 4, 2), 2), ((2, 1, 3), -1))
]

# --- normalization with running statistics


def _tracked(*shape: int, activation: str | None, core: bool) -> Case:
    pair = Pair(
        normalization.tracked_batch_normalization,
        oracles.tracked_batch_normalization,
        normalization.batch_normalization_backward,
        _batch_backward,
        (0, 1, 2),
        wide=(1, 2, 3, 4),
    )
    c = shape[1]
    static = {"momentum": 0.7, "eps": 1e-3, "activation": activation}
    arrays = (_x(*shape), _x(c), _x(c), _x(c), np.abs(_x(c)))
    return Case(f"tracked_batch_normalization {shape} {activation or ''}".strip(), pair, arrays, static, core)


TRACKED = [
    _tracked(4, 3, activation=None, core=True),
    _tracked(3, 2, 2, 3, activation="relu", core=True),
    _tracked(2, 3, 4, activation=None, core=False),
    *(
        _with_residual(
            normalization.tracked_batch_normalization,
            oracles.tracked_batch_normalization,
            normalization.batch_normalization_backward,
            _x(2),
            np.abs(_x(2)),
            activation=activation,
            momentum=0.7,
        )
        for activation in ("relu", None)
    ),
]

CASES = [
    *(
        *ACTIVATIONS,
        *AFFINE,
        *CONVOLUTION,
        *POOLING,
        *NORMALIZATION,
        *DROPOUT,
        *LOSSES,
        *WINDOWS,
        *ARITHMETIC,
        *TRACKED,
    ),
    *row_cases.CASES,
    *window_cases.CASES,
    *sequence_cases.CASES,
]
CORE = [case for case in CASES if case.core]
# one per op, for what is slow
FIRST = list({case.pair.forward: case for case in reversed(CORE)}.values())
