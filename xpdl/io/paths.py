"""Cache folder for files that can be had again: downloaded data sets, compiled kernels."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def cache_dir() -> Path:
    """``XPDL_CACHE``, or ``xpdl`` in the user's cache folder."""
    if os.environ.get("XPDL_CACHE"):
        return Path(os.environ["XPDL_CACHE"]).expanduser()
    # set but empty means not set
    root = os.environ.get("LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME")
    return Path(root or Path.home() / ".cache") / "xpdl"
