"""Graphs of cuDNN: a convolution described, and the first of its plans that keeps what is asked of precision and memory."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from xpdl.backends.arrays import Pair

Shape = tuple[int, ...]

#: the tensors of a graph
X, W, Y, B = 1, 2, 3, 4

# A plan may take as much memory beside its tensors as this, or as twice the images, going in and out, and a bit: where there
# is no plan for channels-last, those for tensor cores of large batches copy both to another layout.
_WORKSPACE_BYTES, _COPIES, _BESIDES = 1 << 30, 2, 64 << 20


class Case(NamedTuple):
    """Key of a plan."""

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
    #: order of images, and of filters
    channels_last: bool = False
    filters_last: bool = False


class Plan(NamedTuple):
    graph: Any
    workspace: int


def workspace_limit(case: Case, free: int | None = None) -> int:
    """Return the bytes of workspace a plan may take where `free` are free: plans that take more are skipped."""
    itemsize = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}[case.dtype]
    images = itemsize * (math.prod(case.x) + math.prod(case.y))
    most = max(_WORKSPACE_BYTES, _COPIES * images + _BESIDES)
    return most if free is None else min(most, free)


def describe(cudnn: Any, case: Case, free: int | None = None, **where: Any) -> Any:
    """The graph of `case`, before anything is asked of a device; `where` says which one, of `free` bytes of memory.

    Raises the library's ``cudnnGraphNotSupportedError`` for what cannot be.
    """
    types = cudnn.data_type
    own = {"float16": types.HALF, "bfloat16": types.BFLOAT16, "float32": types.FLOAT, "float64": types.DOUBLE}[
        case.dtype
    ]
    computed = types.DOUBLE if case.dtype == "float64" else types.FLOAT
    graph = cudnn.pygraph(io_data_type=own, intermediate_data_type=computed, compute_data_type=computed, **where)

    def tensor(uid: int, dim: Shape) -> Any:
        return graph.tensor(name=str(uid), uid=uid, dim=list(dim), stride=_strides(case, uid, dim), data_type=own)

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
    out.set_uid(uid).set_output(True).set_data_type(own).set_dim(list(dim)).set_stride(_strides(case, uid, dim))
    graph.validate()
    graph.build_operation_graph()
    graph.create_execution_plans([cudnn.heur_mode.A, cudnn.heur_mode.FALLBACK])
    notes = cudnn.numerical_note
    unwanted = [notes.NONDETERMINISTIC] if case.deterministic else []
    if case.dtype == "float32" and case.precision == "highest":
        # only both together leave out TF32
        unwanted += [notes.TENSOR_CORE, notes.DOWN_CONVERT_INPUTS]
    graph.deselect_numeric_notes(unwanted)
    graph.deselect_workspace_greater_than(workspace_limit(case, free))
    return graph


def finish(graph: Any) -> Plan:
    """Choose the first plan that works, and build it."""
    graph.check_support()
    graph.build_plans()
    return Plan(graph, int(graph.get_workspace_size()))


def _strides(case: Case, uid: int, dim: Shape) -> list[int]:
    _, c, h, w = dim
    last = case.filters_last if uid == W else case.channels_last
    return [c * h * w, 1, w * c, c] if last else [c * h * w, h * w, w, 1]
