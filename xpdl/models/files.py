"""A model's arrays to and from files."""

from __future__ import annotations

import copy
import json
import os
from typing import TYPE_CHECKING

import numpy as np

from xpdl import storage
from xpdl.backends import get_backend
from xpdl.backends.namespaces import to_numpy
from xpdl.backends.random import Stream

if TYPE_CHECKING:
    from xpdl.models.sequential import Sequential


def save(model: Sequential, path: str | os.PathLike[str]) -> None:
    """Write parameters and running statistics, and in the metadata what is needed to make the model again."""
    if not model.built:
        raise ValueError(f"{model.name}: has no parameters yet; call build(input_shape) or train it first")
    metadata = {"model": type(model).__name__}
    if model.input_shape is not None:
        metadata["input_shape"] = json.dumps(model.input_shape)
    if model.config is not None:
        metadata["config"] = json.dumps(model.config)
    arrays = {name: to_numpy(value) for view in (model.params, model.buffers) for name, value in view.items()}
    storage.write_tensors(path, arrays, metadata)


def load(model: Sequential, path: str | os.PathLike[str]) -> None:
    """Read arrays into `model`: all of them, or none and a ValueError that lists what does not fit."""
    arrays, metadata = storage.load_arrays(path)
    if not model.built:
        try:
            shape = json.loads(metadata["input_shape"])
        except (KeyError, ValueError):
            raise ValueError(
                f"{path}: the model has no parameters yet and the file names no input shape; call build(input_shape) first"
            ) from None
        # a copy tries it first: what fails leaves the model without parameters
        trial = copy.deepcopy(model)
        trial.build(shape, stream=Stream(0))
        load(trial, path)
        model.build(shape)
    backend = model.backend or get_backend()
    params, buffers = model.params, model.buffers
    # other writers, the book's pickles among them, keep parameters only
    required = {**params} if metadata.get("format") != "xpdl" else {**params, **buffers}
    known = {**params, **buffers}
    problems = [f"missing {name} {tuple(required[name].shape)}" for name in required if name not in arrays]
    problems += [f"unexpected {name} {array.shape}" for name, array in arrays.items() if name not in known]
    for name, array in arrays.items():
        if name not in known:
            continue
        if array.shape != tuple(known[name].shape):
            problems.append(f"{name} has shape {array.shape}, expected {tuple(known[name].shape)}")
        elif not np.issubdtype(array.dtype, np.floating):
            problems.append(f"{name} has dtype {array.dtype}, expected floats")
    if problems:
        raise ValueError(f"{path}: does not fit this {type(model).__name__}: {'; '.join(problems)}")
    for name, array in arrays.items():
        view = params if name in params else buffers
        view[name] = backend.asarray(array)
