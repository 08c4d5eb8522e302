"""Figures as a table."""

from __future__ import annotations

import datetime
import itertools
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

from xpdl.backends.cpu.thread_pool import thread_count
from xpdl.backends.numba import loading
from xpdl.bench.distributed import GIGABITS, MICROSECONDS, RANKS, DistributedFigure, case
from xpdl.bench.memory import MemoryFigure
from xpdl.bench.scaling import ScalingCurve
from xpdl.bench.timing import Figure
from xpdl.version import __version__

# environment variables that decide how many threads there are, and how XLA compiles
_SETTINGS = ("XPDL_NUM_THREADS", "OMP_NUM_THREADS", "XLA_FLAGS")


def table(figures: Sequence[Figure]) -> str:
    """One line per figure, in Markdown."""
    lines = [
        "| net | task | batch | backend | ms (median) | fastest to slowest | images/s | peak MB | ratio | to |",
        "|---|---|---:|---|---:|---:|---:|---:|---:|---|",
    ]
    for f in figures:
        peak = "-" if f.peak_megabytes is None else f"{f.peak_megabytes:.0f}"
        ratio = "-" if f.ratio is None else f"{f.ratio:.2f}"
        spread = f"{f.fastest:.2f} to {f.slowest:.2f}"
        lines.append(
            f"| {f.net} | {f.task} | {f.batch_size} | {f.backend} | {f.milliseconds:.2f} | {spread} "
            f"| {f.images_per_second:,.0f} | {peak} | {ratio} | {f.peer or '-'} |"
        )
    return "\n".join(lines)


def memory_table(figures: Sequence[MemoryFigure]) -> str:
    """One line per figure, in Markdown."""
    lines = [
        "| net | batch | arrays MB | peak MB | of the arrays | PyTorch MB | ratio to PyTorch |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for f in figures:
        there = (
            "- | -" if f.torch_megabytes is None else f"{f.torch_megabytes:.1f} | {f.megabytes / f.torch_megabytes:.2f}"
        )
        arrays, share = ("-", "-") if f.arrays is None else (f"{f.arrays:.1f}", f"{f.megabytes / f.arrays:.2f}")
        lines.append(f"| {f.net} | {f.batch_size} | {arrays} | {f.megabytes:.1f} | {share} | {there} |")
    return "\n".join(lines)


def scaling_table(curves: Sequence[ScalingCurve]) -> str:
    """One line per operation and kind of size, in Markdown: the time of each size by the least of all sizes."""
    lines = []
    for against, unit in (("batch", "an image"), ("side", "1000 pixels")):
        rows = [curve for curve in curves if curve.against == against]
        if not rows:
            continue
        sizes = " | ".join(f"{against} {size}" for size in rows[0].sizes)
        lines += [f"| us for {unit}, at best | {sizes} |", "|---|" + "---:|" * len(rows[0].sizes)]
        for curve in rows:
            best = min(curve.microseconds)
            times = " | ".join(f"{us / best:.2f}" for us in curve.microseconds)
            lines.append(f"| {curve.operation}: {best:.2f} | {times} |")
        lines.append("")
    return "\n".join(lines).rstrip()


def distributed_table(figure: DistributedFigure) -> str:
    """Describe what was measured, and list predicted efficiencies in Markdown, a line for ranks and bandwidth."""
    alone, sums = figure.alone, figure.sums
    megabytes = sum(bucket.size for bucket in alone.buckets) / 1e6
    lines = [
        f"{figure.net}, batch {figure.batch_size} a rank, {figure.threads} threads: {1e3 * alone.seconds:.1f} ms a step of "
        f"one rank alone; {megabytes:.2f} MB of gradients in {len(alone.buckets)} messages",
    ]
    if figure.ranks > 1:
        ratio = figure.predicted / figure.seconds
        lines += [
            f"sums of {figure.ranks} ranks here: {1e6 * sums.small_seconds:.0f} us and {sums.bandwidth / 1e9:.2f} GB/s; "
            f"gradients are {figure.way}",
            f"a step of {figure.ranks} ranks here: {1e3 * figure.together.seconds:.1f} ms without messages, "
            f"{1e3 * figure.seconds:.1f} ms with them, predicted {1e3 * figure.predicted:.1f} ms ({ratio:.2f})",
        ]
    columns = " | ".join(f"{microseconds} us" for microseconds in MICROSECONDS)
    lines += ["", f"| efficiency, predicted | {columns} |", "|---|" + "---:|" * len(MICROSECONDS)]
    for ranks, gigabits in itertools.product(RANKS, GIGABITS):
        cells = [_range(*figure.efficiencies[case(ranks, gigabits, microseconds)]) for microseconds in MICROSECONDS]
        lines.append(f"| {ranks} ranks, {gigabits} Gb/s | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _range(least: float, most: float) -> str:
    texts = f"{least:.2f}", f"{most:.2f}"
    return texts[0] if texts[0] == texts[1] else " to ".join(texts)


def environment() -> dict[str, str]:
    """The machine, the versions, the kernels on NumPy and the day of a measurement."""
    names = ("numpy", "cupy", "torch", "jax", "optax")  # those that are loaded
    settings = [f"{name}={os.environ[name]}" for name in _SETTINGS if os.environ.get(name)]
    versions = {name: str(sys.modules[name].__version__) for name in names if name in sys.modules}
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "machine": f"{_processor()}, {processors} CPUs",
        "system": platform.platform(),
        "threads": str(thread_count()),
        "xpdl": __version__,
        "python": platform.python_version(),
        **versions,
        "kernels": loading.in_use(),
        **({"settings": " ".join(settings)} if settings else {}),
        **({"load": f"{os.getloadavg()[0]:.1f}"} if hasattr(os, "getloadavg") else {}),
        "date": datetime.date.today().isoformat(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()
