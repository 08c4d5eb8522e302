"""Files of a model's parameters: safetensors with a checksum, and the formats of the book."""

from __future__ import annotations

import copy
import json
import os
from typing import TYPE_CHECKING, Any

from xpdl import initializers
from xpdl.backends import asnumpy
from xpdl.backends.random import Stream
from xpdl.io import tensors
from xpdl.models import architecture
from xpdl.models.state_dict import fill, state_of

if TYPE_CHECKING:
    from xpdl.models.sequential import Sequential

# Attributes of a model that say what it is for.
_PURPOSE = ("class_names", "preparation")


def save(model: Sequential, path: str | os.PathLike[str], whole: bool = False) -> None:
    """Write parameters and running statistics, and in the metadata what is needed to make the model again.

    That is, of the `whole` model, its architecture; else the arguments of the book's nets.
    """
    if whole and model.built and model.input_shape is None:
        raise ValueError(f"{model.name}.save: the shape of the input is not known yet; call build(input_shape) first")
    arrays = {name: asnumpy(value) for name, value in state_of(model).items()}
    metadata = {"model": type(model).__name__}
    if model.input_shape is not None:
        metadata["input_shape"] = json.dumps(model.input_shape)
    if whole:
        metadata["architecture"] = architecture.to_json(model, f"{model.name}.save")
        metadata |= {name: json.dumps(value) for name in _PURPOSE if (value := getattr(model, name)) is not None}
    # an initializer of one's own cannot be written down: load_params reads such a file, load_model cannot
    elif model.config is not None and not any(callable(value) for value in model.config.values()):
        metadata["config"] = json.dumps(model.config, default=_plain)
    tensors.write_tensors(path, arrays, metadata)


def _plain(value: Any) -> Any:
    """The numbers of array libraries as Python's, which JSON knows."""
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"save_params: {value!r} cannot be written to a file")


def read(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, str]]:
    """Arrays and metadata of a file of a model, from any writer.

    Raises
    ------
    ValueError, OSError
        If it is damaged, or a checkpoint of a training run.
    """
    arrays, metadata = tensors.load_arrays(path)
    if metadata.get("kind") == "checkpoint":
        raise ValueError(
            f"{path}: is a checkpoint of a training run and no model; go on with it, by Trainer(checkpoint=...) or xpdl "
            "train --resume, and save the model"
        )
    return arrays, metadata


def load(model: Sequential, path: str | os.PathLike[str]) -> None:
    """Read arrays into `model`: all of them, or none and a ValueError that lists what does not fit."""
    arrays, metadata = read(path)
    if not model.built:
        try:
            shape = json.loads(metadata["input_shape"])
        except (KeyError, ValueError, RecursionError):
            raise ValueError(
                f"{path}: the model has no parameters yet and the file names no input shape; call build(input_shape) first"
            ) from None
        # a copy tries it first: what fails leaves the model without parameters
        trial = copy.deepcopy(model)
        with initializers.parameter_budget(sum(array.size for array in arrays.values()), f"{path}"):
            trial.build(shape, stream=Stream(0))
        load(trial, path)
        model.build(shape)
    # other writers, the book's pickles among them, keep parameters only
    optional = () if metadata.get("format") == "xpdl" else model.buffers
    fill(model, arrays, f"{path}", optional=optional)
