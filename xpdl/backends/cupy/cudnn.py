"""Convolution by cuDNN: a graph for each case, planned once; the only module that names cuDNN.

What cuDNN does not serve is None here, and goes by columns and matrix products. Arrays are in the order (N, C, H, W); their
addresses are given as they are, so shapes, dtypes and alignment are checked before.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import math
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from xpdl.backends.cupy import trace
from xpdl.backends.cupy.launch import cupy, empty, named, ready
from xpdl.backends.namespaces import Array, dtype_called
from xpdl.backends.numerics import get_numerics

Pair = tuple[int, int]
Shape = tuple[int, ...]

#: the tensors of a graph
X, W, Y, B = 1, 2, 3, 4

#: plans that need more memory beside their tensors are passed over
WORKSPACE_BYTES = 256 << 20
# The first with planning by description alone, which the tests rest on.
_OLDEST = 91100
_MOST_PLANS = 1024
_ALIGNMENT = 16


class Case(NamedTuple):
    """What a plan is made for."""

    kind: str  # "fprop", "dgrad", "wgrad"
    x: Shape
    w: Shape
    y: Shape
    stride: Pair
    pad: Pair
    dilation: Pair
    dtype: str
    bias: bool
    relu: bool
    precision: str
    deterministic: bool


class Plan(NamedTuple):
    graph: Any
    workspace: int


@functools.cache
def problem() -> str | None:
    """None where cuDNN can be asked, else what is missing."""
    cure = "pip install 'xpdl[cudnn12]' or 'xpdl[cudnn13]', matching CuPy"
    try:
        # in this order: cuDNN ends the process when it finds no cublasLt
        load = importlib.import_module("cuda.pathfinder").load_nvidia_dynamic_lib
        for name in ("cudart", "cublasLt", "cudnn"):
            load(name)
        version = importlib.import_module("cudnn").backend_version()
    except (ImportError, OSError, RuntimeError) as error:  # CuPy's finder has errors of its own, all of RuntimeError
        return f"cuDNN is not used: {str(error).splitlines()[0]}; {cure}"
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


def describe(cudnn: Any, case: Case, **where: Any) -> Any:
    """The graph of `case`, before anything is asked of a device; `where` says which one.

    Raises the library's ``cudnnGraphNotSupportedError`` for what cannot be.
    """
    types = cudnn.data_type
    own = {"float16": types.HALF, "bfloat16": types.BFLOAT16, "float32": types.FLOAT, "float64": types.DOUBLE}[
        case.dtype
    ]
    computed = types.DOUBLE if case.dtype == "float64" else types.FLOAT
    graph = cudnn.pygraph(io_data_type=own, intermediate_data_type=computed, compute_data_type=computed, **where)

    def tensor(uid: int, dim: Shape) -> Any:
        return graph.tensor(name=str(uid), uid=uid, dim=list(dim), stride=_strides(dim), data_type=own)

    options = {
        "pre_padding": list(case.pad),
        "post_padding": list(case.pad),
        "stride": list(case.stride),
        "dilation": list(case.dilation),
    }
    if case.kind == "fprop":
        out, uid, dim = graph.conv_fprop(tensor(X, case.x), tensor(W, case.w), **options), Y, case.y
        if case.bias:
            out = graph.bias(input=out, bias=tensor(B, (1, case.w[0], 1, 1)))
        if case.relu:
            out = graph.relu(input=out)
    elif case.kind == "dgrad":
        out, uid, dim = graph.conv_dgrad(tensor(Y, case.y), tensor(W, case.w), **options), X, case.x
    else:
        out, uid, dim = graph.conv_wgrad(tensor(X, case.x), tensor(Y, case.y), **options), W, case.w
    out.set_uid(uid).set_output(True).set_data_type(own).set_dim(list(dim)).set_stride(_strides(dim))
    graph.validate()
    graph.build_operation_graph()
    graph.create_execution_plans([cudnn.heur_mode.A, cudnn.heur_mode.FALLBACK])
    notes = cudnn.numerical_note
    unwanted = [notes.NONDETERMINISTIC] if case.deterministic else []
    if case.dtype == "float32" and case.precision == "highest":
        # only both together leave out TF32
        unwanted += [notes.TENSOR_CORE, notes.DOWN_CONVERT_INPUTS]
    graph.deselect_numeric_notes(unwanted)
    graph.deselect_workspace_greater_than(WORKSPACE_BYTES)
    return graph


def finish(graph: Any) -> Plan:
    """Choose the first plan that works, and build it."""
    graph.check_support()
    graph.build_plans()
    return Plan(graph, int(graph.get_workspace_size()))


def forward(
    x: Array, w: Array, b: Array | None, out: Pair, options: tuple[Pair, Pair, Pair], *, relu: bool = False
) -> Array | None:
    """The convolution with the bias added, rectified with `relu`; None for what cuDNN does not serve.

    `options` are stride, pad and dilation.
    """
    if problem():
        return None
    shape = (x.shape[0], w.shape[0], *out)
    tensors = {X: ready(x), W: ready(w)} | ({} if b is None else {B: ready(b)})
    return _run("fprop", Y, shape, tensors, options, (x.shape, w.shape, shape), x.dtype, relu=relu)


def backward(
    dy: Array, x: Array, w: Array, options: tuple[Pair, Pair, Pair], need_dx: bool
) -> tuple[Array | None, Array] | None:
    """``dx`` and ``dW``; None for what cuDNN does not serve."""
    if problem():
        return None
    shapes = (x.shape, w.shape, dy.shape)
    dy = ready(dy)
    dw = _run("wgrad", W, w.shape, {X: ready(x), Y: dy}, options, shapes, x.dtype)
    if dw is None or not need_dx:
        return None if dw is None else (None, dw)
    dx = _run("dgrad", X, x.shape, {Y: dy, W: ready(w)}, options, shapes, x.dtype)
    return None if dx is None else (dx, dw)


class _Local(threading.local):
    """A handle, with the stream it is on, and plans for each device: no thread may share them."""

    def __init__(self) -> None:
        self.devices: dict[int, _Device] = {}


_local = _Local()


class _Device:
    """cuDNN on one device, in one thread."""

    def __init__(self) -> None:
        self.cudnn = importlib.import_module("cudnn")
        self.handle = self.cudnn.create_handle()
        self.stream: int | None = None
        self.plan: Callable[[Case], Plan | None] = functools.lru_cache(_MOST_PLANS)(self._plan)

    def _plan(self, case: Case) -> Plan | None:
        try:
            plan = finish(describe(self.cudnn, case, handle=self.handle))
        except self.cudnn.cudnnGraphNotSupportedError:
            return None
        return plan if not case.relu or self._keeps_nan(plan, case) else None

    def _keeps_nan(self, plan: Plan, case: Case) -> bool:
        """Whether NaN, at which a training stops, comes out again; cuDNN promises it of its slowest engine alone."""
        dtype = dtype_called(case.dtype, cupy())
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
    shape: Shape,
    tensors: dict[int, Array],
    options: tuple[Pair, Pair, Pair],
    shapes: tuple[Shape, Shape, Shape],
    dtype: Any,
    *,
    relu: bool = False,
) -> Array | None:
    """A new array of `shape`, the tensor `uid` of the graph; None for what is not served."""
    device_id = cupy().cuda.device.get_device_id()
    device = _local.devices.get(device_id)
    if device is None:
        device = _local.devices[device_id] = _Device()
    setting = get_numerics()
    plan = device.plan(
        Case(kind, *shapes, *options, named(dtype), B in tensors, relu, setting.precision, setting.deterministic)
    )
    if plan is None or any(array.data.ptr % _ALIGNMENT for array in tensors.values()):
        return None
    out = empty(shape, dtype)
    if trace.calls is not None:
        trace.record_call("cudnn", kind, named(dtype), x=shapes[0], w=shapes[1], y=shapes[2], bias=B in tensors)
    device.execute(plan, {**tensors, uid: out})
    return out


def _strides(dim: Shape) -> list[int]:
    _, c, h, w = dim
    return [c * h * w, h * w, w, 1]
