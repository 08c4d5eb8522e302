"""Compile and load the libraries of src/: one stands for the CUDA runtime and driver, one for libcublas."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import subprocess
import sysconfig
import tempfile
from pathlib import Path

from hostcuda import nvrtc
from hostcuda.platforms import COMPILER

_SRC = Path(__file__).parent / "src"


def compiled(source: str) -> Path:
    """The library of a source in src/ for this Python, compiled unless it is in the cache."""
    include = sysconfig.get_path("include")
    parts = [path.read_bytes() for path in sorted(_SRC.iterdir())]
    parts += [(nvrtc.INCLUDE / "hostcuda_kernel.h").read_bytes(), include.encode()]
    path = nvrtc.cache_dir() / f"{Path(source).stem}-{hashlib.sha256(b''.join(parts)).hexdigest()[:16]}.so"
    if not path.exists():
        fresh = tempfile.mktemp(dir=path.parent)
        flags = ["-std=c++17", "-O2", "-fPIC", "-shared", "-w", f"-I{include}"]
        command = [COMPILER, *flags, str(_SRC / source), "-o", fresh, "-ldl"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise ImportError(f"hostcuda: {COMPILER} does not compile {source}:\n{done.stderr}")
        os.replace(fresh, path)
    return path


@functools.cache
def library() -> ctypes.PyDLL:
    """Load it with global symbols: compiled kernels and CuPy's modules call them."""
    return ctypes.PyDLL(str(compiled("host.cpp")), mode=ctypes.RTLD_GLOBAL)
