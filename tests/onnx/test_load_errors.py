"""Files that no model can be made of: each is one error that says why, in bounded memory."""

from __future__ import annotations

import importlib
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xpdl
from tests.onnx.graphs import Builder, loaded_from
from xpdl import layers as L

pytestmark = pytest.mark.needs("onnx")

IMAGES = ("n", 2, 6, 6)


def along_rows(g: Builder) -> str:
    return g.node("Add", "x", g.constant(5, 4))


def apart(g: Builder) -> str:
    return g.node("Add", "x", g.node("Unsqueeze", "x", g.constant(values=np.array([1]))))


def sliced(*bounds: list[int]) -> Callable[[Builder], str]:
    return lambda g: g.node("Slice", "x", *(g.constant(values=np.array(one)) for one in bounds))


def joined(axis: int) -> Callable[[Builder], str]:
    return lambda g: g.node("Concat", "x", g.node("Relu", "x"), axis=axis)


def split_in(sizes: list[int]) -> Callable[[Builder], str]:
    return lambda g: g.node("Split", "x", g.constant(values=np.array(sizes)), axis=1)


def in_row_order(g: Builder) -> str:
    y = g.node("Transpose", g.node("Transpose", "x", perm=[0, 3, 1, 2]), perm=[0, 2, 1, 3])
    return g.node("Flatten", g.node("Relu", y))


def argmax(g: Builder) -> str:
    return g.node("Cast", g.node("Relu", "x"), to=7)


def integer_weights(g: Builder) -> str:
    return g.node("MatMul", "x", g.constant(values=np.ones((4, 3), np.int64)))


def two_unmapped(g: Builder) -> str:
    return g.node("Add", g.node("Sin", "x"), g.node("Hardmax", "x"))


def pool(**attributes: Any) -> Callable[[Builder], str]:
    return lambda g: g.node(attributes.pop("kind", "AveragePool"), "x", kernel_shape=[3, 3], **attributes)


def one(kind: str, *shapes: tuple[int, ...], **attributes: Any) -> Callable[[Builder], str]:
    return lambda g: g.node(kind, "x", *(g.constant(*shape) for shape in shapes), **attributes)


def padded(g: Builder, channels: int = 0, **attributes: Any) -> str:
    return g.node("Pad", "x", g.constant(values=np.array([0, channels, 1, 1] * 2)), **attributes)


def resized(scales: list[float], **attributes: Any) -> Callable[[Builder], str]:
    return lambda g: g.node("Resize", "x", "", g.constant(values=np.array(scales, np.float32)), **attributes)


def second_output(g: Builder) -> str:
    g.nodes.append(g.helper.make_node("MaxPool", ["x"], ["y", "places"], name="n1", kernel_shape=[2, 2]))
    return "places"


