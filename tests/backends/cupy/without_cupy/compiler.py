"""The CUDA kernels compiled by the host's compiler, to run on memory of the host."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from xpdl.backends.cupy import sources

HEADER = Path(__file__).with_name("kernels.h")
COMPILER = shutil.which("g++")
KERNEL = re.compile(r'extern "C" __global__ void (\w+)\(')

# as types are called in kernels.h
WORDS = 'WORD(float16, "float16")\nWORD(bfloat16, "bfloat16")\n'


def kernels(file: str) -> list[str]:
    """The names of the kernels in a file."""
    return KERNEL.findall(sources.kernels(file))


def instance(dtype: str, wide: bool) -> str:
    return f"{dtype}_{'wide' if wide else 'narrow'}"


def program(file: str) -> str:
    """All instances of a file's kernels, each in a namespace, and functions that launch them."""
    kernel_text = KERNEL.sub(r"void \1(", sources.kernels(file))
    parts = [f'#include "{HEADER}"\n', sources.text("common.cuh"), WORDS]
    macros = [name for name in re.findall(r"#define (\w+)", kernel_text)]
    for dtype in sources.TYPES:
        for wide in (False, True):
            name = instance(dtype, wide)
            parts += [f"namespace {name} {{\n{sources.types(dtype, wide)}{kernel_text}}}\n"]
            parts += [f"#undef {macro}\n" for macro in macros]
            parts += [f"EXPORT({name}, {kernel})\n" for kernel in kernels(file)]
    return "".join(parts)


@functools.cache
def library(file: str) -> ctypes.CDLL:
    """The compiled program of a file, kept in the folder for temporary files under the hash of its text."""
    assert COMPILER, "needs g++"
    text = program(file)
    key = hashlib.sha256((text + HEADER.read_text()).encode()).hexdigest()[:20]
    folder = Path(tempfile.gettempdir()) / f"xpdl-kernels-{key}"
    path = folder / f"{file}.so"
    if not path.exists():
        folder.mkdir(exist_ok=True)
        (folder / f"{file}.cpp").write_text(text)
        fresh = folder / f"{file}.{tempfile.mktemp(dir='')}.so"
        # without contraction, and in the order written: what differs from the generic op is a difference of the kernel
        flags = ["-std=c++17", "-O1", "-ffp-contract=off", "-fPIC", "-shared", "-w"]
        subprocess.run([COMPILER, *flags, str(folder / f"{file}.cpp"), "-o", str(fresh)], check=True)
        fresh.replace(path)
    return ctypes.CDLL(str(path))


@functools.cache
def _sources() -> dict[str, tuple[str, str, bool]]:
    return {
        sources.source(file, dtype, wide): (file, dtype, wide)
        for file in sources.FILES
        for dtype in sources.TYPES
        for wide in (False, True)
    }


def find(code: str) -> tuple[str, str, bool]:
    """Of which file, dtype and width a source is."""
    return _sources()[code]


class Kernel:
    """One kernel of one instance; called as CuPy calls a kernel."""

    def __init__(self, file: str, dtype: str, wide: bool, name: str) -> None:
        compiled, tail = library(file), f"{instance(dtype, wide)}_{name}"
        self.name = name
        self._launch: Any = getattr(compiled, f"launch_{tail}")
        self._launch.restype = ctypes.c_bool
        describe = getattr(compiled, f"words_{tail}")
        describe.restype = ctypes.c_char_p
        self.words = describe().decode().split()
        self._together = "__syncthreads" in sources.kernels(file)

    def run(self, grid: tuple[int, ...], block: tuple[int, ...], args: list[Any]) -> None:
        """Run all blocks; `args` are ctypes values."""
        sizes = (ctypes.c_uint * 6)(*(*grid, 1, 1)[:3], *(*block, 1, 1)[:3])
        pointers = (ctypes.c_void_p * len(args))(*(ctypes.cast(ctypes.byref(a), ctypes.c_void_p) for a in args))
        assert self._launch(sizes, pointers, self._together), f"{self.name}: threads of a block miss a barrier"
