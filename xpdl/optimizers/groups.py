"""Groups of parameters: those that weight decay spares, and those with a learning rate of their own."""

from __future__ import annotations

import contextlib
import fnmatch
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from xpdl.backends.namespaces import Array
from xpdl.ops.checks import number

#: a predicate on names, names with wildcards, or "weights"
Decay = Callable[[str], bool] | str | Iterable[str]

#: `Decay` for parameters of two axes and more, which spares biases, gamma and beta
WEIGHTS = "weights"


_AS_THEY_ARE: contextlib.AbstractContextManager[None] = contextlib.nullcontext()


class Group(NamedTuple):
    """Parameters that are updated alike.

    Attributes
    ----------
    names : tuple of str
    decays : bool
        Whether weight decay applies to them.
    rate : float
        Factor of the learning rate.
    """

    names: tuple[str, ...]
    decays: bool
    rate: float

    def applied(self, optimizer: Any) -> contextlib.AbstractContextManager[None]:
        """Give a context in which the optimizer's hyper-parameters are those of the group."""
        return _AS_THEY_ARE if self.decays and self.rate == 1 else self._changed(optimizer)

    @contextlib.contextmanager
    def _changed(self, optimizer: Any) -> Iterator[None]:
        changed = {"lr": optimizer.lr * self.rate} if self.rate != 1 else {}
        if not self.decays:
            changed |= dict.fromkeys(optimizer.decay_names, 0.0)
        before = {name: getattr(optimizer, name) for name in changed}
        try:
            for name, value in changed.items():
                setattr(optimizer, name, value)
            yield
        finally:
            for name, value in before.items():
                setattr(optimizer, name, value)


def checked_weight_decay(weight_decay: Any, owner: str) -> Mapping[str, float]:
    """Return `weight_decay`, empty for None; `ValueError` unless it maps "l1" and "l2", or one of them."""
    strengths = {} if weight_decay is None else weight_decay
    if not isinstance(strengths, Mapping) or not set(strengths) <= {"l1", "l2"}:
        raise ValueError(
            f"{owner}: weight_decay must be a dict with the keys 'l1' and 'l2' or one of them, such as "
            f"{{'l2': 0.0001}}, got {weight_decay!r}"
        )
    return strengths


def checked_decay(decay: Any, weight_decay: Any, owner: str) -> Decay | None:
    """`decay` with its names as a tuple; `TypeError` unless it is a predicate or names, and there is weight decay."""
    if decay is None:
        return None
    if weight_decay is None:
        raise TypeError(
            f"{owner}: decay={decay!r} says what weight_decay applies to, and there is none; pass weight_decay={{'l2': 0.1}}"
        )
    if callable(decay) or decay == WEIGHTS:
        return decay  # type: ignore[no-any-return]
    names = (decay,) if isinstance(decay, str) else tuple(decay) if isinstance(decay, Iterable) else ()
    if not names or not all(isinstance(name, str) and name for name in names):
        raise TypeError(
            f"{owner}: decay must be names of parameters such as '*.W', {WEIGHTS!r} for those of two axes and more, or a "
            f"function of a name, got {decay!r}"
        )
    return names


def checked_lr_groups(lr_groups: Any, owner: str) -> dict[str, float]:
    """A copy of `lr_groups`; `TypeError` or `ValueError` unless it maps names to factors of at least 0."""
    if lr_groups is None:
        return {}
    if not isinstance(lr_groups, Mapping) or not all(isinstance(name, str) and name for name in lr_groups):
        raise TypeError(f"{owner}: lr_groups must map names to factors, such as {{'Affine*': 0.1}}, got {lr_groups!r}")
    factors = {name: number(factor, f"lr_groups[{name!r}]", owner, "at least 0") for name, factor in lr_groups.items()}
    return {name: float(factor) for name, factor in factors.items()}


def groups_of(
    params: Mapping[str, Array], decay: Decay | None, lr_groups: Mapping[str, float], owner: str
) -> list[Group]:
    """The groups that the options of an optimizer make of `params`, each parameter in one.

    Raises
    ------
    ValueError
        If a name or pattern matches no parameter.
    """
    if decay is None and not lr_groups:  # the common case, in every step
        return [Group(tuple(params), True, 1.0)]
    found: dict[tuple[bool, float], list[str]] = {}
    patterns = (*(decay if isinstance(decay, tuple) else ()), *lr_groups)
    for pattern in patterns:
        if params and not any(fnmatch.fnmatchcase(name, pattern) for name in params):
            raise ValueError(f"{owner}: no parameter is called {pattern!r}; there are {', '.join(params)}")
    for name, p in params.items():
        if decay is None:
            decays = True
        elif callable(decay):
            decays = bool(decay(name))
        else:
            decays = p.ndim > 1 if decay == WEIGHTS else any(fnmatch.fnmatchcase(name, pattern) for pattern in decay)
        rate = next((factor for pattern, factor in lr_groups.items() if fnmatch.fnmatchcase(name, pattern)), 1.0)
        found.setdefault((decays, rate), []).append(name)
    return [Group(tuple(names), decays, rate) for (decays, rate), names in found.items()]