UNMAPPED = [
    (along_rows, ("n", 4), r"constant of shape \(5, 4\) has other values for each row of a batch"),
    (one("Mul", (3,)), ("n", 4), r"its constant of shape \(3,\) does not fit rows of shape \(4,\)"),
    (in_row_order, ("n", 4, 4, 3), r"the output 'v3': its features were flattened in another order than in xpdl"),
    (apart, ("n", 4), r"rows of shape \(4,\) and of shape \(1, 4\), so that the rows of a batch do not stay apart"),
    (one("Split", axis=0), ("n", 4), r"\(Split\): it takes some of the rows of a batch"),
    (sliced([0], [2], [0]), ("n", 4), r"\(Slice\): it takes some of the rows of a batch"),
    (sliced([0], [4], [1], [2]), ("n", 4), r"\(Slice\): its steps are \(2,\), and layers take entries one beside"),
    (sliced([2], [2], [1]), ("n", 4), r"\(Slice\): Slice: nothing lies between start=2 and stop=2"),
    (joined(0), ("n", 4), r"it joins batches along axis 0, and not values of a row"),
    (argmax, ("n", 4), r"'n1' \(Cast\): it makes integers of the values; read the layers before it, with output='v0'"),
    (integer_weights, ("n", 4), r"its second input are integers \(int64\)"),
    (two_unmapped, ("n", 4), r"'n0' \(Sin\): xpdl has no layer for it; .* \| node 'n1' \(Hardmax\): xpdl has no layer"),
    (
        one("Conv", (2, 2, 3, 3), strides=[0, 1], auto_pad="SAME_UPPER"),
        IMAGES,
        r"its stride \(0, 1\) does not fit a window of 2",
    ),
    (one("Conv", (2, 2, 3, 3), auto_pad="ROUND"), IMAGES, r"auto_pad='ROUND' is no mode"),
    (one("Conv", (2, 3, 3, 3)), IMAGES, r"\(Conv\): Convolution: expected 3 channels"),
    (one("Conv", (2, 2, 7, 7)), IMAGES, r"\(Conv\): Convolution: .*"),
    (one("Conv", (2, 2, 3)), IMAGES, r"its input is no batch of|expected signals"),
    (
        lambda g: g.node("Relu", g.node("Pad", "x", g.constant(values=np.array([0, 0, 1, 1] * 2)))),
        IMAGES,
        r"the border of",
    ),
    (
        lambda g: g.node(
            "MaxPool", g.node("Pad", "x", g.constant(values=np.array([0, 0, 1, 1] * 2))), kernel_shape=[2, 2]
        ),
        IMAGES,
        r"border before it is of 0, and its own of -inf",
    ),
    (
        lambda g: g.node("Pad", "x", g.constant(values=np.array([0, 1, 1, 1] * 2))),
        IMAGES,
        r"its padding adds rows or channels",
    ),
    (
        lambda g: g.node("Pad", "x", g.constant(values=np.array([0, 0, 1, 1] * 2)), mode="reflect"),
        IMAGES,
        r"is no border of one value",
    ),
    (one("Gemm", (4, 3), transA=1), ("n", 4), r"transA=1 mixes the rows of a batch"),
    (one("Gemm", (4, 3), (4, 3)), ("n", 4), r"its bias of shape \(4, 3\) is not one value for each of 3 units"),
    (one("Gemm", (5, 3)), ("n", 4), r"Affine: expected a batch \(N, ...\) with 5 values a row"),
    (one("Gemm", (6, 3)), IMAGES, r"its input is no batch of features \(N, D\): rows are of shape \(2, 6, 6\)"),
    (lambda g: g.node("Gather", g.constant(7, 6, 2), "x"), ("n", 4), r"\(Gather\): its table has shape \(7, 6, 2\)"),
    (
        lambda g: g.node("Gather", "x", g.constant(values=np.array([0]))),
        ("n", 4),
        r"it takes the entry 0 of axis 0 of rows of shape \(4,\)",
    ),
    (
        lambda g: g.node("Gather", g.constant(7, 6), g.node("Relu", "x")),
        ("n", 4),
        r"its numbers are computed from the input of the model, and are not that itself",
    ),
    (one("Softmax", axis=0), IMAGES, r"it is over the axis 0 of 4, and not over one of a row"),
    (one("ConvTranspose", (2, 2, 3, 3), auto_pad="ROUND"), IMAGES, r"auto_pad='ROUND' is no mode"),
    (one("ConvTranspose", (2, 2, 3, 3), pads=[1]), IMAGES, r"its attributes do not fit filters of 2 axes"),
    (resized([1, 1, 1.5, 2]), IMAGES, r"its scales \[1.0, 1.0, 1.5, 2.0\] are not whole factors of the axes behind"),
    (resized([1, 2, 2, 2]), IMAGES, r"are not whole factors"),
    (resized([1, 1, 2, 2], mode="cubic"), IMAGES, r"it interpolates in another way: mode=cubic"),
    (one("Flatten", axis=2), IMAGES, r"axis=2 does not keep the rows of a batch apart"),
    (one("Transpose", perm=[1, 0, 2, 3]), IMAGES, r"the output 'v0' has other axes before that of the rows"),
    (
        one("ReduceMean", axes=[2]),
        IMAGES,
        r"\(ReduceMean\): xpdl has no layer for it, or none that ends with it",
    ),
    (one("Dropout", ratio=1.5), ("n", 4), r"\(Dropout\): Dropout: dropout_ratio must"),
    (second_output, IMAGES, r"'n1' \(MaxPool\): its output 'places' has no counterpart"),
    (lambda g: "nowhere", ("n", 4), r"the value 'nowhere' is not computed from the input; outputs are 'nowhere'"),
    (
        lambda g: g.node("Gemm", "x", g.node("Tile", g.constant(4, 3), g.constant(2))),
        ("n", 4),
        r"it is not computed; fold",
    ),
    (lambda g: g.node("Reshape", "x", g.constant(values=np.array([-1, 2]))), ("n", 4), r"and so other rows"),
    (lambda g: g.node("Relu", "x"), (), r"the shape of the input 'x' is not in it; give input_shape"),
]


