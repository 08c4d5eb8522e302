"""Writing of a model to an ONNX file."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, ValueInfoProto, checker, helper, numpy_helper, shape_inference

from xpdl.backends import get_backend
from xpdl.backends.namespaces import dtype_name, is_array, is_floating
from xpdl.errors import DTypeError, ShapeError
from xpdl.io.atomic import write_atomically
from xpdl.layers.base import Layer, row_shapes
from xpdl.layers.hinge import Hinge
from xpdl.layers.losses import SigmoidWithLoss, SoftmaxWithLoss
from xpdl.layers.negative_sampling import NegativeSampling
from xpdl.layers.nodes import parts
from xpdl.layers.regression_losses import GaussianKL, Huber, IdentityWithLoss, MeanAbsoluteError, MeanSquaredError
from xpdl.models import architecture
from xpdl.models.gpt import GPT
from xpdl.onnx.exporters import exporter_of
from xpdl.onnx.graph import OPSET, Graph, Value
from xpdl.version import __version__

_OWNER = "xpdl.onnx.export"
_IR_VERSION = 8  # of files with that OPSET
_MOST_BYTES = 2**31 - 2**20  # of a file of one part, with some room for the nodes
_TYPES = {"float32": TensorProto.FLOAT, "float64": TensorProto.DOUBLE}
_ACTIVATIONS: dict[str, tuple[str, dict[str, Any]]] = {"softmax": ("Softmax", {"axis": -1}), "sigmoid": ("Sigmoid", {})}
#: loss -> the activation that it was trained with
_TRAINED_WITH = {SoftmaxWithLoss: "softmax", SigmoidWithLoss: "sigmoid"} | dict.fromkeys(
    (GaussianKL, Hinge, Huber, IdentityWithLoss, MeanAbsoluteError, MeanSquaredError, NegativeSampling), "no activation"
)


def export(
    model: Layer,
    path: str | os.PathLike[str],
    input_shape: Sequence[int] | None = None,
    *,
    activation: str | None = None,
) -> None:
    """Write a model to an ONNX file, atomically: what `predict` computes, for batches of any size.

    Parameters
    ----------
    model : Layer
        A model, or any layer, that has its parameters.
    path : path
    input_shape : sequence of int, optional
        Of one row; by default the one that the model was built for.
    activation : {"softmax", "sigmoid"}, optional
        Applied to the scores, as the loss of the model does: the file then computes probabilities.

    Raises
    ------
    TypeError
        If nothing says how a layer is exported, or `model` is no layer.
    ShapeError
        If the model has no parameters yet, or `input_shape` is missing or does not fit.
    DTypeError
        If parameters are neither all float32 nor all float64.
    ValueError
        If `activation` is none of these or not the one of the loss, a ``to_onnx`` made no valid graph, or the file would
        exceed 2 GiB.
    OSError
        If the file cannot be written.

    Notes
    -----
    The input is called ``x``, the output ``y``, several have the names of a `Graph`, and their first axis, ``N``, is free.
    Operators are those of opset 17.
    Constants have the names that parameters and running statistics have in the model. Statistics are constants, dropout
    is a node without effect (the book's is followed by a factor ``1 - dropout_ratio``). In float64 the difference between
    ``eps`` and the float32 that the file has for it is added to the running variance. `class_names`, `preparation`, the
    name of the loss, and of a `GPT` its options and vocabulary are JSON texts in ``metadata_props``.

    A layer of one's own is exported by its method ``to_onnx(graph, x)``, which takes a `Graph` and a `Value` and returns a
    `Value`. A derived class that has the ``forward`` of a class of xpdl needs none.

    Examples
    --------
    >>> net = Sequential(Convolution(filters=2, size=3), Relu(), Affine(units=3), loss=SoftmaxWithLoss, seed=0)
    >>> net.build((1, 5, 5))
    (3,)
    >>> import tempfile, pathlib, onnx
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "net.onnx"
    ...     export(net, path, activation="softmax")
    ...     print([node.op_type for node in onnx.load(path).graph.node])
    ['Conv', 'Relu', 'Flatten', 'Gemm', 'Softmax']
    """
    if not isinstance(model, Layer):
        raise TypeError(f"{_OWNER}: model must be a model or a layer, got {type(model).__name__}")
    path = os.fspath(path)
    _require_activation(activation, getattr(model, "last_layer", None))
    proto = _proto(model, _shape(model, input_shape), activation)
    write_atomically(path, proto.SerializeToString())


def _require_activation(activation: str | None, loss: Any) -> None:
    if activation is None:
        return
    if not isinstance(activation, str) or activation not in _ACTIVATIONS:
        raise ValueError(f"{_OWNER}: activation must be 'softmax', 'sigmoid' or None, got {activation!r}")
    trained = next((name for kind, name in _TRAINED_WITH.items() if isinstance(loss, kind)), activation)
    if trained != activation:
        raise ValueError(
            f"{_OWNER}: activation: the model was trained by {type(loss).__name__} with {trained}, got {activation!r}"
        )


def _shape(model: Layer, input_shape: Sequence[int] | None) -> Any:
    if not model.built:
        raise ShapeError(f"{_OWNER}: {model.name} has no parameters yet; call build(input_shape) or train it first")
    given = getattr(model, "input_shape", None) if input_shape is None else input_shape
    if given is None:
        raise ShapeError(f"{_OWNER}: the shape of the input of {model.name} is not known; give input_shape=(1, 28, 28)")
    shape = row_shapes(given, _OWNER)
    model.output_shape(shape)
    return shape


def _dtype(model: Layer) -> np.dtype[Any]:
    """Return the dtype of all floating arrays of a model; of the backend in use where it has none."""
    entries = [(path, owner[key]) for kind in ("params", "state") for path, owner, key in model.named(kind)]
    names: dict[str, str] = {}
    for path, array in entries:
        if is_array(array) and is_floating(array):
            names.setdefault(dtype_name(array.dtype), path)
    names = names or {dtype_name(get_backend().float): model.name}
    if len(names) > 1 or not names.keys() <= _TYPES.keys():
        found = ", ".join(f"{name} ({path})" for name, path in names.items())
        raise DTypeError(
            f"{_OWNER}: parameters must be all float32 or all float64, got {found}; "
            "make a model in one of them, with xpdl.use(..., dtype='float32'), and give it this state_dict"
        )
    return np.dtype(next(iter(names)))


def traced(model: Layer, shape: Any, activation: str | None) -> tuple[Graph, list[Value], list[Value]]:
    """Return the graph of a model for rows of a shape, with its inputs and outputs."""
    graph = Graph(model, _dtype(model), exporter_of)
    inputs, outputs = (list(getattr(model, ends, ())) for ends in ("inputs", "outputs"))
    shapes = parts(shape)
    xs = [Value(graph.fresh(name), one) for name, one in zip(inputs if inputs[1:] else ["x"], shapes, strict=True)]
    found = graph.add(model, *xs)
    ys = [found] if isinstance(found, Value) else list(found)
    if activation is not None:
        kind, attributes = _ACTIVATIONS[activation]
        ys = [graph.node(kind, y, **attributes) for y in ys]
    names = outputs if outputs[1:] else ["y"]
    return graph, xs, [_named(graph, y, graph.fresh(name)) for name, y in zip(names, ys, strict=True)]


def _proto(model: Layer, shape: Any, activation: str | None) -> ModelProto:
    graph, xs, ys = traced(model, shape, activation)
    dtype = graph.dtype
    size = sum(array.nbytes for array in graph.constants.values())
    if size > _MOST_BYTES:
        raise ValueError(f"{_OWNER}: an ONNX file holds at most 2 GiB, {model.name} has {size:,} bytes")
    kinds = {False: _TYPES[dtype.name], True: TensorProto.BOOL}
    inside = helper.make_graph(
        graph.nodes,
        model.name,
        [
            _declared(x, TensorProto.INT64 if model.takers_of_ids(place) else kinds[x.name in graph.booleans])
            for place, x in enumerate(xs)
        ],
        [_declared(y, _TYPES[dtype.name]) for y in ys],
        [numpy_helper.from_array(array, name) for name, array in graph.constants.items()],
    )
    proto = helper.make_model(
        inside,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=_IR_VERSION,
        producer_name="xpdl",
        producer_version=__version__,
    )
    helper.set_model_props(proto, _metadata(model))
    _check(proto, model.name)
    return proto


def _metadata(model: Layer) -> dict[str, str]:
    """Return what the file says of a model beside its graph, as JSON."""
    found = {key: getattr(model, key, None) for key in ("class_names", "preparation")}
    loss = getattr(model, "last_layer", None)
    found["loss"] = next((kind.__name__ for kind in _TRAINED_WITH if type(loss) is kind), None)
    texts = {key: json.dumps(value, ensure_ascii=False) for key, value in found.items() if value is not None}
    if type(model) is GPT:
        texts["architecture"] = architecture.to_json(model, _OWNER)
        texts |= {} if model.vocabulary is None else {"vocabulary": json.dumps(model.vocabulary.to_json())}
    return texts


def _declared(value: Value, kind: int) -> ValueInfoProto:
    return helper.make_tensor_value_info(value.name, kind, ["N", *value.shape])


def _named(graph: Graph, y: Value, name: str) -> Value:
    """Return `y` under another name; a copy where it is no output of a node."""
    if any(y.name in node.output for node in graph.nodes):
        graph.rename(y.name, name)
    else:
        graph.nodes.append(helper.make_node("Identity", [y.name], [name], name=name))
    return Value(name, y.shape)


def _check(proto: ModelProto, name: str) -> None:
    try:
        checker.check_model(proto, full_check=True)
    except (checker.ValidationError, shape_inference.InferenceError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{_OWNER}: the graph of {name} is not valid ({reason}); mend to_onnx, or output_shape, of a layer of your own"
        ) from None
