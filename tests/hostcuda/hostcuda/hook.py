"""Replace CUDA below CuPy before CuPy is imported, where ``CUPY_ON_HOST`` is set.

``hostcuda.pth`` (installed) or ``sitecustomize.py`` (from a checkout on ``PYTHONPATH``) imports this when Python starts.
"""

from __future__ import annotations

import os
import sys
from typing import Any


class _Finder:
    """Find no module, but see the first import of CuPy."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name in ("cupy", "cupy_backends", "cupyx"):
            sys.meta_path.remove(self)
            from hostcuda import core

            core.install()


if os.environ.get("CUPY_ON_HOST", "") not in ("", "0"):
    sys.meta_path.insert(0, _Finder())
