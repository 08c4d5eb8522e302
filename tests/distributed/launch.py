"""Python under the launcher of MPI that was installed beside it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def command(count: int, *arguments: str) -> list[str]:
    launcher = Path(sys.executable).with_name("mpiexec")
    found = str(launcher) if launcher.exists() else "mpiexec"
    return [found, "-n", str(count), sys.executable, "-W", "error", *arguments]


def environment() -> dict[str, str]:
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": paths, "JAX_ENABLE_X64": "1", "PYTHONUNBUFFERED": "1"}


def on_ranks(count: int, *arguments: str, timeout: float = 240, **options: Any) -> subprocess.CompletedProcess[str]:
    options = {"cwd": ROOT, "env": environment(), **options}
    line = command(count, *arguments)
    return subprocess.run(line, capture_output=True, text=True, timeout=timeout, check=False, **options)
