"""Say where hostcuda can run."""

from __future__ import annotations

import importlib.machinery
import os
import platform
import shutil
import sys

#: the compiler of kernels and of the library in src/
COMPILER = os.environ.get("CXX") or "g++"


def problem() -> str | None:
    """Return None where hostcuda can run, else the reason with its cure."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return f"hostcuda runs on x86-64 Linux only, this is {platform.machine()} {sys.platform}"
    if not shutil.which(COMPILER):
        return f"hostcuda compiles kernels by g++, and there is no {COMPILER}; install it, or set CXX"
    for module, package in (("cupy", "cupy-cuda12x==14.2.0"), ("ml_dtypes", "ml_dtypes")):
        if importlib.machinery.PathFinder.find_spec(module) is None:
            return f"hostcuda needs {module}, which is not installed; pip install {package}"
    return None
