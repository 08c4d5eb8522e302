"""GPU utilization: the share of time in which a GPU computes, by the driver's own count."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import time
from collections.abc import Callable
from typing import Any

from xpdl.backends import Backend

_SECONDS = 1.5
# The driver averages over up to a second: skip its readings of the time before.
_SETTLED = 1.0
_MILLISECONDS = 100
_BETWEEN_WAITS = 0.05
# Seconds in which the program ends after it was asked to.
_TO_END = 10.0


def gpu_utilization(
    call: Callable[[], Any], synchronize: Callable[[], None], backend: Backend, seconds: float = _SECONDS
) -> float | None:
    """Share of the time in which a kernel ran while `call` is repeated, in [0, 1]; None where it cannot be asked.

    ``nvidia-smi`` is asked, with the address of the device on its bus: numbers of devices are others for the driver.
    """
    program, address = shutil.which("nvidia-smi"), getattr(backend.device, "pci_bus_id", None)
    if program is None or address is None:
        return None
    query = [
        "--query-gpu=utilization.gpu",
        "--format=csv,noheader,nounits",
        f"--loop-ms={_MILLISECONDS}",
        "-i",
        address,
    ]
    begin = time.perf_counter()
    process = subprocess.Popen([program, *query], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        while time.perf_counter() - begin < _SETTLED + seconds:
            waited = time.perf_counter()
            # not one by one: the queue stays filled, as in a training
            while time.perf_counter() - waited < _BETWEEN_WAITS:
                call()
            synchronize()
    finally:
        process.terminate()
        try:
            said, _ = process.communicate(timeout=_TO_END)
        except subprocess.TimeoutExpired:
            process.kill()
            said, _ = process.communicate()
    percent = [int(line) for line in said.splitlines() if line.strip().isdigit()]
    last = percent[-max(1, int(len(percent) * seconds / (_SETTLED + seconds))) :]
    return statistics.fmean(last) / 100 if last else None
