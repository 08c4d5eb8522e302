"""A stand-in for nvidia-cudnn-frontend that computes what a graph describes, from and into the addresses it is given."""

from __future__ import annotations

import ctypes
import types
from typing import Any

import numpy as np

from tests.backends.cupy import fake_capture
from xpdl.backends import dispatch
from xpdl.ops import convolution

_DTYPES = {"HALF": "float16", "FLOAT": "float32", "DOUBLE": "float64"}


class NotSupported(Exception):
    """``cudnnGraphNotSupportedError``."""


class Tensor:
    def __init__(self, **fields: Any) -> None:
        self.fields = fields

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("set_"):
            raise AttributeError(name)

        def set_field(value: Any) -> Tensor:
            self.fields[name.removeprefix("set_")] = value
            return self

        return set_field


class Graph:
    """``cudnn.pygraph``; `module` says what it supports and keeps what was made and run."""

    def __init__(self, module: Any, **options: Any) -> None:
        self.module, self.options, self.steps, self.inputs = module, options, [], {}
        self.kind = ""
        self.added: Tensor | None = None
        self.rectified = False

    def tensor(self, **fields: Any) -> Tensor:
        self.inputs[fields["uid"]] = Tensor(**fields)
        return self.inputs[fields["uid"]]

    def _node(self, kind: str, first: Tensor, second: Tensor, options: Any) -> Tensor:
        self.kind, self.operands, self.convolution = kind, (first, second), options
        self.out = Tensor()
        return self.out

    def conv_fprop(self, image: Tensor, weight: Tensor, **options: Any) -> Tensor:
        return self._node("fprop", image, weight, options)

    def conv_dgrad(self, loss: Tensor, filter: Tensor, **options: Any) -> Tensor:
        return self._node("dgrad", loss, filter, options)

    def conv_wgrad(self, image: Tensor, loss: Tensor, **options: Any) -> Tensor:
        return self._node("wgrad", image, loss, options)

    def bias(self, input: Tensor, bias: Tensor) -> Tensor:
        assert input is self.out
        self.added = bias
        return self.out

    def relu(self, input: Tensor) -> Tensor:
        assert input is self.out and self.kind == "fprop"
        self.rectified = True
        return self.out

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)

        def step(*args: Any) -> None:
            self.steps.append((name, *args))
            if name in self.module.failures:
                raise self.module.failures[name]
            kinds = {self.kind, "relu"} if self.rectified else {self.kind}
            if name == "check_support" and kinds & set(self.module.unsupported):
                raise NotSupported(self.kind)

        return step

    def get_workspace_size(self) -> int:
        return 64

    def execute(self, addresses: dict[int, int], workspace: int, handle: int) -> None:
        fake_capture.run(lambda: self._compute(addresses, workspace, handle))

    def _compute(self, addresses: dict[int, int], workspace: int, handle: int) -> None:
        assert handle == self.options["handle"] and workspace and self.steps[-1][0] == "build_plans"
        self.module.executed.append(self)
        fields = [*(t.fields for t in self.inputs.values()), self.out.fields]
        assert set(addresses) == {f["uid"] for f in fields}
        memory = {f["uid"]: _memory(addresses[f["uid"]], f) for f in fields}
        first, second = (memory[t.fields["uid"]] for t in self.operands)
        options = self.convolution
        assert options["pre_padding"] == options["post_padding"]
        static = {
            "stride": tuple(options["stride"]),
            "pad": tuple(options["pre_padding"]),
            "dilation": tuple(options["dilation"]),
        }
        result = memory[self.out.fields["uid"]]
        with dispatch.generic_only():
            if self.kind == "fprop":
                groups = first.shape[1] // second.shape[1]
                bias = memory[self.added.fields["uid"]].reshape(-1) if self.added else None
                result[...] = convolution.convolution(first, second, bias, groups=groups, **static)
                if self.rectified:
                    keeping = np.fmax if self.module.swallows_nan else np.maximum
                    keeping(result, 0, out=result)
            elif self.kind == "dgrad":
                x = np.zeros(result.shape, result.dtype)
                groups = x.shape[1] // second.shape[1]
                result[...] = convolution.convolution_backward(first, x, second, groups=groups, **static)[0]
            else:
                groups = first.shape[1] // result.shape[1]
                w = np.zeros(result.shape, result.dtype)
                result[...] = convolution.convolution_backward(second, first, w, groups=groups, **static)[1]


def _memory(address: int, fields: dict[str, Any]) -> Any:
    dtype, dim = np.dtype(_DTYPES[fields["data_type"]]), fields["dim"]
    assert fields["stride"] == [int(np.prod(dim[k + 1 :])) for k in range(4)], "gaps or another order"
    size = int(np.prod(dim)) * dtype.itemsize
    return np.frombuffer((ctypes.c_char * size).from_address(address), dtype).reshape(dim)


def make(unsupported: tuple[str, ...] = ()) -> Any:
    """A module ``cudnn``."""
    module = types.SimpleNamespace(
        unsupported=unsupported, executed=[], graphs=[], streams=[], swallows_nan=False, failures={}
    )

    def graph(**options: Any) -> Graph:
        module.graphs.append(Graph(module, **options))
        return module.graphs[-1]

    module.pygraph = graph
    module.data_type = types.SimpleNamespace(**{name: name for name in (*_DTYPES, "BFLOAT16")})
    module.heur_mode = types.SimpleNamespace(A="A", FALLBACK="FALLBACK")
    notes = ("NONDETERMINISTIC", "TENSOR_CORE", "DOWN_CONVERT_INPUTS")
    module.numerical_note = types.SimpleNamespace(**{name: name for name in notes})
    module.cudnnGraphNotSupportedError = NotSupported
    module.create_handle = lambda: 7
    module.destroy_handle = lambda handle: None
    module.set_stream = lambda handle, stream: module.streams.append((handle, stream))
    return module
