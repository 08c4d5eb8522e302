"""Graphs with branches, several inputs and outputs, or shared weights: read as a `Graph`, computed and trained."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import xpdl
from tests.harness import nonempty
from tests.onnx.graphs import Builder, assert_computes, loaded_from
from xpdl import layers as L

pytestmark = pytest.mark.needs("onnx")

RNG = np.random.default_rng(0)


def kinds(net: Any) -> list[str]:
    return [type(layer).__name__ for layer in net.layers.values()]


def ints(g: Builder, *values: int) -> str:
    return g.constant(values=np.array(values))


def crossed(g: Builder) -> str:
    """Sums whose branches cross."""
    a = g.node("Relu", "x")
    b = g.node("Tanh", a)
    return g.node("Add", g.node("Add", a, b), g.node("Sigmoid", b))


def gated(g: Builder) -> str:
    return g.node("Mul", g.node("Tanh", "x"), g.node("Sub", "x", g.node("Gemm", "x", g.constant(4, 4))))


def repeated(g: Builder) -> str:
    """One column beside four, repeated."""
    return g.node("Add", g.node("Mul", "x", g.node("Gemm", "x", g.constant(4, 1))), g.node("Tanh", "x"))


def kept(g: Builder) -> str:
    """Constants that no layer beside them takes up."""
    x = g.node("Relu", g.node("Mul", g.node("Relu", "x"), g.constant(4)))
    return g.node("Div", g.node("Neg", x), g.constant(values=np.float32(3.0)))


def cut(g: Builder) -> str:
    parts = g.helper.make_node("Split", ["x", ints(g, 3, 1)], ["a", "b"], name="s", axis=-1)
    g.nodes.append(parts)
    tail = g.node("Slice", "x", ints(g, -2), ints(g, 2**31 - 1), ints(g, 1))
    return g.node("Concat", g.node("Tanh", "a"), g.node("Relu", "b"), tail, axis=1)


def one_entry(g: Builder) -> str:
    kept = g.node("Gather", "x", ints(g, -1), axis=1)
    gone = g.node("Unsqueeze", g.node("Gather", "x", g.constant(values=np.array(1)), axis=1), ints(g, 1))
    return g.node("Concat", kept, g.node("Tanh", gone), axis=-1)


DEEP = 60


def deep(g: Builder) -> str:
    """Blocks within blocks, more than a row of layers holds."""
    x = "x"
    for _ in range(DEEP):
        x = g.node("Add", "x", g.node("Relu", x))
    return x


FEATURES: list[tuple[Callable[[Builder], str], list[str]]] = [
    (crossed, ["Relu", "Tanh", "Add", "Sigmoid", "Add"]),
    (gated, ["Tanh", "Affine", "Add", "Multiply"]),
    (repeated, ["Affine", "Multiply", "Tanh", "Add"]),
    (kept, ["Relu", "ScaleShift", "Relu", "ScaleShift"]),
    (cut, ["Slice", "Tanh", "Slice", "Relu", "Slice", "Concatenate"]),
    (one_entry, ["Slice", "Slice", "Reshape", "Tanh", "Flatten", "Concatenate"]),
    (deep, ["Relu", "Add"] * DEEP),
]


@pytest.mark.parametrize(("make", "layers"), FEATURES, ids=[make.__name__ for make, _ in FEATURES])
def test_branches_of_features(make: Callable[[Builder], str], layers: list[str], tmp_path: Any) -> None:
    g = Builder()
    x = RNG.standard_normal((5, 4)).astype("float32")
    net = assert_computes(g.model(make(g)), x, tmp_path)
    assert sorted(kinds(net)) == sorted(layers)


def permuted(g: Builder) -> str:
    """An order of axes that a layer needs otherwise than the input has it."""
    x = g.node("Relu", g.node("Transpose", g.node("Tanh", g.node("Relu", "x")), perm=[0, 2, 3, 1]))
    return g.node("Flatten", g.node("Add", g.node("MatMul", x, g.constant(2, 3)), g.constant(3)))


def regrouped(g: Builder) -> str:
    """Axes in groups, in another order, as a channel shuffle has them."""
    x = g.node("Reshape", "x", ints(g, 0, 1, 2, 6, 6))
    x = g.node("Reshape", g.node("Transpose", g.node("Tanh", x), perm=[0, 2, 1, 3, 4]), ints(g, -1, 2, 36))
    return g.node("Reshape", x, ints(g, 0, 6, -1))


def columns(g: Builder) -> str:
    """Constants along each axis, and of whole images."""
    x = g.node("Mul", "x", g.constant(6))
    x = g.node("Add", g.node("Relu", x), g.constant(6, 1))
    return g.node("Relu", g.node("Mul", x, g.constant(2, 6, 6)))


def channel_means(g: Builder) -> str:
    return g.node("ReduceMean", "x", axes=[1, 2], keepdims=0)


def two_scales(g: Builder) -> str:
    """Two resolutions that meet again, with batch normalization in pieces, and channels joined."""
    down = g.node("Conv", "x", g.constant(4, 2, 3, 3), pads=[1] * 4)
    down = g.node("Mul", down, g.constant(4, 1, 1))
    small = g.node("MaxPool", g.node("Relu", down), kernel_shape=[2, 2], strides=[2, 2])
    up = g.node("ConvTranspose", small, g.constant(4, 3, 2, 2), strides=[2, 2])
    return g.node("Conv", g.node("Concat", g.node("Relu", down), up, axis=1), g.constant(2, 7, 1, 1))


IMAGES = [
    (permuted, ["Relu", "Tanh", "Permute", "Relu", "Affine", "Flatten"]),
    (regrouped, ["Tanh", "Reshape"]),
    (columns, ["ScaleShift", "Relu", "ScaleShift", "Relu"]),
    (channel_means, ["Permute", "GlobalAveragePooling"]),
    (two_scales, ["Convolution"] * 2 + ["Relu"] * 2 + ["Pooling", "ConvolutionTranspose", "Concatenate"]),
]


@pytest.mark.needs("onnxruntime")
@pytest.mark.parametrize(("make", "layers"), IMAGES, ids=[make.__name__ for make, _ in IMAGES])
def test_branches_of_images(make: Callable[[Builder], str], layers: list[str], tmp_path: Any) -> None:
    g = Builder()
    x = RNG.standard_normal((5, 2, 6, 6)).astype("float32")
    proto = g.model(make(g), ("n", 2, 6, 6))
    proto.producer_name = "xpdl"  # whose files do not begin with a transposed input
    net = assert_computes(proto, x, tmp_path, runtime=True)
    assert sorted(kinds(net)) == sorted(layers)


def two_ends(g: Builder) -> Any:
    """Inputs x and y, outputs of both, and weights that stand in two places."""
    W, b = g.constant(4, 3), g.constant(3)
    a, c = (g.node("Gemm", name, W, b) for name in ("x", "y"))
    g.node("Softmax", g.node("Sub", a, c))
    proto = g.model(c)
    proto.graph.input.add().CopyFrom(proto.graph.input[0])
    proto.graph.input[1].name = "y"
    proto.graph.output.add().CopyFrom(proto.graph.output[0])
    proto.graph.output[1].name = g.nodes[-1].output[0]
    return proto


def test_several_inputs_and_outputs_and_shared_weights(tmp_path: Any) -> None:
    g = Builder()
    proto = two_ends(g)
    net = loaded_from(proto, tmp_path)
    assert list(net.inputs) == ["x", "y"] and list(net.outputs) == [one.name for one in proto.graph.output]
    assert kinds(net).count("Affine") == 1 and len(net.params) == 2
    xs = {name: RNG.standard_normal((5, 4)).astype("float32") for name in ("x", "y")}
    expected = importlib.import_module("onnx.reference").ReferenceEvaluator(proto).run(None, xs)
    for got, want in nonempty(zip(net.predict(xs).values(), expected, strict=True)):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
    one = loaded_from(proto, tmp_path, output=proto.graph.output[0].name)
    np.testing.assert_array_equal(one.predict(xs["y"]), net.predict(xs)[proto.graph.output[0].name])
    chosen = loaded_from(proto, tmp_path, output=[proto.graph.output[1].name], loss=L.SoftmaxWithLoss)
    assert isinstance(chosen.last_layer, L.SoftmaxWithLoss) and "Softmax" not in kinds(chosen)


def test_shapes_of_several_inputs(tmp_path: Any) -> None:
    g = Builder()
    proto = g.model(g.node("Mul", "x", "y"), ("n", "d"))
    proto.graph.input.add().CopyFrom(proto.graph.input[0])
    proto.graph.input[1].name = "y"
    for shapes in nonempty([((3,), (3,)), {"x": (3,), "y": (3,)}]):
        net = loaded_from(proto, tmp_path, input_shape=shapes)
        assert net.input_shape == ((3,), (3,))
    with pytest.raises(ValueError, match=r"its inputs are 'x', 'y'; give input_shape a shape for each"):
        loaded_from(proto, tmp_path, input_shape=(3,))
    with pytest.raises(ValueError, match="the sizes of a row are not known; give input_shape="):
        loaded_from(proto, tmp_path)


def test_a_file_of_one_row(tmp_path: Any) -> None:
    """The whole input is a row: a matrix, whose columns a product mixes."""
    g = Builder()
    x = g.node("Gemm", "x", g.constant(5, 3), g.constant(4, 3), transA=1, alpha=0.5)
    proto = g.model(g.node("Softmax", g.node("Flatten", x, axis=0), axis=1), (5, 4))
    rows = RNG.standard_normal((6, 5, 4)).astype("float32")
    evaluator = importlib.import_module("onnx.reference").ReferenceEvaluator(proto)
    expected = [evaluator.run(None, {"x": row})[0] for row in rows]
    net = loaded_from(proto, tmp_path, batched=False, loss=L.IdentityWithLoss)
    np.testing.assert_allclose(net.predict(rows), expected, rtol=1e-5)
    with pytest.raises(ValueError, match=r"transA=1 mixes the rows of a batch; .* read it with batched=False"):
        loaded_from(proto, tmp_path)


def siamese() -> Any:
    """Two inputs through the same layers, and a distance."""
    a, b = xpdl.Input((1, 8, 8), "a"), xpdl.Input((1, 8, 8), "b")
    body = xpdl.Sequential(L.Convolution(filters=3, size=3), L.Tanh(), L.Affine(units=4))
    first, second = body(a), body(b)
    joined = L.Concatenate()(L.Multiply()(first, second), L.Add()(first, second))
    return xpdl.Graph([a, b], L.Affine(units=5)(joined), loss=L.SoftmaxWithLoss, seed=3)


def unet() -> Any:
    x = xpdl.Input((2, 8, 8))
    top = L.Relu()(L.Convolution(filters=3, size=3, pad=1)(x))
    low = L.Relu()(L.Convolution(filters=4, size=3, pad=1)(L.Pooling(2, 2)(top)))
    up = L.Concatenate()(L.UpSampling(2)(low), top, L.ConvolutionTranspose(filters=2, size=2, stride=2)(low))
    y = L.Permute((2, 3, 1))(L.Convolution(filters=5, size=1)(up))
    return xpdl.Graph(x, L.Slice(0, 1)(L.Reshape((64, 5))(y)), loss=L.SoftmaxWithLoss, seed=3)


def heads() -> Any:
    x = xpdl.Input((6,))
    h = L.Tanh()(L.Affine(units=7)(x))
    outputs = {"kind": L.Affine(units=5)(h), "size": L.Slice(1, 3)(L.Add()(h, L.Relu()(h), L.Affine(units=7)(x)))}
    losses = {"kind": L.SoftmaxWithLoss, "size": L.MeanSquaredError}
    return xpdl.Graph(x, outputs, loss=losses, seed=3)


ROUND_TRIPS: list[tuple[Callable[[], Any], tuple[tuple[int, ...], ...]]] = [
    (siamese, ((1, 8, 8), (1, 8, 8))),
    (unet, ((2, 8, 8),)),
    (heads, ((6,),)),
]


@pytest.mark.parametrize(("make", "shapes"), ROUND_TRIPS, ids=[make.__name__ for make, _ in ROUND_TRIPS])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_step_of_training_is_bitwise_identical(make: Any, shapes: Any, dtype: str, tmp_path: Any) -> None:
    net = make()
    with xpdl.use("numpy", dtype=dtype):
        net.build()
        xpdl.onnx.export(net, tmp_path / "x.onnx")
        again = xpdl.onnx.load(tmp_path / "x.onnx", loss=dict(net.last_layer.losses) if make is heads else None)
    assert (isinstance(again, xpdl.Graph) and list(again.inputs) == list(net.inputs)) or len(shapes) == 1
    xs = tuple(RNG.standard_normal((6, *shape)).astype(dtype) for shape in shapes)
    x = xs if len(xs) > 1 else xs[0]
    t: Any = RNG.integers(0, 5, (6, 1) if make is unet else 6)
    t = {"kind": t, "size": RNG.standard_normal((6, 2)).astype(dtype)} if make is heads else t
    for model in (net, again):
        xpdl.Adam(lr=0.01).update(model.params, model.gradient(x, t))
    assert len(net.params) == len(again.params)
    found = {array.tobytes() for array in again.params.values()}
    assert {array.tobytes() for array in net.params.values()} == found
    for a, b in zip(net.buffers.values(), again.buffers.values(), strict=True):
        np.testing.assert_allclose(a, b, rtol=0 if dtype == "float32" else 1e-14)


def test_kept_constants_are_saved_and_not_trained(tmp_path: Any) -> None:
    g = Builder()
    net = loaded_from(g.model(g.node("Softmax", g.node("Gemm", kept(g), g.constant(4, 3)))), tmp_path)
    constants = {key: array.copy() for key, array in net.buffers.items()}
    x = RNG.standard_normal((5, 4)).astype("float32")
    xpdl.Adam(lr=0.1).update(net.params, net.gradient(x, np.arange(5) % 3))
    assert constants.keys() == net.buffers.keys() != set() and "ScaleShift1.scale" in constants
    net.save(tmp_path / "x.safetensors")
    again = xpdl.load_model(tmp_path / "x.safetensors")
    for key, array in nonempty(constants.items()):
        np.testing.assert_array_equal(again.buffers[key], array)
    np.testing.assert_array_equal(again.predict(x), net.predict(x))
    xpdl.onnx.export(again, tmp_path / "x.onnx")
    np.testing.assert_array_equal(xpdl.onnx.load(tmp_path / "x.onnx").predict(x), net.predict(x))
