"""A hint where OpenBLAS computes matrix products without the AVX-512 instructions of the processor."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

import threadpoolctl

# architectures of OpenBLAS whose kernels use AVX-512, and the instructions that the first of them needs
_WITH_AVX512 = ("SkylakeX", "Cooperlake", "SapphireRapids")
_NEEDED = frozenset({"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"})
_VARIABLE = "OPENBLAS_CORETYPE"
_PROCESSOR = Path("/proc/cpuinfo")


def hint_here() -> str | None:
    """Return `hint` for NumPy's OpenBLAS on this processor; None without that, or where the system does not tell."""
    loaded = threadpoolctl.ThreadpoolController().select(internal_api="openblas").info()
    numpys = [one for one in loaded if "numpy" in one["filepath"]]
    try:
        lines = _PROCESSOR.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # other systems than Linux
        return None
    flags = next((line.split(":", 1)[1].split() for line in lines if line.startswith("flags")), [])
    return hint(numpys[0].get("architecture"), flags, os.environ.get(_VARIABLE)) if numpys else None


def hint(architecture: str | None, flags: Collection[str], chosen: str | None) -> str | None:
    """Say what to set where kernels for `architecture` leave AVX-512 unused; None where they do not.

    Parameters
    ----------
    architecture : str or None
        As OpenBLAS names it.
    flags : collection of str
        Instructions of the processor, as Linux lists them.
    chosen : str or None
        The value of ``OPENBLAS_CORETYPE``.
    """
    names = {name.lower() for name in _WITH_AVX512}
    if not architecture or architecture.lower() in names or not _NEEDED.issubset(flags):
        return None
    cure = f"unset {_VARIABLE}, which is {chosen}, or set it to" if chosen else f"set {_VARIABLE}="
    return (
        f"by OpenBLAS for {architecture}, without AVX-512, which this processor has; {cure}{' ' if chosen else ''}"
        f"{_WITH_AVX512[0]} before Python starts: steps of nets of sequences took 0.65 to 0.75 of their time on an EPYC; "
        "results differ in the last bits"
    )
