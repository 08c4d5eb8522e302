"""What a training run was like."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

from xpdl.storage import write_atomically
from xpdl.training import plain_json


@dataclasses.dataclass
class History:
    """Losses and accuracies of a run, as plain Python numbers.

    Attributes
    ----------
    train_loss_list : list of float
        The loss of each step, in training mode and before its update.
    epoch_loss_list : list of float
        Their mean over each epoch, in which steps count by the weight of their rows: a last batch of few rows counts little.
    train_acc_list, test_acc_list : list of float
        After each epoch, for classification.
    test_loss_list : list of float
        After each epoch, for regression, which has no accuracy.
    val_acc_list, val_loss_list : list of float
        The same on the rows of ``Trainer(validation_split=...)``, where there are some.
    seconds : list of float
        Each epoch's duration, evaluation included.
    """

    train_loss_list: list[float] = dataclasses.field(default_factory=list)
    train_acc_list: list[float] = dataclasses.field(default_factory=list)
    test_acc_list: list[float] = dataclasses.field(default_factory=list)
    test_loss_list: list[float] = dataclasses.field(default_factory=list)
    val_acc_list: list[float] = dataclasses.field(default_factory=list)
    val_loss_list: list[float] = dataclasses.field(default_factory=list)
    seconds: list[float] = dataclasses.field(default_factory=list)
    epoch_loss_list: list[float] = dataclasses.field(default_factory=list)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a JSON file, atomically; NaN and infinity are the strings "NaN", "Infinity" and "-Infinity" in it."""
        write_atomically(path, (plain_json.dumps(dataclasses.asdict(self)) + "\n").encode())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> History:
        """Read what `save` wrote; `ValueError` if the file is something else."""
        try:
            return cls.from_plain(json.loads(Path(path).read_bytes()))
        except ValueError as error:
            raise ValueError(f"{path}: is not a history file ({error})") from None

    @classmethod
    def from_plain(cls, lists: Any) -> History:
        """Take the lists as JSON has them; `ValueError` if they are something else."""
        names = [field.name for field in dataclasses.fields(cls)]
        # which earlier versions did not write
        added = {"epoch_loss_list"}
        if not isinstance(lists, dict) or {*lists, *added} != set(names):
            raise ValueError(f"which holds the lists {', '.join(names)}")
        for name, values in lists.items():
            if not isinstance(values, list):
                raise ValueError(f"{name} is no list of numbers, got {values!r}")
        return cls(**{name: [plain_json.number(value) for value in values] for name, values in lists.items()})
