"""Compiled training steps of a trainer: ``Trainer(..., compile=True)``."""

from __future__ import annotations

from typing import Any

from xpdl.backends import Backend
from xpdl.backends.namespaces import Array
from xpdl.models.base import Model
from xpdl.models.compiled_step import StepCompiler
from xpdl.models.gradient_accumulator import Accumulated
from xpdl.models.step_passes import Entry, StepPasses
from xpdl.optimizers import Optimizer
from xpdl.training import step
from xpdl.training.precision.mixed import MixedPrecision
from xpdl.training.run_state import RunState
from xpdl.training.step import EagerStep, StepResult


class GraphedStep(StepCompiler, EagerStep):
    """Makes steps on full batches by one launch each, once one is compiled: a CUDA graph on CuPy, `jax.jit` on JAX.

    On a GPU with CuPy, a step of a small network is some fifty launches of kernels that take microseconds each, and the GPU
    waits for the host. A step that is recorded as a CUDA graph is one launch and two copies of the batch. With JAX, on any
    device, forward, backward and update are traced into one function, whose operations XLA fuses and whose arrays it updates
    in place.

    Eager are batches with fewer rows, one step in a hundred, whose losses are read, the first of an epoch of a network
    that goes on with the states of recurrent layers, and on CuPy the first three of a run. With
    ``accumulate_grad_batches``, on JAX, a step that adds up gradients and one that updates are compiled, and sums are
    updated in place as well. On CuPy, all run the same kernels, so results are bitwise identical to eager steps. Where
    `xpdl info` says that cuBLAS is not called directly, matrix products go by a kernel of ours, in the precision
    ``"highest"``: they differ from those of a `Trainer` without ``compile`` in their last bits, and large ones may take
    longer than launches are worth. On JAX, sums that are fused may differ in their last bits.

    What changes from step to step must be known: parameters, the optimizer's state, and what layers keep in their
    ``state``. A layer of one's own with a Python number that changes, or that draws random numbers, computes with those of
    the step that was recorded. Callbacks may change the learning rate at every step; where they change another number of
    the rule, or on CuPy put other arrays in the place of parameters, the step is compiled anew. What is seen to be
    impossible when it is to be compiled, such as a value that is read, is a warning, and the training goes on eagerly.

    With JAX, layers keep neither gradients nor activations of a compiled step, and the arrays of parameters and state that
    it replaces are deleted: to keep one, copy it.

    Parameters
    ----------
    network, optimizer, precision, accumulate_grad_batches, state
        As of an ``EagerStep``.
    backend : Backend
    batch_size : int or None
        Rows of a full batch; None for those of the first.

    Attributes
    ----------
    compilations : int
        Times that a step was compiled.
    problem : str or None
        The reason why steps are not compiled, if compiling one failed.

    Raises
    ------
    BackendError
        If the network is neither of CuPy nor of JAX.
    TypeError
        If it is no `Sequential`, or the optimizer has a ``step`` of its own.
    ValueError
        If gradients of several batches are to be accumulated on CuPy.

    Notes
    -----
    On CuPy, it takes the memory of one step, in a pool of its own, besides that of eager ones. Not yet run on a GPU.
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
        batch_size: int | None,
    ) -> None:
        owner = "Trainer: compile=True"
        EagerStep.__init__(self, network, optimizer, precision, accumulate_grad_batches, state)
        passes = _MixedPasses(network, optimizer, self.accumulator, precision)
        StepCompiler.__init__(self, passes, backend, batch_size, owner)
        if not isinstance(network, Model):
            raise TypeError(
                f"{owner} needs a Sequential, whose layers say what they keep, got {type(network).__name__}"
            )

    def __call__(self, x: Array, t: Array, *sample_weight: Array, last: bool = False) -> StepResult:
        """Make a step on a batch, by one launch where it can be."""
        if not self.reads_next():
            updates = self.accumulator.is_due(last)
            replayed = self.replay(x, t, *sample_weight, last=last)
            if replayed is not None:
                self.state.pending.append(replayed)
                return StepResult(replayed[0], updates)
        return super().__call__(x, t, *sample_weight, last=last)

    def gradient(self, x: Array, t: Array, *sample_weight: Array) -> Any:
        """Compute gradients inside the kernels of compiled steps."""
        with self.recorder.alike():
            return super().gradient(x, t, *sample_weight)


class _MixedPasses(StepPasses):
    """The passes and the update of a trainer, in the precision of the run."""

    def __init__(
        self, network: Any, optimizer: Optimizer, accumulator: Accumulated, precision: MixedPrecision | None
    ) -> None:
        super().__init__(network, optimizer, accumulator)
        self.precision = precision

    def gradient(self, *batch: Array) -> Any:
        return step.gradient(self.network, self.precision, *batch)

    def result(self, x: Array, t: Array) -> tuple[Array, Array | float]:
        return step.loss_of(self.network, x, t), step.weight_of(self.network, x)

    def update(self, grads: Any) -> None:
        step.update(self.optimizer, self.precision, self.network.params, grads)

    def scale(self) -> list[Entry]:
        if self.precision is None or not self.precision.scales:
            return []
        owner, key, _ = self.precision.loss_scale.entry(next(o[k] for _, o, k in self.network.named_params()))
        return [(owner, key)]
