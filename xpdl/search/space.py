"""Search space of hyper-parameters: a distribution for each."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

from xpdl.backends.random import Stream
from xpdl.ops.checks import number


class Distribution(Protocol):
    """Distribution of a hyper-parameter: `uniform`, `log_uniform`, `choice`, or a class of your own."""

    def sample(self, rng: Any) -> Any:
        """A value drawn from `rng`, a generator of NumPy."""

    def suggest(self, trial: Any, name: str) -> Any:
        """A value chosen by an Optuna trial, see `optuna_objective`."""


@dataclasses.dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`; made by `uniform` and `log_uniform`."""

    low: float
    high: float
    log: bool

    def __post_init__(self) -> None:
        ends: dict[str, Any] = {"low": self.low, "high": self.high}
        for name, value in ends.items():
            number(value, name, self._name)
        if self.low > self.high:
            raise ValueError(f"{self._name}: low must not exceed high, got {self.low!r} and {self.high!r}")
        if self.log and self.low <= 0:
            raise ValueError(f"{self._name}: low must be positive, got {self.low!r}")

    @property
    def _name(self) -> str:
        return "log_uniform" if self.log else "uniform"

    def __repr__(self) -> str:
        return f"{self._name}({self.low!r}, {self.high!r})"

    def sample(self, rng: Any) -> float:
        if not self.log:
            return float(rng.uniform(self.low, self.high))
        drawn = math.exp(rng.uniform(math.log(self.low), math.log(self.high)))
        return min(max(drawn, self.low), self.high)  # exp of log may be off by a rounding

    def suggest(self, trial: Any, name: str) -> float:
        return float(trial.suggest_float(name, self.low, self.high, log=self.log))


@dataclasses.dataclass(frozen=True)
class Choice:
    """One of some values; made by `choice`."""

    options: tuple[Any, ...]

    def __repr__(self) -> str:
        return f"choice({list(self.options)!r})"

    def sample(self, rng: Any) -> Any:
        return self.options[int(rng.integers(len(self.options)))]

    def suggest(self, trial: Any, name: str) -> Any:
        return trial.suggest_categorical(name, self.options)


def uniform(low: float, high: float) -> Range:
    """Every number from `low` to `high` is equally likely. `ValueError` if they are not finite and in order."""
    return Range(low, high, log=False)


def log_uniform(low: float, high: float) -> Range:
    """Every order of magnitude from `low` to `high` is equally likely: for learning rates and strengths of decay.

    Raises
    ------
    ValueError
        If they are not positive, finite and in order.

    Notes
    -----
    The book's ``10 ** np.random.uniform(-6, -2)`` is ``log_uniform(1e-6, 1e-2)``.
    """
    return Range(low, high, log=True)


def choice(options: Sequence[Any]) -> Choice:
    """Every one of the `options` is equally likely; ``choice(range(10, 101))`` gives whole numbers.

    Raises
    ------
    ValueError
        If there are none.
    """
    if not isinstance(options, Collection):
        raise TypeError(f"choice: options must be a sequence of values, got {options!r}")
    if len(options) == 0:
        raise ValueError(f"choice: expected at least one option, got {options!r}")
    return Choice(tuple(options))


def check_space(space: Any, owner: str, reserved: Sequence[str] = ()) -> None:
    """Refuse what is no mapping of names to distributions."""
    if not isinstance(space, Mapping) or not space:
        raise TypeError(f"{owner}: space must map the names of hyper-parameters to distributions, got {space!r}")
    for name, distribution in space.items():
        if not isinstance(name, str) or name in reserved:
            raise ValueError(f"{owner}: {name!r} cannot be the name of a hyper-parameter here")
        if not callable(getattr(distribution, "sample", None)):
            raise TypeError(
                f"{owner}: {name} must be a distribution, uniform, log_uniform or choice, got {distribution!r}; "
                "a value that stays belongs into build"
            )


def sampled(space: Mapping[str, Distribution], stream: Stream) -> dict[str, Any]:
    """A value for each name; that of one does not depend on what else is in the space."""
    return {name: distribution.sample(stream.generator(name)) for name, distribution in space.items()}
