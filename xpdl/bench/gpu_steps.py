"""Times of training steps, in rounds that alternate between what is compared."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

from xpdl.backends import Backend, get_backend, use
from xpdl.backends.random import Stream
from xpdl.bench import torch_peer
from xpdl.bench.nets import NETS, Shape, resnet
from xpdl.bench.roofline import Rates, cost
from xpdl.errors import BackendError
from xpdl.models import Sequential
from xpdl.optimizers import Adam
from xpdl.training import MixedPrecision, Trainer, step
from xpdl.training.accumulation import Accumulated

Call = Callable[[], Any]

#: net, with how it is made and the shape of its rows -> batch sizes
CASES: dict[str, tuple[Callable[[], Sequential], Shape, tuple[int, ...]]] = {
    **{name: (*NETS[name], (100, 1000)) for name in ("TwoLayerNet", "MLP", "SimpleConvNet", "DeepConvNet")},
    "ResNet18": (lambda: resnet((64, 128, 256, 512)), (3, 32, 32), (128, 512)),
}

#: a precision of rows beside those of `xpdl.numerics`
HALF = "float16"

#: steps of ``Trainer(..., capture=True)``; in float16 there are none
CAPTURED = "xpdl captured"

# A measurement lasts at least so long: the clock is exact beside it.
_SECONDS = 0.1
_ROUNDS = 7
_WARM_UP = 5


@dataclasses.dataclass(frozen=True)
class Row:
    """One net at one batch size and precision; what was not measured is None, and `note` says why.

    Attributes
    ----------
    milliseconds : dict
        Median of a step, for ``"xpdl"``, ``"xpdl captured"``, ``"torch"`` (eager) and ``"torch compiled"``.
    floor_milliseconds, flop, bytes
        See `xpdl.bench.roofline`.
    busy : float, optional
        Share of the time in which the GPU computed, in steps of xpdl; see `xpdl.bench.gpu_utilization`.
    """

    net: str
    batch_size: int
    precision: str
    milliseconds: Mapping[str, float | None]
    flop: float
    bytes: float
    floor_milliseconds: float
    note: str = ""
    busy: float | None = None

    def ratio(self, to: str, of: str = "xpdl") -> float | None:
        """Step time of `of` by that of `to`; at most 1 is as quick."""
        ours, theirs = self.milliseconds.get(of), self.milliseconds.get(to)
        return None if ours is None or theirs is None else ours / theirs


def row(
    net: str,
    batch_size: int,
    precision: str,
    *,
    backend: Backend,
    rates: Rates,
    torch_kinds: Mapping[str, bool],
    synchronize: Callable[[], None],
    on_gpu: Callable[[Any, str, bool], Any] = torch_peer.on_gpu,
    busy: Callable[[Call], float | None] = lambda call: None,
) -> Row:
    """Time a training step here and in PyTorch: `torch_kinds` has a name for eager and for compiled, with whether it is.

    `precision` is one of `xpdl.numerics`, or ``"float16"``: mixed, with float32 parameters. `busy` measures that share.
    """
    half = precision == HALF
    calls: dict[str, Call] = {}
    notes = []
    build, shape, _ = CASES[net]
    with use(backend.xp, device=backend.device, dtype=backend.dtype):
        network, x, t = _prepared(build, shape, batch_size)
        again = _prepared(build, shape, batch_size)
    calls["xpdl"] = _step(network, x, t, half)
    captured, problem = (None, "") if half else _captured(*again, synchronize)
    if captured is not None:
        calls[CAPTURED] = captured
    if problem:
        notes.append(f"captured: {problem}")
    size = backend.float(0).itemsize
    least = cost(network, shape, batch_size, size // 2 if half else size, size)
    for name, compiled in torch_kinds.items():
        try:
            calls[name] = torch_peer.stepper(on_gpu(torch_peer.peer(network, 1), precision, compiled), x, t, half=half)
            _warmed(calls[name], synchronize)
        except Exception as error:  # a compiler of another project: whatever it raises, the rest is measured
            calls.pop(name, None)
            notes.append(f"{name}: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
    times = alternating(calls, synchronize)
    names = ("xpdl", CAPTURED, *torch_kinds)
    medians = {name: 1e3 * statistics.median(times[name]) if name in times else None for name in names}
    floor = 1e3 * least.seconds(rates)
    share = busy(calls["xpdl"])
    return Row(net, batch_size, precision, medians, least.flop, least.bytes, floor, "; ".join(notes), share)


def alternating(calls: Mapping[str, Call], synchronize: Callable[[], None]) -> dict[str, list[float]]:
    """Seconds of one call, for each round."""
    repeats = {name: max(1, round(_SECONDS / _warmed(call, synchronize))) for name, call in calls.items()}
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(_ROUNDS):
        for name, call in calls.items():
            begin = time.perf_counter()
            for _ in range(repeats[name]):
                call()
            synchronize()
            times[name].append((time.perf_counter() - begin) / repeats[name])
    return times


def _warmed(call: Call, synchronize: Callable[[], None]) -> float:
    """Seconds of a call after some that compile, allocate and choose algorithms."""
    for _ in range(_WARM_UP):
        call()
    synchronize()
    begin = time.perf_counter()
    call()
    synchronize()
    return time.perf_counter() - begin


def _prepared(build: Callable[[], Sequential], shape: Shape, batch_size: int) -> tuple[Sequential, Any, Any]:
    """A net on the backend in use, and random rows for it."""
    generator, backend = Stream(0, "gpu_report").generator("rows"), get_backend()
    x = backend.asarray(generator.random((batch_size, *shape)))
    t = backend.asarray(generator.integers(0, 10, batch_size))
    network = build()
    network.build(shape)
    return network, x, t


def _captured(network: Sequential, x: Any, t: Any, synchronize: Callable[[], None]) -> tuple[Call | None, str]:
    """A step that is captured, or None and why; other libraries have none, which is no reason to name."""
    options: dict[str, Any] = {"mini_batch_size": x.shape[0], "optimizer": Adam(), "verbose": False}
    try:
        trainer = Trainer(network, x, t, x, t, capture=True, **options)
    except BackendError:
        return None, ""

    def make_step() -> None:
        step.make(trainer, x, t, Accumulated(1))

    try:
        _warmed(make_step, synchronize)
    except (MemoryError, RuntimeError) as error:  # it takes more memory, and the rest is measured without it
        return None, f"{type(error).__name__}: {' '.join(str(error).split())}"
    problem = trainer.captured.problem if trainer.captured else None
    return (make_step, "") if problem is None else (None, problem)


def _step(network: Sequential, x: Any, t: Any, half: bool) -> Call:
    adam, mixed = Adam(), MixedPrecision(HALF)

    def whole_step() -> None:
        adam.update(network.params, network.gradient(x, t))

    def half_step() -> None:
        mixed.update(adam, network.params, mixed.gradient(network, x, t))

    return half_step if half else whole_step
