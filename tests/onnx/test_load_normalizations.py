"""Normalizations of other programs: as operators, and in the pieces that exporters write."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.onnx.graphs import Builder, assert_computes, loaded_from
from xpdl import layers as L

pytestmark = [pytest.mark.needs("onnx"), pytest.mark.exhaustive]

RNG = np.random.default_rng(0)
ROWS, IMAGES, TEXTS = (6,), (4, 3, 5), (3, 6)


def number(g: Builder, value: float) -> str:
    return g.constant(values=np.float32(value))


def ints(g: Builder, *values: int) -> str:
    return g.constant(values=np.array(values))


def operator(kind: str, *scales: tuple[int, ...], **options: Any) -> Callable[[Builder], str]:
    return lambda g: g.node(kind, "x", *(g.constant(*shape) for shape in scales), **options)


def mean(g: Builder, x: str) -> str:
    return g.node("ReduceMean", x, axes=[-1])


def layer_in_pieces(g: Builder) -> str:
    """PyTorch before opset 17."""
    centred = g.node("Sub", "x", mean(g, "x"))
    root = g.node("Sqrt", g.node("Add", mean(g, g.node("Pow", centred, number(g, 2))), number(g, 1e-5)))
    return g.node("Add", g.node("Mul", g.node("Div", centred, root), g.constant(6)), g.constant(6))


def rms_by_reciprocal(g: Builder) -> str:
    """LLaMA and T5, whose weights come first."""
    square = mean(g, g.node("Pow", "x", number(g, 2)))
    root = g.node("Sqrt", g.node("Add", square, number(g, 1e-6)))
    return g.node("Mul", g.constant(6), g.node("Mul", "x", g.node("Div", number(g, 1), root)))


def rms_by_power(g: Builder) -> str:
    square = g.node("Add", mean(g, g.node("Mul", "x", "x")), number(g, 1e-6))
    return g.node("Mul", g.node("Mul", "x", g.node("Pow", square, number(g, -0.5))), g.constant(6))


def rms_by_rsqrt(g: Builder) -> str:
    square = g.node("Add", mean(g, g.node("Mul", "x", "x")), number(g, 1e-6))
    return g.node("Mul", "x", g.node("Reciprocal", g.node("Sqrt", square)))


def groups_by_instances(groups: int) -> Callable[[Builder], str]:
    """PyTorch's `GroupNorm`."""

    def make(g: Builder) -> str:
        ones, zeros = np.ones(groups, np.float32), np.zeros(groups, np.float32)
        y = g.node("Reshape", "x", ints(g, 0, groups, -1))
        y = g.node("InstanceNormalization", y, g.constant(values=ones), g.constant(values=zeros), epsilon=1e-3)
        y = g.node("Reshape", y, g.node("Shape", "x"))
        return g.node("Add", g.node("Mul", y, g.constant(4, 1, 1)), g.constant(4, 1, 1))

    return make


CASES: list[tuple[Callable[[Builder], str], int, tuple[int, ...], str]] = [
    (operator("LayerNormalization", (6,), (6,)), 17, TEXTS, "LayerNormalization"),
    (operator("LayerNormalization", (3, 5), (3, 5), axis=-2), 17, IMAGES, "LayerNormalization"),
    (operator("LayerNormalization", (4, 3, 5), axis=1, epsilon=1e-3), 17, IMAGES, "LayerNormalization"),
    (operator("RMSNormalization", (6,)), 23, TEXTS, "RMSNormalization"),
    (operator("RMSNormalization", (3, 6), axis=1), 23, TEXTS, "RMSNormalization"),
    (operator("GroupNormalization", (2,), (2,), num_groups=2), 18, IMAGES, "GroupNormalization"),
    (operator("GroupNormalization", (4,), (4,), num_groups=2), 21, IMAGES, "GroupNormalization"),
    (operator("InstanceNormalization", (4,), (4,), epsilon=1e-3), 17, IMAGES, "GroupNormalization"),
    (layer_in_pieces, 17, ROWS, "LayerNormalization"),
    (layer_in_pieces, 17, TEXTS, "LayerNormalization"),
    (layer_in_pieces, 17, (2, 3, 6), "LayerNormalization"),
    (rms_by_reciprocal, 17, TEXTS, "RMSNormalization"),
    (rms_by_power, 17, ROWS, "RMSNormalization"),
    (rms_by_rsqrt, 17, TEXTS, "RMSNormalization"),
    (groups_by_instances(2), 17, IMAGES, "GroupNormalization"),
    (groups_by_instances(4), 17, IMAGES, "GroupNormalization"),
    (groups_by_instances(1), 17, IMAGES, "GroupNormalization"),
]


