"""Timing, in rounds that alternate between what is compared, so that a slow spell of the machine strikes all alike."""

from __future__ import annotations

import dataclasses
import functools
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from xpdl.backends import get_backend, use
from xpdl.backends.cpu.thread_pool import thread_count
from xpdl.backends.namespaces import is_host
from xpdl.backends.random import Stream
from xpdl.bench import jax_peer, torch_peer
from xpdl.bench.nets import NETS, Shape
from xpdl.bench.peak import peak_megabytes
from xpdl.bench.sequence_nets import SEQUENCE_NETS, pair_of, prepared_sequences
from xpdl.models import Sequential
from xpdl.ops.checks import positive_int
from xpdl.optimizers import Adam

# One measurement lasts at least so long: the clock and a scheduler's slice are short beside it.
_SECONDS = 0.05
_PAUSE = 0.05
_WARM_UP = 3
#: the same net in PyTorch, among backends, of which one is called torch
PEER = "PyTorch"
#: the same net in plain JAX, compiled, and operator by operator
JAX_PEER, EAGER_JAX_PEER = "JAX", "JAX eager"
#: what `xpdl` times on arrays of JAX besides eager steps
COMPILED = "jax compiled"

# One step or prediction, and what makes it from the beginning.
Call = Callable[[], Any]
Start = Callable[[], Call]


@dataclasses.dataclass(frozen=True)
class Figure:
    """Measurement of one net on one backend.

    Attributes
    ----------
    milliseconds, fastest, slowest : float
        Median, smallest and largest time of a step, or of a prediction, over the rounds.
    images_per_second : float
    peak_megabytes : float or None
        Most memory that a step on NumPy held at once, beyond what was there before it; None where that cannot be told.
    ratio : float or None
        `milliseconds` by those of the peer in the same rounds; below 1 is faster.
    peer : str or None
        Compared with: PyTorch, or on arrays of JAX plain JAX, where that was asked for.
    """

    net: str
    task: str
    backend: str
    batch_size: int
    milliseconds: float
    fastest: float
    slowest: float
    images_per_second: float
    peak_megabytes: float | None = None
    ratio: float | None = None
    peer: str | None = None


def bench(
    net: str,
    *,
    backends: Sequence[str] = ("numpy",),
    batch_size: int = 100,
    rounds: int = 11,
    task: str = "train",
    against_torch: bool = False,
    against_jax: bool = False,
    processor_time: bool = False,
) -> list[Figure]:
    """Time a training step, or a prediction, of a net on each backend.

    Parameters
    ----------
    net : str
        A key of `NETS`, or of `SEQUENCE_NETS`.
    backends : sequence of str
        Names for `xpdl.use`. With ``"jax"`` come steps that ``compiled_step`` compiles.
    batch_size, rounds : int
    task : {"train", "predict"}
        A step is forward, softmax cross entropy, backward and Adam.
    against_torch : bool
        Also time PyTorch, eager, on the processor, and with its layout ``channels_last`` where images are; with the same
        number of threads, in the same rounds.
    against_jax : bool
        Also time plain JAX with optax's Adam: compiled by `jax.jit`, and, of nets of images, operator by operator. Arrays
        of JAX are compared with these.
    processor_time : bool
        Measure the processor time of all threads, which other programs on a busy machine change less.

    Returns
    -------
    list of Figure

    Raises
    ------
    ValueError
        If there is no such net or task.
    """
    check_net(net, ALL_NETS)
    if task not in ("train", "predict"):
        raise ValueError(f"bench: task must be 'train' or 'predict', got {task!r}")
    positive_int(batch_size, "batch_size", "bench")
    positive_int(rounds, "rounds", "bench")
    starts: dict[str, Start] = {}
    peaks: dict[str, float] = {}
    for name in backends:
        starts[name] = functools.partial(_start, net, name, batch_size, task)
        if name == "numpy":
            peaks[name] = peak_megabytes(starts[name]())
        if name == "jax" and task == "train":
            starts[COMPILED] = functools.partial(_start, net, name, batch_size, "compiled")
    if against_torch:
        of_images = net in NETS and len(NETS[net][1]) == 3
        for peer in (PEER, f"{PEER} channels_last") if of_images else (PEER,):
            starts[peer] = functools.partial(_start_torch, net, peer != PEER, batch_size, task)
    if against_jax:
        # operator by operator, `jax.lax.scan` compiles its loop anew at every call
        for peer in (JAX_PEER,) if net in SEQUENCE_NETS else (JAX_PEER, EAGER_JAX_PEER):
            starts[peer] = functools.partial(_start_jax, net, peer == JAX_PEER, batch_size, task)
    times = alternating(starts, rounds, clock=time.process_time if processor_time else time.perf_counter)
    return [_figure(net, task, name, batch_size, times, peaks.get(name)) for name in times]


def _figure(
    net: str, task: str, name: str, batch_size: int, times: dict[str, list[float]], peak_megabytes: float | None
) -> Figure:
    """Sum up the rounds of one of those that were timed."""
    found, peer = times[name], _peer_of(name, times)
    median = statistics.median(found)
    return Figure(
        net=net,
        task=task,
        backend=name,
        batch_size=batch_size,
        milliseconds=1e3 * median,
        fastest=1e3 * min(found),
        slowest=1e3 * max(found),
        images_per_second=batch_size / median,
        peak_megabytes=peak_megabytes,
        ratio=None if peer is None else median / statistics.median(times[peer]),
        peer=peer,
    )


