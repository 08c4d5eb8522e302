"""Models that a file can name."""

from __future__ import annotations

import json
import os

from xpdl import initializers
from xpdl.models import serialization
from xpdl.models.book import BookNet
from xpdl.models.deep_conv_net import DeepConvNet
from xpdl.models.multi_layer_net import MultiLayerNet, MultiLayerNetExtend
from xpdl.models.simple_conv_net import SimpleConvNet
from xpdl.models.two_layer_net import TwoLayerNet

MODELS: dict[str, type[BookNet]] = {
    model.__name__: model for model in (TwoLayerNet, MultiLayerNet, MultiLayerNetExtend, SimpleConvNet, DeepConvNet)
}


def load_model(path: str | os.PathLike[str]) -> BookNet:
    """Make the model that a file of ``save_params`` describes, on the backend in use, and load its arrays.

    Raises
    ------
    ValueError, OSError
        If the file is damaged, or names no model that can be made from its metadata.
    """
    arrays, metadata = serialization.read(path)
    name = metadata.get("model", "no model")
    try:
        # a small file must not ask for a large model
        with initializers.parameter_budget(sum(array.size for array in arrays.values()), f"{path}"):
            model = MODELS[name](**json.loads(metadata["config"]))
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
        raise ValueError(
            f"{path}: names {name[:100]}, with which load_model cannot make one of {', '.join(MODELS)}; "
            "make the model and call its load_params"
        ) from error
    model.load_params(path)
    return model
