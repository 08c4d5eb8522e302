"""Search for the first NaN or infinity of a training step, layer by layer."""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from xpdl.backends import asnumpy
from xpdl.backends.namespaces import Array, array_namespace, is_array, is_floating, is_host
from xpdl.data.structure import arrays_of, is_structure
from xpdl.layers.base import Layer
from xpdl.layers.dag import Dag
from xpdl.layers.layerwise import Uses, Visits, backward_by_layer, forward_by_layer, layers_of
from xpdl.layers.nodes import parts
from xpdl.models.base import Model
from xpdl.ops.checks import is_finite
from xpdl.training.precision import loss_scale
from xpdl.training.precision.mixed import MixedPrecision

_IS_FIRST = "is the first to hold NaN or infinity"
#: the answer of `first_non_finite` that finds nothing
FINITE = "every layer by itself is finite, forward and backward: what the network adds to them is not"


def all_finite(arrays: Mapping[str, Any]) -> bool:
    """Return whether all arrays are finite; on a device all are read at once."""
    floating = [a for a in arrays.values() if is_array(a) and is_floating(a)]
    on_device = [a for a in floating if not is_host(a)]
    return all(is_finite(a) for a in floating if is_host(a)) and (
        not on_device or bool(loss_scale.all_finite(on_device))
    )


def read_losses(
    losses: Sequence[Any],
    history: list[float],
    network: Any,
    x: Array,
    t: Array,
    grads: Mapping[str, Array],
    mixed: MixedPrecision | None = None,
    locate: Callable[[Array, Array], str] | None = None,
) -> None:
    """Move the losses of the last steps to the host and append them to `history`, up to one that is not finite.

    Parameters
    ----------
    losses : sequence of arrays () or numbers
    history : list of float
        Has the losses of all steps before.
    network, x, t
        The network, and the batch of the last step.
    grads : mapping of str to array
        Gradients of the last step; empty when it has updated the network already.
    mixed : MixedPrecision, optional
        Who made the passes. Where it scales losses, gradients that are not finite are left to it until its scale is below 1.
    locate : callable, optional
        ``locate(x, t)`` -> the phrase of `first_non_finite`, which is the default.

    Raises
    ------
    FloatingPointError
        If a loss or a gradient is not finite; the message says where that is first seen.
    """
    if losses and is_array(losses[0]) and not is_host(losses[0]):
        losses = list(asnumpy(array_namespace(losses[0]).stack(list(losses))))
    problem, seen = "", ""
    for place, value in enumerate(map(float, losses), 1):
        if not math.isfinite(value):
            later = len(losses) - place
            problem, seen = f"the loss became {value}", f" ({later} steps later)" if later else ""
            break
        history.append(value)
    if not problem and mixed is not None and mixed.scales:
        if mixed.scale < 1:
            problem = (
                f"gradients are not finite in {mixed.dtype}, though the loss was multiplied by {2 * mixed.scale} only"
            )
    elif not problem and not all_finite(grads):
        problem = f"a gradient became NaN or infinite, though the loss is {history.pop()}"
    if problem:
        with contextlib.nullcontext() if mixed is None else mixed.parameters(network):
            rows = x if mixed is None else mixed.rounded(x)
            where = first_non_finite(network, rows, t) if locate is None else locate(rows, t)
        raise FloatingPointError(
            f"Trainer: {problem} at step {len(history) + 1}: {where}{seen}; "
            "lower the learning rate, clip gradients (clip_norm), or look at the data"
        )


def first_non_finite(network: Any, x: Array, t: Array) -> str:
    """A phrase that names the first layer of `network` whose value is not finite in its last step, on the batch `x`, `t`.

    The step is made once more, layer by layer, in training mode and with the same dropout masks: forward, the loss, and
    back. Running statistics and counters are afterwards as they were.
    """
    for name, value in (*arrays_of(x, "the input itself"), *arrays_of(t, "the targets")):
        if not _finite(value):
            return f"{name} {'hold' if name.startswith('the targets') else 'holds'} NaN or infinity"
    # which of its layers several inputs go to, or what the loss makes of them, only the network knows; a batch that is gone
    # cannot be computed with again
    several = is_structure(x) or is_structure(t)
    own_loss = isinstance(network, Model) and type(network).loss is not Model.loss
    unknown = x is None or own_loss or (several and not isinstance(network, Dag))
    layers: Any = [] if unknown else layers_of(network)
    last = getattr(network, "last_layer", getattr(network, "lastLayer", None)) if layers else None
    uses: Uses = {}
    with _one_step_back(layers):
        found = _going_forward(layers, last, x, t, uses) or _going_back(layers, last, uses)
    if found:
        return found
    bad = [name for name, value in network.params.items() if not _finite(value)]
    if bad:
        return f"of the parameters, {', '.join(bad)} holds NaN or infinity"
    return FINITE


def _going_forward(layers: Any, last: Any, x: Any, t: Any, uses: Uses) -> str:
    visits = Visits(forward_by_layer(layers, x, True, saved=uses))
    for path, _, value, params in visits:
        for key, parameter in params.items():
            if not _finite(parameter):
                return f"the parameter {key} of layer {path} {_IS_FIRST}"
        if not _finite(value):
            return f"going forward, the output of layer {path} {_IS_FIRST}"
    if last is not None and not _finite(last.forward(visits.result, t)):
        return f"going forward, the loss of {type(last).__name__} {_IS_FIRST}"
    return ""


def _going_back(layers: Any, last: Any, uses: Uses) -> str:
    if last is None:
        return ""
    dout = last.backward()
    if not all(map(_finite, parts(dout))):
        return f"going back, the gradient that {type(last).__name__} gives {_IS_FIRST}"
    for path, _, dx, grads in backward_by_layer(layers, dout, saved=uses):
        for key, grad in grads.items():
            if not _finite(grad):
                return f"going back, the gradient of the parameter {key} of layer {path} {_IS_FIRST}"
        if not _finite(dx):
            return f"going back, the gradient that layer {path} gives {_IS_FIRST}"
    return ""


@contextlib.contextmanager
def _one_step_back(layers: Any) -> Iterator[None]:
    """Draw the masks of the last step again inside; restore the layers' state afterwards."""
    children = dict(layers.children() if isinstance(layers, Dag) else layers)
    times = Counter(name for name, _, _ in layers.uses) if isinstance(layers, Dag) else Counter(children.keys())
    entries = [
        (times[name], owner, key)
        for name, layer in children.items()
        if isinstance(layer, Layer)
        for _, owner, key in layer.named_state()
    ]
    before = [(owner, key, owner[key]) for _, owner, key in entries]
    for uses, owner, key in entries:
        value = owner[key]
        if isinstance(value, int) and value > 0:
            owner[key] = max(value - uses, 0)
    try:
        yield
    finally:
        for owner, key, value in before:
            owner[key] = value


def _finite(a: Any) -> bool:
    return all_finite({"": a})
