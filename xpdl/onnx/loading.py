"""Reading of a model from an ONNX file."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from onnx import ModelProto

from xpdl.backends import get_backend
from xpdl.backends.conversion import to_numpy
from xpdl.layers.base import Layer, Shape, row_shape
from xpdl.layers.hinge import Hinge
from xpdl.layers.loss_layer import LossLayer
from xpdl.layers.losses import SigmoidWithLoss, SoftmaxWithLoss
from xpdl.layers.negative_sampling import NegativeSampling
from xpdl.layers.regression_losses import GaussianKL, Huber, IdentityWithLoss, MeanAbsoluteError, MeanSquaredError
from xpdl.layers.sigmoid import Sigmoid
from xpdl.layers.softmax import Softmax
from xpdl.models import purpose
from xpdl.models.base import Loss
from xpdl.models.sequential import Sequential
from xpdl.onnx.reading import GraphReader
from xpdl.onnx.source import Damaged, Unmapped, read_model
from xpdl.onnx.steps import layers_between

#: the last node of a file -> the loss that has it
_LOSSES: dict[type[Layer], type[LossLayer]] = {Softmax: SoftmaxWithLoss, Sigmoid: SigmoidWithLoss}
_BY_NAME: dict[str, type[LossLayer]] = {
    kind.__name__: kind
    for kind in (
        *(SoftmaxWithLoss, SigmoidWithLoss, Hinge, NegativeSampling),
        *(GaussianKL, Huber, IdentityWithLoss, MeanAbsoluteError, MeanSquaredError),
    )
}


def load(
    path: str | os.PathLike[str],
    input_shape: Sequence[int] | None = None,
    *,
    output: str | None = None,
    loss: Loss | None = None,
    seed: int | None = None,
) -> Sequential:
    """Read an ONNX file into a model that can be trained further, on the backend in use.

    Parameters
    ----------
    path : path
        A file of `export`, of PyTorch, Keras or scikit-learn, or of anybody else.
    input_shape : sequence of int, optional
        Of one row, as the model takes it; by default the one that the file says.
    output : str, optional
        The value of the graph that the model computes; by default the first output with floats.
    loss : LossLayer, an instance or its class, or callable, optional
        By default that of a model that xpdl exported, else the one that a softmax or sigmoid at the end belongs to.
    seed : int, optional
        Of dropout masks.

    Returns
    -------
    Sequential
        With ``class_names`` and ``preparation`` if the file has them.

    Raises
    ------
    ValueError
        If the file is damaged, or holds nodes that do not map onto layers: their names, operators, reasons, and what helps.
    OSError
        If it cannot be read.

    Notes
    -----
    Sums become residual blocks. Images are (N, C, H, W): where a file first transposes its input from (N, H, W, C), the
    model takes images that are transposed already. A softmax or sigmoid at the end is part of the loss, and `predict` gives
    the scores before it. Constants that scale or shift features go into the weights beside them. Dropout is a layer, with an
    effect in training. Of two classes, as scikit-learn writes them, the model gives the probability of the second. External
    data are read from the folder of the file alone. Memory is bounded by a multiple of the size of the files.

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
    shape = None if input_shape is None else row_shape(input_shape, "xpdl.onnx.load")
    try:
        return _model(read_model(path), path.parent, shape, output, loss, seed)
    except Damaged as error:
        raise ValueError(f"{path}: is no ONNX file, or a damaged one: {error}") from None
    except Unmapped as error:
        cure = f"; {error.cure}" if error.cure else ""
        raise ValueError(f"{path}: cannot be read into layers: {error.reason}{cure}") from None


def _model(
    proto: ModelProto, folder: Path, input_shape: Shape | None, output: str | None, loss: Loss | None, seed: int | None
) -> Sequential:
    reader = GraphReader(proto, folder, input_shape)
    value, start = reader.output(output), reader.input.step
    metadata = {one.key: one.value for one in proto.metadata_props}
    try:
        layers = layers_between(start, value.step)
        last = _LOSSES.get(type(layers[-1])) if layers else None
        if last is not None and len(value.axes) > 1 and getattr(layers[-1], "axis", None) not in (-1, len(value.axes)):
            last = None
        if last is not None and (loss is None or loss is last or isinstance(loss, last)):
            layers, loss = layers[:-1], loss or last
        model = Sequential(*layers, loss=loss or _loss_named(metadata), seed=seed)
        _to_backend(model)
        if start.shape and None not in start.shape:
            model.build(start.shape)
        purpose.read(model, {key: metadata[key] for key in ("class_names", "preparation") if key in metadata})
    except ValueError as error:  # of a constructor, for what the file says
        raise Unmapped(str(error)) from None
    model.class_names = model.class_names or reader.class_names
    return model


def _to_backend(model: Sequential) -> None:
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
        name = json.loads(metadata.get("loss", "null"))
    except (ValueError, RecursionError):
        return None
    return _BY_NAME.get(name) if isinstance(name, str) else None
