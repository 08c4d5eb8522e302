"""A long training whose memory, threads and open files must not grow: ``python scripts/soak.py [STEPS]``.

100,000 steps of a small net on NumPy by default, with augmentation, prefetching, and a checkpoint each 1,000 steps. Prints
what a straight line through the measurements of the second half rises by, and exits with 1 if anything grows.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from xpdl import Affine, BatchNormalization, Dropout, Relu, Sequential, SoftmaxWithLoss, Trainer

ROWS, BATCH = 2000, 20
# no multiple of the steps of an epoch, at whose end no thread reads ahead
STEPS_BETWEEN = 470
# A loss and its place in a list take 32 bytes: the history grows by design, and with it the checkpoint being written.
BYTES_PER_STEP = 64


def resident_bytes() -> int:
    """Memory of this process that is in use (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Measurements:
    """A callback that looks at the process from time to time."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, int, int, int]] = []

    def on_batch_end(self, trainer: Trainer, step: int) -> None:
        if step % STEPS_BETWEEN == 0:
            files = len(os.listdir("/proc/self/fd"))
            self.rows.append((step, resident_bytes(), threading.active_count(), files))


def noisy(x, stream):  # type: ignore[no-untyped-def]
    return x + 0.1 * stream.generator("noise").standard_normal(x.shape, np.float32)


def main(steps: int) -> int:
    rng = np.random.default_rng(0)
    t = rng.integers(0, 10, ROWS)
    network = Sequential(
        Affine(units=32), BatchNormalization(), Relu(), Dropout(0.2), Affine(units=10), loss=SoftmaxWithLoss, seed=0
    )
    found = Measurements()
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        # rows in a file, so that a thread reads them ahead
        x = np.lib.format.open_memmap(Path(folder) / "x.npy", "w+", np.float32, (ROWS, 16))
        x[:] = rng.standard_normal(x.shape, np.float32)
        trainer = Trainer(
            network,
            x,
            t,
            x[:100],
            t[:100],
            epochs=-(-steps * BATCH // ROWS),
            mini_batch_size=BATCH,
            optimizer="adam",
            evaluate_sample_num_per_epoch=100,
            verbose=False,
            seed=0,
            callbacks=[found],
            augment=noisy,
            checkpoint=Path(folder) / "run",
            checkpoint_every=1000,
        )
        trainer.train()
    step, resident, threads, files = np.asarray(found.rows, dtype=np.float64).T
    late = step > step[-1] / 2
    slope = np.polyfit(step[late], resident[late], 1)[0]
    print(
        f"{trainer.current_iter} steps in {time.perf_counter() - begin:.0f} s, loss {trainer.train_loss_list[-1]:.3f}"
    )
    print(
        f"memory: {resident[0] / 2**20:.1f} MiB at first, {resident[-1] / 2**20:.1f} MiB at last, {slope:.1f} bytes a step"
    )
    print(f"threads: {threads[0]:.0f} to {threads.max():.0f}, open files: {files[0]:.0f} to {files.max():.0f}")
    grows = slope > BYTES_PER_STEP or threads.max() > threads[0] or files.max() > files[0]
    print("something grows" if grows else "nothing grows")
    return int(grows)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000))
