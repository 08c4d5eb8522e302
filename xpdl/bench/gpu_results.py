"""The results of a GPU report, kept on disk as they come; a later call goes on with them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xpdl.backends.device_info import is_emulated
from xpdl.bench.device_rates import Rates
from xpdl.bench.gpu_accuracy import Reached
from xpdl.bench.gpu_steps import Measurement
from xpdl.bench.gpu_tests import SuiteRun
from xpdl.bench.step_cost import Cost
from xpdl.io.atomic import write_atomically

_FORMAT = 1


@dataclasses.dataclass
class Report:
    """All that was measured in one environment: hardware, driver, versions, and the source of xpdl.

    Attributes
    ----------
    folder : path
        Where its files are.
    environment : dict
    dates : list of str
        One for each call.
    tests : SuiteRun or None
    rates : dict
        Precision -> measured rates of the device.
    measurements : list of Measurement
    reached : list of Reached
    left_out : list of str
        What the last call had no time for.
    notes : list of str
    """

    folder: Path
    environment: dict[str, str]
    dates: list[str] = dataclasses.field(default_factory=list)
    tests: SuiteRun | None = None
    rates: dict[str, Rates] = dataclasses.field(default_factory=dict)
    measurements: list[Measurement] = dataclasses.field(default_factory=list)
    reached: list[Reached] = dataclasses.field(default_factory=list)
    left_out: list[str] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)

    @property
    def json_path(self) -> Path:
        return self.folder / "gpu_report.json"

    @property
    def markdown_path(self) -> Path:
        return self.folder / "gpu_report.md"

    @property
    def log_path(self) -> Path:
        return self.folder / "gpu_report_tests.txt"

    @property
    def is_emulated(self) -> bool:
        return is_emulated(self.environment.get("GPU", ""))

    def add(self, measurement: Measurement) -> None:
        """Keep a measurement, in place of an earlier one of the same."""
        self.measurements = [m for m in self.measurements if m.key != measurement.key] + [measurement]

    def note(self, text: str) -> None:
        """Keep a note, once."""
        if text not in self.notes:
            self.notes.append(text)

    def write(self) -> None:
        """Write the JSON file; readers see the one before or this, and never a part."""
        document = {"format": _FORMAT} | dataclasses.asdict(self)
        del document["folder"]
        write_atomically(self.json_path, (json.dumps(document, indent=1) + "\n").encode())


def load(folder: Path, environment: Mapping[str, str], *, anew: bool = False) -> Report:
    """Read the report in `folder` to go on with it, or begin one.

    A report of another environment, or of a file that cannot be read, is set aside under a name with its number; with
    `anew` any report is.
    """
    report = Report(folder, dict(environment))
    if not report.json_path.exists():
        return report
    try:
        kept = _read(report, json.loads(report.json_path.read_text(encoding="utf-8")))
    except (ValueError, KeyError, TypeError) as error:
        reason = f"its file cannot be read ({type(error).__name__}: {error})"
    else:
        changed = sorted(
            name for name in {*kept.environment, *environment} if kept.environment.get(name) != environment.get(name)
        )
        reason = f"it is of another {', '.join(changed)}" if changed else "a new one was asked for"
        if not changed and not anew:
            return kept
    for path in (report.json_path, report.markdown_path, report.log_path):
        if path.exists():
            moved = _free(path)
            path.rename(moved)
            report.note(f"an earlier report was set aside as {moved}: {reason}")
    return report


def source_hash() -> str:
    """Of the package's files: figures of one source are not those of another."""
    package = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(p for p in package.rglob("*") if p.suffix in (".py", ".cu", ".cuh")):
        digest.update(path.relative_to(package).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def read_measurement(document: Mapping[str, Any]) -> Measurement:
    """A measurement from the JSON object of its fields."""
    return Measurement(**{**document, "least": Cost(**document["least"])})


def _read(report: Report, document: dict[str, Any]) -> Report:
    if document.pop("format") != _FORMAT:
        raise ValueError(f"gpu_report: {report.json_path} is of another format")
    return Report(
        folder=report.folder,
        environment=document["environment"],
        dates=document["dates"],
        tests=None if document["tests"] is None else SuiteRun(**document["tests"]),
        rates={precision: Rates(**rates) for precision, rates in document["rates"].items()},
        measurements=[read_measurement(m) for m in document["measurements"]],
        reached=[Reached(**r) for r in document["reached"]],
        left_out=document["left_out"],
        notes=document["notes"],
    )


def _free(path: Path) -> Path:
    """`path` with the first number that is not taken."""
    numbered = (path.with_name(f"{path.stem}.{number}{path.suffix}") for number in range(1, 10**6))
    return next(candidate for candidate in numbered if not candidate.exists())
