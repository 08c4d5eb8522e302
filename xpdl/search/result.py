"""Result of a search of hyper-parameters, and its log."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from pathlib import Path
from types import NoneType
from typing import Any

from xpdl.io import json_text
from xpdl.io.atomic import append
from xpdl.io.os_errors import in_words
from xpdl.training import plain_json
from xpdl.training.history import History
from xpdl.training.messages import warn

_SHOWN = 10
#: types of what JSON has of a trial
_KINDS: dict[str, tuple[type, ...]] = {
    "number": (int,),
    "params": (dict,),
    "seconds": (int, float),
    "epochs": (int, NoneType),
    "error": (str,),
}


@dataclasses.dataclass(frozen=True)
class Trial:
    """One training with one set of hyper-parameters.

    Attributes
    ----------
    number : int
        From 0, in the order of drawing.
    params : dict
        The hyper-parameters.
    score : float
        Higher is better; ``-inf`` where the training broke off because of a NaN.
    history : History or None
        Of the training, if it was one.
    seconds : float
    epochs : int or None
        What `successive_halving` granted.
    error : str
        Why the training broke off.
    """

    number: int
    params: dict[str, Any]
    score: float
    history: History | None = None
    seconds: float = 0.0
    epochs: int | None = None
    error: str = ""


class SearchResult:
    """All trials of a search; printed, it is the table of the best ones.

    Attributes
    ----------
    trials : list of Trial
        By number, and where there are several of one, by epochs.
    ranked : list of Trial
        One for each number, with the most epochs it got; the best one first.
    best : Trial
    """

    def __init__(self, trials: list[Trial]) -> None:
        self.trials = sorted(trials, key=lambda trial: (trial.number, trial.epochs or 0))
        longest = {trial.number: trial for trial in self.trials}
        self.ranked = sorted(longest.values(), key=lambda trial: (-(trial.epochs or 0), -trial.score, trial.number))

    @property
    def best(self) -> Trial:
        return self.ranked[0]

    def table(self, rows: int = _SHOWN) -> str:
        """The best `rows` trials, one in a line."""
        shown = self.ranked[:rows]
        names = list(self.best.params)
        granted = any(trial.epochs is not None for trial in shown)
        lines = [["rank", "trial", "score", *names, *(["epochs"] if granted else []), "seconds"]]
        for rank, trial in enumerate(shown, 1):
            score = f"{trial.score:.4f}" if math.isfinite(trial.score) else "diverged"
            values = [_short(trial.params[name]) for name in names]
            epochs = [str(trial.epochs)] if granted else []
            lines.append([str(rank), str(trial.number), score, *values, *epochs, f"{trial.seconds:.1f}"])
        widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
        return "\n".join(
            "  ".join(f"{cell:>{width}}" for cell, width in zip(line, widths, strict=True)) for line in lines
        )

    def __str__(self) -> str:
        return self.table()

    def __repr__(self) -> str:
        return f"<SearchResult of {len(self.trials)} trials, best score {self.best.score:.4g}>"


class TrialLog:
    """Trials in a file of JSON lines, of which the first says which search they belong to.

    A line is whole or, after a crash, the last one and cut off: then it is dropped with a warning, and its trial made again.
    Trials that cannot be written, on a full disk for example, are a warning, once, and written with a later one.

    Attributes
    ----------
    done : dict
        (number, epochs) -> the trial, of those that are in the file.
    """

    def __init__(self, path: str | os.PathLike[str] | None, header: dict[str, Any]) -> None:
        self.path = None if path is None else Path(path)
        self.done: dict[tuple[int, int | None], Trial] = {}
        self._unwritten = b""
        self._warned = False
        if self.path is None:
            return
        content = self.path.read_bytes() if self.path.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]
        if not whole:
            if content and not _line(header).startswith(content):
                raise ValueError(f"{self.path}: is not the log of a search")
            if content:
                os.truncate(self.path, 0)
            append(self.path, _line(header), sync=True)
            return
        first, *lines = whole.splitlines()
        found = self._read(first)
        if found != json.loads(_line(header)):
            raise ValueError(
                f"{self.path}: is the log of another search, {json.dumps(found)}, this one is {json.dumps(header)}; "
                "take another file, or remove it"
            )
        for line in lines:
            trial = self._trial(self._read(line))
            self.done[trial.number, trial.epochs] = trial
        if len(whole) < len(content):
            warn(f"search: the last line of {self.path} was cut off; it is removed, and its trial made again")
            os.truncate(self.path, len(whole))

    def add(self, trial: Trial) -> None:
        """Note a trial: it is on the disk when this returns, unless a warning says that it cannot be written."""
        self.done[trial.number, trial.epochs] = trial
        if self.path is None:
            return
        self._unwritten += _line({**dataclasses.asdict(trial), "score": _finite(trial.score)})
        try:
            append(self.path, self._unwritten, sync=True)
        except OSError as error:
            if not self._warned:
                warn(f"search: trial {trial.number} is not in {self.path} yet: {in_words(error)}")
            self._warned = True
        else:
            self._unwritten = b""

    def _read(self, line: bytes) -> Any:
        try:
            return json_text.loads(line)
        except ValueError as error:
            raise ValueError(f"{self.path}: is not the log of a search, or damaged ({error})") from None

    def _trial(self, values: Any) -> Trial:
        try:
            score = -math.inf if values["score"] is None else float(plain_json.number(values["score"]))
            history = None if values["history"] is None else History.from_plain(values["history"])
            if wrong := [name for name, kinds in _KINDS.items() if type(values[name]) not in kinds]:
                raise ValueError(f"{wrong[0]} is {values[wrong[0]]!r}")
            return Trial(**{**values, "score": score, "history": history})
        except (TypeError, KeyError, ValueError) as error:
            raise ValueError(f"{self.path}: has a line that is no trial of this version ({error!r})") from None


def _line(value: dict[str, Any]) -> bytes:
    return (plain_json.dumps(value) + "\n").encode()


def _finite(score: float) -> float | None:
    return score if math.isfinite(score) else None


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
