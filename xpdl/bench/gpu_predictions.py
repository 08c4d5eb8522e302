"""Step times on an H200 as they were predicted, not measured: read off the code, kernels' machine code and launch counts."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from xpdl.bench.gpu_steps import CAPTURED, Measurement

DATE = "2026-11-29"
GPU = "NVIDIA H200"

#: predictions for changes after that day
LATER = (
    "with cheaper launches, small nets uncaptured take about half, and ResNet18 5 instead of 12 ms",
    "with cuBLAS in captured steps, MLP at 1000 takes a half to a quarter",
    "with vector loads, one-pass statistics and tap indices, ResNet18 in tf32 and half precision takes 20 to 35 % less",
)


@dataclasses.dataclass(frozen=True)
class Prediction:
    """A ratio of step times, `of` by `to`, of a net at a batch size and precision."""

    net: str
    batch_size: int
    precision: str
    of: str
    to: str
    low: float
    high: float

    @property
    def expected(self) -> str:
        return f"{self.low}" if self.low == self.high else f"{self.low} to {self.high}"


_EAGER, _COMPILED = ("xpdl", "torch"), (CAPTURED, "torch compiled")

#: of the tree of that day; nets but ResNet18 in float32 throughout
PREDICTIONS = (
    *(Prediction(net, 100, "highest", *_EAGER, 2.0, 2.0) for net in ("TwoLayerNet", "MLP", "SimpleConvNet")),
    *(Prediction(net, 100, "highest", *_COMPILED, 0.4, 0.7) for net in ("TwoLayerNet", "MLP", "SimpleConvNet")),
    Prediction("DeepConvNet", 100, "highest", *_EAGER, 2.7, 2.7),
    Prediction("DeepConvNet", 100, "highest", *_COMPILED, 0.7, 0.7),
    Prediction("DeepConvNet", 1000, "highest", *_EAGER, 1.6, 1.6),
    Prediction("DeepConvNet", 1000, "highest", *_COMPILED, 1.4, 1.4),
    Prediction("ResNet18", 128, "tf32", *_EAGER, 2.4, 2.4),
    Prediction("ResNet18", 128, "tf32", *_COMPILED, 1.5, 1.5),
    Prediction("ResNet18", 512, "highest", *_EAGER, 1.1, 1.1),
    Prediction("ResNet18", 512, "tf32", *_EAGER, 1.8, 1.8),
    Prediction("ResNet18", 512, "float16", *_EAGER, 1.7, 1.7),
)


def comparison(measurements: Iterable[Measurement]) -> list[str]:
    """Lines of Markdown: each prediction beside what was measured, or a dash."""
    measured = list(measurements)
    lines = [
        f"Ratios of step times, predicted for an {GPU} on {DATE}, not measured, and measured here:",
        "",
        "| net | batch | precision | ratio | predicted | measured |",
        "|---|---:|---|---|---:|---:|",
    ]
    for p in PREDICTIONS:
        ratios = [
            ratio
            for m in measured
            if (m.net, m.batch_size, m.precision) == (p.net, p.batch_size, p.precision)
            and (ratio := m.ratio(p.to, of=p.of)) is not None
        ]
        found = f"{ratios[0]:.2f}" if ratios else "-"
        lines.append(f"| {p.net} | {p.batch_size} | {p.precision} | {p.of} / {p.to} | {p.expected} | {found} |")
    return [*lines, "", "Predicted of later changes, not measured:", "", *(f"- {line}" for line in LATER)]
