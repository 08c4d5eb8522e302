"""NVRTC by ctypes: it compiles CUDA for any GPU and needs none."""

from __future__ import annotations

import ctypes
import functools
import importlib.util
from pathlib import Path

import pytest

from xpdl.backends.cupy import sources

# CuPy's own.
_FLUSH = "-ftz=true"


@functools.cache
def library() -> ctypes.CDLL:
    spec = importlib.util.find_spec("nvidia")
    places = [Path(place) for place in (spec.submodule_search_locations or [])] if spec else []
    found = [path for place in places for path in sorted(place.glob("*/lib/libnvrtc.so.*"))]
    if not found:
        pytest.skip("NVRTC is not installed: pip install '.[gpu-ci]'")
    # some versions ask for it by name, without a path
    for part in found[-1].parent.glob("libnvrtc-builtins.so.*"):
        ctypes.CDLL(str(part))
    return ctypes.CDLL(str(found[-1]))


def compile_for(architecture: str, code: str) -> tuple[bytes | None, str]:
    """Return the cubin of `code`, None where it does not compile, and the compiler's log."""
    compiler, program = library(), ctypes.c_void_p()
    assert compiler.nvrtcCreateProgram(ctypes.byref(program), code.encode(), b"kernels.cu", 0, None, None) == 0
    options = [f"--gpu-architecture={architecture}", *sources.OPTIONS, _FLUSH]
    values = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
    failed = compiler.nvrtcCompileProgram(program, len(options), values)
    log = _text(compiler.nvrtcGetProgramLogSize, compiler.nvrtcGetProgramLog, program).rstrip(b"\0").decode()
    cubin = None if failed else _text(compiler.nvrtcGetCUBINSize, compiler.nvrtcGetCUBIN, program)
    compiler.nvrtcDestroyProgram(ctypes.byref(program))
    return cubin or None, log


def _text(size_of, get, program: ctypes.c_void_p) -> bytes:
    size = ctypes.c_size_t()
    assert size_of(program, ctypes.byref(size)) == 0
    text = ctypes.create_string_buffer(size.value)
    assert get(program, text) == 0
    return text.raw
