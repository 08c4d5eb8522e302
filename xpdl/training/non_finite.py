"""Where the first NaN or infinity of a network is."""

from __future__ import annotations

from typing import Any

from xpdl.backends.namespaces import Array, array_namespace, is_array, is_floating


def first_non_finite(network: Any, x: Array) -> str:
    """A phrase that names the first layer of `network` with a value that is not finite, for the batch `x`."""
    if not _finite(x):
        return "the input itself holds NaN or infinity"
    for name, layer in dict(getattr(network, "layers", {})).items():
        for key, value in getattr(layer, "params", {}).items():
            if not _finite(value):
                return f"the parameter {key} of layer {name} is the first to hold NaN or infinity"
        x = layer.forward(x)
        if not _finite(x):
            return f"the output of layer {name} is the first to hold NaN or infinity"
    bad = [name for name, value in network.params.items() if not _finite(value)]
    return f"of the parameters {', '.join(bad)} holds NaN or infinity" if bad else "only the loss itself is not finite"


def _finite(x: Any) -> bool:
    if not is_array(x) or not is_floating(x):
        return True
    xp = array_namespace(x)
    return bool(xp.all(xp.isfinite(x)))