def _peer_of(name: str, timed: Mapping[str, Any]) -> str | None:
    """Return the peer that a backend, or PyTorch's other layout, is compared with, of those that were timed."""
    if name in (PEER, JAX_PEER, EAGER_JAX_PEER):
        return None
    if JAX_PEER in timed and name == "jax":
        return EAGER_JAX_PEER if EAGER_JAX_PEER in timed else None
    if JAX_PEER in timed and (name == COMPILED or PEER not in timed):
        return JAX_PEER
    return PEER if PEER in timed else None


#: the nets of images and those of sequences
ALL_NETS: Mapping[str, Any] = {**NETS, **SEQUENCE_NETS}


def check_net(net: str, nets: Mapping[str, Any] = NETS) -> None:
    """`ValueError` for a name that is not in `nets`."""
    if net not in nets:
        raise ValueError(f"bench: no net is called {net!r}; there are {', '.join(nets)}")


def prepared(build: Callable[[], Sequential], shape: Shape, batch_size: int) -> tuple[Sequential, Any, Any]:
    """A net for rows of `shape` on the backend in use, and a random batch with labels for it."""
    generator = Stream(0, "bench").generator("rows")
    backend = get_backend()
    x = backend.asarray(generator.random((batch_size, *shape)))
    t = backend.asarray(generator.integers(0, 10, batch_size))
    network = build()
    network.build(shape)
    return network, x, t


def prepared_net(net: str, batch_size: int) -> tuple[Any, Any, Any]:
    """A net of `NETS` or `SEQUENCE_NETS` by its name, with a random batch."""
    return prepared_sequences(net, batch_size) if net in SEQUENCE_NETS else prepared(*NETS[net], batch_size)


def _start(net: str, backend: str, batch_size: int, task: str) -> Call:
    """A call of the task on a new net."""
    with use(backend):
        network, x, t = prepared_net(net, batch_size)
        # of answers with a length of their own, a prediction needs the ids before
        return task_call(network, pair_of(net, x, t)[0] if task == "predict" else x, t, task)


def _start_torch(net: str, channels_last: bool, batch_size: int, task: str) -> Call:
    with use("numpy"):
        network, x, t = prepared_net(net, batch_size)
        x, t = pair_of(net, x, t)
    module = torch_peer.peer(network, thread_count(), channels_last)
    if task == "train":
        return torch_peer.stepper(module, x, t, channels_last)
    return torch_peer.predictor(module, x, channels_last)


def _start_jax(net: str, compiled: bool, batch_size: int, task: str) -> Call:
    with use("numpy"):
        network, x, t = prepared_net(net, batch_size)
        x, t = pair_of(net, x, t)
    peer = jax_peer.Peer(network)
    return peer.stepper(x, t, compiled=compiled) if task == "train" else peer.predictor(x, compiled=compiled)


def task_call(network: Sequential, x: Any, t: Any, task: str) -> Call:
    """A training step with Adam, eager or compiled, or a prediction, on one batch."""
    if task == "predict":
        return lambda: network.predict(x)
    adam = Adam()
    if task == "compiled":
        return functools.partial(network.compiled_step(adam), x, t)

    waits = not is_host(x)

    def step() -> Any:
        adam.update(network.params, network.gradient(x, t))
        # JAX computes the update while its caller goes on
        return [network.last_loss, *network.params.values()] if waits else network.last_loss

    return step


def wait(result: Any) -> None:
    """Reading one value of an array, or of each in a list, waits for a device to finish."""
    for one in result if isinstance(result, list) else [result]:
        if one is not None:
            while getattr(one, "ndim", 0):
                one = one[0, ...]
            float(one)


def alternating(
    starts: Mapping[str, Start],
    rounds: int,
    *,
    seconds: float = _SECONDS,
    pause: float = _PAUSE,
    finish: Callable[[Any], None] = wait,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Time calls in alternating rounds.

    A round starts anew, so that training goes equally far in all: on the same rows again and again, Adam's means of
    gradients that have become zero decay in some 800 steps to subnormal numbers, with which processors are slow.

    Parameters
    ----------
    starts : mapping
        Name -> a function that gives the call to time.
    rounds : int
    seconds : float
        Of a round at least, in repeated calls.
    pause : float
        Seconds before a round: threads of another library, PyTorch's for one, go on spinning for a while after their work.
    finish : callable
        ``finish(result)`` waits for the device.
    clock : callable
        Gives seconds.

    Returns
    -------
    dict
        Name -> seconds of one call, for each round.
    """
    repeats = {name: max(1, round(seconds / warmed(start(), finish))) for name, start in starts.items()}
    times: dict[str, list[float]] = {name: [] for name in starts}
    for _ in range(rounds):
        for name, start in starts.items():
            call = start()
            time.sleep(pause)
            warmed(call, finish)
            begin = clock()
            for _ in range(repeats[name]):
                result = call()
            finish(result)
            times[name].append((clock() - begin) / repeats[name])
    return times


def warmed(call: Call, finish: Callable[[Any], None] = wait) -> float:
    """Seconds of a call after some in which libraries load, compile, allocate and choose algorithms."""
    for _ in range(_WARM_UP):
        finish(call())
    begin = time.perf_counter()
    finish(call())
    return time.perf_counter() - begin
