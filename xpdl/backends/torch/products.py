"""Matrix products of PyTorch on a CPU, by oneDNN where that uses AVX-512 and MKL does not.

`torch.mm` calls MKL, which has AVX-512 for processors of Intel alone. Of float32, (580, 256) by (256, 1024) takes 1.3 ms
instead of 2.9 on one core of an EPYC (Zen 5), and (20, 256) by a packed (256, 1024) 0.06 instead of 0.13.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import torch

from xpdl.backends.torch.tensors import Tensor, is_transformed

_PROCESSOR = Path("/proc/cpuinfo")
#: multiplications of a product from which on oneDNN is quicker; below, it takes some 8 us longer
LEAST = 2**20
#: products with one matrix that are worth packing it, which takes as long as two of 20 rows
LEAST_REPEATS = 8


def mm(a: Tensor, b: Tensor) -> Tensor:
    """``a b`` of two matrices."""
    return _by_onednn(a, b, None) if _serves(a, b) else torch.mm(a, b)


def addmm(bias: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """``a b + bias``, with `bias` (M,)."""
    return _by_onednn(a, b, bias) if _serves(a, b, bias) else torch.addmm(bias, a, b)


def repeated(b: Tensor, rows: int, times: int) -> Callable[[Tensor], Tensor] | None:
    """Return the function ``a -> a b`` for matrices of so many rows, with `b` packed once; None where that gains nothing."""
    if times < LEAST_REPEATS or rows * b.numel() < LEAST or not _serves(b):
        return None
    # of a view, packing takes five times as long
    packed = torch.ops.mkldnn._reorder_linear_weight.default(b.T.contiguous(), rows)
    return lambda a: _linear(a, packed, None)


def _by_onednn(a: Tensor, b: Tensor, bias: Tensor | None) -> Tensor:
    return _linear(a, b.T, bias)


def _linear(a: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise.default(a, weight, bias, "none", [], "")


def _serves(*matrices: Tensor) -> bool:
    """Return whether these are of float32 on a CPU where oneDNN is quicker, and of one or two, their product is large."""
    first, *others = matrices
    if first.dtype != torch.float32 or first.device.type != "cpu" or not _is_quicker():
        return False
    if others and len(first) * others[0].numel() < LEAST:
        return False
    return torch.backends.mkldnn.enabled and not any(map(is_transformed, matrices))


@functools.cache
def _is_quicker() -> bool:
    """Return whether oneDNN has the operators, and AVX-512 that MKL leaves unused."""
    has_operators = hasattr(torch.ops.mkldnn, "_linear_pointwise") and hasattr(
        torch.ops.mkldnn, "_reorder_linear_weight"
    )
    if not (has_operators and torch.backends.mkldnn.is_available() and torch.backends.mkl.is_available()):
        return False
    return torch.backends.cpu.get_cpu_capability() == "AVX512" and _vendor() not in ("", "GenuineIntel")


def _vendor() -> str:
    """The vendor of the processor, as Linux names it; empty elsewhere."""
    try:
        lines = _PROCESSOR.read_text().splitlines()
    except OSError:
        return ""
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("vendor_id")), "")
