"""Training steps that are compiled as a whole, and loops of one's own made of them."""

from __future__ import annotations

import warnings
from typing import Any

from xpdl.backends import Backend, get_backend
from xpdl.backends.capture import compiler_for
from xpdl.backends.namespaces import Array
from xpdl.data.structure import arrays_of, rows_in
from xpdl.layers.recurrent_state import stateful_layers
from xpdl.models.batch_check import BatchCheck
from xpdl.models.cuda_graph import RecordedStep
from xpdl.models.gradient_accumulator import Accumulated
from xpdl.models.step_passes import StepPasses
from xpdl.models.traced_step import TracedStep
from xpdl.ops.checks import positive_int
from xpdl.optimizers import Optimizer

# a step that is compiled anew so often changes at every call
_MOST_TIMES = 20


class StepCompiler:
    """Compiles a training step and repeats it: by a CUDA graph on CuPy, by `jax.jit` on JAX.

    Parameters
    ----------
    passes : StepPasses
    backend : Backend
        Of the network.
    batch_size : int or None
        Rows of a full batch; None for those of the first.
    owner : str
        For messages.

    Attributes
    ----------
    compilations : int
        Times that a step was compiled.
    problem : str or None
        The reason why steps are not compiled, if compiling one failed.

    Raises
    ------
    BackendError
        If the backend compiles no steps.
    TypeError
        If the optimizer has a ``step`` of its own.
    ValueError
        If a CUDA graph were to accumulate gradients.
    """

    def __init__(self, passes: StepPasses, backend: Backend, batch_size: int | None, owner: str) -> None:
        self.recorder = compiler_for(backend, owner)
        if not (isinstance(passes.optimizer, Optimizer) and passes.optimizer.rule_name()):
            raise TypeError(
                f"{owner} needs an optimizer with a rule; {type(passes.optimizer).__name__} has a step of its own, "
                "whose numbers would stay those of the step that was recorded"
            )
        if passes.accumulator.count != 1 and not self.recorder.traces_steps:
            raise ValueError(
                f"{owner} goes with accumulate_grad_batches=1 alone on CuPy: a CUDA graph updates at every launch"
            )
        self.passes, self.full_batch, self.owner = passes, batch_size, owner
        self._made = self.compilations = 0
        self._recorded: dict[Any, RecordedStep | TracedStep] = {}
        self.problem: str | None = None

    def __getstate__(self) -> dict[str, Any]:
        # a copy records a step of its own arrays
        return {**vars(self), "_recorded": {}}

    def replay(self, x: Array, t: Array, *sample_weight: Array, last: bool = False) -> tuple[Array, Any] | None:
        """Make a compiled step, which updates with the `last` batch, and return its loss and the weight of its rows.

        None, and nothing is changed, where it is to be made eagerly: so it is for batches that are not full, for the first
        one of a text, before which recurrent layers have no states to go on with, and with CuPy for the first steps, which
        make plans, compile kernels, and allocate the optimizer's state.
        """
        batch = (x, t, *sample_weight)
        self.full_batch = self.full_batch or rows_in(x)
        if self.problem is not None or rows_in(x) != self.full_batch:
            return None
        if self.recorder.traces_steps and any(owner[name] is None for owner, name in self.passes.states()):
            return None
        self._made += 1
        if self._made <= self.recorder.warm_up:
            return None
        updates = self.passes.accumulator.is_due(last)
        key = (updates, *((a.shape, str(a.dtype)) for _, a in arrays_of(batch))) if self.recorder.traces_steps else None
        step = self._recorded.get(key)
        if step is None or not step.fits(batch):
            step = None
            self._recorded.pop(key, None)  # its memory is free before another is made
            try:
                step = self._recorded[key] = self._compiled(batch, updates)
            except (RuntimeError, MemoryError) as error:
                self.problem = " ".join(str(error).split())
                warnings.warn(
                    f"{self.owner}: a step cannot be compiled, and all are made eagerly: {self.problem}", stacklevel=3
                )
                return None
        if isinstance(step, TracedStep) and step.follows_larger():
            return None
        return step.launch(batch)

    def _compiled(self, batch: tuple[Array, ...], updates: bool) -> RecordedStep | TracedStep:
        if self.compilations == _MOST_TIMES:
            raise RuntimeError(f"it was compiled {_MOST_TIMES} times, for other shapes or settings each time")
        if self.recorder.traces_steps:
            self.compilations += 1
            return TracedStep(self.passes, self.recorder, batch, updates)
        if layers := stateful_layers(self.passes.network):
            raise RuntimeError(
                f"{layers[0].name} goes on with the states of the batch before, as stateful=True says, and a CUDA graph "
                "begins with those that it was recorded with"
            )
        self.compilations += 1
        return RecordedStep(self.passes, self.recorder, batch)


class CompiledStep(StepCompiler):
    """Training steps of a loop of one's own, which ``compiled_step`` of a model returns."""

    def __init__(self, network: Any, optimizer: Optimizer, backend: Backend, accumulate_grad_batches: int) -> None:
        count = positive_int(accumulate_grad_batches, "accumulate_grad_batches", "compiled_step")
        super().__init__(StepPasses(network, optimizer, Accumulated(count)), backend, None, "compiled_step")
        self._check = BatchCheck(network)

    def __call__(self, x: Array, t: Array, sample_weight: Array | None = None) -> Array:
        """Make a step on a batch and return its loss, an array () on the device."""
        batch = (x, t) if sample_weight is None else (x, t, sample_weight)
        self.passes.network.build_for(x)  # what is made while a step is traced is lost
        self._check(x, t, "compiled_step: x", "compiled_step: t")
        made = self.replay(*batch)
        if made is not None:
            return made[0]
        with self.recorder.alike():
            grads = self.passes.gradient(*batch)
        loss, weight = self.passes.result(x, t)
        self.passes.accumulate(grads, weight, last=False)
        return loss

    def finish(self) -> None:
        """Update with the gradients of fewer batches than `accumulate_grad_batches`, where some are left."""
        means = self.passes.accumulator.rest()
        if means is not None:
            self.passes.update(means)


class Compilable:
    """A model whose training steps can be compiled."""

    backend: Any
    _loss_layer: Any

    def compiled_step(self, optimizer: Optimizer, *, accumulate_grad_batches: int = 1) -> CompiledStep:
        """Compile training steps for a loop of one's own: a CUDA graph on CuPy, `jax.jit` on JAX.

        Parameters
        ----------
        optimizer : Optimizer
        accumulate_grad_batches : int
            Add up the gradients of so many batches before each update, as one batch of all their rows would give them; on
            JAX alone.

        Returns
        -------
        CompiledStep
            ``step(x, t, sample_weight=None)`` makes a step on arrays of the model's library and returns its loss, an array
            (). Batches of another number of rows than the first are made eagerly. ``step.finish()`` updates with what is
            accumulated of fewer batches. `xpdl.training.cuda_graph.GraphedStep`
            says what goes with it.

        Raises
        ------
        BackendError
            If the model is neither of CuPy nor of JAX.
        TypeError
            If it has no loss, or the optimizer has a ``step`` of its own.
        ValueError
            If gradients are to be accumulated on CuPy.
        """
        self._loss_layer()
        return CompiledStep(self, optimizer, self.backend or get_backend(), accumulate_grad_batches)
