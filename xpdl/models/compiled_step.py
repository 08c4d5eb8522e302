"""Training steps that are compiled as a whole, and loops of one's own made of them."""

from __future__ import annotations

import warnings
from typing import Any

from xpdl.backends import Backend, get_backend
from xpdl.backends.capture import compiler_for
from xpdl.backends.namespaces import Array
from xpdl.data.structure import rows_in
from xpdl.layers.recurrent_state import stateful_layers
from xpdl.models.cuda_graph import RecordedStep
from xpdl.models.step_passes import StepPasses
from xpdl.models.traced_step import TracedStep
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
    """

    def __init__(self, passes: StepPasses, backend: Backend, batch_size: int | None, owner: str) -> None:
        self.recorder = compiler_for(backend, owner)
        if not (isinstance(passes.optimizer, Optimizer) and passes.optimizer.rule_name()):
            raise TypeError(
                f"{owner} needs an optimizer with a rule; {type(passes.optimizer).__name__} has a step of its own, "
                "whose numbers would stay those of the step that was recorded"
            )
        self.passes, self.full_batch, self.owner = passes, batch_size, owner
        self._made = self.compilations = 0
        self._recorded: RecordedStep | TracedStep | None = None
        self.problem: str | None = None

    def __getstate__(self) -> dict[str, Any]:
        # a copy records a step of its own arrays
        return {**vars(self), "_recorded": None}

    def replay(self, x: Array, t: Array, *sample_weight: Array) -> tuple[Array, Array | float] | None:
        """Make a compiled step and return its loss and the weight of its rows.

        None, and nothing is changed, where it is to be made eagerly: so it is for batches that are not full, and with CuPy
        for the first steps, which make plans, compile kernels, and allocate the optimizer's state.
        """
        batch = (x, t, *sample_weight)
        self.full_batch = self.full_batch or rows_in(x)
        if self.problem is not None or rows_in(x) != self.full_batch:
            return None
        self._made += 1
        if self._made <= self.recorder.warm_up:
            return None
        if self._recorded is None or not self._recorded.fits(batch):
            self._recorded = None  # its memory is free before another is made
            try:
                self._recorded = self._compiled(batch)
            except (RuntimeError, MemoryError) as error:
                self.problem = " ".join(str(error).split())
                warnings.warn(
                    f"{self.owner}: a step cannot be compiled, and all are made eagerly: {self.problem}", stacklevel=3
                )
                return None
        if isinstance(self._recorded, TracedStep) and self._recorded.follows_larger():
            return None
        return self._recorded.launch(batch)

    def _compiled(self, batch: tuple[Array, ...]) -> RecordedStep | TracedStep:
        if self.compilations == _MOST_TIMES:
            raise RuntimeError(f"it was compiled {_MOST_TIMES} times, for other shapes or settings each time")
        if layers := stateful_layers(self.passes.network):
            raise RuntimeError(f"{layers[0].name} goes on with the states of the batch before, as stateful=True says")
        self.compilations += 1
        if self.recorder.traces_steps:
            return TracedStep(self.passes, self.recorder, batch)
        return RecordedStep(self.passes, self.recorder, batch)


class CompiledStep(StepCompiler):
    """Training steps of a loop of one's own, which ``compiled_step`` of a model returns."""

    def __init__(self, network: Any, optimizer: Optimizer, backend: Backend) -> None:
        super().__init__(StepPasses(network, optimizer), backend, None, "compiled_step")

    def __call__(self, x: Array, t: Array, sample_weight: Array | None = None) -> Array:
        """Make a step on a batch and return its loss, an array () on the device."""
        batch = (x, t) if sample_weight is None else (x, t, sample_weight)
        made = self.replay(*batch)
        if made is not None:
            return made[0]
        with self.recorder.alike():
            grads = self.passes.gradient(*batch)
        self.passes.update(grads)
        return self.passes.result(x, t)[0]


class Compilable:
    """A model whose training steps can be compiled."""

    backend: Any
    _loss_layer: Any

    def compiled_step(self, optimizer: Optimizer) -> CompiledStep:
        """Compile training steps for a loop of one's own: a CUDA graph on CuPy, `jax.jit` on JAX.

        Parameters
        ----------
        optimizer : Optimizer

        Returns
        -------
        CompiledStep
            ``step(x, t, sample_weight=None)`` makes a step on arrays of the model's library and returns its loss, an array
            (). Batches of another number of rows than the first are made eagerly. `xpdl.training.cuda_graph.GraphedStep`
            says what goes with it.

        Raises
        ------
        BackendError
            If the model is neither of CuPy nor of JAX.
        TypeError
            If it has no loss, or the optimizer has a ``step`` of its own.
        """
        self._loss_layer()
        return CompiledStep(self, optimizer, self.backend or get_backend())