@pytest.mark.parametrize(("make", "shape", "message"), UNMAPPED, ids=[case[2][:30] for case in UNMAPPED])
def test_what_does_not_map_is_named(make: Any, shape: Any, message: str, tmp_path: Any) -> None:
    g = Builder()
    proto = g.model(make(g), shape, opset=10 if "ratio" in message else 17)
    with pytest.raises(ValueError, match=message) as caught:
        loaded_from(proto, tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / 'x.onnx'}: cannot be read into layers: ")
    assert "\n" not in str(caught.value) and caught.value.__cause__ is None


def dense(folder: Path) -> Any:
    """A file with a dense layer."""
    net = xpdl.Sequential(L.Affine(units=3), L.Relu(), L.Affine(units=2), loss=L.SoftmaxWithLoss, seed=0)
    net.build((4,))
    xpdl.onnx.export(net, folder / "x.onnx")
    return importlib.import_module("onnx").load(folder / "x.onnx")


def damaged(change: Callable[[Any], None]) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        proto = dense(folder)
        change(proto)
        (folder / "x.onnx").write_bytes(proto.SerializeToString())

    return write


def huge(proto: Any) -> None:
    proto.graph.initializer[0].dims[:] = [2**40, 2**20]


def huge_and_empty(proto: Any) -> None:
    tensor = proto.graph.initializer[0]
    tensor.dims[:] = [2**40, 2**20]
    tensor.ClearField("raw_data")


def huge_rows(proto: Any) -> None:
    for i in (0, 1, 2):
        proto.graph.node[0].attribute.add(name=f"a{i}", i=i, type=2)
    proto.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 2**62


def grown(proto: Any) -> None:
    """Constants that double in each node."""
    name = proto.graph.initializer[0].name
    nodes = list(proto.graph.node)
    del proto.graph.node[:]
    for i in range(60):
        proto.graph.node.add(op_type="Concat", input=[name, name], output=[f"big{i}"]).attribute.add(
            name="axis", i=0, type=2
        )
        name = f"big{i}"
    proto.graph.node.extend(nodes)


def grown_shape(proto: Any) -> None:
    name = "shape0"
    proto.graph.node.insert(0, proto.graph.node.add(op_type="Shape", input=["x"], output=[name]))
    for i in range(1, 60):
        made = proto.graph.node.add(op_type="Concat", input=[name, name], output=[f"shape{i}"])
        proto.graph.node.insert(i, made)
        name = f"shape{i}"


def broadcast(proto: Any) -> None:
    numpy_helper = importlib.import_module("onnx.numpy_helper")
    for name, shape in (("tall", (2**16, 1)), ("wide", (1, 2**16))):
        proto.graph.initializer.append(numpy_helper.from_array(np.zeros(shape, np.int8), name))
    proto.graph.node.insert(0, proto.graph.node.add(op_type="Add", input=["tall", "wide"], output=["table"]))


