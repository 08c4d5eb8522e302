"""Times of training steps on a GPU, in rounds that alternate between what is compared.

``python -m xpdl.bench.gpu_steps PART NET SIZE:PRECISION...`` prints a line of JSON for each measurement as soon as it is
made, and ``... rates PRECISION...`` for the rates of the device: processes of their own, which the report ends when its
time is over.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from xpdl.backends import Backend, make_backend, use
from xpdl.backends.cupy import trace
from xpdl.backends.device_info import free_cached_memory, synchronizer
from xpdl.backends.numerics import PRECISIONS, numerics
from xpdl.bench import roofline, torch_peer
from xpdl.bench.device_rates import Rates, measure_rates
from xpdl.bench.gpu_utilization import gpu_utilization
from xpdl.bench.nets import NETS, Shape, resnet
from xpdl.bench.step_cost import Cost, least_cost
from xpdl.bench.timing import alternating, prepared, task_call, warmed
from xpdl.errors import BackendError
from xpdl.models import Sequential
from xpdl.optimizers import Adam
from xpdl.training import MixedPrecision, Trainer

Call = Callable[[], Any]

#: net, with how it is made and the shape of its rows -> batch sizes
CASES: dict[str, tuple[Callable[[], Sequential], Shape, tuple[int, ...]]] = {
    **{name: (*NETS[name], (100, 1000)) for name in ("TwoLayerNet", "MLP", "SimpleConvNet", "DeepConvNet")},
    "ResNet18": (lambda: resnet((64, 128, 256, 512)), (3, 32, 32), (128, 512)),
}

#: precisions of rows beside those of `xpdl.numerics`: mixed, with float32 parameters
HALVES = ("float16", "bfloat16")
ALL_PRECISIONS = (*PRECISIONS, *HALVES)

#: steps of ``Trainer(..., compile=True)``
CAPTURED = "xpdl captured"

#: part of the report -> what PyTorch is there, each with (compiled, channels_last)
PEERS = {
    "eager": {"torch": (False, False), "torch channels_last": (False, True)},
    "compiled": {"torch compiled": (True, False)},
}

_BACKEND = "cupy"


@dataclasses.dataclass(frozen=True)
class Effort:
    """Seconds of a round at least, beside which the clock is exact, rounds, and sizes for the rates of the device."""

    seconds: float
    rounds: int
    side: int
    megabytes: int


FULL = Effort(seconds=0.1, rounds=7, side=8192, megabytes=1024)
#: to see that everything runs; the figures are worth nothing
SHORT = Effort(seconds=1e-9, rounds=1, side=16, megabytes=1)


@dataclasses.dataclass(frozen=True)
class Measurement:
    """One net at one batch size and precision; what was not measured is None, and a note says why.

    Attributes
    ----------
    part : {"eager", "compiled"}
        What PyTorch it is compared with.
    milliseconds : dict
        Median of a step, for ``"xpdl"``, ``"xpdl captured"``, and the names of `PEERS`, from the same rounds.
    least : Cost
        See `xpdl.bench.step_cost.least_cost`.
    kernels : list of dict
        See `xpdl.bench.roofline.totals`; of an uncaptured step.
    utilization : float, optional
        See `xpdl.bench.gpu_utilization`; of uncaptured steps.
    notes : list of str
    """

    part: str
    net: str
    batch_size: int
    precision: str
    milliseconds: Mapping[str, float | None]
    least: Cost
    kernels: Sequence[Mapping[str, Any]] = ()
    utilization: float | None = None
    notes: Sequence[str] = ()

    @property
    def key(self) -> tuple[str, str, int, str]:
        return self.part, self.net, self.batch_size, self.precision

    def ratio(self, to: str, of: str = "xpdl") -> float | None:
        """Step time of `of` by that of `to`; below 1 is faster."""
        ours, theirs = self.milliseconds.get(of), self.milliseconds.get(to)
        return None if ours is None or theirs is None else ours / theirs


def measure(
    part: str,
    net: str,
    batch_size: int,
    precision: str,
    *,
    backend: Backend,
    synchronize: Callable[[], None],
    effort: Effort = FULL,
    to_device: Callable[[Any, str, bool], Any] = torch_peer.to_device,
    utilization: Callable[[Call], float | None] = lambda call: None,
) -> Measurement:
    """Time a training step here and in the PyTorch of `part`.

    Parameters
    ----------
    part : {"eager", "compiled"}
    net : str
        A key of `CASES`.
    precision : str
        One of `xpdl.numerics`, or of `HALVES`.
    backend : Backend
    synchronize : function
        Waits for the device.
    effort : Effort
    to_device : function of module, precision, compiled
        Moves the net of PyTorch to where it computes.
    utilization : function of a step
        Measures the share of time in which the GPU computes.
    """
    half = precision in HALVES
    build, shape, _ = CASES[net]
    notes = []

    def finish(_: Any) -> None:
        synchronize()

    with use(backend.xp, device=backend.device, dtype=backend.dtype):
        network, x, t = prepared(build, shape, batch_size)
        again = prepared(build, shape, batch_size)
    calls: dict[str, Call] = {"xpdl": training_step(network, x, t, precision)}
    captured, problem = _captured(*again, precision, synchronize)
    if captured is not None:
        calls[CAPTURED] = captured
    if problem:
        notes.append(f"captured: {problem}")
    for name, (compiled, channels_last) in PEERS[part].items() if torch_peer.is_installed() else ():
        if channels_last and len(shape) != 3:
            continue
        try:
            module = to_device(torch_peer.peer(network, 1, channels_last), precision, compiled)
            calls[name] = torch_peer.stepper(module, x, t, channels_last, precision if half else None)
            warmed(calls[name], finish)
        except Exception as error:  # a compiler of another project: whatever it raises, the rest is measured
            calls.pop(name, None)
            notes.append(f"{name}: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
    starts = {name: functools.partial(lambda call: call, call) for name, call in calls.items()}
    times = alternating(starts, effort.rounds, seconds=effort.seconds, pause=0.0, finish=finish)
    names = ("xpdl", CAPTURED, *PEERS[part])
    size = backend.float(0).itemsize
    least = least_cost(network, shape, batch_size, size // 2 if half else size, size)
    kernels: list[dict[str, Any]] = []
    share = None
    if part == "eager":
        kernels = [dataclasses.asdict(total) for total in roofline.totals(traced(calls["xpdl"]))]
        share = utilization(calls["xpdl"])
    medians = {name: 1e3 * statistics.median(times[name]) if name in times else None for name in names}
    return Measurement(part, net, batch_size, precision, medians, least, kernels, share, notes)


def traced(call: Call) -> list[trace.Call]:
    """Trace the kernel launches of one `call`."""
    with trace.traced() as calls:
        call()
    return calls


def computing(precision: str) -> AbstractContextManager[Any]:
    """The setting of products of float32 for a precision; the halves are independent of it."""
    return numerics(precision=None if precision in HALVES else precision)


def _captured(
    network: Sequential, x: Any, t: Any, precision: str, synchronize: Callable[[], None]
) -> tuple[Call | None, str]:
    """A step that is captured, or None and why; other libraries than CuPy have none, which is no reason to name."""
    options: dict[str, Any] = {"mini_batch_size": x.shape[0], "optimizer": Adam(), "verbose": False}
    if precision in HALVES:
        options["precision"] = precision
    try:
        trainer = Trainer(network, x, t, x, t, compile=True, **options)
    except BackendError:
        return None, ""

    def make_step() -> None:
        trainer.step(x, t)

    try:
        warmed(make_step, lambda _: synchronize())
    except (MemoryError, RuntimeError) as error:  # it takes more memory, and the rest is measured without it
        return None, f"{type(error).__name__}: {' '.join(str(error).split())}"
    problem = getattr(trainer.step, "problem", None)
    return (make_step, "") if problem is None else (None, problem)


def training_step(network: Sequential, x: Any, t: Any, precision: str = "highest") -> Call:
    """An uncaptured step with Adam on the batch `x`, `t`."""
    if precision not in HALVES:
        return task_call(network, x, t, "train")
    adam, mixed = Adam(), MixedPrecision(precision)
    return lambda: mixed.update(adam, network.params, mixed.gradient(network, x, t))


def main(argv: Sequence[str]) -> None:
    """``[--short] PART NET SIZE:PRECISION...`` or ``[--short] rates PRECISION...``."""
    effort, argv = (SHORT, argv[1:]) if argv[0] == "--short" else (FULL, argv)
    backend = make_backend(_BACKEND)
    synchronize = synchronizer(backend)
    if argv[0] == "rates":
        for precision in argv[1:]:
            _say({"precision": precision, **dataclasses.asdict(_rates(precision, backend, synchronize, effort))})
        return
    part, net, *cases = argv
    for case in cases:
        size, precision = case.split(":")
        with computing(precision):
            measurement = measure(
                part,
                net,
                int(size),
                precision,
                backend=backend,
                synchronize=synchronize,
                effort=effort,
                utilization=lambda call: gpu_utilization(call, synchronize, backend),
            )
        _say(dataclasses.asdict(measurement))
        free_cached_memory()  # the next case may need all of it


def _rates(precision: str, backend: Backend, synchronize: Callable[[], None], effort: Effort) -> Rates:
    """Halves have one rate; it is measured in float16, which all libraries have under that name."""
    dtype = HALVES[0] if precision in HALVES else None
    with computing(precision):
        return measure_rates(backend, synchronize, side=effort.side, megabytes=effort.megabytes, dtype=dtype)


def _say(document: Mapping[str, Any]) -> None:
    print(json.dumps(document), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
