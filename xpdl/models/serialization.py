"""Files of a model's parameters: safetensors with a checksum, and the formats of the book."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Mapping
from typing import Any

from xpdl import initializers
from xpdl.backends import asnumpy
from xpdl.backends.random import Stream
from xpdl.io import json_text, tensors
from xpdl.layers.base import Shape
from xpdl.layers.composite import Composite
from xpdl.models import architecture
from xpdl.models.state_dict import fill, state_of


def save(model: Composite, path: str | os.PathLike[str], input_shape: Shape | None, purpose: Mapping[str, Any]) -> None:
    """Write arrays, architecture, and what the model is for: attributes by name, None for those that it lacks."""
    if model.built and input_shape is None:
        raise ValueError(f"{model.name}.save: the shape of the input is not known yet; call build(input_shape) first")
    architecture_text = architecture.to_json(model, f"{model.name}.save")
    known = {name: json.dumps(value) for name, value in purpose.items() if value is not None}
    _write(model, path, input_shape, {"architecture": architecture_text, **known})


def save_params(
    model: Composite, path: str | os.PathLike[str], input_shape: Shape | None, config: Mapping[str, Any] | None
) -> None:
    """Write arrays, and the constructor's arguments of one of the book's nets."""
    # an initializer of one's own cannot be written down: load_params reads such a file, load_model cannot
    if config is None or any(callable(value) for value in config.values()):
        _write(model, path, input_shape, {})
    else:
        _write(model, path, input_shape, {"config": json.dumps(config, default=_plain)})


def _write(
    model: Composite, path: str | os.PathLike[str], input_shape: Shape | None, metadata: Mapping[str, str]
) -> None:
    arrays = {name: asnumpy(value) for name, value in state_of(model).items()}
    shape = {} if input_shape is None else {"input_shape": json.dumps(input_shape)}
    tensors.write_tensors(path, arrays, {"model": type(model).__name__, **shape, **metadata})


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


def load(model: Composite, path: str | os.PathLike[str]) -> None:
    """Read arrays into `model`: all of them, or none and a ValueError that lists what does not fit."""
    arrays, metadata = read(path)
    if not model.built:
        try:
            shape = json_text.loads(metadata["input_shape"])
        except (KeyError, ValueError):
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