DAMAGED = [
    (lambda folder: (folder / "x.onnx").write_bytes(b""), "there is no graph in it"),
    (lambda folder: (folder / "x.onnx").write_bytes(b"\xff" * 99), "damaged one: Error parsing message"),
    (lambda folder: (folder / "x.onnx").write_text("ir_version: 8"), "is no ONNX file"),
    (damaged(huge), r"the tensor 'Affine1.W' of shape .* has 48 bytes"),
    (damaged(huge_and_empty), r"its constants take more memory than the size of the file accounts for"),
    (damaged(lambda p: p.graph.initializer[0].dims.__setitem__(0, -4)), r"has the shape \(-4, 3\)"),
    (damaged(lambda p: setattr(p.graph.initializer[0], "raw_data", b"abc")), r"of shape \(4, 3\) has 3 bytes"),
    (damaged(lambda p: setattr(p.graph.node[0], "op_type", "X" * 500)), r"\(X{60}\): xpdl has no layer for it"),
    (damaged(lambda p: p.graph.node[0].input.append("more")), "input 'more' is computed by no node before it"),
    (
        damaged(lambda p: p.graph.node[0].input.__setitem__(0, "later")),
        "input 'later' is computed by no node before it",
    ),
    (damaged(lambda p: p.graph.node[1].output.pop()), "is computed by no node before it"),
    (damaged(lambda p: p.graph.node[0].input.pop()), None),  # an affine layer without a bias
    (damaged(lambda p: p.graph.node[1].input.append("x")), "another number of inputs than 2"),
    (damaged(lambda p: p.graph.node[0].attribute.add(name="transA", f=1.0, type=1)), "transA has another type"),
    (damaged(lambda p: p.graph.initializer[0].__setattr__("data_type", 99)), "is of type 99, which there is not"),
    (damaged(lambda p: p.graph.initializer[0].__setattr__("data_type", 8)), "is of type string"),
    (damaged(lambda p: p.graph.output.pop()), "its graph has no output"),
    (damaged(lambda p: p.graph.input.pop()), "its graph has no input"),
    (damaged(huge_rows), "Affine: expected a batch"),
    (damaged(grown), "take more memory than the size of the file accounts for"),
    (damaged(grown_shape), "it makes a shape of 128 axes"),
    (damaged(broadcast), "take more memory than the size of the file accounts for"),
]


CONTRADICTING = [
    (sliced([0, 1], [2], [1]), r"starts, ends, axes and steps are not as many"),
    (joined(7), r"\(Concat\): axis=7 is none of 2"),
    (one("Softmax", axis=2), r"\(Softmax\): axis=2 is none of 2"),
    (one("Flatten", axis=-3), r"\(Flatten\): axis=-3 is none of 2"),
    (one("Transpose", perm=[0, 2]), r"perm=\(0, 2\) is no order of 2 axes"),
    (split_in([3, 3]), r"\(Split\): 1 parts of sizes \(3, 3\) are not an axis of size 4"),
    (lambda g: g.node("Reshape", "x", g.constant(values=np.array([-1, -1]))), r"a node makes the shape \(-1, -1\)"),
]


@pytest.mark.parametrize(("make", "message"), CONTRADICTING, ids=[case[1][:30] for case in CONTRADICTING])
def test_what_contradicts_itself_is_named(make: Any, message: str, tmp_path: Path) -> None:
    g = Builder()
    proto = g.model(make(g), ("n", 4))
    with pytest.raises(ValueError, match=f"is no ONNX file, or a damaged one: .*{message}"):
        loaded_from(proto, tmp_path)


@pytest.mark.parametrize(("write", "message"), DAMAGED, ids=range(len(DAMAGED)))
def test_damaged_files_are_one_error_in_bounded_memory(write: Any, message: str | None, tmp_path: Path) -> None:
    write(tmp_path)
    tracemalloc.start()
    try:
        if message is None:
            xpdl.onnx.load(tmp_path / "x.onnx")
        else:
            with pytest.raises(ValueError, match=message) as caught:
                xpdl.onnx.load(tmp_path / "x.onnx")
            assert len(str(caught.value)) < 1000 and caught.value.__cause__ is None
        assert tracemalloc.get_traced_memory()[1] < 2**27
    finally:
        tracemalloc.stop()


def test_truncated_files_are_an_error(tmp_path: Path) -> None:
    graph = dense(tmp_path).graph.SerializeToString()
    whole = (tmp_path / "x.onnx").read_bytes()
    end = whole.index(graph) + len(graph)  # what is after it describes the file
    for size in (*range(0, end, 7), end - 1):
        (tmp_path / "x.onnx").write_bytes(whole[:size])
        with pytest.raises(ValueError, match="is no ONNX file, or a damaged one"):
            xpdl.onnx.load(tmp_path / "x.onnx")


