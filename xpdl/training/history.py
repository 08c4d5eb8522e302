"""History of a training run."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xpdl.io import json_text
from xpdl.io.atomic import write_atomically
from xpdl.training import plain_json
from xpdl.training.notebook import history_html, summary

#: measurement -> the attribute of a history that has its numbers, in the order in which one is chosen to be monitored
LISTS = {
    "val_acc": "val_acc_list",
    "test_acc": "test_acc_list",
    "train_acc": "train_acc_list",
    "val_loss": "val_loss_list",
    "test_loss": "test_loss_list",
}
_METRIC = re.compile(r"(train|val|test)_\w+_list")


@dataclasses.dataclass(repr=False)
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
        After each epoch: the mean loss in evaluation mode.
    val_acc_list, val_loss_list : list of float
        The same on the rows of ``Trainer(validation_split=...)`` or ``validation_data``, where there are some.
    seconds : list of float
        Each epoch's duration, evaluation included.
    metrics : dict of str to list of float
        ``"val_f1"`` -> the numbers after each epoch, of ``Trainer(metrics=...)``; also attributes, ``history.val_f1_list``.
    """

    train_loss_list: list[float] = dataclasses.field(default_factory=list)
    train_acc_list: list[float] = dataclasses.field(default_factory=list)
    test_acc_list: list[float] = dataclasses.field(default_factory=list)
    test_loss_list: list[float] = dataclasses.field(default_factory=list)
    val_acc_list: list[float] = dataclasses.field(default_factory=list)
    val_loss_list: list[float] = dataclasses.field(default_factory=list)
    seconds: list[float] = dataclasses.field(default_factory=list)
    epoch_loss_list: list[float] = dataclasses.field(default_factory=list)
    metrics: dict[str, list[float]] = dataclasses.field(default_factory=dict)

    def __getattr__(self, name: str) -> list[float]:
        own: dict[str, list[float]] = self.__dict__.get("metrics", {})
        if name.removesuffix("_list") in own and name.endswith("_list"):
            return own[name.removesuffix("_list")]
        raise AttributeError(
            f"a history has no {name}; it has {', '.join([*self.__dict__, *(f'{n}_list' for n in own)])}"
        )

    def record(self, name: str, value: float) -> None:
        """Append to the list of a measurement such as ``"test_acc"`` or ``"val_f1"``."""
        (getattr(self, LISTS[name]) if name in LISTS else self.metrics.setdefault(name, [])).append(value)

    def last(self) -> dict[str, float]:
        """The last numbers by the names of the measurements that there are: those of `LISTS`, then metrics."""
        lists = {name: getattr(self, values) for name, values in LISTS.items()} | self.metrics
        return {name: values[-1] for name, values in lists.items() if values}

    def lists(self) -> dict[str, list[float]]:
        """All lists by their names, those of metrics too."""
        own = {name: values for name, values in vars(self).items() if name != "metrics"}
        return {**own, **{f"{name}_list": values for name, values in self.metrics.items()}}

    @classmethod
    def from_lists(cls, lists: Mapping[str, list[float]]) -> History:
        """Take back what `lists` gave; `ValueError` for other names."""
        names = {field.name for field in dataclasses.fields(cls)} - {"metrics"}
        others = {name: values for name, values in lists.items() if name not in names}
        if unknown := [name for name in others if not _METRIC.fullmatch(name)]:
            raise ValueError(f"a history has no {', '.join(unknown)}")
        own = {name: values for name, values in lists.items() if name in names}
        return cls(**own, metrics={name.removesuffix("_list"): values for name, values in others.items()})

    def __repr__(self) -> str:
        return f"History({summary(self)})"

    def _repr_html_(self) -> str:
        return history_html(self)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a JSON file, atomically; NaN and infinity are the strings "NaN", "Infinity" and "-Infinity" in it."""
        write_atomically(path, (plain_json.dumps(self.lists()) + "\n").encode())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> History:
        """Read what `save` wrote; `ValueError` if the file is something else."""
        try:
            return cls.from_plain(json_text.loads(Path(path).read_bytes()))
        except ValueError as error:
            raise ValueError(f"{path}: is not a history file ({error})") from None

    @classmethod
    def from_plain(cls, lists: Any) -> History:
        """Take the lists as JSON has them; `ValueError` if they are something else."""
        # the others are what earlier versions did not write
        names = [field.name for field in dataclasses.fields(cls) if field.name not in ("metrics", "epoch_loss_list")]
        if not isinstance(lists, dict) or not set(names) <= set(lists):
            raise ValueError(f"which holds the lists {', '.join(names)}")
        # as `dataclasses.asdict` has them, which the trials of a search are written with
        nested = lists.get("metrics", {})
        if not isinstance(nested, dict):
            raise ValueError(f"metrics is no dict of lists, got {nested!r}")
        lists = {**lists, **{f"{name}_list": values for name, values in nested.items()}}
        lists.pop("metrics", None)
        for name, values in lists.items():
            if not isinstance(values, list):
                raise ValueError(f"{name} is no list of numbers, got {values!r}")
        return cls.from_lists({name: [plain_json.number(value) for value in values] for name, values in lists.items()})
