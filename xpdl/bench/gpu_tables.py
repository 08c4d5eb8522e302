"""The GPU report as text to read."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from xpdl.bench import roofline
from xpdl.bench.device_rates import Rates
from xpdl.bench.gpu_accuracy import Reached
from xpdl.bench.gpu_predictions import comparison
from xpdl.bench.gpu_results import Report
from xpdl.bench.gpu_steps import CAPTURED, HALVES, PEERS, Measurement
from xpdl.bench.step_cost import Cost

#: step times by those of PyTorch are to be at most that
GOALS = {"torch": 1.0, "torch compiled": 1.1}

NOT_A_GPU = "**Not a GPU.** CuPy runs on the CPU here: everything runs, and no figure says anything about speed."
_EAGER_TIMES = ("xpdl", CAPTURED, "torch", "torch channels_last")


def header(report: Report) -> list[str]:
    """Hardware, driver and versions, and the dates of the calls."""
    lines = ["# xpdl on a GPU", ""]
    if report.is_emulated:
        lines += [NOT_A_GPU, ""]
    lines += [f"- {name}: {value}" for name, value in report.environment.items()]
    return [*lines, f"- measured: {', '.join(report.dates)}", ""]


def footer(report: Report) -> list[str]:
    """List the skipped parts, and say what to do with the files."""
    lines = []
    measured = {m.part for m in report.measurements}
    there = {"tests": report.tests is not None, **{part: part in measured for part in PEERS}}
    there["accuracy"] = bool(report.reached)
    if missing := [part for part, is_there in there.items() if not is_there]:
        lines += [f"Not there yet: {', '.join(missing)}.", ""]
    if report.left_out:
        lines += ["Skipped, as the time was over; the same command goes on there:", ""]
        lines += [*(f"- {item}" for item in report.left_out), ""]
    if report.is_emulated:
        return [*lines, NOT_A_GPU]
    return [
        *lines,
        f"Please attach {report.json_path} and {report.markdown_path} to an issue of the project, titled 'GPU report: "
        f"{report.environment['GPU']}'; where tests failed, {report.log_path} too. They name this machine's hardware and "
        "versions, and nothing else of it.",
    ]


def markdown(report: Report) -> str:
    """The whole report."""
    lines = header(report)
    if report.tests is not None:
        lines += [f"Tests: {report.tests.summary} ({report.tests.seconds:.0f} s)", ""]
        if report.tests.bad:
            lines += [*(f"- {bad}" for bad in report.tests.bad), ""]
    if report.measurements:
        lines += ["## Training steps", "", *steps(report.measurements, report.rates), ""]
        lines += ["## Predictions", "", *comparison(report.measurements), ""]
        lines += ["## Roofline", "", *_rooflines(report.measurements, report.rates)]
    if report.reached:
        lines += ["## Accuracy", "", *_accuracy(report.reached, report.is_emulated)]
    lines += [*(f"- {note}" for note in report.notes), ""]
    return "\n".join([*lines, *footer(report)]) + "\n"


def steps(measurements: Sequence[Measurement], rates: Mapping[str, Rates]) -> list[str]:
    """One line for each net, batch size and precision; ratios are of times from the same rounds."""
    lines = [
        "| net | batch | precision | xpdl ms | captured ms | torch ms | channels_last ms | compiled ms | xpdl/torch "
        "| captured/torch | xpdl/compiled | captured/compiled | least ms | least/xpdl | calls | MB | GPU busy |",
        "|---|---:|---|" + "---:|" * 14,
    ]
    rows: dict[tuple[str, int, str], dict[str, Measurement]] = {}
    for m in measurements:
        rows.setdefault((m.net, m.batch_size, m.precision), {})[m.part] = m
    for (net, batch_size, precision), parts in rows.items():
        eager, compiled = parts.get("eager"), parts.get("compiled")
        either = eager or compiled
        assert either is not None
        times = [*(_time(eager, name) for name in _EAGER_TIMES), _time(compiled, "torch compiled")]
        if eager is None:
            times[:2] = [_time(compiled, "xpdl"), _time(compiled, CAPTURED)]
        least = _seconds(either.least, precision, rates)
        cells = [
            *(_number(value, 3) for value in times),
            *(_number(_ratio(eager, "torch", of), 2) for of in ("xpdl", CAPTURED)),
            *(_number(_ratio(compiled, "torch compiled", of), 2) for of in ("xpdl", CAPTURED)),
            _number(None if least is None else 1e3 * least, 3),
            _number(1e3 * least / times[0] if least is not None and times[0] else None, 2),
            *_traffic(eager),
            _number(eager.utilization if eager else None, 2),
        ]
        lines.append(f"| {net} | {batch_size} | {precision} | " + " | ".join(cells) + " |")
    lines += ["", *_means(measurements)]
    notes = [f"{m.net} {m.batch_size} {m.precision}: {note}" for m in measurements for note in m.notes]
    return [*lines, *(f"- {note}" for note in dict.fromkeys(notes))]


def _means(measurements: Sequence[Measurement]) -> list[str]:
    lines = []
    for to, goal in GOALS.items():
        for of in ("xpdl", CAPTURED):
            ratios = [ratio for m in measurements if (ratio := m.ratio(to, of)) is not None]
            if ratios:
                above = sum(ratio > goal for ratio in ratios)
                mean = statistics.geometric_mean(ratios)
                lines.append(f"- {of} / {to}: geometric mean {mean:.2f}; {above} of {len(ratios)} rows above {goal}")
    return lines


def _rooflines(measurements: Sequence[Measurement], rates: Mapping[str, Rates]) -> list[str]:
    """The kernels of an uncaptured step of each net, at the first batch size and precision that was measured."""
    lines = [
        "Bytes and FLOP of every kernel of xpdl and call of cuBLAS and cuDNN in a step; times are what they take at least, "
        "at the rates measured here.",
        "",
    ]
    first: dict[str, Measurement] = {}
    for m in measurements:
        if m.kernels:
            first.setdefault(m.net, m)
    for m in first.values():
        own, fp32 = _rates(m.precision, rates), _rates("highest", rates)
        if own is not None and fp32 is not None:
            rows = [roofline.Total(k["library"], k["name"], k["calls"], Cost(**k["cost"])) for k in m.kernels]
            lines += [f"{m.net}, batch {m.batch_size}, {m.precision}:", ""]
            lines += [roofline.table(rows, m.least, own, fp32), ""]
    return lines


def _accuracy(reached: Sequence[Reached], mini: bool) -> list[str]:
    net = "TwoLayerNet on 6,000 digits" if mini else "DeepConvNet on MNIST"
    lines = [f"| {net} | seconds | with start-up |", "|---|---:|---:|"]
    lines += [
        f"| {100 * r.target:.1f} % | {_number(r.seconds, 1)} | {_number(r.seconds_with_start, 1)} |" for r in reached
    ]
    return [*lines, ""]


def _rates(precision: str, rates: Mapping[str, Rates]) -> Rates | None:
    return rates.get(HALVES[0] if precision in HALVES else precision)


def _seconds(cost: Cost, precision: str, rates: Mapping[str, Rates]) -> float | None:
    own = _rates(precision, rates)
    return None if own is None or not cost.bytes else cost.seconds(own)


def _time(m: Measurement | None, name: str) -> float | None:
    return None if m is None else m.milliseconds.get(name)


def _ratio(m: Measurement | None, to: str, of: str) -> float | None:
    return None if m is None else m.ratio(to, of)


def _traffic(m: Measurement | None) -> tuple[str, str]:
    """Calls of an uncaptured step, and the megabytes that they move."""
    if m is None or not m.kernels:
        return "-", "-"
    calls: Any = sum(kernel["calls"] for kernel in m.kernels)
    return str(calls), f"{sum(kernel['cost']['bytes'] for kernel in m.kernels) / 1e6:.1f}"


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
