"""The roofline of a training step of a net: counted from the kernels that CuPy is asked for, or from the layers' shapes."""

from __future__ import annotations

import dataclasses
from typing import Any

from xpdl.backends import availability, use
from xpdl.backends.device_info import machine
from xpdl.bench import roofline
from xpdl.bench.device_rates import PEAKS, peak_of
from xpdl.bench.gpu_steps import CASES, HALVES, computing, traced, training_step
from xpdl.bench.nets import NETS
from xpdl.bench.step_cost import column_bytes, layer_costs, least_cost
from xpdl.bench.timing import prepared
from xpdl.ops.checks import positive_int

ROOFLINE_NETS = {**NETS, "ResNet18": CASES["ResNet18"][:2]}

_GPU = "H200"
_ITEMSIZE = 4


@dataclasses.dataclass(frozen=True)
class StepRoofline:
    """Counts of one step as text, and as rows for JSON."""

    text: str
    rows: list[dict[str, Any]]


def step_roofline(
    net: str, batch_size: int = 100, *, gpu: str | None = None, precision: str = "highest"
) -> StepRoofline:
    """Count bytes and FLOP of a training step with Adam; nothing is timed.

    Parameters
    ----------
    net : str
        A key of `ROOFLINE_NETS`.
    batch_size : int
    gpu : str, optional
        A key of `PEAKS`, whose peak rates times are of; this machine's GPU by default, or an H200.
    precision : str
        ``"highest"`` or ``"tf32"`` in float32, or that of the passes in mixed precision.

    Returns
    -------
    StepRoofline
        Of every kernel, where CuPy computes, on a GPU or emulated; else of every layer.
    """
    positive_int(batch_size, "batch_size", "roofline")
    build, shape = ROOFLINE_NETS[net]
    reason = availability.cupy_problem()
    gpu = gpu or (None if reason else peak_of(machine()["GPU"])) or _GPU
    rates, fp32_rates = PEAKS[gpu].rates(precision), PEAKS[gpu].rates("highest")
    shown = {"highest": "float32", "tf32": "float32 with TF32"}.get(precision, precision)
    head = f"{net}, batch {batch_size}, {shown}; counted, not timed; times at the peaks of {gpu} ({PEAKS[gpu].source})"
    with use("numpy" if reason else "cupy"), computing(precision):
        network, x, t = prepared(build, shape, batch_size)
        if reason is None:
            step = training_step(network, x, t, precision)
            step()  # the first one makes the optimizer's state
            calls = traced(step)
            counts = roofline.totals(calls)
    itemsize = _ITEMSIZE // 2 if precision in HALVES else _ITEMSIZE
    least = least_cost(network, shape, batch_size, itemsize, _ITEMSIZE)
    if reason is None:
        text = roofline.table(counts, least, rates, fp32_rates) + "\n\n" + roofline.transposes(calls)
        rows = [dataclasses.asdict(count) for count in counts]
        if not any(count.library == "cudnn" for count in counts) and (
            moved := column_bytes(network, shape, batch_size, itemsize)
        ):
            text += f"\n\nWithout cuDNN; {moved / 1e6:.1f} MB are im2col's columns, written and read."
    else:
        layers = layer_costs(network, shape, batch_size, itemsize, _ITEMSIZE)
        text = "\n".join(
            [
                "| layer | MB | MFLOP | us at the roofline |",
                "|---|---:|---:|---:|",
                *(
                    f"| {n} | {roofline.amounts(c)} | {1e6 * c.seconds(rates):.1f} |"
                    for n, c in [*layers, ("all", least)]
                ),
                "",
                f"Least by layers, from their shapes; what kernels move takes CuPy to count: {reason}",
            ]
        )
        rows = [{"layer": name, "cost": dataclasses.asdict(cost)} for name, cost in layers]
    rows = [{"net": net, "batch_size": batch_size, **row} for row in rows]
    return StepRoofline(f"{head}\n\n{text}\n", rows)
