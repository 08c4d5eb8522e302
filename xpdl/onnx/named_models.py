"""Models of a class that a file of xpdl names, which do more than the layers that they are made of."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from onnx import ModelProto

from xpdl import initializers
from xpdl.backends import make_backend
from xpdl.io import json_text
from xpdl.models import architecture, state_dict
from xpdl.models.gpt import GPT
from xpdl.onnx.model_file import traced
from xpdl.onnx.source import Constants, Damaged, HostArray, Memory, Unmapped

_MOST_NODES = 10_000
_NODES_OF_BLOCK = 20  # at least


def named_model(proto: ModelProto, folder: Path, metadata: Mapping[str, str], seed: int | None) -> GPT | None:
    """Return the `GPT` that a file names, where nodes and constants are exactly those that `export` writes of it.

    The class and its options are the metadata's, as a file of `save` has them; the parameters are the constants of their
    names. None stands for other files, and for those that were changed since.
    """
    described = _described(proto, metadata, seed)
    dims = [one.dim_value for one in proto.graph.input[0].type.tensor_type.shape.dim[1:]] if proto.graph.input else []
    if described is None or len(dims) != 1:
        return None
    try:
        constants = Constants(folder, Memory(proto.ByteSize()), proto.graph.initializer)
        arrays = {one.name: constants[one.name] for one in proto.graph.initializer}
        size = sum(array.size for array in arrays.values())
        if dims[0] ** 2 > size:  # each has a mask of so many queries and keys
            return None
        with initializers.parameter_budget(size, "its description"):
            model = architecture.from_json(described)
        assert isinstance(model, GPT)
        return model if _is_filled(model, arrays) and _is_export_of(proto, model, arrays, dims[0]) else None
    except (Damaged, Unmapped, LookupError, TypeError, ValueError, ArithmeticError):  # it is read node by node
        return None


def _described(proto: ModelProto, metadata: Mapping[str, str], seed: int | None) -> str | None:
    """Return the description of a `GPT` in the metadata, with another seed; None of something else."""
    try:
        found = json_text.loads(metadata.get("architecture", "null"))
    except ValueError:
        return None
    arguments = found.get("args") if isinstance(found, dict) and found.get("__layer__") == GPT.__name__ else None
    if not isinstance(arguments, dict):
        return None
    # a small file must not ask for many layers, which are made before their parameters
    depth, nodes = arguments.get("depth"), len(proto.graph.node)
    if type(depth) is not int or nodes > _MOST_NODES or depth * _NODES_OF_BLOCK > nodes:
        return None
    return json.dumps({**found, "args": arguments if seed is None else {**arguments, "seed": seed}})


def _is_filled(model: GPT, arrays: Mapping[str, HostArray]) -> bool:
    """Put the constants of their names into the parameters, where there is one of its shape for each."""
    own = state_dict.state_of(model)
    if any(name not in arrays or arrays[name].shape != tuple(own[name].shape) for name in own):
        return False
    dtypes = {arrays[name].dtype for name in own}
    if len(dtypes) != 1 or not dtypes <= {np.dtype(np.float32), np.dtype(np.float64)}:
        return False
    model.to(make_backend("numpy", dtype=next(iter(dtypes)).name))
    state_dict.fill(model, {name: arrays[name] for name in own}, model.name)
    return True


def _is_export_of(proto: ModelProto, model: GPT, arrays: Mapping[str, HostArray], length: int) -> bool:
    for activation in (None, "softmax"):
        graph = traced(model, (length,), activation)[0]
        if list(proto.graph.node) == graph.nodes and arrays.keys() == graph.constants.keys():
            return all(_are_equal(arrays[name], array) for name, array in graph.constants.items())
    return False


def _are_equal(a: HostArray, b: HostArray) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