def external(location: str, **entries: str) -> Callable[[Path], None]:
    def change(proto: Any) -> None:
        tensor = proto.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = 1
        for key, value in {"location": location, **entries}.items():
            tensor.external_data.add(key=key, value=value)

    return damaged(change)


def test_external_data_are_read_from_the_folder(tmp_path: Path) -> None:
    values = np.arange(12, dtype=np.float32)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "data.bin").write_bytes(b"1234" + values.tobytes() + b"more")
    external("sub/data.bin", offset="4", length="48")(tmp_path)
    net = xpdl.onnx.load(tmp_path / "x.onnx")
    np.testing.assert_array_equal(net.params["Affine1.W"], values.reshape(4, 3))


OUTSIDE = [
    ("/etc/passwd", "must lie in the folder"),
    ("../secret.bin", "must lie in the folder"),
    ("sub/../../secret.bin", "must lie in the folder"),
    ("link.bin", "must lie in the folder"),
    ("linked/secret.bin", "must lie in the folder"),
    ("missing.bin", "no such file in"),
    ("", "must lie in the folder"),
    (".", "must lie in the folder"),
    ("pipe", "no such file in"),
    ("a\0b", "no such file"),
    ("a" * 5000, "no such file"),
    ("circle", "no such file"),
]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="links and pipes are those of POSIX systems")
@pytest.mark.parametrize(("location", "message"), OUTSIDE, ids=[repr(case[0][:20]) for case in OUTSIDE])
def test_external_data_elsewhere_are_not_read(location: str, message: str, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    secret = tmp_path / "secret.bin"
    secret.write_bytes(bytes(48))
    (folder / "link.bin").symlink_to(secret)
    (folder / "linked").symlink_to(tmp_path)
    (folder / "circle").symlink_to(folder / "circle")
    os.mkfifo(folder / "pipe")
    external(location)(folder)
    with pytest.raises(ValueError, match=message):
        xpdl.onnx.load(folder / "x.onnx")


@pytest.mark.parametrize(
    "entries", [{"offset": "8"}, {"offset": "-4"}, {"length": "4"}, {"offset": "x"}, {"length": str(2**62)}]
)
def test_external_data_that_do_not_fit(entries: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "data.bin").write_bytes(bytes(52))
    external("data.bin", **entries)(tmp_path)
    with pytest.raises(ValueError, match=r"the tensor 'Affine1.W' in 'data.bin': "):
        xpdl.onnx.load(tmp_path / "x.onnx")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes are those of POSIX systems")
def test_paths_that_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="it is a device or a pipe"):
        xpdl.onnx.load(tmp_path / "pipe")
    with pytest.raises(FileNotFoundError):
        xpdl.onnx.load(tmp_path / "missing.onnx")
    with pytest.raises(IsADirectoryError):
        xpdl.onnx.load(tmp_path)


def test_files_beyond_the_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dense(tmp_path)
    for name, limit, message in (
        ("xpdl.onnx.source._MOST_BYTES", 99, "one of more than 2 GiB keeps its tensors in other files"),
        ("xpdl.onnx.reading._MOST_NODES", 2, "it has 3 nodes, and 2 are read"),
    ):
        with monkeypatch.context() as patch, pytest.raises(ValueError, match=message):
            patch.setattr(name, limit)
            xpdl.onnx.load(tmp_path / "x.onnx")


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"input_shape": (0,)}, xpdl.ShapeError, "must hold positive ints"),
        ({"input_shape": (7,)}, ValueError, "expected a batch"),
        ({"output": "z"}, ValueError, "the value 'z' is not computed from the input; outputs are 'y'"),
        ({"output": 3}, ValueError, "the value '3' is not computed from the input"),
        ({"loss": "softmax"}, TypeError, "loss"),
        ({"seed": "x"}, TypeError, "seed"),
    ],
)
def test_wrong_arguments(options: Any, kind: Any, message: str, tmp_path: Path) -> None:
    dense(tmp_path)
    with pytest.raises(kind, match=message):
        xpdl.onnx.load(tmp_path / "x.onnx", **options)
