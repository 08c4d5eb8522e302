"""Stand for nvidia-cudnn-frontend: graphs of one convolution, with bias and relu, computed by NumPy (``HOSTCUDA_CUDNN=1``).

Calls must come in the order that cuDNN asks for, addresses must lie on the device and be aligned to 16 bytes, and a plan
fills its workspace, so that memory which is too small or still in use shows.
"""

from __future__ import annotations

import functools
import itertools
import math
import types
from typing import Any

import numpy as np

from hostcuda import core
from hostcuda.arrays import strided
from hostcuda.cublas import _tf32

#: kinds of the convolutions that plans were made for, and that were executed, for tests
planned: list[str] = []
executed: list[str] = []

_ALIGNMENT = 16
_ORDER = ("validate", "build_operation_graph", "create_execution_plans", "check_support", "build_plans")
_handles: dict[int, int] = {}  # to streams
_numbers = itertools.count(0x3000, 16)


class cudnnGraphNotSupportedError(RuntimeError):
    """No plan serves the graph."""


@functools.cache
def _dtype(name: str) -> np.dtype[Any]:
    if name == "BFLOAT16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype({"HALF": "float16", "FLOAT": "float32", "DOUBLE": "float64"}[name])


class Tensor:
    """The description of an array: uid, dim, stride and data_type; ``set_*`` methods can be chained."""

    def __init__(self, **fields: Any) -> None:
        self.fields = fields

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("set_"):
            raise AttributeError(name)

        def set_field(value: Any) -> Tensor:
            self.fields[name.removeprefix("set_")] = value
            return self

        return set_field

    def at(self, address: int) -> Any:
        """The array at an address."""
        dtype = _dtype(self.fields["data_type"])
        return strided(address, dtype, tuple(self.fields["dim"]), tuple(self.fields["stride"]))

    def bytes(self) -> int:
        return math.prod(self.fields["dim"]) * _dtype(self.fields["data_type"]).itemsize


