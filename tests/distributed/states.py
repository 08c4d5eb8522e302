"""Claims about recurrent states of a text that several ranks share, for ``tests.distributed.together``."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.distributed.sequences import LETTERS, rnn_lm
from xpdl.data import ContiguousWindows
from xpdl.training import Callback, Trainer

EPOCHS, BROKEN_OFF = 3, 7


class Left(Exception):
    """The end of a run, by a user."""


class Leave(Callback):
    def on_batch_begin(self, trainer: Any, step: int) -> None:
        if step == BROKEN_OFF:
            raise Left


def run(communicator: Any, rows: int, **options: Any) -> Trainer:
    options = {"epochs": EPOCHS, "seed": 3, "verbose": False, "optimizer": "adam", **options}
    return Trainer(rnn_lm(), ContiguousWindows(LETTERS, rows, 3), communicator=communicator, **options)


def values(trainer: Trainer) -> np.ndarray:
    return np.concatenate([np.ravel(p) for p in trainer.network.params.values()])


def states_resume_on_all_ranks_and_on_one_process(ranks: Any, folder: Path) -> None:
    for rows in (5, 2):  # of which a rank has more than another, or none
        whole = run(ranks, rows)
        whole.train()
        options = {"checkpoint": folder / f"{rows}", "checkpoint_every": 1}
        with pytest.raises(Left):
            run(ranks, rows, callbacks=[Leave()], **options).train()
        if ranks.is_first:
            shutil.copytree(folder, folder.with_name(f"{folder.name} alone {rows}"))
        ranks.barrier()
        again = run(ranks, rows, **options)
        again.train()
        np.testing.assert_array_equal(values(again), values(whole))
        assert again.train_loss_list == whole.train_loss_list
        if ranks.is_first:
            options["checkpoint"] = folder.with_name(f"{folder.name} alone {rows}") / f"{rows}"
            alone, undisturbed = run(None, rows, **options), run(None, rows)
            alone.train()
            undisturbed.train()
            np.testing.assert_allclose(values(alone), values(undisturbed), rtol=1e-11, atol=1e-13)
            assert len(alone.train_loss_list) == len(undisturbed.train_loss_list) > BROKEN_OFF


CHECKS = [states_resume_on_all_ranks_and_on_one_process]
