"""Pages of a mapped file that this process has touched, as Linux counts them."""

from __future__ import annotations

import mmap
import sys
from pathlib import Path
from typing import Any

import numpy as np

_PAGE = mmap.PAGESIZE
#: values of a row: 64 pages, as a fault maps up to 16 pages around the one that is touched
ROW_VALUES = 64 * _PAGE // 4
#: reason to skip a test elsewhere, or None
MISSING = None if sys.platform == "linux" and Path("/proc/self/pagemap").exists() else "pagemap is Linux's"


def mapped_rows(path: Path, rows: int) -> Any:
    """Map a new file of float32 rows (rows, ROW_VALUES), each filled with its number."""
    np.memmap(path, np.float32, "w+", shape=(rows, ROW_VALUES))[:] = np.arange(rows, dtype=np.float32)[:, None]
    mapped = np.memmap(path, np.float32, "r", shape=(rows, ROW_VALUES))
    forget(mapped)
    return mapped


def forget(mapped: Any) -> None:
    """Unmap all pages, so that only those touched from now on count."""
    mapped._mmap.madvise(mmap.MADV_DONTNEED)


def rows_touched(mapped: Any) -> set[int]:
    """Return the rows of which most pages are mapped by this process."""
    with open("/proc/self/pagemap", "rb") as file:
        file.seek(mapped.ctypes.data // _PAGE * 8)
        entries = np.frombuffer(file.read(mapped.nbytes // _PAGE * 8), np.uint64)
    present = (entries >> np.uint64(63)).astype(bool).reshape(len(mapped), -1)
    return set(np.flatnonzero(present.mean(axis=1) > 0.5).tolist())
