"""Stand for NVRTC: g++ compiles the source of a CUDA module to a shared library."""

from __future__ import annotations

import functools
import hashlib
import os
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from hostcuda.platforms import COMPILER

INCLUDE = Path(__file__).parent / "include"
# nvcc contracts a*b+c to a fused multiply-add by default; without it, results are those of the generic ops.
CONTRACT = os.environ.get("HOSTCUDA_FMA", "0") not in ("", "0")
# -fno-gnu-unique: kernels of different modules have equal names, and unique symbols would be shared between them.
FLAGS = [
    "-O1",
    *(["-ffp-contract=fast", "-mfma", "-fexpensive-optimizations"] if CONTRACT else ["-ffp-contract=off"]),
    "-mf16c",
    "-fPIC",
    "-shared",
    "-nostdlib",
    "-w",
    "-fno-strict-aliasing",
    "-fno-gnu-unique",
]
HEADERS = ("hostcuda.h", "with_cupy.h")

_KERNEL = re.compile(
    r"__global__\s+(?:__launch_bounds__\s*\([^)]*\)\s*)?void\s+(?:__launch_bounds__\s*\([^)]*\)\s*)?(\w+)\s*\("
)
_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.S)
_TEMPLATE = re.compile(r"template\s*<[^<>]*(?:<[^<>]*>[^<>]*)*>\s*$")
_DYNAMIC = re.compile(r"extern\s+__shared__\s+(?:__align__\s*\([^)]*\)\s*)?([\w:<>\s]+?)\s+(\w+)\s*\[\s*\]\s*;")
_WAITS = re.compile(r"__sync|__shfl|__ballot|__any_sync|__all_sync")
# inline PTX of one result and one input; include/hostcuda.h has a function for each known instruction
_ASSEMBLY = re.compile(
    r'asm\s*(?:volatile)?\s*\(\s*"\s*([\w.]+)\s+%0\s*,\s*%1\s*;\s*"'
    r'\s*:\s*"=\w"\s*\(([^()]+)\)\s*:\s*"\w"\s*\(([^()]+)\)\s*\)'
)


class NVRTCError(RuntimeError):
    """CuPy's error of this name, which asks NVRTC for its text."""

    def __init__(self, status: int) -> None:
        self.status = status
        names = {6: "NVRTC_ERROR_COMPILATION"}
        super().__init__(f"{names.get(status, 'NVRTC_ERROR')} ({status})")

    def __reduce__(self) -> Any:
        return type(self), (self.status,)


def translated(text: str) -> str:
    """Rewrite what g++ does not parse: dynamic shared memory and inline PTX."""
    text = _DYNAMIC.sub(r"\1* \2 = reinterpret_cast<\1*>(hostcuda::shared);", text)
    return _ASSEMBLY.sub(lambda found: f"ptx_{found[1].replace('.', '_')}({found[2]}, {found[3]})", text)


def entries(text: str, expressions: dict[str, str]) -> str:
    """The descriptors of a module's kernels, and of the template instances named by `expressions`."""
    bare = _COMMENT.sub(" ", text)
    # CuPy's own kernels let threads exit before a barrier, which GPUs since Volta allow
    threads = ("WAITING" if "<cupy/" in text else "TOGETHER") if _WAITS.search(bare) else "APART"
    if threads == "APART" and "CUPY_FOR" in bare and not re.search(r"threadIdx|blockIdx|blockDim|gridDim", bare):
        threads = "ALONE"
    kernels = _KERNEL.finditer(bare)
    names = dict.fromkeys(
        kernel[1] for kernel in kernels if not _TEMPLATE.search(bare[: kernel.start()].removesuffix("\n"))
    )
    lines = [f"HOSTCUDA_KERNEL({name}, {name}, {threads})" for name in names]
    lines += [
        f"HOSTCUDA_KERNEL({symbol}, (&{name}), {threads})" for name, symbol in expressions.items() if symbol != name
    ]
    return "\n".join(["", *lines, ""])


