"""Rows of the table for transposed convolution and upsampling."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from tests import window_oracles as oracles
from tests.oracles import log_softmax, softmax
from tests.pairs import Case, Pair, sample
from xpdl.ops import activations, convolution_transpose, upsampling

_rng = np.random.default_rng(2022)


def _transpose_backward(backward: Any, dy: Any, outputs: Any, arrays: Any, static: Any) -> Any:
    return backward(dy, arrays[0], arrays[1], **static)


_TRANSPOSE = Pair(
    convolution_transpose.convolution_transpose,
    oracles.convolution_transpose,
    convolution_transpose.convolution_transpose_backward,
    _transpose_backward,
    (0, 1, 2),
)


def _transpose(
    name: str, x: tuple[int, ...], W: tuple[int, ...], *, bias: bool = True, core: bool = False, **static: Any
) -> Case:
    wrt = (0, 1, 2) if bias else (0, 1)
    b = W[1] * static.get("groups", 1)
    arrays = (sample(_rng, *x), sample(_rng, *W), sample(_rng, b))[: len(wrt)]
    return Case(f"convolution_transpose {name}", dataclasses.replace(_TRANSPOSE, wrt=wrt), arrays, static, core)


TRANSPOSE = [
    _transpose("plain", (2, 2, 3, 4), (2, 3, 3, 2), core=True),
    _transpose("without bias", (1, 2, 2, 2), (2, 1, 2, 2), bias=False),
    _transpose("strided", (1, 2, 3, 2), (2, 2, 2, 3), stride=(2, 3)),
    _transpose("stride larger than the filter", (1, 1, 3, 2), (1, 1, 1, 2), stride=(2, 3), output_pad=(1, 2)),
    _transpose("padded", (1, 1, 3, 3), (1, 2, 3, 3), pad=(1, 2)),
    _transpose("pad wider than the filter", (1, 1, 4, 5), (1, 1, 2, 1), pad=(2, 1)),
    _transpose("one-sided pad", (1, 1, 3, 3), (1, 2, 3, 3), stride=(2, 1), pad=((1, 0), (0, 2))),
    _transpose("dilated", (1, 2, 2, 3), (2, 1, 2, 3), dilation=(3, 2), stride=(1, 2), pad=(1, 1)),
    _transpose(
        "everything",
        (2, 4, 3, 2),
        (4, 2, 3, 2),
        groups=2,
        stride=(2, 3),
        pad=(1, 0),
        output_pad=(1, 2),
        dilation=(1, 2),
        core=True,
    ),
    _transpose("signals", (2, 2, 4), (2, 3, 3), stride=(2,), pad=(1,), output_pad=(1,), dilation=(1,)),
    _transpose(
        "volumes",
        (1, 2, 2, 3, 2),
        (2, 1, 2, 2, 3),
        stride=(2, 1, 2),
        pad=(1, 0, (0, 1)),
        output_pad=(1, 0, 1),
        dilation=(1, 2, 1),
        groups=2,
    ),
]

UPSAMPLING = [
    Case(
        f"{forward.__name__} {shape} {scale}",
        Pair(forward, oracle, backward, lambda f, dy, outputs, arrays, static: f(dy, **static)),
        (sample(_rng, *shape),),
        {"scale": scale},
        core=len(shape) == 4,
    )
    for forward, oracle, backward in (
        (upsampling.upsampling, oracles.upsampling, upsampling.upsampling_backward),
        (upsampling.linear_upsampling, oracles.linear_upsampling, upsampling.linear_upsampling_backward),
    )
    for shape, scale in (((2, 2, 3, 2), (2, 3)), ((1, 2, 4), (3,)), ((1, 1, 2, 1, 3), (2, 3, 1)))
]

SOFTMAX = [
    Case(
        f"{forward.__name__} along {axis}",
        Pair(forward, oracle, backward, lambda f, dy, outputs, arrays, static: f(dy, outputs[0], **static)),
        (sample(_rng, 2, 3, 2, 2),),
        {"axis": axis},
    )
    for forward, oracle, backward in (
        (activations.softmax, softmax, activations.softmax_backward),
        (activations.log_softmax, log_softmax, activations.log_softmax_backward),
    )
    for axis in (1, -2)
]

CASES = [*TRANSPOSE, *UPSAMPLING, *SOFTMAX]
