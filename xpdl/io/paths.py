"""Paths: the cache folder, for files that can be had again, and names of files beside another."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

# the most that file systems of Linux, macOS and Windows take
_LONGEST_NAME = 255


def cache_dir() -> Path:
    """``XPDL_CACHE``, or ``xpdl`` in the user's cache folder."""
    if os.environ.get("XPDL_CACHE"):
        return Path(os.environ["XPDL_CACHE"]).expanduser()
    # set but empty means not set
    root = os.environ.get("LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME")
    return Path(root or Path.home() / ".cache") / "xpdl"


def beside(path: Path, before: str, after: str) -> Path:
    """`path` with its name between `before` and `after`; a name that gets too long is shortened, and ends with its hash.

    Parameters
    ----------
    path : Path
    before, after : str
        ASCII.
    """
    name = os.fsencode(path.name)
    room = _LONGEST_NAME - len(before) - len(after)
    if len(name) > room:
        digest = "~" + hashlib.sha256(name).hexdigest()[:16]
        # a character is cut as a whole
        start = name[: room - len(digest)].decode(errors="ignore")
        return path.with_name(f"{before}{start}{digest}{after}")
    return path.with_name(f"{before}{path.name}{after}")
