"""Training steps that are recorded as one CUDA graph, and repeated by one launch each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from xpdl.backends.capture import Recorder, Recording
from xpdl.backends.namespaces import Array, array_namespace, is_array, write
from xpdl.backends.numerics import get_numerics
from xpdl.data.structure import arrays_of, map_arrays, rows_in
from xpdl.models.step_passes import StepPasses


class RecordedStep:
    """A recorded step, and the arrays it must find in place at each repetition.

    The arrays of a step are at fixed addresses. What is kept from one step to the next, and what an uncaptured step or a
    callback has put elsewhere meanwhile, is copied back to where it was. Counters on the host go on by as much as they did
    in the step that was recorded.
    """

    def __init__(self, passes: StepPasses, recorder: Recorder, batch: tuple[Array, ...]) -> None:
        self.passes, self.network, self.optimizer = passes, passes.network, passes.optimizer
        self.batch = map_arrays(_copy, batch)
        self._params = [(owner, key, owner[key]) for _, owner, key in self.network.named_params()]
        state = [(owner, key, owner[key]) for _, owner, key in self.network.named_state()]
        self._memory = [(kind, getattr(self.optimizer, kind)) for kind in self.optimizer.state_names]
        slot_variables = [(kept, name, array) for _, kept in self._memory for name, array in kept.items()]
        self._kept = [entry for entry in (*state, *slot_variables, *self._scale()) if is_array(entry[2])]
        before = [(owner, key, value) for owner, key, value in state if isinstance(value, int) and key != "rows"]
        rows = [(owner, key, value) for owner, key, value in state if key == "rows"]
        updates = self.optimizer.iter

        def body() -> tuple[Array, Array | float]:
            grads = passes.gradient(*self.batch)
            made = passes.result(*self.batch[:2])
            passes.update(grads)
            self._put_back()
            return made

        try:
            self.recording: Recording = recorder.record(body)
            self._advances = [(owner, key, owner[key] - value) for owner, key, value in before if owner[key] != value]
            self._require_slots()
        finally:
            # nothing has been computed
            self.optimizer.iter = updates
            for owner, key, value in (*before, *rows, *self._kept):
                owner[key] = value
        # batch normalization is told of the full batch, which a smaller one may have come before
        self._rows = [(owner, key, rows_in(batch)) for owner, key, _ in rows]
        self._setting = self._settings()

    def _scale(self) -> list[tuple[dict[str, Any], str, Array]]:
        """Return the entry of the loss scale, made anew on the device if it was read since the last step."""
        return [(owner, key, owner[key]) for owner, key in self.passes.scale()]

    def _require_slots(self) -> None:
        if self.optimizer.decay is not None or self.optimizer.lr_groups:
            raise RuntimeError("one launch updates all parameters alike, without decay= and lr_groups=")
        # the device computes "lr" from "rate" if updates may be skipped
        if not self.recording.numbers & {"lr", "rate"}:
            raise RuntimeError(f"{type(self.optimizer).__name__} did not update all parameters by its kernel")
        for owner, key, by in self._advances:
            if by != 1:
                raise RuntimeError(
                    f"a layer counts {key!r} up by {by} in a step, and a repetition draws one mask for it"
                )
            if tuple(owner.get("stream", ())) not in self.recording.masks:
                raise RuntimeError(f"a layer counts {key!r} on the host, which a repetition would not see")

    def fits(self, batch: tuple[Array, ...]) -> bool:
        """Return whether the recorded graph is still the step to be made."""
        return (
            all(a.shape == own.shape and a.dtype == own.dtype for a, own in self._beside(batch))
            and all(owner.get(key) is array for owner, key, array in self._params)
            and all(getattr(self.optimizer, kind) is kept for kind, kept in self._memory)
            and self._setting == self._settings()
        )

    def _beside(self, batch: tuple[Any, ...]) -> Iterator[tuple[Array, Array]]:
        """Pairs of an array of a batch and that of the recorded step, each of tuples and dicts of several."""
        return zip((a for _, a in arrays_of(batch)), (a for _, a in arrays_of(self.batch)), strict=True)

    def _settings(self) -> tuple[Any, ...]:
        """Numbers that are part of the recorded step."""
        o = self.optimizer
        given = self.recording.numbers | {"lr", "rate", "updates"}
        fixed = {name: value for name, value in o.known_scalars().items() if name not in given}
        return fixed, list(self.network.params.frozen), o.l1, o.l2, o.max_norm, o.clip_norm, get_numerics()

    def _put_back(self) -> None:
        for owner, key, array in self._kept:
            if owner[key] is not array:
                owner[key] = write(array, owner[key])

    def launch(self, batch: tuple[Array, ...]) -> tuple[Array, Array | float]:
        """Make the step on another batch, and return its loss and the weight of its rows."""
        for a, own in self._beside(batch):
            write(own, a)
        self._scale()
        self._put_back()
        counters = {tuple(owner["stream"]): owner[key] for owner, key, _ in self._advances}
        for owner, key, by in self._advances:
            owner[key] += by
        for owner, key, rows in self._rows:
            owner[key] = rows
        self.optimizer.iter += 1
        self.recording.launch(self.optimizer.known_scalars(), counters)
        loss, weight = self.recording.result
        # the next repetition writes over them
        return _copy(loss), _copy(weight) if is_array(weight) else weight


def _copy(a: Array) -> Array:
    return array_namespace(a).asarray(a, copy=True)
