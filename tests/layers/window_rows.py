"""Rows of the table for transposed convolution, upsampling, and softmax along other axes."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests import window_oracles as oracles
from tests.layers.row import Row
from tests.oracles import log_softmax, softmax
from tests.pairs import sample
from xpdl import layers as L

_rng = np.random.default_rng(2023)


def _x(*shape: int) -> Any:
    return sample(_rng, *shape)


def _transpose(
    name: str, x: tuple[int, ...], W: tuple[int, ...], want: dict[str, Any], core: bool = False, **options: Any
) -> Row:
    """`want` is what the options stand for."""
    groups = options.get("groups", 1)
    return Row(
        f"ConvolutionTranspose {name}",
        lambda p: L.ConvolutionTranspose(p["W"], p.get("b"), **options),
        lambda x, p: oracles.convolution_transpose(x, p["W"], p.get("b"), **{**want, "groups": groups}),
        (_x(*x),),
        {"W": _x(*W), "b": _x(W[1] * groups)},
        core=core,
    )


TRANSPOSE = [
    _transpose("plain", (2, 2, 3, 4), (2, 3, 3, 2), {}, core=True),
    _transpose(
        "with everything",
        (1, 4, 3, 2),
        (4, 1, 3, 2),
        {"stride": (2, 3), "pad": ((1, 0), 0), "output_pad": (1, 2), "dilation": (2, 1)},
        stride=(2, 3),
        pad=((1, 0), 0),
        output_pad=(1, 2),
        dilation=(2, 1),
        groups=2,
    ),
    _transpose("same", (1, 1, 3, 2), (1, 2, 3, 4), {"stride": (2, 2), "pad": ((0, 1), 1)}, stride=2, pad="same"),
    _transpose(
        "same, of a filter smaller than the stride",
        (1, 1, 3, 2),
        (1, 2, 2, 2),
        {"stride": (3, 2), "output_pad": (1, 0)},
        stride=(3, 2),
        pad="same",
    ),
    _transpose(
        "of signals",
        (2, 2, 4),
        (2, 3, 3),
        {"stride": (2,), "pad": (1,), "output_pad": (1,), "dilation": (1,)},
        stride=2,
        pad=1,
        output_pad=1,
    ),
    _transpose(
        "of volumes",
        (1, 2, 2, 1, 3),
        (2, 1, 2, 3, 2),
        {"stride": (2, 1, 2), "pad": (0, 1, 0), "output_pad": (0, 0, 0), "dilation": (1, 1, 1)},
        stride=(2, 1, 2),
        pad=(0, 1, 0),
    ),
]

UPSAMPLING = [
    Row(
        f"UpSampling {mode} {shape} {scale}",
        lambda p, mode=mode, scale=scale: L.UpSampling(scale, mode=mode),
        lambda x, p, f=f, scale=scale: f(x, (scale,) * (x.ndim - 2) if isinstance(scale, int) else scale),
        (_x(*shape),),
        core=len(shape) == 4 and scale == 2,
    )
    for mode, f in (("nearest", oracles.upsampling), ("linear", oracles.linear_upsampling))
    for shape, scale in (((2, 2, 3, 2), 2), ((1, 1, 2, 3), (3, 1)), ((1, 2, 4), 3), ((1, 1, 2, 1, 3), (2, 3, 2)))
]

SOFTMAX = [
    Row(
        f"{cls.__name__} {shape} along {axis}",
        lambda p, cls=cls, axis=axis: cls(axis),
        lambda x, p, f=f, axis=axis: f(x, axis=axis),
        (_x(*shape),),
    )
    for cls, f in ((L.Softmax, softmax), (L.LogSoftmax, log_softmax))
    for shape, axis in (((2, 3, 2, 2), 1), ((2, 4, 3), -2), ((3, 4), 1))
]

ROWS = [*TRANSPOSE, *UPSAMPLING, *SOFTMAX]
