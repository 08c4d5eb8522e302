"""Values that do not depend on rows: constants computed from constants, and arithmetic on shapes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import TensorProto

from xpdl.onnx.nodes import MOST_AXES, Filled, Given, Node, Signal, Sizes, constant, integers, signal, sizes
from xpdl.onnx.selections import SELECTIONS
from xpdl.onnx.source import Constants, Damaged, HostArray, Unmapped
from xpdl.onnx.steps import known

_INTEGERS = {TensorProto.INT32: np.int32, TensorProto.INT64: np.int64}
_FLOATS = {TensorProto.FLOAT: np.float32, TensorProto.DOUBLE: np.float64, TensorProto.FLOAT16: np.float16}


def _quotient(a: HostArray, b: HostArray) -> HostArray:
    """Return the quotient; of integers towards 0, as ONNX has it."""
    if a.dtype.kind not in "iu" or b.dtype.kind not in "iu":
        return np.asarray(np.divide(a, b))
    if not np.all(b):
        raise Unmapped("it divides by 0")
    return np.asarray(np.sign(a) * np.sign(b) * (np.abs(a) // np.abs(b)), np.result_type(a, b))


_ARITHMETIC: dict[str, Callable[..., Any]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": _quotient,
    "Sqrt": np.sqrt,
    "Reciprocal": np.reciprocal,
    "Neg": np.negative,
    "Pow": np.power,
    "And": np.logical_and,
    "Equal": np.equal,
    "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal,
    "Less": np.less,
    "LessOrEqual": np.less_equal,
    "Not": np.logical_not,
    "Or": np.logical_or,
    "Where": np.where,
}
# which leave a constant of one value what it is
_MOVES = {"Cast", "Expand", "Identity", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"}


def fold(node: Node, values: list[Given], constants: Constants) -> Given:
    """Return what a node gives that has no input which depends on rows.

    Raises
    ------
    Unmapped
        If it is another operator than those that exporters put between weights and layers.
    """
    if node.kind == "Constant":
        return _constant(node, constants)
    if isinstance(values[0] if values else None, Filled) and node.kind in _MOVES:
        return values[0]
    if node.kind in ("ConstantOfShape", "Expand") and any(isinstance(value, Sizes) for value in values):
        return _for_each_row(node, values, constants)
    values = [_fixed(value) for value in values]
    if any(isinstance(value, Sizes) for value in values):
        return _of_sizes(node, values)
    arrays = [constant(value, "input") for value in values if value is not None]
    if not arrays:
        raise Unmapped("it has no input")
    if node.kind in _ARITHMETIC:
        return _computed(_ARITHMETIC[node.kind], arrays, constants)
    if node.kind in ("Identity", "Dropout"):
        return arrays[0]
    if node.kind == "Cast":
        return _cast(node, arrays[0], constants)
    if node.kind == "Concat":
        constants.memory.take(sum(array.nbytes for array in arrays))
        return np.concatenate(arrays, axis=node.integer("axis", 0))
    if node.kind == "Transpose":
        return np.transpose(arrays[0], node.integers("perm") or None)
    if node.kind == "Reshape":
        return _reshaped(node, arrays, constants)
    if node.kind in ("Squeeze", "Unsqueeze"):
        axes = integers(arrays[1], "axes") if len(arrays) > 1 else node.integers("axes")
        return _with_axes(arrays[0], axes, node.kind == "Squeeze")
    if node.kind in SELECTIONS:
        return SELECTIONS[node.kind](node, arrays, constants)
    raise Unmapped("of constants, it is not computed", "fold the constants of the file, as onnxruntime or onnxslim do")


def _fixed(value: Given) -> Given:
    """Return sizes that do not depend on the number of rows as a constant."""
    if not isinstance(value, Sizes) or None in value.values:
        return value
    array = np.array([size for size in value.values if size is not None], np.int64)
    return array.reshape(()) if value.is_scalar else array


def _for_each_row(node: Node, values: list[Given], constants: Constants) -> Given:
    """Return a constant of one value in a shape that the number of rows is part of."""
    wanted = values[0] if node.kind == "ConstantOfShape" else values[1]
    if node.kind == "ConstantOfShape":
        array = constants.array(node.tensor("value")) if node.has("value") else np.zeros(1, np.float32)
    else:
        array = constant(values[0], "input")
    if None not in sizes(wanted, "shape"):
        arrays = [np.array(sizes(wanted, "shape"), np.int64)]
        return SELECTIONS[node.kind](node, arrays if node.kind == "ConstantOfShape" else [array, *arrays], constants)
    if array.size == 0 or np.any(array != array.reshape(-1)[0]):
        raise Unmapped("it repeats other values for each row than one number")
    return Filled(float(array.reshape(-1)[0]))


def shape_of(node: Node, value: Given) -> Sizes:
    """Return what the operator Shape gives of a value."""
    if isinstance(value, np.ndarray):
        found: tuple[int | None, ...] = value.shape
    else:
        x = signal(value)
        known(x.row)
        found = tuple(x.size(axis) for axis in x.axes)
    return Sizes(found[node.integer("start", 0) : node.integer("end", len(found))])


def _constant(node: Node, constants: Constants) -> HostArray:
    if node.has("value"):
        return constants.array(node.tensor("value"))
    if node.has("value_int"):
        return np.asarray(node.integer("value_int", 0))
    if node.has("value_ints"):
        return np.asarray(node.integers("value_ints"), np.int64)
    if node.has("value_float"):
        return np.asarray(node.number("value_float", 0.0), np.float32)
    if node.has("value_floats"):
        return np.asarray(node.numbers("value_floats"), np.float32)
    raise Unmapped("its value is of a type that no layer takes")


def _computed(function: Callable[..., Any], arrays: list[HostArray], constants: Constants) -> HostArray:
    shape = np.broadcast_shapes(*(array.shape for array in arrays))
    constants.memory.take(math.prod(shape) * max(array.itemsize for array in arrays))
    with np.errstate(all="ignore"):
        return np.asarray(function(*arrays))


def _cast(node: Node, array: HostArray, constants: Constants) -> HostArray:
    dtype = (_INTEGERS | _FLOATS).get(node.integer("to", 0))
    if dtype is None:
        raise Unmapped("it makes another type of a constant")
    constants.memory.take(array.size * np.dtype(dtype).itemsize)
    with np.errstate(all="ignore"):
        return array.astype(dtype)


def _reshaped(node: Node, arrays: list[HostArray], constants: Constants) -> HostArray:
    wanted = integers(arrays[1], "shape") if len(arrays) > 1 else node.integers("shape")
    constants.memory.take(arrays[0].nbytes)
    keep = not node.integer("allowzero", 0)
    shape = [arrays[0].shape[i] if size == 0 and keep and i < arrays[0].ndim else size for i, size in enumerate(wanted)]
    return arrays[0].reshape(shape)


def _with_axes(array: HostArray, axes: tuple[int, ...], squeeze: bool) -> HostArray:
    if squeeze:
        return np.squeeze(array, axes or None)
    return np.expand_dims(array, axes)


def _of_sizes(node: Node, values: list[Given]) -> Given:
    """Arithmetic on shapes, as exporters write it for a reshape that keeps the number of rows."""
    first = values[0]
    found = sizes(first, "input")
    if node.kind == "Identity" or (node.kind == "Cast" and node.integer("to", 0) in _INTEGERS):
        return first
    if node.kind == "Concat":
        together = sum((sizes(value, "input") for value in values), ())
        if len(together) > MOST_AXES:
            raise Damaged(f"{node.label}: it makes a shape of {len(together)} axes")
        return Sizes(together)
    if node.kind in ("Squeeze", "Unsqueeze"):
        if len(found) != 1:
            raise Unmapped("it changes the axes of a shape")
        return Sizes(found, node.kind == "Squeeze")
    if node.kind == "Gather":
        chosen = integers(values[1] if len(values) > 1 else None, "indices")
        if any(not -len(found) <= one < len(found) for one in chosen):
            raise Damaged(f"{node.label}: there is no axis {chosen[:4]}")
        is_scalar = isinstance(values[1], np.ndarray) and values[1].ndim == 0
        return Sizes(tuple(found[one] for one in chosen), is_scalar)
    if node.kind == "Slice":
        bounds = [integers(value, "bounds") for value in values[1:3]] or [
            node.integers(name) for name in ("starts", "ends")
        ]
        steps = integers(values[4], "steps") if len(values) > 4 else (1,)
        if [len(one) for one in (*bounds, steps)] != [1, 1, 1] or steps == (0,):
            raise Unmapped("it takes a part of a shape in another way than from one axis to another")
        return Sizes(found[bounds[0][0] : bounds[1][0] : steps[0]])
    raise Unmapped("of a shape, it is not computed")


def depends_on_rows(values: list[Given]) -> bool:
    """Return whether a node computes with rows, and not with constants and shapes alone."""
    return any(isinstance(value, Signal) for value in values)
