"""The text of the CUDA kernels, for each dtype; no GPU and no CuPy is needed to have it."""

from __future__ import annotations

import functools
import importlib.resources

#: the files of kernels, in the folder ``cuda``
FILES = (
    "elementwise",
    "layout",
    "pooling",
    "pooling_channels_last",
    "windows",
    "normalization",
    "normalization_rows",
    "row_normalization",
    "softmax",
    "losses",
    "optimizers",
    "loss_scaling",
    "products",
    "recurrent",
    "embedding",
    "positional",
    "capture",
)

#: file -> headers that it shares with others
_HEADERS = {
    "normalization": ("moments.cuh",),
    "normalization_rows": ("moments.cuh",),
    "row_normalization": ("rows.cuh", "moments.cuh"),
    "softmax": ("rows.cuh",),
    "losses": ("rows.cuh",),
    "embedding": ("moments.cuh",),
    "pooling": ("bands.cuh",),
    "windows": ("bands.cuh",),
}

#: dtype -> the type that arrays have in memory, and the one that kernels compute with
TYPES = {
    "float16": ("float16", "float"),
    "bfloat16": ("bfloat16", "float"),
    "float32": ("float", "float"),
    "float64": ("double", "double"),
}

#: options for NVRTC
OPTIONS = ("-std=c++17",)

INDICES = {False: "int", True: "int64"}


@functools.cache
def text(file: str) -> str:
    """A file of the folder ``cuda``."""
    return (importlib.resources.files(__package__) / "cuda" / file).read_text(encoding="utf-8")


def types(dtype: str, wide: bool) -> str:
    """The types of one instance, packs and tiles of them; `wide` ones have indices of 64 bits."""
    stored, computed = TYPES[dtype]
    typedefs = f"typedef {stored} T;\ntypedef {computed} A;\ntypedef {INDICES[wide]} I;\n"
    return typedefs + text("packs.cuh") + text("tiles.cuh")


def kernels(file: str) -> str:
    """The text of the kernels of one file, with the headers that it shares with others."""
    return "".join(text(header) for header in _HEADERS.get(file, ())) + text(f"{file}.cu")


def source(file: str, dtype: str, wide: bool) -> str:
    """All that a compiler needs for the kernels of one file and dtype."""
    return text("common.cuh") + types(dtype, wide) + kernels(file)
