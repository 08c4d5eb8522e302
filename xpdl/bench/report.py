"""Figures as a table."""

from __future__ import annotations

from collections.abc import Sequence

from xpdl.bench.measure import Figure


def table(figures: Sequence[Figure]) -> str:
    """One line per figure, in Markdown."""
    lines = [
        "| net | task | batch | backend | ms (median) | fastest to slowest | images/s | peak MB | ratio to PyTorch |",
        "|---|---|---:|---|---:|---:|---:|---:|---:|",
    ]
    for f in figures:
        peak = "-" if f.peak_megabytes is None else f"{f.peak_megabytes:.0f}"
        ratio = "-" if f.ratio is None else f"{f.ratio:.2f}"
        spread = f"{f.fastest:.2f} to {f.slowest:.2f}"
        lines.append(
            f"| {f.net} | {f.task} | {f.batch_size} | {f.backend} | {f.milliseconds:.2f} | {spread} "
            f"| {f.images_per_second:,.0f} | {peak} | {ratio} |"
        )
    return "\n".join(lines)
