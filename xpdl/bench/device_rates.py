"""Rates of a device: peaks that its maker states, and those of large products and copies measured on it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any

from xpdl.backends import Backend
from xpdl.ops.affine import affine


@dataclasses.dataclass(frozen=True)
class Rates:
    """Of matrix products and of memory."""

    flop_per_second: float
    bytes_per_second: float


@dataclasses.dataclass(frozen=True)
class Peak:
    """Peak rates of a GPU, dense, without sparsity.

    Attributes
    ----------
    words : tuple of str
        All of them stand in the name that the driver gives.
    fp32, tf32, half : float
        TFLOP/s of float32, of TF32 on tensor cores (that of float32 where there is none), and of float16 and bfloat16
        with sums in float32.
    bandwidth : float
        GB/s.
    source : str
    """

    words: tuple[str, ...]
    fp32: float
    tf32: float
    half: float
    bandwidth: float
    source: str

    def rates(self, precision: str) -> Rates:
        """For ``"highest"``, ``"tf32"``, or a half precision."""
        tera = {"highest": self.fp32, "tf32": self.tf32}.get(precision, self.half)
        return Rates(1e12 * tera, 1e9 * self.bandwidth)


#: name -> peak rates; the first whose words are in a device's name is its own, so the more specific come first
PEAKS = {
    "H200": Peak(("H200",), 67.0, 494.5, 989.5, 4800.0, "NVIDIA H200 Tensor Core GPU data sheet, SXM"),
    "H100 PCIe": Peak(("H100", "PCIe"), 51.2, 378.0, 756.5, 2000.0, "NVIDIA H100 Tensor Core GPU data sheet, PCIe"),
    "H100": Peak(("H100",), 67.0, 494.5, 989.5, 3350.0, "NVIDIA H100 Tensor Core GPU data sheet, SXM"),
    "A100 SXM 80GB": Peak(
        ("A100", "SXM4", "80GB"), 19.5, 156.0, 312.0, 2039.0, "NVIDIA A100 Tensor Core GPU data sheet, SXM"
    ),
    "A100 80GB": Peak(("A100", "80GB"), 19.5, 156.0, 312.0, 1935.0, "NVIDIA A100 Tensor Core GPU data sheet, PCIe"),
    "A100": Peak(("A100",), 19.5, 156.0, 312.0, 1555.0, "NVIDIA A100 Tensor Core GPU data sheet, 40 GB"),
    "L40S": Peak(("L40S",), 91.6, 183.0, 362.0, 864.0, "NVIDIA L40S data sheet"),
    "L4": Peak(("L4",), 30.3, 60.0, 121.0, 300.0, "NVIDIA L4 Tensor Core GPU data sheet"),
    "A10": Peak(("A10",), 31.2, 62.5, 125.0, 600.0, "NVIDIA A10 Tensor Core GPU data sheet"),
    "T4": Peak(("T4",), 8.1, 8.1, 65.0, 320.0, "NVIDIA T4 Tensor Core GPU data sheet"),
    "V100": Peak(("V100",), 15.7, 15.7, 125.0, 900.0, "NVIDIA V100 Tensor Core GPU data sheet, SXM2"),
    "RTX 4090": Peak(("RTX", "4090"), 82.6, 82.6, 165.2, 1008.0, "NVIDIA Ada GPU architecture whitepaper"),
    "RTX 3090": Peak(("RTX", "3090"), 35.6, 35.6, 71.0, 936.0, "NVIDIA Ampere GA102 GPU architecture whitepaper"),
}


def peak_of(device_name: str) -> str | None:
    """The key in `PEAKS` of the GPU that the driver calls `device_name`, None for others."""
    words = device_name.replace("-", " ").split()
    return next((name for name, peak in PEAKS.items() if set(peak.words) <= set(words)), None)


def measure_rates(
    backend: Backend, synchronize: Callable[[], None], *, side: int, megabytes: int, dtype: str | None = None
) -> Rates:
    """Measure products of square matrices of that `side` in `dtype`, and copies of that many megabytes.

    Products are those of the op `affine`, in the precision that is set.
    """
    xp = backend.xp
    a = xp.ones((side, side), dtype=getattr(xp, dtype or backend.dtype), device=backend.device)
    line = xp.ones((megabytes * 2**20 // 4,), dtype=xp.float32, device=backend.device)
    products = _seconds(lambda: affine(a, a), synchronize)
    copies = _seconds(lambda: line + 0.0, synchronize)
    return Rates(2.0 * side**3 / products, 2.0 * line.shape[0] * 4 / copies)


def _seconds(call: Callable[[], Any], synchronize: Callable[[], None]) -> float:
    """The least of a few: what the device can do."""
    times = []
    for _ in range(6):
        synchronize()
        begin = time.perf_counter()
        call()
        synchronize()
        times.append(time.perf_counter() - begin)
    return min(times)
