"""Run the tests on a GPU and measure training steps beside PyTorch: ``python -m xpdl.bench.gpu``.

Each call takes less than the minutes it is given, by measuring less; the next one resumes with the skipped cases.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xpdl.backends import availability
from xpdl.backends.device_info import machine
from xpdl.bench import gpu_accuracy, gpu_tables, torch_peer
from xpdl.bench.child import run_child
from xpdl.bench.device_rates import Rates
from xpdl.bench.gpu_results import Report, load, read_measurement, source_hash
from xpdl.bench.gpu_steps import ALL_PRECISIONS, CASES, HALVES, PEERS, Measurement
from xpdl.bench.gpu_tests import run_tests
from xpdl.bench.step_cost import Cost, column_bytes
from xpdl.bench.tables import environment
from xpdl.version import __version__

PARTS = ("tests", *PEERS, "accuracy")

# batch size and precision
Case = tuple[int, str]

_BACKEND = "cupy"
# Of the time: what the tests take at most where other parts come after them, and what is kept for the training.
_TESTS_SHARE, _ACCURACY_SHARE = 0.5, 0.1
# A process that starts CuPy and PyTorch is not worth it for fewer seconds, and ending one takes up to so many.
_LEAST, _TO_END = 10.0, 5.0
# Sizes where CuPy runs on the CPU.
_TINY = (2,)


class Clock:
    """The time that is left."""

    def __init__(self, seconds: float) -> None:
        self.end = time.monotonic() + seconds

    def left(self) -> float:
        return max(0.0, self.end - time.monotonic())


def main(argv: Sequence[str] | None = None) -> int:
    """Run the report; 0 where no test fails, 1 without a GPU, 2 where a test fails."""
    args = parser().parse_args(argv)
    reason = availability.cupy_problem()
    if reason:
        print(f"gpu_report: nothing to measure: {reason}", file=sys.stderr)
        return 1
    return run(args)


def parser() -> argparse.ArgumentParser:
    """The options, which ``xpdl bench --gpu-report`` passes on."""
    options = argparse.ArgumentParser(
        prog="python -m xpdl.bench.gpu",
        description="Run the tests on a CUDA GPU and measure training steps beside PyTorch. What there is no time for is "
        "skipped, and the next call goes on there.",
    )
    options.add_argument(
        "--out", type=Path, default=Path("runs"), metavar="FOLDER", help="for gpu_report.json and .md (default: runs)"
    )
    options.add_argument("--minutes", type=float, default=9.0, metavar="N", help="of this call (default: 9)")
    options.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART", help=", ".join(PARTS))
    options.add_argument("--nets", nargs="+", choices=CASES, default=list(CASES), metavar="NET", help=", ".join(CASES))
    precisions: dict[str, Any] = {
        "choices": ALL_PRECISIONS,
        "default": ALL_PRECISIONS,
        "help": ", ".join(ALL_PRECISIONS),
    }
    options.add_argument("--precisions", nargs="+", metavar="P", **precisions)
    options.add_argument("--tests", nargs="+", default=["tests"], metavar="PATH", help="which tests (default: all)")
    options.add_argument("--again", action="store_true", help="set an earlier report in the folder aside")
    options.add_argument("--no-tests", action="store_true", help=argparse.SUPPRESS)  # of the former name
    return options


def run(args: argparse.Namespace) -> int:
    """Run the parts that were asked for, and write the report after each measurement."""
    clock = Clock(60 * args.minutes - _TO_END)
    args.out.mkdir(parents=True, exist_ok=True)
    report = load(args.out, _environment(), anew=args.again)
    report.dates.append(datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"))
    report.left_out = []
    print("\n".join(gpu_tables.header(report)), flush=True)
    _note_what_is_missing(report)
    only = [part for part in args.only if not (part == "tests" and args.no_tests)]
    if "tests" in only:
        _tests(report, clock, args.tests, alone=only == ["tests"])
    keep = clock.left() * _ACCURACY_SHARE if "accuracy" in only else 0.0
    for part in PEERS:
        if part in only:
            _steps(report, clock, part, args.nets, args.precisions, keep)
    if "accuracy" in only:
        _accuracy(report, clock)
    _write(report)
    print(report.markdown_path.read_text(encoding="utf-8"))
    return 2 if report.tests is not None and report.tests.bad else 0


def _environment() -> dict[str, str]:
    """Return the versions that figures depend on."""
    host = environment()
    return {
        **machine(),
        "host": host["machine"],
        "system": host["system"],
        "Python": platform.python_version(),
        "NumPy": host["numpy"],
        "xpdl": f"{__version__}, source {source_hash()}",
    }


def _write(report: Report) -> None:
    """After each result: it is kept, whatever comes after it."""
    report.write()
    report.markdown_path.write_text(gpu_tables.markdown(report), encoding="utf-8")


def _note_what_is_missing(report: Report) -> None:
    """Say what it costs that a library is not there."""
    if not torch_peer.is_installed():
        report.note("PyTorch is not installed: nothing to compare with; pip install 'torch>=2.6'")
    if "not used" in report.environment.get("cuDNN", ""):
        build, shape, _ = CASES["DeepConvNet"]
        network = build()
        network.build(shape)
        megabytes = column_bytes(network, shape, 100, 4) / 1e6
        report.note(
            "without cuDNN, convolutions are im2col and cuBLAS, in all precisions: a step of DeepConvNet at batch 100 moves "
            f"{megabytes:,.0f} MB of columns that cuDNN does not have, and small nets take more launches; "
            f"{report.environment['cuDNN']}"
        )


def _tests(report: Report, clock: Clock, paths: Sequence[str], alone: bool) -> None:
    if report.tests is not None and report.tests.finished:
        return
    limit = clock.left() if alone else clock.left() * _TESTS_SHARE
    report.tests = run_tests(limit, report.log_path, report.tests, paths)
    if not report.tests.finished:
        report.left_out.append(f"tests: {report.tests.note}")
    _write(report)


def _steps(
    report: Report, clock: Clock, part: str, nets: Sequence[str], precisions: Sequence[str], keep: float
) -> None:
    """Measure what is not there yet, in a process for each net."""
    _measure_rates(report, clock, keep)
    for net in nets:
        sizes = _TINY if report.is_emulated else CASES[net][2]
        cases = [(size, precision) for precision in precisions for size in sizes]
        reason = _net(report, clock, part, net, cases, keep)
        if missing := _missing(report, part, net, cases):
            listed = ", ".join(f"{size} {precision}" for size, precision in missing)
            report.left_out.append(f"{part}: {net} {listed} ({reason})")
        _write(report)


def _net(report: Report, clock: Clock, part: str, net: str, cases: Sequence[Case], keep: float) -> str:
    """Measure the missing cases of a net; return why some are skipped, if any."""

    def keep_line(line: str) -> None:
        report.add(read_measurement(json.loads(line)))
        _write(report)

    while missing := _missing(report, part, net, cases):
        if clock.left() - keep <= _LEAST:
            return "no time was left"
        words = [f"{size}:{precision}" for size, precision in missing]
        ended = run_child(_command(report, part, net, *words), clock.left() - keep, keep_line)
        if ended.code is None:
            return ended.reason
        left = _missing(report, part, net, cases)
        if not ended.code:
            return "the process did not measure it"
        if left:
            # its process ended in this case: another one goes on with the next
            report.add(Measurement(part, net, *left[0], milliseconds={}, least=Cost(0.0, 0.0), notes=[ended.reason]))
    return ""


def _missing(report: Report, part: str, net: str, cases: Sequence[Case]) -> list[Case]:
    done = {m.key for m in report.measurements}
    return [case for case in cases if (part, net, *case) not in done]


def _measure_rates(report: Report, clock: Clock, keep: float) -> None:
    """Of large products in each precision, and of memory."""
    precisions = [p for p in (*ALL_PRECISIONS[: -len(HALVES)], HALVES[0]) if p not in report.rates]
    if not precisions or clock.left() - keep <= _LEAST:
        return

    def keep_line(line: str) -> None:
        said: dict[str, Any] = json.loads(line)
        precision = said.pop("precision")
        report.rates[precision] = Rates(**said)

    ended = run_child(_command(report, "rates", *precisions), clock.left() - keep, keep_line)
    if ended.reason:
        report.note(f"rates of the device: {ended.reason}")


def _command(report: Report, *words: str) -> list[str]:
    short = ["--short"] if report.is_emulated else []
    return [sys.executable, "-m", "xpdl.bench.gpu_steps", *short, *words]


def _accuracy(report: Report, clock: Clock) -> None:
    if any(r.seconds is not None for r in report.reached):
        return
    if clock.left() < _LEAST:
        report.left_out.append("accuracy: no time was left")
        return
    small = {"targets": gpu_accuracy.MINI_TARGETS, "data": "mini"} if report.is_emulated else {}
    report.reached, problem = gpu_accuracy.to_accuracy(_BACKEND, clock.left(), **small)  # type: ignore[arg-type]
    if problem:
        report.note(f"accuracy on MNIST: {problem}")
    _write(report)
