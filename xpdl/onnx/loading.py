"""Reading of a model from an ONNX file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from onnx import ModelProto

from xpdl.backends import get_backend
from xpdl.backends.conversion import to_numpy
from xpdl.io import json_text
from xpdl.layers.base import Layer, row_shapes
from xpdl.layers.hinge import Hinge
from xpdl.layers.loss_layer import LossLayer
from xpdl.layers.losses import SigmoidWithLoss, SoftmaxWithLoss
from xpdl.layers.negative_sampling import NegativeSampling
from xpdl.layers.regression_losses import GaussianKL, Huber, IdentityWithLoss, MeanAbsoluteError, MeanSquaredError
from xpdl.layers.sigmoid import Sigmoid
from xpdl.layers.softmax import Softmax
from xpdl.models import purpose
from xpdl.models.base import Model
from xpdl.models.graph import Graph, Losses
from xpdl.models.sequential import Sequential
from xpdl.onnx.branches import in_order, nodes_of, shared_layers
from xpdl.onnx.chains import layers_between
from xpdl.onnx.inputs import InputShapes
from xpdl.onnx.named_models import named_model
from xpdl.onnx.nodes import Signal
from xpdl.onnx.products import untie
from xpdl.onnx.reading import GraphReader
from xpdl.onnx.source import Damaged, Unmapped, read_model
from xpdl.onnx.steps import Step
from xpdl.ops.checks import flag

_OWNER = "xpdl.onnx.load"

#: the last node of a file -> the loss that has it
_LOSSES: dict[type[Layer], type[LossLayer]] = {Softmax: SoftmaxWithLoss, Sigmoid: SigmoidWithLoss}
_BY_NAME: dict[str, type[LossLayer]] = {
    kind.__name__: kind
    for kind in (
        *(SoftmaxWithLoss, SigmoidWithLoss, Hinge, NegativeSampling),
        *(GaussianKL, Huber, IdentityWithLoss, MeanAbsoluteError, MeanSquaredError),
    )
}


M = TypeVar("M", bound=Model)


class Options(NamedTuple):
    """Options of `load` beside those of the file."""

    loss: Any
    seed: int | None
    batched: bool


def load(
    path: str | os.PathLike[str],
    input_shape: Any = None,
    *,
    output: str | Sequence[str] | None = None,
    loss: Losses | None = None,
    batched: bool = True,
    seed: int | None = None,
) -> Sequential | Graph:
    """Read an ONNX file into a model that can be trained further, on the backend in use.

    Parameters
    ----------
    path : path
        A file of `export`, of PyTorch, Keras or scikit-learn, or of anybody else.
    input_shape : sequence of int, or a tuple or dict of them, optional
        Of one row, as the model takes it, of each input; by default those that the file says.
    output : str or sequence of str, optional
        The values of the graph that the model computes; by default all outputs with floats.
    loss : LossLayer, an instance or its class, or callable; a sequence or dict of them for several outputs, optional
        By default that of a model that xpdl exported, else the one that a softmax or sigmoid at the end belongs to.
    batched : bool
        Whether the first axis of the file's inputs is that of a batch. False for a file that takes one row alone: the model
        takes batches of them.
    seed : int, optional
        Of dropout masks.

    Returns
    -------
    Sequential, Graph or GPT
        A `GPT` where xpdl exported one and neither `input_shape`, `output` nor `loss` is given. Otherwise a `Sequential`
        where the layers are a row, with residual blocks perhaps. With ``class_names`` and ``preparation`` if the file has
        them.

    Raises
    ------
    ValueError
        If the file is damaged, or holds nodes that do not map onto layers: their names, operators, reasons, and what helps.
    OSError
        If it cannot be read.

    Notes
    -----
    Sums become residual blocks of a row of layers; other branches, several inputs or outputs, and layers that several nodes
    share make a `Graph`, whose inputs and outputs have the names of the file. Images are (N, C, H, W): where a file first
    transposes its input from (N, H, W, C), the model takes images that are transposed already. A softmax or sigmoid at the
    end is part of the loss, and `predict` gives the scores before it. Constants that scale or shift features go into the
    weights beside them, or else stay as they are. Dropout is a layer, with an effect in training. Of two classes, as
    scikit-learn writes them, the model gives the probability of the second. External data are read from the folder of the
    file alone. Memory is bounded by a multiple of the size of the files.

    Examples
    --------
    >>> net = Sequential(Affine(units=8), Relu(), Affine(units=3), loss=SoftmaxWithLoss, seed=0)
    >>> net.build((4,))
    (3,)
    >>> import tempfile, pathlib
    >>> from xpdl.onnx import export
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     export(net, pathlib.Path(folder) / "net.onnx", activation="softmax")
    ...     load(pathlib.Path(folder) / "net.onnx")
    Sequential(Affine(units=8), Relu(), Affine(units=3), loss=SoftmaxWithLoss())
    """
    path = Path(path)
    shapes = None if input_shape is None else row_shapes(input_shape, _OWNER)
    options = Options(loss, seed, flag(batched, "batched", _OWNER))
    names = None if output is None else list(output) if isinstance(output, (list, tuple)) else [str(output)]
    try:
        return _model(read_model(path), path.parent, shapes, names, options)
    except Damaged as error:
        raise ValueError(f"{path}: is no ONNX file, or a damaged one: {error}") from None
    except Unmapped as error:
        cure = f"; {error.cure}" if error.cure else ""
        raise ValueError(f"{path}: cannot be read into layers: {error.reason}{cure}") from None


def _model(
    proto: ModelProto, folder: Path, shapes: InputShapes, names: Sequence[str] | None, options: Options
) -> Sequential | Graph:
    metadata = {one.key: one.value for one in proto.metadata_props}
    if options.batched and all(one is None for one in (shapes, names, options.loss)):
        named = named_model(proto, folder, metadata, options.seed)
        if named is not None:
            _to_backend(named)
            return _with_purpose(named, metadata, ("class_names", "preparation", "vocabulary"))
    reader = GraphReader(proto, folder, shapes, options.batched)
    values = reader.outputs(names)
    loss = options.loss
    ends = {name: value.step for name, value in values.items()}
    if len(values) == 1:
        ((name, value),) = values.items()
        ends[name], loss = _without_activation(value, loss)
    try:
        model = _of_steps([x.step for x in reader.inputs.values()], ends, loss or _loss_named(metadata), options.seed)
    except ValueError as error:  # of a constructor, for what the file says
        raise Unmapped(str(error)) from None
    _with_purpose(model, metadata, ("class_names", "preparation"))
    model.class_names = model.class_names or reader.class_names
    return model


def _with_purpose(model: M, metadata: dict[str, str], keys: Sequence[str]) -> M:
    """Set what the file says that a model is for, and return the model."""
    try:
        purpose.read(model, {key: metadata[key] for key in keys if key in metadata})
    except (TypeError, ValueError) as error:
        raise Unmapped(" ".join(str(error).split())) from None
    return model


def _of_steps(inputs: list[Step], ends: dict[str, Step], loss: Any, seed: int | None) -> Sequential | Graph:
    """Return the model of steps: a `Sequential` where they are a row, a `Graph` otherwise."""
    steps = in_order(ends.values())
    untie(steps)
    shared = shared_layers(steps)
    needed = [step for step in inputs if step in steps]
    layers = layers_between(needed[0], next(iter(ends.values())), shared) if len(needed) == len(ends) == 1 else None
    if layers is not None:
        row = Sequential(*layers, loss=loss, seed=seed)
        shape = needed[0].shape
        _to_backend(row)
        if shape and None not in shape:
            row.build(shape)
        return row
    nodes, outputs = nodes_of(needed, ends, shared)
    graph = Graph(nodes, outputs if len(outputs) > 1 else next(iter(outputs.values())), loss=loss, seed=seed)
    _to_backend(graph)
    graph.build()
    return graph


def _without_activation(value: Signal, loss: Any) -> tuple[Step, Any]:
    """Return the step that computes the scores, and the loss that the activation after them is part of."""
    end = value.step
    last = _LOSSES.get(type(end.layer)) if isinstance(end.layer, Layer) else None
    if last is None or (len(end.shape) > 1 and getattr(end.layer, "axis", None) not in (-1, len(end.shape))):
        return end, loss
    return (end.inputs[0], loss or last) if loss is None or loss is last or isinstance(loss, last) else (end, loss)


def _to_backend(model: Model) -> None:
    """Move the arrays to the backend in use."""
    before = {**model.params, **model.buffers}
    with np.errstate(over="ignore"):  # it is looked for
        model.to(get_backend())
    for name, moved in {**model.params, **model.buffers}.items():
        if not np.array_equal(np.isfinite(before[name]), np.isfinite(to_numpy(moved))):
            raise Unmapped(f"{name} has values beyond the range of {get_backend().dtype}")


def _loss_named(metadata: dict[str, str]) -> type[LossLayer] | None:
    """Return the loss whose name `export` wrote."""
    try:
        name = json_text.loads(metadata.get("loss", "null"))
    except ValueError:
        return None
    return _BY_NAME.get(name) if isinstance(name, str) else None
