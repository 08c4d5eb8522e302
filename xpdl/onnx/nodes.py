"""Nodes of a file with their attributes, and the values that they take and give."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from onnx import AttributeProto, NodeProto, TensorProto

from xpdl.onnx.source import Damaged, HostArray, Unmapped, short
from xpdl.onnx.steps import Row, Step

#: of an array in NumPy
MOST_AXES = 64

_DOMAINS = {"": "", "ai.onnx": ""}


class Node:
    """A node; its attributes are checked to have the type that is asked for."""

    def __init__(self, proto: NodeProto, number: int, opset: int) -> None:
        domain = _DOMAINS.get(proto.domain, f"{proto.domain}.")
        self.kind = f"{domain}{proto.op_type}"
        self.label = f"node {short(proto.name) if proto.name else number} ({self.kind[:60]})"
        self.inputs, self.outputs = list(proto.input), list(proto.output)
        self.opset = opset
        self._attributes = {one.name: one for one in proto.attribute}

    def has(self, name: str) -> bool:
        """Return whether an attribute is given."""
        return name in self._attributes

    def integer(self, name: str, default: int) -> int:
        """Return an attribute that is an integer."""
        return int(self._get(name, AttributeProto.INT, "i", default))

    def number(self, name: str, default: float) -> float:
        """Return an attribute that is a float32, as the shortest decimal that rounds to it."""
        value = self._get(name, AttributeProto.FLOAT, "f", None)
        return default if value is None else decimal(value)

    def integers(self, name: str, default: tuple[int, ...] = ()) -> tuple[int, ...]:
        """Return an attribute that is a list of integers."""
        return tuple(self._get(name, AttributeProto.INTS, "ints", default))

    def numbers(self, name: str) -> tuple[float, ...]:
        """Return an attribute that is a list of floats."""
        return tuple(self._get(name, AttributeProto.FLOATS, "floats", ()))

    def text(self, name: str, default: str) -> str:
        """Return an attribute that is a string."""
        value = self._get(name, AttributeProto.STRING, "s", default.encode())
        return str(value, "utf-8", "replace")

    def texts(self, name: str) -> list[str]:
        """Return an attribute that is a list of strings."""
        return [str(one, "utf-8", "replace") for one in self._get(name, AttributeProto.STRINGS, "strings", ())]

    def tensor(self, name: str) -> TensorProto:
        """Return an attribute that is a tensor."""
        value: TensorProto = self._get(name, AttributeProto.TENSOR, "t", TensorProto())
        return value

    def text_of_attributes(self) -> bytes:
        """Return all attributes as bytes that are equal where those are."""
        return b"".join(self._attributes[name].SerializeToString() for name in sorted(self._attributes))

    def _get(self, name: str, kind: int, field: str, default: Any) -> Any:
        if name not in self._attributes:
            return default
        if self._attributes[name].type != kind:
            raise Damaged(f"{self.label}: the attribute {name} has another type than the operator says")
        return getattr(self._attributes[name], field)


def decimal(value: float) -> float:
    """Return the shortest decimal that rounds to the same float32: 1e-6, and not 9.99999997e-07."""
    return float(str(np.float32(value)))


#: stand in the axes of a `Signal` for the axis of the rows, and for one of size 1 that xpdl does not have
BATCH, ONE = -2, -1


@dataclasses.dataclass(frozen=True)
class Signal:
    """A value that depends on the input.

    Attributes
    ----------
    step : Step
        The layer that computes it.
    axes : tuple of int
        For each axis in the file, the axis of a row in xpdl, `BATCH` or `ONE`. Where the file has one row alone, there is
        no `BATCH`.
    order : int array, optional
        For each feature of a row in the file, its place in a row in xpdl, where that is another.
    """

    step: Step
    axes: tuple[int, ...]
    order: HostArray | None = None

    @property
    def row(self) -> Row:
        """Sizes of a row in the file."""
        return tuple(self.size(axis) for axis in self.axes if axis != BATCH)

    @property
    def real(self) -> list[int]:
        """Axes of a row in xpdl, in the order of the file."""
        return [axis for axis in self.axes if axis >= 0]

    @property
    def is_plain(self) -> bool:
        """Return whether batches in the file and in xpdl are the same, or rows where the file has one alone."""
        return self.is_arranged and self.axes in ((BATCH, *self.real), tuple(self.real))

    @property
    def is_arranged(self) -> bool:
        """Return whether the axes of rows are the same in the file and in xpdl, wherever that of the batch is."""
        return self.order is None and ONE not in self.axes and self.real == [*range(len(self.step.shape))]

    def size(self, axis: int) -> int | None:
        """Return the size of one of `axes`; None where it is not known."""
        return 1 if axis == ONE else None if axis == BATCH else self.step.shape[axis]

    def place(self, axis: int, owner: str) -> int:
        """Return an axis that a node counts from either end as one of `axes`."""
        if not -len(self.axes) <= axis < len(self.axes):
            raise Damaged(f"{owner}: axis={axis} is none of {len(self.axes)}")
        return self.axes[axis]


class Sizes(NamedTuple):
    """A value computed from the shape of another: integers, None for the number of rows."""

    values: tuple[int | None, ...]
    is_scalar: bool = False


class Filled(NamedTuple):
    """A constant of one value everywhere, as many as there are rows."""

    value: float


class Missing(NamedTuple):
    """A value that is not there for want of a layer: why, for each node that it is owed to."""

    problems: tuple[str, ...]


# Damaged names what contradicts itself, Unmapped what has no layer
Given: TypeAlias = "Signal | Sizes | Filled | HostArray | None"


def signal(value: Given, what: str = "input") -> Signal:
    """Return a value that depends on the input of the model."""
    if not isinstance(value, Signal):
        raise Unmapped(f"it takes {_kind_of(value)} as its {what}")
    return value


def constant(value: Given, what: str) -> HostArray:
    """Return a value that is a constant."""
    if not isinstance(value, np.ndarray):
        cure = "store it as an initializer of the file" if isinstance(value, Signal) else ""
        raise Unmapped(f"it takes {_kind_of(value)} as its {what}, and layers have constants there", cure)
    return value


def sizes(value: Given, what: str) -> tuple[int | None, ...]:
    """Return a value that is a list of integers: a constant, or computed from a shape."""
    if isinstance(value, Sizes):
        return value.values
    array = constant(value, what)
    if array.dtype.kind not in "iu" or array.ndim > 1 or array.size > MOST_AXES:
        raise Damaged(f"the {what} of a node is no list of integers but {array.dtype} {array.shape[:8]}")
    return tuple(int(one) for one in array.reshape(-1))


def integers(value: Given, what: str) -> tuple[int, ...]:
    """Return a value that is a list of integers, none of which depends on the number of rows."""
    found = sizes(value, what)
    if None in found:
        raise Unmapped(f"its {what} depends on the number of rows")
    return tuple(size for size in found if size is not None)


def _kind_of(value: Given) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, Signal):
        return "a value computed from the input of the model"
    return (
        "the shape of a value"
        if isinstance(value, Sizes)
        else "a constant for each row"
        if isinstance(value, Filled)
        else "a constant"
    )
