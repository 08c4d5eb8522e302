"""The figures as a table to read, and as JSON."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from xpdl.bench.gpu_accuracy import Reached
from xpdl.bench.gpu_steps import CAPTURED, Row

#: what step times are to be at most, by those of PyTorch
GOALS = {"torch": 1.0, "torch compiled": 1.1}


def tables(report: Mapping[str, Any]) -> str:
    """All of a report, in Markdown."""
    lines = ["# xpdl on a GPU", "", *(f"- {name}: {value}" for name, value in report["machine"].items()), ""]
    tests = report["tests"]
    lines += [f"Tests: {tests['result']} ({tests['seconds']:.0f} s)", ""]
    if report["steps"]:
        lines += [*_steps(report["steps"]), ""]
    if report["accuracy"]["reached"]:
        lines += _accuracy(report["accuracy"]["reached"])
    lines += [f"- {note}" for note in report["notes"]]
    return "\n".join(lines) + "\n"


def _steps(rows: Sequence[Row]) -> list[str]:
    lines = [
        "| net | batch | precision | xpdl ms | captured ms | torch ms | compiled ms | xpdl/torch | xpdl/compiled "
        "| captured/compiled | floor | floor/xpdl | GPU busy |",
        "|---|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for r in rows:
        ours = r.milliseconds.get("xpdl")
        cells = [
            r.net,
            str(r.batch_size),
            r.precision,
            *(_number(r.milliseconds.get(name), 3) for name in ("xpdl", CAPTURED, "torch", "torch compiled")),
            *(_number(r.ratio(name), 2) for name in GOALS),
            _number(r.ratio("torch compiled", of=CAPTURED), 2),
            _number(r.floor_milliseconds, 3),
            _number(None if ours is None else r.floor_milliseconds / ours, 2),
            _number(r.busy, 2),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    lines.append("")
    for name, goal in GOALS.items():
        ratios = [ratio for r in rows if (ratio := r.ratio(name)) is not None]
        if ratios:
            missed = sum(ratio > goal for ratio in ratios)
            mean = statistics.geometric_mean(ratios)
            lines.append(f"xpdl/{name}: geometric mean {mean:.2f}; {missed} of {len(ratios)} rows above {goal}")
    lines += [f"{r.net} {r.batch_size} {r.precision}: {r.note}" for r in rows if r.note]
    return lines


def _accuracy(reached: Sequence[Reached]) -> list[str]:
    lines = ["| DeepConvNet on MNIST | seconds | with start-up |", "|---|---:|---:|"]
    lines += [
        f"| {100 * r.target:.1f} % | {_number(r.seconds, 1)} | {_number(r.seconds_with_start, 1)} |" for r in reached
    ]
    return [*lines, ""]


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def plain(value: Any) -> Any:
    """Dataclasses as dicts, for JSON."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value
