"""Training steps repeated as one CUDA graph: ``Trainer(..., compile=True)``."""

from __future__ import annotations

from typing import Any

from xpdl.backends import Backend
from xpdl.backends.capture import Recording, recorder
from xpdl.backends.namespaces import Array, array_namespace, is_array, write
from xpdl.backends.numerics import get_numerics
from xpdl.models.base import Model
from xpdl.optimizers import Optimizer
from xpdl.training import step
from xpdl.training.messages import warn
from xpdl.training.precision.mixed import MixedPrecision
from xpdl.training.run_state import RunState
from xpdl.training.step import EagerStep, StepResult

# Uncaptured ones at first, which make plans, compile kernels, and allocate the optimizer state.
_WARM_UP = 3


class GraphedStep(EagerStep):
    """Makes steps on full batches by one launch each, once it has recorded one.

    On a GPU with CuPy, a step of a small network is some fifty launches of kernels that take microseconds each, and the GPU
    waits for the host. A step that is recorded as a CUDA graph is one launch and two copies of the batch.

    Uncaptured are the first three steps of a run, batches with fewer rows, and one step in a hundred, whose losses are read.
    All run the same kernels, so results are bitwise identical to uncaptured steps. Where `xpdl info` says that cuBLAS is
    not called directly, matrix products go by a kernel of ours, in the precision ``"highest"``: they differ from those of a
    `Trainer` without ``compile`` in their last bits, and large ones may take longer than launches are worth.

    What changes from step to step must be known: parameters, the optimizer's state, and what layers keep in their
    ``state``. A layer of one's own with a Python number that changes, or that draws random numbers, computes with those of
    the step that was recorded. Callbacks may change the learning rate at every step; where they change another number of
    the rule, or put other arrays in the place of parameters, the step is recorded anew. What is seen to be impossible
    when it is to be recorded, such as a value that is read, is a warning, and the training goes on uncaptured.

    Parameters
    ----------
    network, optimizer, precision, accumulate_grad_batches, state
        As of an ``EagerStep``; gradients are not accumulated.
    backend : Backend
    batch_size : int
        Rows of a full batch.

    Raises
    ------
    BackendError
        If the network is not of CuPy.
    TypeError
        If it is no `Sequential`, or the optimizer has a ``step`` of its own.
    ValueError
        If gradients of several batches are accumulated.

    Notes
    -----
    It takes the memory of one step, in a pool of its own, besides that of uncaptured ones. Not yet run on a GPU.
    """

    def __init__(
        self,
        network: Any,
        optimizer: Optimizer,
        precision: MixedPrecision | None,
        accumulate_grad_batches: int,
        state: RunState,
        *,
        backend: Backend,
        batch_size: int,
    ) -> None:
        self.recorder = recorder(backend)
        if not isinstance(network, Model):
            raise TypeError(
                f"Trainer: compile=True needs a Sequential, whose layers say what they keep, got {type(network).__name__}"
            )
        if not (isinstance(optimizer, Optimizer) and optimizer.rule_name()):
            raise TypeError(
                f"Trainer: compile=True needs an optimizer with a rule; {type(optimizer).__name__} has a step of its own, "
                "whose numbers would stay those of the step that was recorded"
            )
        if accumulate_grad_batches != 1:
            raise ValueError(
                "Trainer: compile=True goes with accumulate_grad_batches=1 alone: every captured step updates"
            )
        super().__init__(network, optimizer, precision, accumulate_grad_batches, state)
        self.batch_size = batch_size
        self._made = 0
        self._recorded: _Recorded | None = None
        #: reason why steps are not captured, if capturing one failed
        self.problem: str | None = None

    def __getstate__(self) -> dict[str, Any]:
        # a copy records a step of its own arrays
        return {**vars(self), "_recorded": None}

    def __call__(self, x: Array, t: Array, *sample_weight: Array, last: bool = False) -> StepResult:
        """Make a step on a batch, by one launch where it can be."""
        if not self.reads_next():
            replayed = self.replay(x, t, *sample_weight)
            if replayed is not None:
                self.state.pending.append(replayed)
                return StepResult(replayed[0], True)
        return super().__call__(x, t, *sample_weight, last=last)

    def gradient(self, x: Array, t: Array, *sample_weight: Array) -> Any:
        """Compute gradients inside the kernels of captured steps: results are bitwise identical."""
        with self.recorder.alike():
            return super().gradient(x, t, *sample_weight)

    def replay(self, x: Array, t: Array, *sample_weight: Array) -> tuple[Array, Array | float] | None:
        """Make a step by one launch and return its loss and the weight of its rows.

        None, and nothing is changed, where it is to be made uncaptured: so it is for batches that are not full, and for the
        first steps.
        """
        batch = (x, t, *sample_weight)
        if self.problem is not None or x.shape[0] != self.batch_size:
            return None
        self._made += 1
        if self._made <= _WARM_UP:
            return None
        if self._recorded is None or not self._recorded.fits(batch):
            self._recorded = None  # its memory is free before another is made
            try:
                self._recorded = _Recorded(self, batch)
            except (RuntimeError, MemoryError) as error:
                self.problem = " ".join(str(error).split())
                warn(f"Trainer: a step cannot be captured, and all go on uncaptured: {self.problem}")
                return None
        return self._recorded.launch(batch)


