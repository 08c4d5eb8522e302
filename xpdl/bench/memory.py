"""Peak memory of training, here and in PyTorch, each in a process of its own."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import gc
import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from xpdl.backends import use
from xpdl.backends.cpu import buffer_pool as results
from xpdl.backends.numba import loading
from xpdl.bench import torch_peer
from xpdl.bench.sequence_nets import SEQUENCE_NETS, pair_of
from xpdl.bench.timing import ALL_NETS, check_net, prepared_net, task_call
from xpdl.layers import Chain, Layer
from xpdl.ops.checks import positive_int

_STEPS = 3
# Rows of the steps before, of images and of sequences: for fewer, kernels are not compiled, nor loaded.
_FEW_ROWS, _FEW_SEQUENCES = 16, 32
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclasses.dataclass(frozen=True)
class MemoryFigure:
    """Peak memory of training one net.

    Attributes
    ----------
    megabytes : float
        Growth of the resident memory of the process, from before the net and its rows were made, to its peak.
    arrays : float or None
        Megabytes of the rows, the output of every layer, the parameters, their gradients and Adam's two means of these;
        None for a net that is no chain of layers.
    torch_megabytes : float or None
        The growth with the same net in PyTorch.
    """

    net: str
    batch_size: int
    megabytes: float
    arrays: float | None
    torch_megabytes: float | None = None


def memory(net: str, *, batch_size: int = 100, against_torch: bool = False) -> MemoryFigure:
    """Measure three training steps of `net`, after some with few rows for which libraries load what they need.

    Raises
    ------
    ValueError
        If there is no such net.
    OSError
        Where the system does not tell the peak of a process: it takes Linux.
    """
    check_net(net, ALL_NETS)
    positive_int(batch_size, "batch_size", "memory")
    if not _CLEAR.exists():
        raise OSError(f"memory: needs {_CLEAR}, which tells the peak of a process on Linux")
    if loading.problem() is None:
        # a compiler keeps much memory; a process after the first one finds the kernels compiled
        _in_own_process(net, batch_size, "numpy")
    here = _in_own_process(net, batch_size, "numpy")
    other = _in_own_process(net, batch_size, "torch")["megabytes"] if against_torch else None
    return MemoryFigure(net, batch_size, here["megabytes"], here["arrays"], other)


def _in_own_process(net: str, batch_size: int, library: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "xpdl.bench.memory", net, str(batch_size), library]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:]
        raise OSError(f"memory: measuring {net} in a process of its own failed: {' '.join(last)}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _measured(net: str, batch_size: int, library: str) -> dict[str, float | None]:
    with use("numpy"):
        _steps(net, _FEW_SEQUENCES if net in SEQUENCE_NETS else _FEW_ROWS, library)
        _give_back()
        before = _status("VmRSS")
        _CLEAR.write_text("5")  # the peak is from now on
        _steps(net, batch_size, library)
        peak = _status("VmHWM")
        network, x, _ = prepared_net(net, batch_size)
        arrays = _array_bytes(network, x) / 1e6 if isinstance(network, Chain) else None
        return {"megabytes": (peak - before) / 1e6, "arrays": arrays}


def _give_back() -> None:
    """Return to the system what earlier steps have left, or the steps that are measured would begin with it."""
    gc.collect()
    results.clear()
    with contextlib.suppress(AttributeError, OSError):  # other C libraries than GNU's
        ctypes.CDLL(None).malloc_trim(0)


def _steps(net: str, batch_size: int, library: str) -> None:
    network, x, t = prepared_net(net, batch_size)
    if library == "numpy":
        step: Callable[[], Any] = task_call(network, x, t, "train")
    elif library == "torch":
        step = torch_peer.stepper(torch_peer.peer(network, 2), *pair_of(net, x, t))
        # PyTorch has its own
        del network, x
    else:
        raise ValueError(f"unknown library {library!r}")
    for _ in range(_STEPS):
        step()


def _array_bytes(network: Any, x: Any) -> int:
    """Of the rows, the outputs of layers, and four arrays for each parameter."""
    params = network.params.values()
    outputs = len(x) * next(iter(params)).itemsize * _values(network, tuple(x.shape[1:]))
    return int(x.nbytes + outputs + 4 * sum(p.nbytes for p in params))


def _values(layer: Layer, shape: tuple[int, ...]) -> int:
    """Count the values per row of `shape` in the outputs of `layer` and of the layers inside it."""
    inside: list[Layer] = [child for _, child in getattr(layer, "children", lambda: ())()]
    if not isinstance(layer, Chain):
        return math.prod(layer.output_shape(shape)) + sum(_values(child, shape) for child in inside)
    total = 0
    for child in inside:
        total += _values(child, shape)
        shape = child.output_shape(shape)
    return total


def _status(key: str) -> int:
    """Bytes, from the kilobytes that the system gives."""
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(f"{key}:"))
    return 1024 * int(line.split()[1])


if __name__ == "__main__":
    print(json.dumps(_measured(sys.argv[1], int(sys.argv[2]), sys.argv[3])))
