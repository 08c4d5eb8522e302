"""Layers in a directed acyclic graph."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any, ClassVar

from xpdl.backends.namespaces import Array, on_its_device
from xpdl.layers.dag_steps import Step, steps_of, trained_values
from xpdl.layers.fusion import FusedStep
from xpdl.layers.nodes import Shape, arguments, in_order, parts
from xpdl.layers.saved_uses import Saved, recalled, saved_by
from xpdl.layers.tree import forward_in_mode
from xpdl.layers.wired_layers import WiredLayers
from xpdl.ops.arithmetic import add
from xpdl.ops.checks import flag


class Dag(WiredLayers):
    """Layers in a directed acyclic graph: forward in an order that suits, backward the same order reversed.

    Parameters
    ----------
    inputs : Input, or sequence of Input
    outputs : Node, or sequence or dict of Node
        One array, a tuple or a dict is what `forward` gives.
    fuse : bool
        As in `Sequential`, of layers in a row.

    Attributes
    ----------
    inputs : dict
        Name -> shape of a row.
    layers : dict
        Name -> layer, each once, in the order in which they compute first.
    uses : list of (name, inputs, outputs)
        For each use of a layer the numbers of the values that it takes and gives; the first values are the inputs.
    outputs : dict
        Name -> number of the value.
    form : {"array", "tuple", "dict"}
        In which outputs are given.
    """

    saved_names: ClassVar[tuple[str, ...]] = ("_saved", "_output_shapes")

    def __init__(self, inputs: Any, outputs: Any, *, fuse: bool = True) -> None:
        super().__init__(inputs, outputs)
        self.fuse = flag(fuse, "fuse", self.name)
        self._steps: tuple[Step, ...] = ()
        self._steps_of: list[Any] = []
        self._saved: list[Saved | None] = []
        self._takes_dict = False
        self._output_shapes: list[Shape] | None = None

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "fuse": self.fuse}

    @on_its_device
    def forward(self, x: Any, train_flg: bool | None = None) -> Any:
        """The output, or a tuple or dict of several; `train_flg` stands for the mode of all layers when given."""
        xs = in_order(x, tuple(self.inputs), self.name, "inputs")
        self.require_inputs(xs)
        self.build_for(x)
        self._takes_dict, self._saved = isinstance(x, Mapping), []
        values = dict(enumerate(xs))
        for step in self.steps():
            given = arguments(step.layer, [values[value] for value in step.inputs])
            y = forward_in_mode(step.layer, given[0], train_flg, *given[1:])
            self._saved.append(saved_by(step.layer) if step.is_shared else None)
            values.update(zip(step.outputs, parts(y), strict=True))
            for value in step.spent:
                del values[value]
        self._output_shapes = [tuple(values[value].shape) for value in self.outputs.values()]
        return self.in_form(values)

    @on_its_device
    def backward(self, dout: Any) -> Any:
        """``dx`` in the form of the input for `dout` in that of the output; every layer's gradients are filled on the way.

        Of several outputs, those with a `dout` of None have no part in it.
        """
        gradients = self._walk_back(dout, set(range(len(self.inputs))))
        dxs = [gradients.get(value) for value in range(len(self.inputs))]
        if self._takes_dict:
            return dict(zip(self.inputs, dxs, strict=True))
        return tuple(dxs) if len(dxs) > 1 else dxs[0]

    @on_its_device
    def backward_parameters(self, dout: Any) -> None:
        self._walk_back(dout, set())

    def _walk_back(self, dout: Any, wanted: set[int]) -> dict[int, Array]:
        """Go back through the graph, and return the gradients of the inputs that are `wanted`, by their numbers."""
        steps, douts = self.steps(), self._require_douts(dout)
        needed = wanted | trained_values(steps, wanted)
        gradients: dict[int, Array] = {}
        collect(gradients, tuple(self.outputs.values()), douts, needed)
        gone: set[int] = set()  # layers of which a use has gone back
        for step in reversed(steps):
            saved = self._saved.pop()  # what is done with is freed
            douts = [gradients.pop(value, None) for value in step.outputs]
            if any(one is not None for one in douts):
                need_dx = any(value in needed for value in step.inputs)
                dxs = _back(step, saved, douts, need_dx, again=id(step.layer) in gone)
                collect(gradients, step.inputs, dxs, needed)
                gone.add(id(step.layer))
        return gradients

    def _require_douts(self, dout: Any) -> list[Array | None]:
        shapes = self.require_saved(self._output_shapes if len(self._saved or ()) == len(self.steps()) else None)
        douts = in_order(dout, tuple(self.outputs), f"{self.name}.backward", "gradients")
        for one, shape in zip(douts, shapes, strict=True):
            if one is not None:
                self.require_dout(one, shape)  # of what dtype is for the layers to say
        return douts

    def steps(self) -> tuple[Step, ...]:
        """Return the steps of `forward` in order; layers that are computed as one make a ``FusedStep``."""
        layers = list(self.layers.values())
        # others may have been put into the dict since
        if self._steps_of != [self.fuse, *layers]:
            outputs = set(self.outputs.values())
            self._steps_of, self._steps = [self.fuse, *layers], steps_of(self.uses, self.layers, outputs, self.fuse)
        return self._steps

    def savers(self) -> Iterator[Any]:
        yield from super().savers()
        yield from (step.layer for step in self.steps() if isinstance(step.layer, FusedStep))


def _back(step: Step, saved: Saved | None, douts: list[Array | None], need_dx: bool, again: bool) -> tuple[Any, ...]:
    """Return ``dx`` for each input of a step, nothing without `need_dx`; of a layer with several uses, gradients add up."""
    layer, dout = step.layer, tuple(douts) if len(douts) > 1 else douts[0]
    others = {path: owner[key] for path, owner, key in layer.named_grads()} if again else {}
    with contextlib.nullcontext() if saved is None else recalled(saved):
        dx = layer.backward(dout) if need_dx else layer.backward_parameters(dout)
    for path, owner, key in layer.named_grads():
        if path in others:
            owner[key] = add(owner[key], others[path])
    if not need_dx:
        return (None,) * len(step.inputs)
    dxs = tuple(dx) if isinstance(dx, (tuple, list)) else (dx,)
    return (*dxs, *(None,) * (len(step.inputs) - len(dxs)))  # masks, which come last, have none


def collect(
    gradients: dict[int, Array], values: Sequence[int], dxs: Sequence[Any], needed: Set[int] | None = None
) -> None:
    """Add gradients of `values` to those that have come from other uses of them; of those that are `needed` where given."""
    for value, dx in zip(values, dxs, strict=True):
        if dx is not None and (needed is None or value in needed):
            gradients[value] = add(gradients[value], dx) if value in gradients else dx
