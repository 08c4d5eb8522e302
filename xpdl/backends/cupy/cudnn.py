"""Convolution by cuDNN: a graph for each case, planned once.

What cuDNN does not serve is None here, and goes by columns and matrix products. Images lie channels-last where tensor cores
compute, so that no plan transposes them, else in the order of their axes. Filters lie as they are given, and their gradients
likewise: mixed precision casts them to channels-last. A plan transposes others itself; in TF32 it does so on the way, as it
copies them rounded (cuDNN 9.28 for Hopper has the same workspaces for filters in either order). Addresses are given as they
are, so shapes, dtypes, order and alignment are seen to before.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import math
import threading
import warnings
from collections.abc import Callable, Iterator

from xpdl.backends.arrays import Pair
from xpdl.backends.cupy import trace
from xpdl.backends.cupy.cudnn_graph import B, Case, Plan, Shape, W, X, Y, describe, finish
from xpdl.backends.cupy.launch import contiguous, cupy, dtype_name, empty
from xpdl.backends.cupy.layout import empty_images, in_layout, lies_in, prefers_channels_last
from xpdl.backends.dtypes import dtype_by_name
from xpdl.backends.namespaces import Array
from xpdl.backends.numerics import get_numerics

# The first with planning by description alone, which the tests rest on.
_OLDEST = 91100
_MOST_PLANS = 1024
_ALIGNMENT = 16


@functools.cache
def problem() -> str | None:
    """None where cuDNN can be asked on the current device, else the reason."""
    reason = missing()
    if reason is not None:
        return reason
    cudnn = importlib.import_module("cudnn")
    try:
        cudnn.destroy_handle(cudnn.create_handle())
    except RuntimeError as error:
        return f"cuDNN is not used: {_first_line(error)}; check that it is built for the driver and for CuPy's CUDA"
    return None


def missing() -> str | None:
    """None where the libraries of cuDNN are found, which needs no device, else what is missing."""
    cure = "pip install 'xpdl[cudnn12]' or 'xpdl[cudnn13]', matching CuPy"
    try:
        # in this order: cuDNN ends the process when it finds no cublasLt
        load = importlib.import_module("cuda.pathfinder").load_nvidia_dynamic_lib
        for name in ("cudart", "cublasLt", "cudnn"):
            load(name)
        version = importlib.import_module("cudnn").backend_version()
    # the finder's own errors are of RuntimeError; the frontend asserts that the library is of its CUDA version
    except (ImportError, OSError, RuntimeError, AssertionError) as error:
        return f"cuDNN is not used: {_first_line(error)}; {cure}"
    return None if version >= _OLDEST else f"cuDNN is not used: {version} is older than {_OLDEST}; {cure}"


def library_version() -> int:
    """The version of the library itself, which its Python frontend finds in the same place; 91702 is 9.17.2.

    Raises
    ------
    RuntimeError, OSError
        If it is not found.
    """
    found = importlib.import_module("cuda.pathfinder").load_nvidia_dynamic_lib("cudnn")
    ask = ctypes.CDLL(found.abs_path).cudnnGetVersion
    ask.restype = ctypes.c_size_t
    return int(ask())


def forward(
    x: Array, w: Array, b: Array | None, out: Pair, options: tuple[Pair, Pair, Pair], *, relu: bool = False
) -> Array | None:
    """The convolution with the bias added, rectified with `relu`; None for what cuDNN does not serve.

    `options` are stride, pad and dilation.
    """
    if problem():
        return None
    shape = (x.shape[0], w.shape[0], *out)
    tensors = {X: x, W: w} | ({} if b is None else {B: b})
    return _run("fprop", Y, w, tensors, options, (x.shape, w.shape, shape), relu=relu)


def backward(
    dy: Array, x: Array, w: Array, options: tuple[Pair, Pair, Pair], need_dx: bool, need_dW: bool
) -> tuple[Array | None, Array | None] | None:
    """``dx`` and ``dW`` where they are needed, in the order of the plan; None for what cuDNN does not serve."""
    if problem():
        return None
    shapes = (x.shape, w.shape, dy.shape)
    dy = in_layout(dy, prefers_channels_last(dtype_name(dy.dtype)))
    dw = _run("wgrad", W, w, {X: x, Y: dy}, options, shapes) if need_dW else None
    if need_dW and dw is None:
        return None
    dx = _run("dgrad", X, w, {Y: dy, W: w}, options, shapes) if need_dx else None
    return None if need_dx and dx is None else (dx, dw)


def plan_batches(rows: int, others: int) -> None:
    """Make the plans that this thread has for `rows` images on the current device for `others`, too."""
    device = _local.devices.get(cupy().cuda.device.get_device_id())
    if device is None:
        return
    for case in [case for case in device.cases if case.x[0] == rows]:
        device.plan(case._replace(x=(others, *case.x[1:]), y=(others, *case.y[1:])))


class _Local(threading.local):
    """A handle, with the stream it is on, and plans for each device: no thread may share them."""

    def __init__(self) -> None:
        #: None where there is no handle to be had
        self.devices: dict[int, _Device | None] = {}


_local = _Local()


class _Device:
    """cuDNN on one device, in one thread."""

    def __init__(self) -> None:
        self.cudnn = importlib.import_module("cudnn")
        self.handle = self.cudnn.create_handle()
        self.stream: int | None = None
        #: keys of the plans
        self.cases: list[Case] = []
        self.plan: Callable[[Case], Plan | None] = functools.lru_cache(_MOST_PLANS)(self._plan)

    def _plan(self, case: Case) -> Plan | None:
        self.cases.append(case)
        try:
            plan = finish(describe(self.cudnn, case, _free_bytes(), handle=self.handle))
        except self.cudnn.cudnnGraphNotSupportedError:
            return None
        # of the library and NVRTC, and of the frontend, which infers shapes
        except (RuntimeError, ValueError) as error:
            _warn(f"{case.kind} of x {case.x}, W {case.w} in {case.dtype}", error)
            return None
        return plan if not case.relu or self._keeps_nan(plan, case) else None

    def _keeps_nan(self, plan: Plan, case: Case) -> bool:
        """Return whether NaN, at which a training stops, comes out again; cuDNN promises it of its slowest engine alone."""
        dtype = dtype_by_name(case.dtype, cupy())
        shapes = {X: case.x, W: case.w} | ({B: (case.w[0],)} if case.bias else {})
        tensors = {uid: cupy().full(shape, math.nan, dtype=dtype) for uid, shape in shapes.items()}
        tensors[Y] = empty(case.y, dtype)
        self.execute(plan, tensors)
        # read on the host: once, when the plan is made
        return bool(cupy().any(cupy().isnan(tensors[Y].astype(cupy().float32))))

    def execute(self, plan: Plan, tensors: dict[int, Array]) -> None:
        stream = cupy().cuda.get_current_stream().ptr
        if stream != self.stream:
            self.cudnn.set_stream(handle=self.handle, stream=stream)
            self.stream = stream
        # given back when this returns, for what is queued later on the same stream
        workspace = empty((plan.workspace,), "uint8") if plan.workspace else None
        addresses = {uid: array.data.ptr for uid, array in tensors.items()}
        plan.graph.execute(addresses, 0 if workspace is None else workspace.data.ptr, handle=self.handle)


def _run(
    kind: str,
    uid: int,
    w: Array,
    tensors: dict[int, Array],
    options: tuple[Pair, Pair, Pair],
    shapes: tuple[Shape, Shape, Shape],
    *,
    relu: bool = False,
) -> Array | None:
    """A new array, the tensor `uid` of the graph; None for what is not served."""
    device_id = cupy().cuda.device.get_device_id()
    if device_id not in _local.devices:
        _local.devices[device_id] = _device(device_id)
    device = _local.devices[device_id]
    if device is None:
        return None
    setting, dtype = get_numerics(), dtype_name(w.dtype)
    case = Case(kind, *shapes, *options, dtype, B in tensors, relu, setting.precision, setting.deterministic)
    case, plan = _planned(device, case, w)
    if plan is None:
        return None
    orders = {X: case.channels_last, W: case.filters_last, Y: case.channels_last}
    tensors = {key: _aligned(contiguous(a) if key == B else in_layout(a, orders[key])) for key, a in tensors.items()}
    out = empty_images({X: case.x, W: case.w, Y: case.y}[uid], w.dtype, orders[uid])
    if trace.calls is not None:
        sizes = {"x": case.x, "w": case.w, "y": case.y}
        transposes = prefers_channels_last(dtype) and not case.channels_last
        trace.record_call("cudnn", kind, dtype, **sizes, bias=case.bias, transposes=transposes)
    device.execute(plan, {**tensors, uid: out})
    return out


def _planned(device: _Device, case: Case, w: Array) -> tuple[Case, Plan | None]:
    """The first order of images and filters that has a plan, and that; or None."""
    plan = None
    for channels_last, filters_last in _orders(case, w):
        case = case._replace(channels_last=channels_last, filters_last=filters_last)
        plan = device.plan(case)
        if plan is not None:
            break
    return case, plan


def _orders(case: Case, w: Array) -> Iterator[tuple[bool, bool]]:
    if prefers_channels_last(case.dtype):
        yield True, lies_in(w, True)
        if not lies_in(w, True):
            yield True, True
        # a relu by a kernel of ours takes less than plans that transpose images
        if case.relu:
            return
    yield False, False


def _aligned(a: Array) -> Array:
    return a.copy(order="K") if a.data.ptr % _ALIGNMENT else a


def _device(device_id: int) -> _Device | None:
    try:
        return _Device()
    except RuntimeError as error:
        _warn(f"no handle on device {device_id}", error)
        return None


_warned = False


def _warn(what: str, error: Exception) -> None:
    """Say once in the process that cuDNN fails; each case that does goes by columns."""
    global _warned
    if not _warned:
        _warned = True
        warnings.warn(
            f"cuDNN: {what}: {_first_line(error)}; this and other convolutions that it fails at are computed without it, "
            "which takes longer",
            stacklevel=2,
        )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _free_bytes() -> int:
    """Return the bytes that an array may take on the current device."""
    return int(cupy().cuda.Device().mem_info[0]) + int(cupy().get_default_memory_pool().free_bytes())
