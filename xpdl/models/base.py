"""Base of models: a composition of layers with a loss, and what a trainer asks of it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar

from xpdl.backends import Backend, tables
from xpdl.backends.namespaces import Array, copied, on_device_of
from xpdl.backends.random import Stream, checked_seed
from xpdl.data.structure import map_arrays
from xpdl.layers.base import Shape, row_shapes
from xpdl.layers.composite import Composite
from xpdl.layers.function_loss import Function, last_layer
from xpdl.layers.losses import LossLayer
from xpdl.layers.tree import first_parameter
from xpdl.models import layout, placement, purpose, serialization
from xpdl.models.batched import batched, rows_of, share_correct
from xpdl.models.compiled_step import Compilable
from xpdl.models.input_gradient import InputGradients
from xpdl.models.notebook import summary_html
from xpdl.models.numerical import numerical_gradients
from xpdl.models.recurrent_states import RecurrentStates
from xpdl.models.state_dict import Differences, fill, state_of
from xpdl.models.summary import summary_table
from xpdl.ops.checks import positive_int

_PREDICTED_ROWS = 1000  # of one pass of `predict`: enough to keep a processor busy

M = TypeVar("M", bound="Model")
Loss = LossLayer | type[LossLayer] | Function


class MixedPasses(Protocol):
    """Training passes in another dtype than that of the parameters: `xpdl.training.MixedPrecision`."""

    def forward(self, network: Model, x: Array) -> Array:
        """Scores for a batch, in the dtype of the parameters."""

    def backward(self, network: Model, loss: LossLayer, factor: float) -> None:
        """Fill the layers' gradients of `factor` times a loss that has gone forward."""


