"""Nodes of a network with branches: what layers give when they are called with other nodes instead of arrays."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from numbers import Integral
from typing import Any

from xpdl.errors import ShapeError
from xpdl.ops.checks import sizes

Shape = tuple[int, ...]


class Node:
    """A batch of values that a network will compute: one of its inputs, or an output of a layer.

    Attributes
    ----------
    shape : tuple of int or None
        Of one row; None where the layer knows it only once it is built.
    call : Call or None
        The call of a layer that computes it; None of an input.
    """

    def __init__(self, shape: Shape | None, call: Call | None = None) -> None:
        self.shape, self.call = shape, call

    def __repr__(self) -> str:
        source = "input" if self.call is None else f"output of {self.call.layer.name}"
        return f"<{source} {'of unknown shape' if self.shape is None else self.shape}>"


class Input(Node):
    """An input of a `Graph`.

    Parameters
    ----------
    shape : sequence of int
        Of one row, without the batch axis: ``(784,)`` or ``(1, 28, 28)``; ``()`` for one number a row.
    name : str, optional
        The key of this input in a dict of arrays; by default ``x``, or ``x1``, ``x2``, ... of several.

    Raises
    ------
    ShapeError
        If `shape` holds anything but positive ints.

    Examples
    --------
    >>> x = Input((4,))
    >>> y = Affine(units=3)(Relu()(x))
    >>> y.shape
    (3,)
    """

    def __init__(self, shape: Sequence[int], name: str | None = None) -> None:
        if not (name is None or (isinstance(name, str) and name)):
            raise TypeError(f"Input: name must be a string, got {name!r}")
        super().__init__(sizes(shape, "shape", "Input"))
        self.name = name


class Call:
    """A layer called with nodes.

    Attributes
    ----------
    layer : Layer
    inputs, outputs : tuple of Node
    name : str or None
        That the call asked for.
    """

    def __init__(self, layer: Any, inputs: tuple[Node, ...], name: str | None) -> None:
        self.layer, self.inputs, self.name = layer, inputs, name
        self.outputs: tuple[Node, ...] = ()


class CalledWithNodes:
    """The call of a layer: with arrays, or with nodes while a graph is put together."""

    name: str
    forward: Any

    def __call__(self, *inputs: Any, name: str | None = None) -> Any:
        """`forward` of arrays; of nodes, the node that stands for the output in a `Graph`.

        Parameters
        ----------
        *inputs : array or Node
            Nodes are what `xpdl.Input` and calls with nodes return.
        name : str, optional
            Of the layer in the graph; by default its class and number, ``Affine1``.

        Raises
        ------
        TypeError
            If arrays and nodes are mixed, `forward` takes another number of inputs, or there is a name for arrays.
        ShapeError
            If rows of the nodes' shapes do not fit the layer.
        """
        if any(isinstance(one, Node) for one in inputs):
            return call(self, inputs, name)
        listed = [one for one in inputs if isinstance(one, (list, tuple)) and any(isinstance(x, Node) for x in one)]
        if listed:
            raise TypeError(
                f"{self.name}: expected nodes as arguments, got a {type(listed[0]).__name__} of them; pass them one by one, "
                "with a star in front: *nodes"
            )
        if name is not None:
            raise TypeError(f"{self.name}: name={name!r} is for a layer that is called with nodes; leave it out")
        return self.forward(*inputs)


def call(layer: Any, inputs: tuple[Any, ...], name: str | None) -> Any:
    """Return the node, or the tuple or dict of nodes, that `layer` gives for nodes.

    Raises
    ------
    TypeError
        If arrays stand among the nodes, or the layer takes another number of inputs.
    ShapeError
        If the layer cannot take rows of these shapes.
    """
    odd = [one for one in inputs if not isinstance(one, Node)]
    if odd:
        raise TypeError(
            f"{layer.name}: expected nodes alone or arrays alone, got a {type(odd[0]).__name__} beside a node; make an "
            "Input for what comes as data"
        )
    _require_count(layer, len(inputs))
    made = Call(layer, inputs, name)
    shapes = [node.shape for node in inputs]
    known = [shape for shape in shapes if shape is not None]
    # an unbuilt layer with layers of its own inside runs them on zeros to tell
    if len(known) < len(shapes) or any(one.holds_layers and not one.built for one in layer.tree()):
        shape: Any = None
    else:
        try:
            shape = layer.output_shape(*arguments(layer, known))
        except ShapeError as error:
            raise ShapeError(f"{error}; called with {', '.join(map(repr, inputs))}") from None
    made.outputs = tuple(Node(one, made) for one in parts(shape))
    return in_form_of(shape, made.outputs)


def calls_before(nodes: Sequence[Node]) -> list[Call]:
    """Return the calls that `nodes` come from, each behind those that its inputs come from.

    Raises
    ------
    ValueError
        If a node needs itself.
    """
    order: list[Call] = []
    state: dict[Call, bool] = {}  # whether all calls before it are in `order`
    # not by recursion: a deep network has more layers than Python has frames
    waiting = [node.call for node in reversed(nodes) if node.call is not None]
    while waiting:
        one = waiting[-1]
        if one not in state:
            state[one] = False
            before = [node.call for node in one.inputs if node.call is not None]
            if any(state.get(other) is False for other in before):
                raise ValueError(f"Graph: the layer {one.layer.name} needs its own output; a graph has no cycles")
            waiting += [other for other in reversed(before) if other not in state]
        else:
            waiting.pop()
            if not state[one]:
                state[one] = True
                order.append(one)
    return order


def arguments(layer: Any, values: Sequence[Any]) -> tuple[Any, ...]:
    """Return the arguments of a pass of `layer` for the values of its inputs."""
    return (tuple(values),) if layer.takes_tuple and len(values) > 1 else tuple(values)


def is_several(value: Any) -> bool:
    """Return whether `value` is a tuple or dict of several arrays or shapes; a shape by itself is a tuple of ints."""
    if isinstance(value, tuple):
        return len(value) > 0 and not (value[0] is None or isinstance(value[0], Integral))
    return isinstance(value, Mapping)


def parts(value: Any) -> tuple[Any, ...]:
    """Return the arrays or shapes of a tuple or dict of several, or the only one."""
    if not is_several(value):
        return (value,)
    return tuple(value.values() if isinstance(value, Mapping) else value)


def in_form_of(value: Any, given: Sequence[Any]) -> Any:
    """Return `given`, one for each of the `parts` of `value`, in the form that `value` has."""
    if isinstance(value, Mapping):
        return dict(zip(value, given, strict=True))
    return tuple(given) if is_several(value) else given[0]


def in_order(value: Any, names: Sequence[str], owner: str, what: str) -> list[Any]:
    """Return the arrays or shapes of a tuple, list or dict in the order of `names`; of one name, the value itself.

    Raises
    ------
    TypeError, ValueError
        If `value` has other names, or more or fewer parts.
    """
    listed = ", ".join(map(repr, names))
    if isinstance(value, Mapping):
        if set(value) != set(names):
            raise ValueError(f"{owner}: {what} must be a dict of {listed}, got one of {', '.join(map(repr, value))}")
        return [value[name] for name in names]
    if len(names) == 1:
        return list(value) if is_several(value) and len(value) == 1 else [value]
    if not isinstance(value, (tuple, list)):
        raise TypeError(
            f"{owner}: {what} must be a tuple or dict of {len(names)} ({listed}), got {type(value).__name__}"
        )
    if len(value) != len(names):
        raise ValueError(f"{owner}: {what} must be {len(names)} ({listed}), got {len(value)}")
    return list(value)


def input_counts(layer: Any) -> tuple[int, float]:
    """Return the least and the largest number of inputs that ``layer.forward`` takes."""
    if layer.takes_tuple:
        return len(layer.inputs), len(layer.inputs)
    least, most = 0, 0.0
    for parameter in _positional(layer):
        if parameter.kind is parameter.VAR_POSITIONAL:
            least, most = max(least, 1), float("inf")
        else:
            least, most = least + (parameter.default is parameter.empty), most + 1
    return least, most


def _positional(layer: Any) -> Iterator[inspect.Parameter]:
    kinds = inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.VAR_POSITIONAL
    found = {one.name: one for one in inspect.signature(layer.forward).parameters.values() if one.kind in kinds}
    if layer.accepts_train_flg:
        del found["train_flg" if "train_flg" in found else list(found)[1]]
    yield from found.values()


def _require_count(layer: Any, count: int) -> None:
    least, most = input_counts(layer)
    if not least <= count <= most:
        wanted = (
            f"{least}" if least == most else f"at least {least}" if most == float("inf") else f"{least} to {most:g}"
        )
        raise TypeError(f"{layer.name}: takes {wanted} input{'s' * (wanted != '1')}, got {count} nodes")
