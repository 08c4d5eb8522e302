"""Loading of compiled kernels when they are first needed, and the reason where there are none."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import sys
import warnings
from typing import Any

from xpdl.backends.cpu.tuning import TUNING
from xpdl.backends.numba import BlasError

# op -> the module of its kernel, and the elements of its first argument below which Numba is not loaded for it
KERNELS = {
    "convolution": ("xpdl.backends.numba.convolution", 0),
    "convolution_backward": ("xpdl.backends.numba.convolution", 0),
    "max_pooling": ("xpdl.backends.numba.pooling", 0),
    "max_pooling_backward": ("xpdl.backends.numba.pooling", 0),
    "average_pooling": ("xpdl.backends.numba.pooling", 0),
    "average_pooling_backward": ("xpdl.backends.numba.pooling", 0),
    "batch_normalization": ("xpdl.backends.numba.normalization", 0),
    "batch_normalization_backward": ("xpdl.backends.numba.normalization", 0),
    "normalize": ("xpdl.backends.numba.normalization", 0),
    "gelu": ("xpdl.backends.numba.gelu", TUNING.small_array),
    "gelu_backward": ("xpdl.backends.numba.gelu", TUNING.small_array),
    "layer_normalization": ("xpdl.backends.numba.row_normalization", TUNING.small_array),
    "layer_normalization_backward": ("xpdl.backends.numba.row_normalization", TUNING.small_array),
    "rms_normalization": ("xpdl.backends.numba.row_normalization", TUNING.small_array),
    "rms_normalization_backward": ("xpdl.backends.numba.row_normalization", TUNING.small_array),
    "lstm": ("xpdl.backends.numba.lstm", TUNING.small_array),
    "lstm_backward": ("xpdl.backends.numba.lstm", TUNING.small_array),
    "gru": ("xpdl.backends.numba.gru", TUNING.small_array),
    "gru_backward": ("xpdl.backends.numba.gru", TUNING.small_array),
    "softmax_with_loss": ("xpdl.backends.numba.losses", TUNING.loss_task),
    "relu_backward": ("xpdl.backends.numba.elementwise", TUNING.small_array),
    "dropout": ("xpdl.backends.numba.elementwise", 0),
    "dropout_mask": ("xpdl.backends.numba.dropout", 0),
    "fused_update": ("xpdl.backends.numba.optimizers", TUNING.compiled_parameters),
    "flush_denormals": ("xpdl.backends.numba.optimizers", TUNING.compiled_parameters),
}


def switched_off() -> str | None:
    """Say why there are no compiled kernels, as far as that is known without loading Numba; None if there may be."""
    # set but empty means not set
    asked = os.environ.get("XPDL_COMPILED") or "1"
    if asked not in ("0", "1"):
        raise ValueError(f"XPDL_COMPILED must be 0 or 1, got {asked!r}")
    if asked == "0":
        return "switched off by XPDL_COMPILED=0"
    if importlib.util.find_spec("numba") is None:
        return 'Numba is not installed; pip install "xpdl[compiled]"'
    return None


@functools.cache
def problem() -> str | None:
    """Load Numba and say why nothing is compiled; None if kernels are."""
    if (reason := switched_off()) is not None:
        return reason
    try:
        importlib.import_module("xpdl.backends.numba.jit")
    # an installed Numba may refuse the NumPy or the Python beside it in many ways
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        warnings.warn(f"kernels are not compiled, NumPy alone is slower: {reason}", RuntimeWarning, stacklevel=2)
        return reason
    if importlib.import_module("numba").config.DISABLE_JIT:
        return "switched off by NUMBA_DISABLE_JIT=1"
    return None


@functools.cache
def load(module: str) -> Any:
    """The module of compiled functions of that full name, or None where they cannot be compiled."""
    if problem() is not None:
        return None
    try:
        return importlib.import_module(module)
    except BlasError:
        return None


def state() -> str:
    """Describe for people whether kernels are compiled, by what and where they are cached, or why they are not."""
    if (reason := problem()) is not None:
        return f"NumPy's functions; {reason}"
    numba, cache = (importlib.import_module(name) for name in ("numba", "xpdl.backends.numba.cache"))
    where = cache.folder()
    kept = f"kept in {where}" if cache.writable() else f"not kept, as {where or 'a cache folder'} cannot be written to"
    blas = load("xpdl.backends.numba.blas")
    products = "" if blas else "; those with products of matrices are NumPy's, which is without OpenBLAS here"
    return f"compiled by Numba {numba.__version__}, {kept}{products}"


def planned(library: str) -> str:
    """Describe the kernels that large arrays of a library will take, without loading Numba, which may still refuse."""
    if library != "numpy":
        return f"those of {library}"
    if (reason := switched_off()) is not None:
        return f"NumPy's functions; {reason}"
    from importlib.metadata import version  # a slow import

    return f"compiled by Numba {version('numba')}"


def in_use() -> str:
    """Describe the kernels that this process has used so far: small nets do not load compiled ones."""
    if not any(module in sys.modules for module, _ in KERNELS.values()):
        return "NumPy's functions"
    return f"compiled by Numba {importlib.import_module('numba').__version__}"
