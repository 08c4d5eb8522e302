"""Profile of a training step, layer by layer."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from xpdl.backends import use
from xpdl.bench.nets import NETS
from xpdl.bench.timing import prepared, task_call, wait
from xpdl.layers.base import Layer
from xpdl.layers.fusion import FusedStep


def profile(
    net: str, *, backend: str = "numpy", batch_size: int = 100, steps: int = 10
) -> list[tuple[str, float, float]]:
    """Milliseconds of each layer in a training step of `net`, forward and backward; the last row is the whole step.

    On a device that works while the host goes on, a layer is waited for, so the sum is more than a step takes otherwise.
    """
    with use(backend):
        network, x, t = prepared(*NETS[net], batch_size)
    step = task_call(network, x, t, "train")
    wait(step())
    spent: dict[str, list[float]] = {}
    layers = {_name(part): part for part in network.steps()}
    if network.last_layer is not None:
        layers[type(network.last_layer).__name__] = network.last_layer
    for name, layer in layers.items():
        spent[name] = [0.0, 0.0]
        for which, methods in enumerate((("forward",), ("backward", "backward_parameters"))):
            for method in methods:
                _time(layer, method, spent[name], which)
    start = time.perf_counter()
    for _ in range(steps):
        wait(step())
    whole = time.perf_counter() - start
    rows = [(name, 1e3 * forward / steps, 1e3 * backward / steps) for name, (forward, backward) in spent.items()]
    inside = sum(forward + backward for _, forward, backward in rows)
    return [*rows, ("optimizer and rest", 1e3 * whole / steps - inside, 0.0), ("whole step", 1e3 * whole / steps, 0.0)]


def _name(step: Layer) -> str:
    """Of the layer in the net, or of the layers that are computed as one."""
    layers = step.layers if isinstance(step, FusedStep) else (step,)
    return " + ".join(layer.name for layer in layers)


def _time(layer: Layer, method: str, spent: list[float], which: int) -> None:
    """Make a method of this one layer add its time to ``spent[which]``."""
    if not hasattr(layer, method):
        return
    original: Callable[..., Any] = getattr(layer, method)
    depth = [0]

    def timed(*args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        depth[0] += 1
        try:
            result = original(*args, **kwargs)
            wait(result)
            return result
        finally:
            depth[0] -= 1
            if not depth[0]:
                spent[which] += time.perf_counter() - start

    setattr(layer, method, timed)
