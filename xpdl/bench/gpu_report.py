"""The gate: tests, steps, accuracy, one after the other, within the minutes there are."""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from xpdl.backends import diagnosis, make_backend
from xpdl.backends.device_info import machine, synchronizer
from xpdl.backends.numerics import PRECISIONS, numerics
from xpdl.bench import gpu_accuracy, gpu_steps, gpu_tables, roofline
from xpdl.bench.gpu_utilization import gpu_utilization
from xpdl.storage import write_atomically
from xpdl.version import __version__

_BACKEND = "cupy"
# The tests that compute on the GPU. In an image, the checkout belongs to another user: pytest could keep no cache there.
_PYTEST = (sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-m", "gpu and not slow", "tests")
# Shares of the minutes: the tests may take so much, and the training to an accuracy keeps so much.
_TESTS_SHARE, _ACCURACY_SHARE = 0.4, 0.15
# With half precision last: what there is no time for is left out.
_PRECISIONS = (*PRECISIONS, gpu_steps.HALF)
# What the rates of the device are measured with.
_SIDE, _MEGABYTES = 8192, 1024


def main(argv: Sequence[str] | None = None) -> int:
    """Run the gate; 0 when the tests pass and the figures are there, 1 without a GPU, 2 when a test fails."""
    parser = argparse.ArgumentParser(prog="python -m xpdl.bench.gpu", description="Tests and figures on a CUDA GPU.")
    parser.add_argument(
        "--out", type=Path, default=Path("runs"), metavar="FOLDER", help="where gpu_report.json and .md go"
    )
    parser.add_argument("--minutes", type=float, default=8.0, metavar="N", help="what is not done by then is left out")
    parser.add_argument("--no-tests", action="store_true", help="figures only")
    args = parser.parse_args(argv)
    reason = diagnosis.cupy_problem()
    if reason:
        print(f"gpu_report: nothing to measure: {reason}", file=sys.stderr)
        return 1
    args.out.mkdir(parents=True, exist_ok=True)
    clock = Clock(60 * args.minutes)
    found: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": {"xpdl": __version__, "python": platform.python_version(), **machine()},
        "tests": {"result": "left out", "seconds": 0.0, "passed": None},
        "steps": [],
        "accuracy": {"reached": [], "note": ""},
        "notes": [],
    }

    def write() -> None:
        """After each part: what is measured is kept, whatever comes after it."""
        text = json.dumps(gpu_tables.plain(found), indent=1) + "\n"
        write_atomically(args.out / "gpu_report.json", text.encode())
        write_atomically(args.out / "gpu_report.md", gpu_tables.tables(found).encode())

    if not args.no_tests:
        found["tests"] = run_tests(clock.left() * _TESTS_SHARE)
        write()
    measure(found, clock, write)
    reached, note = gpu_accuracy.to_accuracy(_BACKEND, max(5.0, clock.left() - 15))
    found["accuracy"] = {"reached": reached, "note": note}
    if note:
        found["notes"].append(f"accuracy on MNIST: {note}")
    write()
    print(gpu_tables.tables(found))
    return 2 if found["tests"]["passed"] is False else 0


class Clock:
    """How much of the time is left."""

    def __init__(self, seconds: float) -> None:
        self.end = time.monotonic() + seconds

    def left(self) -> float:
        return max(0.0, self.end - time.monotonic())


def run_tests(limit: float, command: Sequence[str] = _PYTEST) -> dict[str, Any]:
    """The suite on the GPU, in the checkout that this package lies in."""
    root = Path(__file__).parents[2]
    if not (root / "tests" / "harness.py").exists():
        return {"result": "not run: they are in the repository, not in the package", "seconds": 0.0, "passed": None}
    environment = os.environ | {"XPDL_BACKENDS": _BACKEND, "XPDL_REQUIRE_GPU": "1"}
    begin = time.perf_counter()
    try:
        done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        return {"result": f"not finished after {limit:.0f} s", "seconds": limit, "passed": None}
    lines = (done.stdout + done.stderr).strip().splitlines() or ["it said nothing"]
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    return {
        "result": lines[-1],
        "failed": failed,
        "seconds": time.perf_counter() - begin,
        "passed": done.returncode == 0,
    }


def measure(found: dict[str, Any], clock: Clock, write: Callable[[], None]) -> None:
    """Fill in the rows of steps: eager PyTorch for all first, then compiled, which takes long to compile."""
    has_torch = importlib.util.find_spec("torch") is not None
    if not has_torch:
        found["notes"].append("PyTorch is not installed: nothing to compare with")
    backend = make_backend(_BACKEND)
    synchronize = synchronizer(backend)
    keep = clock.left() * _ACCURACY_SHARE
    rates = {}
    for precision in _PRECISIONS:
        dtype = gpu_steps.HALF if precision == gpu_steps.HALF else None
        with _computing(precision):
            rates[precision] = roofline.rates(backend, synchronize, side=_SIDE, megabytes=_MEGABYTES, dtype=dtype)
    found["machine"] |= {
        f"measured, {precision}": f"{r.flop_per_second / 1e12:.1f} TFLOP/s, {r.bytes_per_second / 1e9:.0f} GB/s"
        for precision, r in rates.items()
    }
    asked = [(net, size, p) for p in _PRECISIONS for net, (_, _, sizes) in gpu_steps.CASES.items() for size in sizes]
    kinds = ({"torch": False}, {"torch": False, "torch compiled": True}) if has_torch else ({},)
    for torch_kinds in kinds:
        longest = 0.0
        for place, (net, size, precision) in enumerate(asked):
            if clock.left() - keep < longest:
                found["notes"].append(
                    f"out of time: {', '.join(torch_kinds) or 'xpdl'} from {net} {size} {precision} on"
                )
                break
            begin = time.monotonic()
            before = found["steps"][place].busy if place < len(found["steps"]) else None
            with _computing(precision):
                measured = gpu_steps.row(
                    net,
                    size,
                    precision,
                    backend=backend,
                    rates=rates[precision],
                    torch_kinds=torch_kinds,
                    synchronize=synchronize,
                    busy=lambda call, before=before: before or gpu_utilization(call, synchronize, backend),  # type: ignore[misc]
                )
            longest = max(longest, time.monotonic() - begin)
            found["steps"][place : place + 1] = [measured]
            write()


def _computing(precision: str) -> AbstractContextManager[Any]:
    """The setting of products of float32; half precision has none."""
    return numerics(precision=None if precision == gpu_steps.HALF else precision)
