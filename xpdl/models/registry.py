"""Models that a file can name."""

from __future__ import annotations

import os
from collections.abc import Mapping

from xpdl import initializers
from xpdl.io import json_text
from xpdl.layers.scale_shift import ScaleShift
from xpdl.layers.tied_embedding import TiedEmbedding, TiedScores
from xpdl.models import architecture, purpose, serialization
from xpdl.models.base import Model
from xpdl.models.book import BookNet
from xpdl.models.deep_conv_net import DeepConvNet
from xpdl.models.multi_layer_net import MultiLayerNet, MultiLayerNetExtend
from xpdl.models.simple_conv_net import SimpleConvNet
from xpdl.models.two_layer_net import TwoLayerNet

MODELS: dict[str, type[BookNet]] = {
    model.__name__: architecture.register_layer(model)
    for model in (TwoLayerNet, MultiLayerNet, MultiLayerNetExtend, SimpleConvNet, DeepConvNet)
}
for kind in (ScaleShift, TiedEmbedding, TiedScores):  # of models that were read from ONNX files
    architecture.register_layer(kind)


def load_model(path: str | os.PathLike[str]) -> Model:
    """Make the model of a file on the backend in use, and load its arrays.

    Parameters
    ----------
    path : path
        A file of `Sequential.save`, or of ``save_params`` of one of the book's nets.

    Returns
    -------
    Sequential or Graph
        With `class_names`, `preparation`, `origin` and `vocabulary` as they were saved.

    Raises
    ------
    ValueError, OSError
        If the file is damaged, holds layers of a class that is not registered, or describes no model.

    Notes
    -----
    Nothing in a file is run as code: layers are made by the constructors of registered classes, which check their arguments,
    and take no more memory for parameters than the file has.
    """
    arrays, metadata = serialization.read(path)
    try:
        # a small file must not ask for a large model
        with initializers.parameter_budget(sum(array.size for array in arrays.values()), f"{path}"):
            model = _made(metadata)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
        raise ValueError(
            f"{path}: names {metadata.get('model', 'no model')[:100]}, of which load_model cannot make a model ({error}); "
            "make the model and call its load_params"
        ) from error
    model.load_params(path)
    return model


def _made(metadata: Mapping[str, str]) -> Model:
    """Return the model that metadata describe, without the arrays."""
    if "architecture" not in metadata:
        return MODELS[metadata["model"]](**json_text.loads(metadata["config"]))
    model = architecture.from_json(metadata["architecture"])
    if not isinstance(model, Model):
        raise ValueError(f"it describes a {type(model).__name__}, which is no model")
    purpose.read(model, metadata)
    return model