class Graph:
    """``cudnn.pygraph``."""

    def __init__(self, handle: int, io_data_type: str, intermediate_data_type: str, compute_data_type: str) -> None:
        assert handle in _handles, "no handle of cuDNN"
        self.handle, self.compute = handle, _dtype(compute_data_type)
        self.inputs: list[Tensor] = []
        self.kind, self.options = "", {}
        self.added: Tensor | None = None
        self.rectified = False
        self.steps: list[str] = []
        self.unwanted: set[str] = set()
        self.workspace_limit = math.inf

    # ------------------------------------------------------------------------------------------------ description

    def tensor(self, **fields: Any) -> Tensor:
        self.inputs.append(Tensor(**fields))
        return self.inputs[-1]

    def _convolution(self, kind: str, first: Tensor, second: Tensor, options: Any) -> Tensor:
        assert not self.kind, "hostcuda has graphs of one convolution"
        self.kind, self.operands, self.options = kind, (first, second), options
        self.out = Tensor()
        return self.out

    def conv_fprop(self, image: Tensor, weight: Tensor, **options: Any) -> Tensor:
        return self._convolution("fprop", image, weight, options)

    def conv_dgrad(self, loss: Tensor, filter: Tensor, **options: Any) -> Tensor:
        return self._convolution("dgrad", loss, filter, options)

    def conv_wgrad(self, image: Tensor, loss: Tensor, **options: Any) -> Tensor:
        return self._convolution("wgrad", image, loss, options)

    def bias(self, input: Tensor, bias: Tensor) -> Tensor:
        assert input is self.out and self.kind == "fprop"
        self.added = bias
        return self.out

    def relu(self, input: Tensor) -> Tensor:
        assert input is self.out and self.kind == "fprop"
        self.rectified = True
        return self.out

    # ------------------------------------------------------------------------------------------------ planning

    def _step(self, name: str) -> None:
        assert name == _ORDER[len(self.steps)], f"{name} after {self.steps}"
        self.steps.append(name)

    def validate(self) -> None:
        self._step("validate")
        assert {"uid", "dim", "stride", "data_type"} <= set(self.out.fields) and self.out.fields["output"]

    def build_operation_graph(self) -> None:
        self._step("build_operation_graph")

    def create_execution_plans(self, modes: list[str]) -> None:
        self._step("create_execution_plans")

    def deselect_numeric_notes(self, notes: list[str]) -> None:
        assert self.steps[-1] == "create_execution_plans"
        self.unwanted |= set(notes)

    def deselect_workspace_greater_than(self, size: int) -> None:
        assert self.steps[-1] == "create_execution_plans"
        self.workspace_limit = size

    def check_support(self) -> None:
        self._step("check_support")
        if self.get_workspace_size() > self.workspace_limit:
            raise cudnnGraphNotSupportedError("no plan has so small a workspace")

    def build_plans(self) -> None:
        self._step("build_plans")
        planned.append(self.kind)

    def get_workspace_size(self) -> int:
        """As large as the output, at least: there is something to overwrite."""
        return 256 + self.out.bytes()

    # ------------------------------------------------------------------------------------------------ execution

    def execute(self, addresses: dict[int, int], workspace: int, handle: int) -> None:
        assert tuple(self.steps) == _ORDER and handle == self.handle
        tensors = [*self.inputs, self.out]
        assert set(addresses) == {tensor.fields["uid"] for tensor in tensors}
        for address in (*addresses.values(), workspace):
            _check_address(address)
        first, second = (operand.at(addresses[operand.fields["uid"]]) for operand in self.operands)
        out = self.out.at(addresses[self.out.fields["uid"]])
        bias = None if self.added is None else self.added.at(addresses[self.added.fields["uid"]])
        scratch = strided(workspace, np.dtype(np.uint8), (self.get_workspace_size(),), (1,))

        def work() -> None:
            executed.append(self.kind)
            with core.open_memory(), np.errstate(all="ignore"):
                scratch[...] = 0xFF
                out[...] = self._computed(first, second, bias, out.shape).astype(out.dtype)

        core.enqueue(work, _handles[handle])

    def _computed(self, first: Any, second: Any, bias: Any, shape: tuple[int, ...]) -> Any:
        factors = [a.astype(self.compute) for a in (first, second)]
        if self.compute == np.float32 and "TENSOR_CORE" not in self.unwanted:
            factors = [_tf32(a) for a in factors]
        result = _CONVOLUTIONS[self.kind](*factors, shape, self.options)
        if bias is not None:
            result = result + bias.astype(self.compute)
        # np.maximum keeps NaN, as cuDNN does with CUDNN_PROPAGATE_NAN
        return np.maximum(result, 0) if self.rectified else result


def _check_address(address: int) -> None:
    from cupy_backends.cuda.api import runtime

    assert address % _ALIGNMENT == 0, f"address {address:#x} is not aligned to {_ALIGNMENT} bytes"
    attributes = runtime.pointerGetAttributes(address)
    assert attributes.type == 2 and attributes.device == runtime.getDevice(), f"{address:#x} is of another device"


# ------------------------------------------------------------------------------------------------ convolutions by definition


def _taps(image_shape: tuple[int, ...], filter_shape: tuple[int, ...], out: tuple[int, ...], options: Any) -> Any:
    """Each tap (r, s) of the filter, with the index of the padded pixels under it."""
    for r in range(filter_shape[2]):
        for s in range(filter_shape[3]):
            index = [slice(None), slice(None)]
            for tap, size, stride, dilation in zip((r, s), out, options["stride"], options["dilation"], strict=True):
                start = tap * dilation
                index.append(slice(start, start + stride * (size - 1) + 1, stride))
            yield r, s, tuple(index)


