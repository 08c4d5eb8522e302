"""Record which kernels of xpdl, products of cuBLAS and convolutions of cuDNN a piece of code asks a GPU for.

Sizes are recorded and no arrays, so a trace keeps no memory of a device. Without `traced`, a launch looks at one global.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from xpdl.backends.cupy import sources

_KERNEL = re.compile(r'extern "C" __global__ void (\w+)\((.*?)\)\s*\{', re.DOTALL)
_STRUCT = re.compile(r"^struct (\w+) \{(.*?)^\};", re.DOTALL | re.MULTILINE)


class Size(NamedTuple):
    """Number of values and bytes of an array."""

    size: int
    nbytes: int


class Call(NamedTuple):
    """A launch or a library call.

    Attributes
    ----------
    library : {"xpdl", "cublas", "cudnn"}
    name : str
        The kernel; ``"gemm"``; ``"fprop"``, ``"dgrad"`` or ``"wgrad"``.
    dtype : str
        Of the arrays.
    args : namespace
        Of a kernel: its arguments by their names in the CUDA source. Arrays are `Size`, null pointers None, and
        structures namespaces of integers, or of lists of them.
    """

    library: str
    name: str
    dtype: str
    args: SimpleNamespace


#: list that calls are recorded to, or None
calls: list[Call] | None = None


@contextlib.contextmanager
def traced() -> Iterator[list[Call]]:
    """Record the calls made inside the ``with`` block, by all threads, into the list that it yields."""
    global calls
    before, calls = calls, []
    try:
        yield calls
    finally:
        calls = before


def record_launch(file: str, name: str, dtype: str, args: tuple[Any, ...]) -> None:
    """Record the launch of a kernel of ours; only called while `calls` is a list."""
    named = {
        parameter: _described(file, kind, value)
        for (kind, parameter), value in zip(parameters(file)[name], args, strict=True)
    }
    assert calls is not None
    calls.append(Call("xpdl", name, dtype, SimpleNamespace(**named)))


def record_call(library: str, name: str, dtype: str, **args: Any) -> None:
    """Record a call of cuBLAS or cuDNN; only called while `calls` is a list."""
    assert calls is not None
    calls.append(Call(library, name, dtype, SimpleNamespace(**args)))


@functools.cache
def parameters(file: str) -> dict[str, list[tuple[str, str]]]:
    """For each kernel of a file, the types and names of its parameters."""
    found = {}
    for name, text in _KERNEL.findall(sources.text(f"{file}.cu")):
        words = [parameter.replace("*", "* ").split() for parameter in text.split(",")]
        found[name] = [(" ".join(kind), parameter) for *kind, parameter in words]
    return found


@functools.cache
def fields(file: str) -> dict[str, list[tuple[str, int]]]:
    """For each structure that kernels of a file take, whose members have 8 bytes each, their names and lengths."""
    taken = {kind for kernel in parameters(file).values() for kind, _ in kernel}
    text = re.sub(r"//.*", "", sources.kernels(file))
    constants = dict(re.findall(r"#define (\w+) (\d+)", text))
    found = {}
    for struct, body in _STRUCT.findall(text):
        if struct not in taken:
            continue
        members = []
        for line in filter(None, (line.strip() for line in body.split(";"))):
            kind = re.match(r"(const )?\w+\s*\*?\s*", line)
            if kind is None or "(" in line:  # a method
                continue
            for member in line[kind.end() :].split(","):
                name, _, length = member.strip(" *]").partition("[")
                members.append((name, int(constants.get(length, length or 1))))
        found[struct] = members
    return found


def _described(file: str, kind: str, value: Any) -> Any:
    if kind.endswith("*"):
        return Size(int(value.size), int(value.nbytes)) if hasattr(value, "nbytes") else None
    if kind not in fields(file):
        return value
    words = np.frombuffer(np.asarray(value).tobytes(), np.int64).tolist()
    members: dict[str, Any] = {}
    for name, length in fields(file)[kind]:
        members[name], words = (words[0] if length == 1 else words[:length]), words[length:]
    return SimpleNamespace(**members)
