"""Measure what it takes to start: ``python scripts/measure_start.py`` in an environment with xpdl prints a table.

Cold is a start without compiled modules, as the first one after an installation; the files themselves may be in the memory
of the system.
"""

from __future__ import annotations

import importlib.metadata
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROUNDS = 7
REQUIRED = ("numpy", "array-api-compat", "safetensors", "tqdm", "threadpoolctl")
COMMANDS = {
    "`python -c pass`": ["-c", "pass"],
    "`import numpy`": ["-c", "import numpy"],
    "`import xpdl`": ["-c", "import xpdl"],
    "`xpdl --version`": ["-m", "xpdl", "--version"],
}


def seconds(arguments: list[str], cold: bool) -> float:
    """Processor time, the median over fresh processes: other programs on the machine do not count."""
    taken = []
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as empty:
            environment = {**os.environ, **({"PYTHONPYCACHEPREFIX": empty} if cold else {})}
            begin = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run([sys.executable, *arguments], env=environment, check=True, capture_output=True)
            end = resource.getrusage(resource.RUSAGE_CHILDREN)
            taken.append(end.ru_utime + end.ru_stime - begin.ru_utime - begin.ru_stime)
    return statistics.median(taken)


def megabytes(name: str) -> float:
    files = importlib.metadata.files(name) or []
    places = [Path(str(file.locate())) for file in files]
    return sum(place.stat().st_size for place in places if place.is_file()) / 1e6


def main() -> None:
    print("| start | cold | warm |\n|---|---:|---:|")
    for words, arguments in COMMANDS.items():
        seconds(arguments, cold=False)  # compiles what is not
        print(f"| {words} | {seconds(arguments, cold=True):.2f} s | {seconds(arguments, cold=False):.2f} s |")
    package = Path(__file__).resolve().parents[1] / "xpdl"
    own = sum(file.stat().st_size for file in package.rglob("*") if file.is_file() and file.suffix != ".pyc") / 1e6
    sizes = {name: megabytes(name) for name in REQUIRED}
    print("\n| installed | MB |\n|---|---:|")
    print(f"| xpdl, with its digits | {own:.1f} |")
    for name, size in sizes.items():
        print(f"| {name} | {size:.1f} |")
    print(f"| together | {own + sum(sizes.values()):.1f} |")


if __name__ == "__main__":
    main()
