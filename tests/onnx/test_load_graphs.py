"""Graphs as other exporters write them, Keras's above all, read as models: what ONNX's reference computes is expected."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.onnx.graphs import Builder, assert_computes, loaded_from
from xpdl import layers as L

pytestmark = pytest.mark.needs("onnx")


def keras_conv_net(g: Builder, layout: str) -> tuple[str, tuple[Any, ...]]:
    """Convolutions with biases added, pooling, and a flattening of (H, W, C) before the dense layer."""
    x = g.node("Transpose", "x", perm=[0, 3, 1, 2])
    x = g.node("Conv", x, g.constant(4, 3, 3, 3), pads=[1, 1, 1, 1], kernel_shape=[3, 3])
    if layout == "each in its own":
        x = g.node("Transpose", x, perm=[0, 2, 3, 1])
        x = g.node("Relu", g.node("Add", x, g.constant(4)))
        x = g.node("Transpose", x, perm=[0, 3, 1, 2])
    else:
        x = g.node("Relu", g.node("Add", x, g.constant(1, 4, 1, 1)))
    x = g.node("BatchNormalization", x, *(g.constant(4) for _ in range(4)), epsilon=1e-3, momentum=0.99)
    x = g.node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = g.node("Transpose", x, perm=[0, 2, 3, 1])
    x = g.node("Reshape", x, g.constant(values=np.array([-1, 36])))
    x = g.node("Relu", g.node("Add", g.node("MatMul", x, g.constant(36, 8)), g.constant(8)))
    x = g.node("Dropout", x, g.constant(values=np.float32(0.25)))
    x = g.node("Add", g.node("MatMul", x, g.constant(8, 3)), g.constant(3))
    return g.node("Softmax", x, axis=-1), ("n", 6, 6, 3)


@pytest.mark.parametrize("layout", ["each in its own", "moved out of the way"])
def test_convolutional_nets_of_keras(layout: str, tmp_path: Any) -> None:
    g = Builder()
    output, shape = keras_conv_net(g, layout)
    x = g.rng.standard_normal((5, 6, 6, 3)).astype("float32")
    net = assert_computes(g.model(output, shape), x, tmp_path, channels_last=True)
    kinds = ["Convolution", "Relu", "BatchNormalization", "Pooling", "Affine", "Relu", "Dropout", "Affine"]
    assert [type(layer).__name__ for layer in net.layers.values()] == kinds
    norm = net.layers["BatchNormalization1"]
    assert (norm.eps, norm.momentum, net.layers["Dropout1"].inverted) == (1e-3, 0.99, True)
    assert net.input_shape == (3, 6, 6) and net.params["Convolution1.b"].shape == (4,)


def global_mean(g: Builder) -> str:
    x = g.node("Transpose", "x", perm=[0, 3, 1, 2])
    x = g.node("Relu", g.node("Conv", x, g.constant(4, 3, 3, 3)))
    x = g.node("Transpose", x, perm=[0, 2, 3, 1])
    return g.node("ReduceMean", x, axes=[1, 2], keepdims=0)


def squeezed_mean(g: Builder) -> str:
    x = g.node("Conv", g.node("Transpose", "x", perm=[0, 3, 1, 2]), g.constant(4, 3, 3, 3))
    return g.node("Squeeze", g.node("GlobalAveragePool", x), g.constant(values=np.array([2, 3])))


def kept_mean(g: Builder) -> str:
    x = g.node("Conv", g.node("Transpose", "x", perm=[0, 3, 1, 2]), g.constant(4, 3, 3, 3))
    return g.node("ReduceMean", g.node("Relu", x), axes=[-1, -2], keepdims=1)


@pytest.mark.parametrize("make", [global_mean, squeezed_mean, kept_mean])
def test_global_means(make: Any, tmp_path: Any) -> None:
    g = Builder()
    x = g.rng.standard_normal((5, 6, 6, 3)).astype("float32")
    net = assert_computes(g.model(make(g), ("n", 6, 6, 3)), x, tmp_path, channels_last=True)
    assert isinstance(list(net.layers.values())[-1], L.GlobalAveragePooling)


def normalization_in_pieces(g: Builder) -> str:
    """``(x - mean) / sqrt(var + eps) * gamma + beta`` after a dense layer, as of an optimizer that unfused it."""
    x = g.node("MatMul", "x", g.constant(4, 5))
    deviation = g.node("Sqrt", g.node("Add", g.constant(5), g.constant(values=np.float32(1e-3))))
    x = g.node("Div", g.node("Sub", x, g.constant(5)), deviation)
    return g.node("Add", g.node("Mul", x, g.constant(5)), g.constant(1, 5))


def standard_scores(g: Builder) -> str:
    x = g.node("Mul", g.node("Sub", "x", g.constant(4)), g.node("Reciprocal", g.constant(4)))
    return g.node("Gemm", x, g.constant(4, 3), g.constant(3))


def normalized_then_scaled(g: Builder) -> str:
    x = g.node("BatchNormalization", "x", *(g.constant(4) for _ in range(4)))
    return g.node("Sub", g.constant(4), g.node("Mul", g.constant(values=np.float32(3.0)), x))


def transposed_weights(g: Builder) -> str:
    W = g.node("Transpose", g.node("Reshape", g.constant(12), g.constant(values=np.array([3, -1]))))
    return g.node("Gemm", "x", g.node("Identity", W), g.constant(1), alpha=0.5, beta=2.0)


@pytest.mark.parametrize(
    ("make", "kinds"),
    [
        (normalization_in_pieces, ["Affine"]),
        (standard_scores, ["Affine"]),
        (normalized_then_scaled, ["BatchNormalization"]),
        (transposed_weights, ["Affine"]),
    ],
)
def test_constants_go_into_the_weights_beside_them(make: Any, kinds: list[str], tmp_path: Any) -> None:
    g = Builder()
    x = g.rng.standard_normal((5, 4)).astype("float32")
    net = assert_computes(g.model(make(g)), x, tmp_path)
    assert [type(layer).__name__ for layer in net.layers.values()] == kinds


@pytest.mark.parametrize("pad", [0, 1])
@pytest.mark.parametrize("groups", [1, 2])
def test_scaled_images(pad: int, groups: int, tmp_path: Any) -> None:
    """A factor and a summand of each channel before a convolution; with padding, of zeros, the factor alone."""
    g = Builder()
    x = g.node("Mul", "x", g.constant(4, 1, 1))
    x = g.node("Add", x, g.constant(1, 4, 1, 1)) if not pad else x
    y = g.node("Conv", x, g.constant(6, 4 // groups, 3, 3), g.constant(6), pads=[pad] * 4, group=groups)
    images = g.rng.standard_normal((5, 4, 6, 6)).astype("float32")
    net = assert_computes(g.model(y, ("n", 4, 6, 6)), images, tmp_path)
    assert [type(layer).__name__ for layer in net.layers.values()] == ["Convolution"]


@pytest.mark.parametrize(("auto", "size"), [("SAME_UPPER", 3), ("SAME_LOWER", 5), ("VALID", 2)])
def test_automatic_padding(auto: str, size: int, tmp_path: Any) -> None:
    g = Builder()
    x = g.node("Conv", "x", g.constant(2, 1, size, size), auto_pad=auto)
    y = g.node("MaxPool", x, kernel_shape=[3, 3], auto_pad="SAME_UPPER")
    images = g.rng.standard_normal((5, 1, 7, 9)).astype("float32")
    assert_computes(g.model(y, ("n", 1, 7, 9)), images, tmp_path)


@pytest.mark.parametrize("kind", ["Conv", "MaxPool", "AveragePool"])
def test_borders_are_part_of_the_window_after_them(kind: str, tmp_path: Any) -> None:
    """As Keras has them before a convolution with a stride."""
    g = Builder()
    value = [g.constant(values=np.float32(-np.inf))] if kind == "MaxPool" else []
    x = g.node("Pad", "x", g.constant(values=np.array([0, 0, 1, 0, 0, 0, 2, 1])), *value)
    if kind == "Conv":
        y = g.node("Conv", x, g.constant(2, 1, 3, 3), strides=[2, 2], pads=[0, 1, 0, 0])
    else:
        y = g.node(kind, x, kernel_shape=[3, 3], strides=[2, 2])
    images = g.rng.standard_normal((5, 1, 6, 7)).astype("float32")
    net = assert_computes(g.model(y, ("n", 1, 6, 7)), images, tmp_path)
    assert len(net.layers) == 1


@pytest.mark.needs("onnxruntime")
@pytest.mark.parametrize("axes", [1, 3])
def test_signals_and_volumes(axes: int, tmp_path: Any) -> None:
    g = Builder()
    size, shape = [3, 2, 4][:axes], ("n", 2, *[9, 8, 7][:axes])
    x = g.node("Mul", "x", g.constant(2, *[1] * axes))
    x = g.node("Relu", g.node("Conv", x, g.constant(4, 1, *size), g.constant(4), group=2, pads=[1] * axes + [0] * axes))
    x = g.node("MaxPool", x, kernel_shape=[2] * axes, pads=[0] * axes + [1] * axes)
    x = g.node("AveragePool", x, kernel_shape=[2] * axes, strides=[2] * axes, ceil_mode=1, pads=[1] * 2 * axes)
    y = g.node("Flatten", g.node("GlobalMaxPool", x))
    rows = g.rng.standard_normal((5, *shape[1:])).astype("float32")
    net = assert_computes(g.model(y, shape), rows, tmp_path, runtime=True)
    assert len(net.layers) == 5


ENLARGED: list[tuple[str, list[Any], dict[str, Any]]] = [
    ("ConvTranspose", [(2, 3, 3, 3)], {"strides": [2, 3], "pads": [1, 0, 0, 1], "output_padding": [1, 2]}),
    ("ConvTranspose", [(2, 2, 2, 3), (4,)], {"group": 2, "dilations": [2, 1]}),
    ("Resize", [np.array([1, 1, 2, 3], np.float32)], {"mode": "nearest"}),
    ("Resize", [np.array([1, 1, 2, 3], np.float32)], {"mode": "linear"}),
    (
        "Resize",
        [None, np.array([5, 2, 8, 10])],
        {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
    ),
]


@pytest.mark.needs("onnxruntime")
@pytest.mark.parametrize(("kind", "given", "attributes"), ENLARGED)
def test_images_are_enlarged(kind: str, given: list[Any], attributes: dict[str, Any], tmp_path: Any) -> None:
    g = Builder()
    names = [
        "" if one is None else g.constant(values=one) if isinstance(one, np.ndarray) else g.constant(*one)
        for one in given
    ]
    y = g.node(kind, "x", *(["", *names] if kind == "Resize" else names), **attributes)
    images = g.rng.standard_normal((5, 2, 4, 5)).astype("float32")
    net = assert_computes(g.model(y, ("n", 2, 4, 5)), images, tmp_path, runtime=True)
    assert [type(layer).__name__ for layer in net.layers.values()] == [
        "ConvolutionTranspose" if kind == "ConvTranspose" else "UpSampling"
    ]


def test_free_sizes(tmp_path: Any) -> None:
    """Heights and widths that the file leaves open, also where a layer needs to know how many features there are."""
    g = Builder()
    x = g.node("Relu", g.node("Conv", "x", g.constant(4, 1, 3, 3)))
    x = g.node("MaxPool", g.node("Add", x, x), kernel_shape=[2, 2], strides=[2, 2])
    y = g.node("Gemm", g.node("Reshape", x, g.constant(values=np.array([-1, 16]))), g.constant(16, 3))
    proto = g.model(y, ("n", 1, "h", "w"))
    images = g.rng.standard_normal((5, 1, 6, 6)).astype("float32")
    assert assert_computes(proto, images, tmp_path, input_shape=(1, 6, 6)).input_shape == (1, 6, 6)
    net = loaded_from(proto, tmp_path)
    np.testing.assert_array_equal(
        net.predict(images), loaded_from(proto, tmp_path, input_shape=(1, 6, 6)).predict(images)
    )


def test_branches_in_branches(tmp_path: Any) -> None:
    g = Builder()

    def dense(x: str) -> str:
        return g.node("Gemm", x, g.constant(4, 4))

    inner = g.node("Sum", dense("x"), g.node("Tanh", dense("x")))
    outer = g.node("Add", g.node("Relu", inner), g.node("Identity", "x"))
    y = g.node("Add", outer, dense(outer))
    x = g.rng.standard_normal((5, 4)).astype("float32")
    net = assert_computes(g.model(g.node("Relu", y)), x, tmp_path)
    assert [type(layer).__name__ for layer in net.layers.values()] == ["Residual", "Residual", "Relu"]
    assert len(net.params) == 3


SINGLE: list[tuple[str, list[tuple[int, ...]], dict[str, Any], int, list[str]]] = [
    ("LayerNormalization", [(3,), (3,)], {"epsilon": 1e-3, "axis": -1}, 17, ["LayerNormalization"]),
    ("LayerNormalization", [(3,)], {}, 17, ["LayerNormalization"]),
    ("Gelu", [], {}, 20, ["Gelu"]),
    ("Gelu", [], {"approximate": "tanh"}, 20, ["Gelu"]),
    ("Elu", [], {"alpha": 0.3}, 17, ["Elu"]),
    ("LeakyRelu", [], {"alpha": 0.3}, 17, ["LeakyRelu"]),
    ("LeakyRelu", [], {}, 17, ["LeakyRelu"]),
    ("Softplus", [], {}, 17, ["Softplus"]),
    ("LogSoftmax", [], {}, 17, ["LogSoftmax"]),
    ("MatMul", [(3, 5)], {}, 17, ["Affine"]),
]


@pytest.mark.parametrize(("kind", "shapes", "attributes", "opset", "layers"), SINGLE)
def test_single_nodes(
    kind: str, shapes: list[Any], attributes: dict[str, Any], opset: int, layers: list[str], tmp_path: Any
) -> None:
    g = Builder()
    y = g.node(kind, "x", *(g.constant(*shape) for shape in shapes), **attributes)
    x = g.rng.standard_normal((5, 2, 3)).astype("float32")
    net = assert_computes(g.model(y, ("n", 2, 3), opset), x, tmp_path)
    assert [type(layer).__name__ for layer in net.layers.values()] == layers


def test_products_with_a_sigmoid_and_biases_of_positions(tmp_path: Any) -> None:
    g = Builder()
    x = g.node("Add", g.constant(4), g.node("MatMul", "x", g.constant(3, 4)))
    x = g.node("Mul", g.node("Sigmoid", x), x)
    net = assert_computes(g.model(x, ("n", 2, 3)), g.rng.standard_normal((5, 2, 3)).astype("float32"), tmp_path)
    assert [type(layer).__name__ for layer in net.layers.values()] == ["Affine", "Silu"]


def test_an_output_in_the_middle(tmp_path: Any) -> None:
    g = Builder()
    middle = g.node("Gemm", "x", g.constant(4, 3))
    proto = g.model(g.node("Erf", g.node("Relu", middle)))
    with pytest.raises(ValueError, match=r"node 'n2' \(Erf\): xpdl has no layer for it, .*; read .* with output='v1'"):
        loaded_from(proto, tmp_path)
    net = loaded_from(proto, tmp_path, output="v1")
    x = g.rng.standard_normal((5, 4)).astype("float32")
    np.testing.assert_allclose(net.predict(x), np.maximum(x @ g.constants["c0"], 0), rtol=1e-5)
