"""Seconds to an accuracy on MNIST; in a process of its own, so that its start can be counted: ``python -m`` this."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Sequence
from typing import Any

from xpdl.backends import asarray, use
from xpdl.bench.child import run_child
from xpdl.data import Batches, load_mini_mnist, load_mnist
from xpdl.models import DeepConvNet, Sequential, TwoLayerNet
from xpdl.optimizers import Adam

#: the target accuracy
TARGETS = (0.990, 0.994)
#: on the 6,000 digits of the package, to see that it runs
MINI_TARGETS = (0.5,)
_EPOCHS = 40
_BATCH = 100


@dataclasses.dataclass(frozen=True)
class Reached:
    """A target, and the seconds to it: of training with evaluation, and from the start of the process; None if never."""

    target: float
    seconds: float | None
    seconds_with_start: float | None


def to_accuracy(
    backend: str, limit: float, targets: Sequence[float] = TARGETS, *, data: str = "mnist"
) -> tuple[list[Reached], str]:
    """Train in a new process to all `targets`, for at most `limit` seconds; a note says what failed.

    `data` is ``"mnist"``, with DeepConvNet, or ``"mini"``, with TwoLayerNet.
    """
    begin = time.perf_counter()
    found: dict[float, Reached] = {}

    def epoch(line: str) -> None:
        now = time.perf_counter() - begin
        said = json.loads(line)
        for target in targets:
            if said["accuracy"] >= target and target not in found:
                found[target] = Reached(target, said["seconds"], now)

    command = [sys.executable, "-m", "xpdl.bench.gpu_accuracy", backend, data, *map(str, targets)]
    ended = run_child(command, limit, epoch)
    return [found.get(target, Reached(target, None, None)) for target in targets], ended.reason


def epochs(network: Sequential, train: tuple[Any, Any], test: tuple[Any, Any], goal: float) -> None:
    """Print a line of JSON after each epoch, until the test accuracy is `goal`, or for 40 of them."""
    batches, adam = Batches(asarray(train[0]), asarray(train[1]), _BATCH, seed=0), Adam()
    x, t = asarray(test[0]), asarray(test[1])
    begin = time.perf_counter()
    for epoch in range(1, _EPOCHS + 1):
        for rows, labels in batches:
            adam.update(network.params, network.gradient(rows, labels))
        accuracy = network.accuracy(x, t, batch_size=1000)
        seconds = time.perf_counter() - begin
        print(json.dumps({"epoch": epoch, "accuracy": accuracy, "seconds": seconds}), flush=True)
        if accuracy >= goal:
            return


def main(argv: Sequence[str]) -> None:
    """``BACKEND mnist|mini TARGET...``."""
    backend, data, *targets = argv
    use(backend)
    network: Sequential
    if data == "mnist":
        network = DeepConvNet(seed=0)
        network.build((1, 28, 28))
        train, test = load_mnist(flatten=False)
    else:
        network = TwoLayerNet(784, 50, 10, seed=0)
        train, test = load_mini_mnist()
    epochs(network, train, test, max(map(float, targets)))


if __name__ == "__main__":
    main(sys.argv[1:])