@pytest.mark.parametrize(("make", "opset", "row", "kind"), CASES)
def test_normalizations_are_one_layer(make: Any, opset: int, row: Any, kind: str, tmp_path: Any) -> None:
    g = Builder()
    proto = g.model(make(g), ("n", *row), opset)
    x = (RNG.standard_normal((5, *row)) * 0.7 + 0.3).astype("float32")
    net = assert_computes(proto, x, tmp_path)
    assert [type(one).__name__ for one in net.layers.values() if one.params] == [kind]
    assert set(map(type, net.layers.values())) <= {getattr(L, kind), L.Flatten, L.Reshape}


def gate_of_centred(g: Builder) -> str:
    """Not a function of single values, although its mean over symmetric values is 0."""
    return g.node("Mul", "x", g.node("Sigmoid", g.node("Sub", "x", mean(g, "x"))))


def by_deviation(g: Builder) -> str:
    """Divided by the mean of absolute values, which no layer does."""
    return g.node("Div", "x", mean(g, g.node("Pow", g.node("Pow", "x", number(g, 2)), number(g, 0.5))))


def rows_mixed(g: Builder) -> str:
    return g.node("LayerNormalization", "x", g.constant(6), axis=0)


def of_few_groups(g: Builder) -> str:
    return g.node("GroupNormalization", "x", g.constant(3), g.constant(3), num_groups=4)


REFUSED = [
    (gate_of_centred, 17, r"\(ReduceMean\): xpdl has no layer for it, or none that ends with it"),
    (by_deviation, 17, r"xpdl has no layer for it, or none that ends with it"),
    (rows_mixed, 17, r"\(LayerNormalization\): it is over the axes from 0 on of rows .* the rows of a batch mix"),
    (of_few_groups, 21, r"\(GroupNormalization\): its 4 groups do not divide the channels"),
]


@pytest.mark.parametrize(("make", "opset", "message"), REFUSED)
def test_others_are_named(make: Any, opset: int, message: str, tmp_path: Any) -> None:
    g = Builder()
    row = (6, 4) if make is of_few_groups else ROWS
    with pytest.raises(ValueError, match=message):
        loaded_from(g.model(make(g), ("n", *row), opset), tmp_path)


def scaled_channels(g: Builder) -> str:
    """A normalization of the last axis, and a factor of another."""
    y = g.node("LayerNormalization", "x", g.constant(values=np.ones(4, np.float32)))
    return g.node("Mul", y, g.constant(5, 1))


def back_to_channels(g: Builder) -> str:
    y = g.node("Reshape", "x", ints(g, 0, 2**30, 4))
    y = g.node("LayerNormalization", y, g.constant(values=np.ones(4, np.float32)))
    return g.node("Reshape", y, ints(g, 0, 2**30, 2, 2))


def many_channels(g: Builder) -> str:
    return g.node("GroupNormalization", "x", g.constant(2), g.constant(2), num_groups=2)


def counted_borders(g: Builder) -> str:
    far = 2**30
    y = g.node("AveragePool", "x", kernel_shape=[far, far], pads=[far - 1] * 4, strides=[far, far], count_include_pad=1)
    return g.node("Div", y, g.constant(1, 1, 2, 2))


@pytest.mark.parametrize(
    ("make", "row"),
    [
        (scaled_channels, (2**31, 4)),
        (back_to_channels, (2**30, 2, 2)),
        (many_channels, (2**31, 2, 2)),
        (counted_borders, (3, 9, 9)),
    ],
)
def test_shapes_of_a_file_ask_for_no_large_arrays(make: Any, row: tuple[int, ...], tmp_path: Any) -> None:
    g = Builder()
    proto = g.model(make(g), ("n", *row))
    tracemalloc.start()
    with pytest.raises(ValueError, match="cannot be read into layers"), np.errstate(all="raise"):
        loaded_from(proto, tmp_path, output="nowhere")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**26
