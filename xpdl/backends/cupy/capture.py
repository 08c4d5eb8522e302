"""Steps recorded as a CUDA graph, and repeated by one launch.

While a graph is recorded nothing is computed, and each kernel's arguments are those of all repetitions: what differs between
them lies in device memory, in `device_args` that are filled before each.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import numpy as np

from xpdl.backends.cupy import cublas
from xpdl.backends.cupy.launch import by_value, cupy, empty, launch_elementwise
from xpdl.backends.namespaces import Array
from xpdl.backends.random import mask_keys

Words = tuple[int, ...]

# As in cuda/capture.cu.
DEVICE_ARGS = 64
_VALUES = np.dtype([("value", np.int64, DEVICE_ARGS)])


class _Local(threading.local):
    alike = False
    device_args: _DeviceArgs | None = None


_local = _Local()


def is_alike() -> bool:
    """Return whether kernels are to be those of captured steps."""
    return _local.alike


def is_recording() -> bool:
    """Return whether this thread records a step."""
    return _local.device_args is not None


def number(name: str, value: Any) -> Any:
    """`value`, or while a step is recorded an array (1,) in which each repetition finds its own."""
    device_args = _local.device_args
    return value if device_args is None or not isinstance(value, (int, float)) else device_args.number(name)


def mask_args(words: Words, counter: int) -> Array | None:
    """None, or while a step is recorded an int64 array (2,) in which each repetition finds the keys of its mask."""
    return None if _local.device_args is None else _local.device_args.mask(words, counter)


class _DeviceArgs:
    """Device memory for what differs between repetitions, by what it is."""

    def __init__(self) -> None:
        self.memory = empty((DEVICE_ARGS,), np.int64)
        self.numbers: dict[str, int] = {}
        # of (words, how many masks of them came before in the step)
        self.masks: dict[tuple[Words, int], int] = {}
        self._first: dict[Words, int] = {}
        self.used = 0

    def number(self, name: str) -> Array:
        at = self._place(self.numbers, name, 1)
        return self.memory[at : at + 1].view(np.float64)

    def mask(self, words: Words, counter: int) -> Array:
        before = counter - self._first.setdefault(words, counter)
        at = self._place(self.masks, (words, before), 2)
        return self.memory[at : at + 2]

    def _place(self, places: dict[Any, int], what: Any, size: int) -> int:
        if what not in places:
            if self.used + size > DEVICE_ARGS:
                raise RuntimeError(f"a captured step has room for {DEVICE_ARGS // 2 - 1} dropout masks")
            places[what] = self.used
            self.used += size
        return places[what]

    def fill(self, numbers: Mapping[str, float], counters: Mapping[Words, int]) -> None:
        values = np.zeros(1, _VALUES)
        row = values["value"][0]
        for name, at in self.numbers.items():
            row[at : at + 1].view(np.float64)[0] = numbers[name]
        for (words, before), at in self.masks.items():
            row[at : at + 2] = mask_keys(words, counters[words] + before)
        if self.used:
            # it copies bits: any instance does
            launch_elementwise("capture", "put", "float32", self.used, self.memory, by_value(values))


class Recording:
    """A recorded step: as `xpdl.backends.capture.Recording`."""

    def __init__(self, graph: Any, memory: Any, device_args: _DeviceArgs, result: Any) -> None:
        self.graph, self.device_args, self.result = graph, device_args, result
        # repetitions write to it
        self._memory = memory

    @property
    def numbers(self) -> set[str]:
        return set(self.device_args.numbers)

    @property
    def masks(self) -> set[Words]:
        return {words for words, _ in self.device_args.masks}

    def launch(self, numbers: Mapping[str, float], counters: Mapping[Words, int]) -> None:
        self.device_args.fill(numbers, counters)
        self.graph.launch()


class Recorder:
    """As `xpdl.backends.capture.Recorder`."""

    traces_steps: Literal[False] = False
    # they make plans, compile kernels, and allocate the optimizer state
    warm_up = 3

    def __init__(self, device: Any) -> None:
        self.device = device
        with device:
            # the default stream cannot be captured, nor one that waits for it
            self.stream = cupy().cuda.Stream(non_blocking=True)

    def __deepcopy__(self, memo: dict[int, Any]) -> Recorder:
        return Recorder(self.device)

    @contextlib.contextmanager
    def alike(self) -> Iterator[None]:
        _local.alike = True
        try:
            with self.device:
                yield
        finally:
            _local.alike = False

    def record(self, body: Callable[[], Any]) -> Recording:
        cuda = cupy().cuda
        # of its own: what the graph writes to must not be given to others meanwhile
        pool = cuda.MemoryPool()
        # memory that the default pool caches is not available here, nor is the workspace of uncaptured products
        with self.device:
            cublas.unbind()
            cupy().get_default_memory_pool().free_all_blocks()
        with self.alike():
            device_args = _DeviceArgs()
            with self.stream, cuda.using_allocator(pool.malloc):
                workspace = cublas.bind()
                self.stream.begin_capture()
                _local.device_args = device_args
                try:
                    result = body()
                except BaseException:
                    # that the capture has failed is raised again where it ends
                    with contextlib.suppress(RuntimeError):
                        self.stream.end_capture()
                    raise
                finally:
                    _local.device_args = None
                    cublas.unbind()
                graph = self.stream.end_capture()
        return Recording(graph, (pool, workspace), device_args, result)


def compiler(device: Any) -> Recorder:
    """Return the recorder of steps on a device."""
    return Recorder(device)
