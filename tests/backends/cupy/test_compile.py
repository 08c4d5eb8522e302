"""Every kernel, in every instance, is compiled for real GPUs by NVRTC, which needs none.

``pip install ".[gpu-ci]"`` brings it, and ``python -m pytest -m slow tests/backends/cupy/test_compile.py`` runs this.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import re
from pathlib import Path

import pytest

from xpdl.backends.cupy import sources

ARCHITECTURES = ("sm_75", "sm_80", "sm_90", "sm_100")
pytestmark = pytest.mark.slow


@functools.cache
def nvrtc() -> ctypes.CDLL:
    spec = importlib.util.find_spec("nvidia")
    places = [Path(place) for place in (spec.submodule_search_locations or [])] if spec else []
    found = [path for place in places for path in sorted(place.glob("*/lib/libnvrtc.so.*"))]
    if not found:
        pytest.skip("NVRTC is not installed: pip install '.[gpu-ci]'")
    # which some versions ask for by name, without a path
    for part in found[-1].parent.glob("libnvrtc-builtins.so.*"):
        ctypes.CDLL(str(part))
    return ctypes.CDLL(str(found[-1]))


def ptx(code: str) -> str:
    """The assembly of `code` for a Hopper."""
    compiler, program, size = nvrtc(), ctypes.c_void_p(), ctypes.c_size_t()
    assert compiler.nvrtcCreateProgram(ctypes.byref(program), code.encode(), b"kernels.cu", 0, None, None) == 0
    options = ["--gpu-architecture=compute_90", *sources.OPTIONS]
    given = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
    assert compiler.nvrtcCompileProgram(program, len(options), given) == 0
    assert compiler.nvrtcGetPTXSize(program, ctypes.byref(size)) == 0
    text = ctypes.create_string_buffer(size.value)
    assert compiler.nvrtcGetPTX(program, text) == 0
    compiler.nvrtcDestroyProgram(ctypes.byref(program))
    return text.value.decode()


def compile_for(architecture: str, code: str) -> tuple[bool, str]:
    """Whether `code` compiles to machine code, and what the compiler says."""
    compiler, program = nvrtc(), ctypes.c_void_p()
    assert compiler.nvrtcCreateProgram(ctypes.byref(program), code.encode(), b"kernels.cu", 0, None, None) == 0
    # the last is CuPy's own
    options = [f"--gpu-architecture={architecture}", *sources.OPTIONS, "-ftz=true"]
    failed = compiler.nvrtcCompileProgram(
        program, len(options), (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
    )
    size = ctypes.c_size_t()
    compiler.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    compiler.nvrtcGetProgramLog(program, log)
    compiler.nvrtcGetCUBINSize(program, ctypes.byref(size))
    compiler.nvrtcDestroyProgram(ctypes.byref(program))
    return not failed and size.value > 0, log.value.decode()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("file", sources.FILES)
def test_compiles_without_a_warning(file: str, architecture: str) -> None:
    for dtype in sources.TYPES:
        for wide in sources.INDICES:
            works, log = compile_for(architecture, sources.source(file, dtype, wide))
            assert works and not log.strip(), f"{dtype}, wide indices {wide}: {log}"


#: kernels that read 16 bytes at a time, and how often before the first of them is used
VECTORED = {
    "elementwise": (
        4,
        ["relu", "relu_backward", "sigmoid", "sigmoid_backward", "tanh_backward", "add_bias", "dropout"],
    ),
    "normalization": (
        4,
        [
            "channel_sums",
            "channel_moments",
            "batch_normalization",
            "normalize",
            "channel_products",
            "batch_normalization_backward",
        ],
    ),
    "optimizers": (
        2,
        [
            "sgd_step",
            "momentum_step",
            "nesterov_step",
            "ada_grad_step",
            "rmsprop_step",
            "ada_delta_step",
            "adam_step",
            "adam_w_step",
        ],
    ),
    "loss_scaling": (1, ["narrowed", "unscaled", "all_finite"]),
}


@pytest.mark.parametrize("dtype", sources.TYPES)
@pytest.mark.parametrize("file", VECTORED)
def test_sixteen_bytes_are_read_at_once(file: str, dtype: str) -> None:
    """In PTX, whose ``ld.global.v4`` of 32 bits, or ``v2`` of 64, is the instruction LDG.E.128 of machine code."""
    kernels = dict(part.split("(", 1) for part in ptx(sources.source(file, dtype, False)).split(".visible .entry ")[1:])
    wide = re.compile(r"ld\.global(?:\.nc)?\.(?:v4\.[fbus]32|v2\.[fbus]64)")
    count, names = VECTORED[file]
    for name in names:
        # without branches between them
        runs = re.split(r"\n\$L|\bbra\b", kernels[name])
        assert max(len(wide.findall(run)) for run in runs) >= count, name


def test_a_name_that_does_not_exist_is_noticed() -> None:
    code = sources.source("elementwise", "float32", False).replace("hashed(uint32 h)", "hashed(uint h)", 1)
    works, log = compile_for("sm_80", code)
    assert not works and "uint" in log
