"""Names of members of `Layer`: deprecated ones work for one minor release, those of other libraries are errors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from xpdl.attribute_names import FREEZE, OF_LAYER, Misnomer, missing
from xpdl.deprecation import warn_renamed

#: what subclasses set or define
_IN_SUBCLASSES = {"has_modes": "accepts_train_flg", "keeps_dtype": "keep_fp32_params", "place": "set_name"}


class OldNames:
    """``recall``, ``slots`` and ``place``, and in subclasses ``has_modes`` and ``keeps_dtype``."""

    require_saved: Any
    set_name: Any
    named: Any
    requires_grad, frozen = Misnomer(FREEZE), Misnomer(FREEZE)

    if not TYPE_CHECKING:  # or no attribute would be unknown

        def __getattr__(self, name: str) -> Any:
            if name in OF_LAYER:
                raise missing(self, name, OF_LAYER[name])
            return object.__getattribute__(self, name)  # with its own error

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for old in [name for name in _IN_SUBCLASSES if name in vars(cls)]:
            warn_renamed(f"{cls.__name__}.{old}", _IN_SUBCLASSES[old], stacklevel=4)
            setattr(cls, _IN_SUBCLASSES[old], vars(cls)[old])

    def recall(self, saved: Any) -> Any:
        """Call `require_saved`."""
        warn_renamed(f"{type(self).__name__}.recall", "require_saved")
        return self.require_saved(saved)

    def place(self, name: str) -> None:
        """Call `set_name`."""
        warn_renamed(f"{type(self).__name__}.place", "set_name")
        self.set_name(name)

    def slots(self, kind: str) -> Iterator[tuple[str, dict[str, Any], str]]:
        """Call `named_params`, `named_grads` or `named_state`."""
        new = {"params": "named_params", "grads": "named_grads", "state": "named_state"}[kind]
        warn_renamed(f"{type(self).__name__}.slots", new)
        entries: Iterator[tuple[str, dict[str, Any], str]] = getattr(self, new)()
        return entries