def _padded(shape: tuple[int, ...], options: Any, dtype: Any) -> tuple[Any, tuple[Any, ...]]:
    """Zeros around an image, and the index of the image in them."""
    pads = list(zip(options["pre_padding"], options["post_padding"], strict=True))
    sizes = [n + before + after for n, (before, after) in zip(shape[2:], pads, strict=True)]
    inner = tuple(slice(before, before + n) for n, (before, _) in zip(shape[2:], pads, strict=True))
    return np.zeros((*shape[:2], *sizes), dtype), (slice(None), slice(None), *inner)


def _grouped(a: Any, groups: int) -> Any:
    """(N, C, H, W) as (N, groups, C / groups, H, W)."""
    return a.reshape(a.shape[0], groups, a.shape[1] // groups, *a.shape[2:])


def _forward(x: Any, w: Any, shape: tuple[int, ...], options: Any) -> Any:
    groups = x.shape[1] // w.shape[1]
    padded, inner = _padded(x.shape, options, x.dtype)
    padded[inner] = x
    y = np.zeros((shape[0], groups, shape[1] // groups, *shape[2:]), x.dtype)
    filters = w.reshape(groups, -1, *w.shape[1:])
    for r, s, index in _taps(x.shape, w.shape, shape[2:], options):
        y += np.einsum("ngchw,gkc->ngkhw", _grouped(padded[index], groups), filters[..., r, s], optimize=True)
    return y.reshape(shape)


def _data_gradient(dy: Any, w: Any, shape: tuple[int, ...], options: Any) -> Any:
    groups = shape[1] // w.shape[1]
    padded, inner = _padded(shape, options, dy.dtype)
    filters, rows = w.reshape(groups, -1, *w.shape[1:]), _grouped(dy, groups)
    for r, s, index in _taps(shape, w.shape, dy.shape[2:], options):
        part = np.einsum("ngkhw,gkc->ngchw", rows, filters[..., r, s], optimize=True)
        padded[index] += part.reshape(padded[index].shape)
    return padded[inner]


def _filter_gradient(x: Any, dy: Any, shape: tuple[int, ...], options: Any) -> Any:
    groups = x.shape[1] // shape[1]
    padded, inner = _padded(x.shape, options, x.dtype)
    padded[inner] = x
    dw, rows = np.zeros((groups, shape[0] // groups, *shape[1:]), x.dtype), _grouped(dy, groups)
    for r, s, index in _taps(x.shape, shape, dy.shape[2:], options):
        dw[..., r, s] = np.einsum("ngkhw,ngchw->gkc", rows, _grouped(padded[index], groups), optimize=True)
    return dw.reshape(shape)


_CONVOLUTIONS = {"fprop": _forward, "dgrad": _data_gradient, "wgrad": _filter_gradient}


# ------------------------------------------------------------------------------------------------ the module


def create_handle() -> int:
    handle = next(_numbers)
    _handles[handle] = 0
    return handle


def destroy_handle(handle: int) -> None:
    _handles.pop(handle)


def set_stream(handle: int, stream: int) -> None:
    _handles[handle] = stream


def module() -> types.ModuleType:
    """The module that xpdl imports as ``cudnn``."""
    made = types.ModuleType("cudnn", __doc__)
    notes = ("NONDETERMINISTIC", "TENSOR_CORE", "DOWN_CONVERT_INPUTS")
    made.__dict__.update(
        pygraph=Graph,
        cudnnGraphNotSupportedError=cudnnGraphNotSupportedError,
        data_type=types.SimpleNamespace(**{name: name for name in ("HALF", "BFLOAT16", "FLOAT", "DOUBLE")}),
        heur_mode=types.SimpleNamespace(A="A", FALLBACK="FALLBACK"),
        numerical_note=types.SimpleNamespace(**{name: name for name in notes}),
        backend_version=lambda: 91702,
        create_handle=create_handle,
        destroy_handle=destroy_handle,
        set_stream=set_stream,
    )
    return made