class _Recorded:
    """A recorded step, and the arrays it must find in place at each repetition.

    The arrays of a step are at fixed addresses. What is kept from one step to the next, and what an uncaptured step or a
    callback has put elsewhere meanwhile, is copied back to where it was. Counters on the host go on by as much as they did
    in the step that was recorded.
    """

    def __init__(self, steps: GraphedStep, batch: tuple[Array, ...]) -> None:
        self.network, self.optimizer, self.precision = steps.network, steps.optimizer, steps.precision
        self.batch = tuple(_copy(a) for a in batch)
        self._params = [(owner, key, owner[key]) for _, owner, key in self.network.named_params()]
        state = [(owner, key, owner[key]) for _, owner, key in self.network.named_state()]
        self._memory = [(kind, getattr(self.optimizer, kind)) for kind in self.optimizer.state_names]
        slot_variables = [(kept, name, array) for _, kept in self._memory for name, array in kept.items()]
        self._kept = [entry for entry in (*state, *slot_variables, *self._scale()) if is_array(entry[2])]
        before = [(owner, key, value) for owner, key, value in state if isinstance(value, int) and key != "rows"]
        rows = [(owner, key, value) for owner, key, value in state if key == "rows"]
        updates = self.optimizer.iter

        def body() -> tuple[Array, Array | float]:
            grads = step.gradient(self.network, steps.precision, *self.batch)
            x, t, *_ = self.batch
            made = step.loss_of(self.network, x, t), step.weight_of(self.network, x)
            step.update(self.optimizer, steps.precision, self.network.params, grads)
            self._put_back()
            return made

        try:
            self.recording: Recording = steps.recorder.record(body)
            self._advances = [(owner, key, owner[key] - value) for owner, key, value in before if owner[key] != value]
            self._require_slots()
        finally:
            # nothing has been computed
            self.optimizer.iter = updates
            for owner, key, value in (*before, *rows, *self._kept):
                owner[key] = value
        # batch normalization is told of the full batch, which a smaller one may have come before
        self._rows = [(owner, key, steps.batch_size) for owner, key, _ in rows]
        self._setting = self._settings()

    def _scale(self) -> list[tuple[dict[str, Any], str, Array]]:
        """Return the entry of the loss scale, made anew on the device if it was read since the last step."""
        if self.precision is None or not self.precision.scales:
            return []
        first = next(owner[key] for _, owner, key in self.network.named_params())
        return [self.precision.loss_scale.entry(first)]

    def _require_slots(self) -> None:
        if self.optimizer.decay is not None or self.optimizer.lr_groups:
            raise RuntimeError("one launch updates all parameters alike, without decay= and lr_groups=")
        # the device computes "lr" from "rate" if updates may be skipped
        if not self.recording.numbers & {"lr", "rate"}:
            raise RuntimeError(f"{type(self.optimizer).__name__} did not update all parameters by its kernel")
        for owner, key, _ in self._advances:
            if tuple(owner.get("stream", ())) not in self.recording.masks:
                raise RuntimeError(f"a layer counts {key!r} on the host, which a repetition would not see")

    def fits(self, batch: tuple[Array, ...]) -> bool:
        """Return whether the recorded graph is still the step to be made."""
        return (
            all(a.shape == own.shape and a.dtype == own.dtype for a, own in zip(batch, self.batch, strict=True))
            and all(owner.get(key) is array for owner, key, array in self._params)
            and all(getattr(self.optimizer, kind) is kept for kind, kept in self._memory)
            and self._setting == self._settings()
        )

    def _settings(self) -> tuple[Any, ...]:
        """Numbers that are part of the recorded step."""
        o = self.optimizer
        given = self.recording.numbers | {"lr", "rate", "updates"}
        fixed = {name: value for name, value in o.known_scalars().items() if name not in given}
        return fixed, o.l1, o.l2, o.max_norm, o.clip_norm, get_numerics()

    def _put_back(self) -> None:
        for owner, key, array in self._kept:
            if owner[key] is not array:
                owner[key] = write(array, owner[key])

    def launch(self, batch: tuple[Array, ...]) -> tuple[Array, Array | float]:
        """Make the step on another batch, and return its loss and the weight of its rows."""
        for own, a in zip(self.batch, batch, strict=True):
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