@functools.cache
def version() -> str:
    """A hash of all that decides what a source is compiled to; part of CuPy's cache key."""
    digest = hashlib.sha256(repr(FLAGS).encode())
    for path in [Path(__file__), *sorted(INCLUDE.rglob("*"))]:
        if path.suffix in (".h", ".cuh", ".py"):
            digest.update(path.read_bytes())
    digest.update(subprocess.run([COMPILER, "--version"], capture_output=True, check=True).stdout)
    return digest.hexdigest()[:20]


def cache_dir() -> Path:
    """A folder inside CuPy's kernel cache for this version."""
    root = os.environ.get("CUPY_CACHE_DIR") or os.path.join(os.path.expanduser("~"), ".cupy", "kernel_cache")
    path = Path(root) / f"hostcuda-{version()}"
    path.mkdir(parents=True, exist_ok=True)
    return path


@functools.cache
def precompiled(header: str, standard: str, includes: tuple[str, ...]) -> str:
    """Precompile a header once for each version, and return the name to include it by."""
    key = hashlib.sha256(repr((header, standard, includes)).encode()).hexdigest()[:12]
    place = cache_dir() / f"headers-{key}"
    made = place / f"{header}.gch"
    if not made.exists():
        place.mkdir(exist_ok=True)
        (place / header).write_text(f'#include "{INCLUDE / header}"\n')
        fresh = tempfile.mktemp(dir=place)
        flags = [flag for flag in FLAGS if flag != "-shared"]
        command = [COMPILER, "-x", "c++-header", standard, *flags, f"-I{INCLUDE}", *includes]
        done = subprocess.run([*command, str(place / header), "-o", fresh], capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{header} does not compile:\n{done.stderr}")
        os.replace(fresh, made)
    return str(place / header)


class Program:
    """The source of one module, and what it was compiled to."""

    def __init__(self, text: str, name: str) -> None:
        self.text, self.name = text, name or "default_program"
        self.expressions: dict[str, str] = {}
        self.log, self.binary = "", b""

    def compile(self, options: tuple[str, ...]) -> None:
        if not self.text.strip():
            self.binary = f"// hostcuda {version()}\n".encode()
            return
        standard = next((o for o in options if "-std=" in o), "-std=c++17")
        standard = standard.replace("--std", "-std").replace("c++", "gnu++")
        includes = tuple(option for option in options if option.startswith("-I"))
        defines = [option for option in options if option.startswith(("-D", "-U"))]
        header = HEADERS["<cupy/" in self.text]
        text = translated(self.text)
        whole = f'#line 1 "{self.name}"\n{text}\n{entries(text, self.expressions)}'
        # g++ includes the header's text instead where a macro of `defines` would change it
        before = ["-include", precompiled(header, standard, includes if header == "with_cupy.h" else ())]
        with tempfile.TemporaryDirectory(prefix="hostcuda-") as place:
            out = os.path.join(place, "module.so")
            command = [COMPILER, "-x", "c++", standard, *FLAGS, *before, *defines]
            command += [f"-I{INCLUDE}", *includes, "-", "-o", out]
            done = subprocess.run(command, input=whole, capture_output=True, text=True)
            self.log = done.stderr
            if done.returncode:
                raise NVRTCError(6)
            self.binary = Path(out).read_bytes()


_programs: dict[int, Program] = {}


def getVersion() -> tuple[int, int]:
    return 12, 9


def getSupportedArchs() -> tuple[int, ...]:
    return 70, 75, 80, 86, 89, 90


def createProgram(text: str, name: str, headers: Any, include_names: Any) -> int:
    number = len(_programs) + 1
    _programs[number] = Program(text, name)
    return number


def destroyProgram(number: int) -> None:
    _programs[number].binary = b""


def addNameExpression(number: int, expression: str) -> None:
    program = _programs[number]
    plain = re.fullmatch(r"\w+", expression)
    program.expressions[expression] = expression if plain else f"e{len(program.expressions)}"


def getLoweredName(number: int, expression: str) -> str:
    return _programs[number].expressions[expression]


def compileProgram(number: int, options: Any) -> None:
    _programs[number].compile(tuple(options))


def getPTX(number: int) -> bytes:
    return _programs[number].binary


getCUBIN = getLTOIR = getPTX


def getProgramLog(number: int) -> str:
    return _programs[number].log
