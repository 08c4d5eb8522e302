"""Seconds to an accuracy on whole MNIST; in a process of its own, so that its start can be counted: ``python -m`` this."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

from xpdl.backends import asarray, use
from xpdl.data import Batches, load_mnist
from xpdl.models import DeepConvNet, Sequential
from xpdl.optimizers import Adam

#: what is waited for
TARGETS = (0.990, 0.994)
_EPOCHS = 40
_BATCH = 100


@dataclasses.dataclass(frozen=True)
class Reached:
    """A target, and the seconds to it: of training with evaluation, and from the start of the process; None if never."""

    target: float
    seconds: float | None
    seconds_with_start: float | None


def to_accuracy(backend: str, limit: float, targets: Sequence[float] = TARGETS) -> tuple[list[Reached], str]:
    """Train DeepConvNet in a new process to all `targets`, or for `limit` seconds; a note says what failed."""
    begin = time.perf_counter()
    command = [sys.executable, "-m", "xpdl.bench.gpu_accuracy", backend, str(limit), *map(str, targets)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    found: dict[float, Reached] = {}
    try:
        assert process.stdout is not None
        for line in process.stdout:
            now = time.perf_counter() - begin
            epoch = json.loads(line)
            for target in targets:
                if epoch["accuracy"] >= target and target not in found:
                    found[target] = Reached(target, epoch["seconds"], now)
    finally:
        _, errors = process.communicate()
    note = "" if process.returncode == 0 else (errors.strip().splitlines() or ["it said nothing"])[-1]
    return [found.get(target, Reached(target, None, None)) for target in targets], note


def epochs(network: Sequential, train: tuple[Any, Any], test: tuple[Any, Any], limit: float, goal: float) -> None:
    """Print a line of JSON after each epoch, until the test accuracy is `goal` or `limit` seconds are over."""
    batches, adam = Batches(asarray(train[0]), asarray(train[1]), _BATCH, seed=0), Adam()
    x, t = asarray(test[0]), asarray(test[1])
    begin = time.perf_counter()
    for epoch in range(1, _EPOCHS + 1):
        for rows, labels in batches:
            adam.update(network.params, network.gradient(rows, labels))
        accuracy = network.accuracy(x, t, batch_size=1000)
        seconds = time.perf_counter() - begin
        print(json.dumps({"epoch": epoch, "accuracy": accuracy, "seconds": seconds}), flush=True)
        if accuracy >= goal or seconds > limit:
            return


def main(argv: Sequence[str]) -> None:
    """``BACKEND LIMIT TARGET...``."""
    use(argv[0])
    network = DeepConvNet(seed=0)
    network.build((1, 28, 28))
    train, test = load_mnist(flatten=False)
    epochs(network, train, test, float(argv[1]), max(map(float, argv[2:])))


if __name__ == "__main__":
    main(sys.argv[1:])
