"""Arrays that a forward pass saves for the backward pass: part of a step, and of no copy or file."""

from __future__ import annotations

from typing import Any, ClassVar


class SavedForBackward:
    """Attributes that `forward` sets for one `backward`.

    Copies and pickles of a layer hold no rows of the last batch: these attributes are None there.
    """

    #: attributes that hold arrays of a batch, or its size
    saved_names: ClassVar[tuple[str, ...]] = ("saved", "x")
    #: True if ``backward`` may be called again after one forward: the layer saves nothing, or is a loss
    repeatable_backward: ClassVar[bool] = False
    #: whether a backward has used up what the last forward saved
    used_up: bool = False

    name: str

    def require_saved(self, saved: Any) -> Any:
        """Return what `forward` saved for `backward`; `RuntimeError` when there was no forward."""
        if saved is None:
            raise RuntimeError(f"{self.name}: backward needs a forward first")
        return saved

    def __getstate__(self) -> dict[str, Any]:
        state = dict(vars(self))
        state.update(dict.fromkeys(state.keys() & {*self.saved_names}))
        state.pop("used_up", None)
        return state