class Model(Compilable, InputGradients, RecurrentStates, purpose.OfTokens, Composite):
    """A composition of layers that can be trained, measured, saved and loaded.

    A subclass comes before its kind of composition, as in ``class Sequential(Model, Chain)``: arguments that are not for the
    model are passed on to it.

    Parameters
    ----------
    *args, **kwargs
        Of the composition.
    loss : LossLayer, an instance or its class, or callable, optional
        The last layer, or a function ``(y, t) -> (loss, dy)`` of outputs and targets. Without it the model can predict but
        not train, and can be a layer of another model.
    seed : int, optional
        Of initial weights and dropout masks; by default they follow `xpdl.seed`.

    Attributes
    ----------
    params : mapping
        ``"Affine1.W"`` -> array: a view of what the layers own. Reading and writing go there.
    last_layer : LossLayer or None
    last_loss : array () or None
        The loss that the last `gradient` computed on its way, on the device.
    """

    def __init__(self, *args: Any, loss: Loss | None = None, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.last_layer = last_layer(loss, self.name)
        self.own_loss = repr(self.last_layer)  # which the constructor makes again
        self.last_loss: Array | None = None
        self.mixed_precision: MixedPasses | None = None  # runs the passes of `gradient` in another dtype
        self.seed = None if seed is None else checked_seed(seed, self.name)
        self.input_shape: Any = None  # of one row; a tuple of shapes of several inputs
        #: the constructor's arguments, where a class can make the model again from them
        self.config: dict[str, Any] | None = None
        self.class_names: list[str] | None = None  # in the order of the outputs
        #: preprocessing of pictures, as plain values: size, channels, mean...
        self.preparation: dict[str, Any] | None = None
        #: the data that it was trained on, as plain values: name or folder, and the split of rows to test with
        self.origin: dict[str, Any] | None = None

    def build(
        self, input_shape: Sequence[int | None], *, stream: Stream | None = None, backend: Backend | None = None
    ) -> Shape:
        """Create the parameters for rows of `input_shape`, such as ``(1, 28, 28)``, and return the output's shape.

        A seed that the model was made with comes before `stream`, also where it is a layer of another model.
        """
        if self.seed is not None:
            stream = Stream(self.seed)
        out = super().build(input_shape, stream=stream, backend=backend)
        self.input_shape = row_shapes(input_shape, self.name)
        layout.warn_of_channels_last(self, self.input_shape)
        return out

    def build_for(self, x: Array) -> None:
        super().build_for(x)
        # of layers that were given their arrays
        self.input_shape = self.input_shape or map_arrays(lambda a: tuple(a.shape[1:]), x)

    @property
    def backend(self) -> Backend | None:
        """Backend of the parameters; None before they exist."""
        return None if (first := self._first_parameter()) is None else Backend.of(first)

    def _on_its_device(self) -> AbstractContextManager[Any]:
        """A context with the model's device as the current one."""
        return on_device_of(self._first_parameter())

    def to(self: M, backend: str | Backend | Any) -> M:
        """Move parameters and running statistics to another library or device, and return the model.

        `backend` is a name for `use`, keeping the model's dtype, or what `use` or `get_backend` returned.
        """
        placement.move(self, backend, self.backend)
        return self

    def predict(self, x: Array, train_flg: bool = False, *, batch_size: int | None = None) -> Array:
        """Scores, before the activation of the loss, for rows `x` (N, ...).

        Parameters
        ----------
        x : array (N, ...) of any library, list or DataFrame; a tuple or dict of them for several inputs
        train_flg : bool
            Training mode, which needs all rows in one pass.
        batch_size : int, optional
            Rows of one pass, which bound the memory; by default at most 1,000.

        Returns
        -------
        array (N, ...)
            Of the library of `x`; of NumPy for a list or DataFrame. A tuple or dict of arrays for several outputs.
        """
        x = placement.rows(self, x, owner := f"{self.name}.predict")
        if placement.in_training(train_flg, owner):
            if batch_size is not None:
                raise ValueError(f"{owner}: training mode takes all rows in one pass, got batch_size={batch_size!r}")
            return self._predicted(x, True)
        most = _PREDICTED_ROWS if batch_size is None else positive_int(batch_size, "batch_size", owner)
        with self._states_of_zeros(needed=rows_of(x) > most):  # each pass has sequences of its own
            return batched(lambda rows: self._predicted(rows, False), x, most)

    def _predicted(self, x: Array, train_flg: bool) -> Array:
        with self._on_its_device():
            y = self.forward(self._moved(x), train_flg)
            return placement.answered(y, x, self._first_parameter())

    def loss(self, x: Array, t: Array, train_flg: bool = False, sample_weight: Array | None = None) -> Array:
        """The loss of a batch, an array () on the model's device; `sample_weight` (N,) weighs the rows."""
        mixed = self.mixed_precision if train_flg else None
        weighted = () if sample_weight is None else (sample_weight,)
        with on_device_of(first := self._first_parameter()):
            scores = mixed.forward(self, x) if mixed else self.forward(placement.cast(x, first), train_flg)
            return self._loss_layer().forward(scores, t, *weighted)

    def accuracy(self, x: Array, t: Array, batch_size: int = 100) -> float:
        """Share of the decisions on all rows of `x` that are as `t` says, from 0 to 1.

        With softmax a row is one decision, on its class: `t` has labels or one-hot rows; for several, see `SigmoidWithLoss`.
        Both may be lists or tables, and labels names, of `class_names`.
        """
        last, owner = self._loss_layer(), f"{self.name}.accuracy"
        x = placement.rows(self, x, owner)
        if not last.classifies:
            last.correct(x, t)  # says why there is none
        t = tables.labels(t, self.class_names, f"{owner}: t")

        def correct(x: Array, t: Array) -> tuple[Array, Array | None]:
            scores, t = self.forward(self._moved(x), False), self._moved(t)
            return last.correct(scores, t), last.counted(scores, t)

        with self._on_its_device(), self._states_of_zeros():
            return share_correct(correct, x, t, batch_size, owner)

    def gradient(self, x: Array, t: Array, sample_weight: Array | None = None) -> dict[str, Array]:
        """Gradients of the loss in training mode, by backpropagation, under the names of `params`."""
        weighted = {} if sample_weight is None else {"sample_weight": sample_weight}
        self.last_loss = self.loss(x, t, train_flg=True, **weighted)
        with self._on_its_device():
            loss = self._loss_layer()
            # of a batch that several ranks have, the gradient of its mean loss
            factor = 1.0 if self.share is None else self.share.exchange(self.last_loss, loss.weight)
            mixed = self.mixed_precision
            mixed.backward(self, loss, factor) if mixed else self.backward_parameters(loss.backward(factor))
        return self.grads

    def numerical_gradient(self, x: Array, t: Array) -> dict[str, Array]:
        """The same by central differences, slow, to check `gradient` with, in float64: float32 leaves 1e-5."""
        self.build_for(x)
        with self._states_of_zeros():
            return numerical_gradients(self, lambda: self.loss(x, t, train_flg=True))

    def state_dict(self) -> dict[str, Array]:
        """Copies of all parameters and running statistics by name, in the model's library.

        Raises
        ------
        ShapeError
            If the model has no parameters yet.
        """
        return {name: copied(a) for name, a in state_of(self).items()}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> Differences:
        """Copy arrays of any library into the model: all of them, or none and an error.

        Parameters
        ----------
        state_dict : mapping of str to floating array
            What `state_dict` returned. Values go to the model's library and device, and are rounded to its dtype.
        strict : bool
            Whether names that only one side has are an error. A wrong shape always is one.

        Returns
        -------
        missing, unexpected : list of str
            The names that `state_dict` lacks, and those that the model lacks.

        Raises
        ------
        ValueError
            With the list of all that is missing, unexpected, of another shape, no floats, or out of the range of the
            model's dtype; the model is then as it was.
        ShapeError
            If the model has no parameters yet.
        TypeError
            If `state_dict` is no mapping.
        """
        return fill(self, state_dict, f"{self.name}.load_state_dict", strict=strict)

    def get_config(self) -> dict[str, Any]:
        if self.config is not None:
            return dict(self.config)
        return {**super().get_config(), "loss": self.last_layer, "seed": self.seed}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the whole model to one safetensors file, atomically, for `xpdl.load_model`.

        It holds the layers by name with their arguments, parameters and running statistics, the shape of the input,
        `class_names`, `preparation`, `origin` and `vocabulary`; no code, no pickle, and no state of an optimizer.

        Raises
        ------
        ShapeError
            If the model has no parameters yet.
        TypeError
            If a class is not known to files, see `xpdl.register_layer`, or an argument is no plain value.
        """
        serialization.save(self, path, self.input_shape, purpose.of(self))

    def save_params(self, path: str | os.PathLike[str]) -> None:
        """Write parameters and running statistics alone to a safetensors file, with a checksum, atomically."""
        serialization.save_params(self, path, self.input_shape, self.config)

    def load_params(self, path: str | os.PathLike[str]) -> None:
        """Read what `save_params` wrote, any safetensors file with these names, or a pickle of the book's companion code.

        Raises
        ------
        ValueError, OSError
            If the file is damaged, or its arrays do not fit; the model is then as it was.
        """
        serialization.load(self, path)

    def summary(self, input_shape: Sequence[int] | None = None) -> None:
        """Print a table of the layers, those inside blocks too, in the order in which they compute.

        For each its output's shape, the number and bytes of its parameters, the bytes of one row of its output (0 where it
        is the input again), and the floating-point operations of one row in evaluation, a multiply-add counted as 2, by
        `xpdl.models.flops.flop`. The loss is skipped. A ``?`` is unknown: before `build`, or for want of a formula.

        Parameters
        ----------
        input_shape : sequence of int, optional
            Of one row; a model that has no parameters yet is built for it.
        """
        if input_shape is not None and not self.built:
            self.build(input_shape)
        shape = self.input_shape if input_shape is None else row_shapes(input_shape, f"{self.name}.summary")
        print(summary_table(self, shape, self.last_layer))

    def _repr_html_(self) -> str:
        return summary_html(self, self.input_shape, self.last_layer)

    def _loss_layer(self) -> LossLayer:
        if self.last_layer is None:
            raise TypeError(f"{self.name}: has no loss; make it with loss=SoftmaxWithLoss or another loss layer")
        return self.last_layer

    def _first_parameter(self) -> Array | None:
        return first_parameter(self)

    def _moved(self, x: Array) -> Array:
        return placement.moved(x, self._first_parameter())
