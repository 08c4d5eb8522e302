"""Precision and determinism of a GPU: one setting for convolutions and matrix products together."""

from __future__ import annotations

import dataclasses
from types import TracebackType

PRECISIONS = ("highest", "tf32")


@dataclasses.dataclass(frozen=True)
class Numerics:
    """Settings in force; see `numerics`."""

    precision: str = "highest"
    deterministic: bool = True


_current = Numerics()


class _Setting:
    """Handle that `numerics` returns: the settings hold already; leaving a ``with`` block restores the previous ones."""

    def __init__(self, before: Numerics) -> None:
        self._before = before

    def __enter__(self) -> Numerics:
        return _current

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        global _current
        _current = self._before


def numerics(*, precision: str | None = None, deterministic: bool | None = None) -> _Setting:
    """Choose, for the whole process, what CuPy arrays are computed with; other libraries have settings of their own.

    Parameters
    ----------
    precision : {"highest", "tf32"}, optional
        Of float32 in convolutions and matrix products. ``"highest"``, the default, multiplies all 24 bits: results are
        those of a CPU up to rounding, and gradients pass their checks. ``"tf32"`` rounds factors to 11 bits for the tensor
        cores of GPUs since Ampere; sums stay float32. CuPy's own products follow it too, once a layer has run.
    deterministic : bool, optional
        True, the default: equal runs on one kind of GPU give equal bits. False admits the few algorithms of cuDNN that
        add in whatever order threads come; the kernels of xpdl never do.

    Returns
    -------
    handle
        In a ``with`` statement, it restores the previous setting at the end of the block.

    Raises
    ------
    ValueError
        If `precision` is neither.
    TypeError
        If `deterministic` is no bool.

    Examples
    --------
    >>> with numerics(precision="tf32") as setting:
    ...     setting
    Numerics(precision='tf32', deterministic=True)
    """
    global _current
    if precision is not None and precision not in PRECISIONS:
        raise ValueError(f"numerics: precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    if not (deterministic is None or isinstance(deterministic, bool)):
        raise TypeError(f"numerics: deterministic must be True or False, got {deterministic!r}")
    before = _current
    _current = Numerics(
        before.precision if precision is None else precision,
        before.deterministic if deterministic is None else deterministic,
    )
    return _Setting(before)


def get_numerics() -> Numerics:
    """The setting in force, with ``precision`` and ``deterministic``."""
    return _current
