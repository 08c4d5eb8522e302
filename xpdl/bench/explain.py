"""Explanation of a training step: which code computes each layer and pass, and why."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from xpdl.backends import decisions, registry, use
from xpdl.backends.cpu.choose_algorithm import Algorithm, Case, reason
from xpdl.backends.cpu.thread_pool import thread_count
from xpdl.bench.nets import NETS
from xpdl.bench.timing import prepared, task_call, wait
from xpdl.layers import Chain
from xpdl.layers.base import Layer, Shape
from xpdl.layers.composite import Composite
from xpdl.layers.fusion import FusedStep
from xpdl.models import Sequential, load_model


class Choice(NamedTuple):
    """The code that computed an op.

    Attributes
    ----------
    layer, direction : str
        The layer, or the neighbours that are computed as one, and ``"forward"`` or ``"backward"``.
    op : str
    kernels : str
        ``"numba"``, ``"numpy"`` or another group of kernels, or ``"generic"`` for the op itself.
    algorithm : str
        Of a convolution, with the pass that it computes; empty for other ops.
    tasks : int
        That threads share; 1 where none do.
    reason : str
    """

    layer: str
    direction: str
    op: str
    kernels: str
    algorithm: str
    tasks: int
    reason: str


def explain(model: str, *, backend: str = "numpy", batch_size: int = 100) -> list[Choice]:
    """Return the choices in one training step of a net of `NETS` or of a file, in the order in which they were made."""
    build, shape = _net(model)
    with use(backend):
        network, x, t = prepared(build, shape, batch_size)
    step = task_call(network, x, t, "train")
    wait(step())  # compiled kernels are loaded now
    listener = _Listener()
    for name, layer in _steps(network):
        for direction, methods in (("forward", ("forward",)), ("backward", ("backward", "backward_parameters"))):
            for method in methods:
                _watch(layer, method, listener, name, direction)
    with decisions.listening(listener):
        step()
    return list(dict.fromkeys(listener.choices))


def explain_text(model: str, choices: list[Choice], *, backend: str, batch_size: int) -> str:
    """The choices as lines for people, those of a layer together."""
    lines = [f"{model}, batch {batch_size}, {backend}, {thread_count()} threads"]
    before = None
    for choice in choices:
        here = f"{choice.layer}, {choice.direction}"
        lines += [here] if here != before else []
        before = here
        what = f"{choice.kernels}, {choice.algorithm}" if choice.algorithm else choice.kernels
        tasks = "1 task" if choice.tasks == 1 else f"{choice.tasks} tasks"
        lines.append(f"  {choice.op}: {what}, {tasks}")
        lines += [f"    {choice.reason}"] if choice.reason else []
    return "\n".join(lines)


def _net(model: str) -> tuple[Callable[[], Sequential], Shape]:
    if model in NETS:
        return NETS[model]
    if not Path(model).exists():
        raise ValueError(f"bench: no net and no file is called {model!r}; the nets are {', '.join(NETS)}")
    network = load_model(model)
    if not isinstance(network, Sequential):
        raise ValueError(
            f"bench: {model} is a {type(network).__name__}, whose layers are not in a row; explain a Sequential"
        )
    if network.input_shape is None:
        raise ValueError(f"bench: {model} does not say the shape of its input; save the model after it was built")
    return lambda: network, network.input_shape


class _Listener:
    """Collects decisions until the op is computed that they belong to."""

    def __init__(self) -> None:
        self.choices: list[Choice] = []
        self.place = ("optimizer", "update")
        self.cases: list[tuple[Case, Algorithm]] = []
        self.tasks = 1

    def __call__(self, kind: str, *decision: Any) -> None:
        if kind == "algorithm":
            case, algorithm = decision
            self.cases.append((case, algorithm))
        elif kind == "tasks":
            self.tasks = max(self.tasks, decision[0])
        else:
            self._computed(*decision)

    def _computed(self, op: str, function: Callable[..., Any], kernels: tuple[Callable[..., Any], ...]) -> None:
        for case, algorithm in self.cases:
            what = f"{case.passes} by {algorithm.name}"
            self.choices.append(Choice(*self.place, op, algorithm.kernels, what, self.tasks, reason(case)))
        if not self.cases:
            groups = [registry.group_of(kernel) or "unregistered" for kernel in kernels]
            before = kernels.index(function) if function in kernels else len(kernels)
            kind = groups[before] if before < len(kernels) else "generic"
            declined = " and ".join(groups[:before])
            why = f"declined by {declined}" if declined else "" if kernels else "no kernels"
            self.choices.append(Choice(*self.place, op, kind, "", self.tasks, why))
        self.cases, self.tasks = [], 1

    @contextlib.contextmanager
    def inside(self, layer: str, direction: str) -> Iterator[None]:
        outer, self.place = self.place, (layer, direction)
        try:
            yield
        finally:
            self.place = outer


def _steps(network: Composite) -> Iterator[tuple[str, Layer]]:
    """(name, step) of all that computes something, those inside of others after them."""
    for step in network.steps() if isinstance(network, Chain) else (child for _, child in network.children()):
        yield _name(step), step
        for layer in step.layers if isinstance(step, FusedStep) else (step,):
            if isinstance(layer, Composite):
                yield from _steps(layer)
    if isinstance(network, Sequential) and network.last_layer is not None:
        yield type(network.last_layer).__name__, network.last_layer


def _name(step: Layer) -> str:
    return " + ".join(layer.name for layer in (step.layers if isinstance(step, FusedStep) else (step,)))


def _watch(layer: Layer, method: str, listener: _Listener, name: str, direction: str) -> None:
    """Make a method of this one layer say where it is."""
    original: Callable[..., Any] | None = getattr(layer, method, None)
    if original is None:
        return

    def watched(*args: Any, **kwargs: Any) -> Any:
        with listener.inside(name, direction):
            return original(*args, **kwargs)

    setattr(layer, method, watched)
