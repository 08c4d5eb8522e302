"""A short training with a checkpoint at every step or two, for a process that is killed: ``killed_run.py FOLDER EVERY``.

It leaves ``whole`` in the folder, with the final parameters and losses, if it comes to the end.
"""

import sys
from pathlib import Path

import numpy as np

from tests.training.checkpoint.test_format import trainer
from xpdl.io import tensors


def main(folder: Path, every: int) -> None:
    run = trainer(epochs=30, checkpoint=folder / "run", checkpoint_every=every)
    run.train()
    history = {"losses": np.asarray(run.train_loss_list), "accuracies": np.asarray(run.test_acc_list)}
    memory = {f"m.{name}": array for name, array in run.optimizer.m.items()}
    tensors.write_tensors(folder / "whole", {**run.network.state_dict(), **memory, **history})


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
