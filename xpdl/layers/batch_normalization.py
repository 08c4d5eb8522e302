"""The batch normalization layer."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from typing import Any, ClassVar

from xpdl.backends.graphs import require_no_leak
from xpdl.backends.namespaces import Array, array_namespace, widened
from xpdl.errors import ShapeError
from xpdl.layers.base import Layer, Make, Shape, gradient, parameter, require_parameters, row_size
from xpdl.layers.freezing import in_training
from xpdl.layers.named import Entry
from xpdl.ops import normalization as ops
from xpdl.ops.checks import flag, number
from xpdl.ops.losses import batch_rows


class BatchNormalization(Layer):
    """Normalise each feature over the batch, then scale by gamma and shift by beta (arXiv:1502.03167; the book's ch. 6.3).

    Parameters
    ----------
    gamma, beta : array (C,), optional
        Scale and shift, used as they are and not copied; ones and zeros of the fitting size when not given. Numbers fill
        arrays of that size.
    momentum : float
        Share of the old running statistics at each training step.
    running_mean, running_var : array (C,), optional
        Statistics to begin with; zeros and ones when not given.
    eps : float
        Added to the variance under the root.
    sync : bool
        In a training by several ranks (`xpdl.distributed`), take the statistics of the whole batch; by default, each rank
        normalises its rows by themselves, and running statistics are the mean of those of the ranks.

    Raises
    ------
    ShapeError
        If the input has one axis only or does not fit gamma, or a batch to train with is empty or has one value per feature,
        which has no variance.

    Notes
    -----
    An input (N, D) is normalised per feature and (N, C, H, W) per channel, over batch and positions. A gamma of size
    C*H*W selects the book's form for images instead, where each activation is normalised by itself.

    Training uses the mean and the biased variance of the batch and updates the running ones:
    ``running = momentum * running + (1 - momentum) * batch``. A batch with fewer rows than the one before it, such as the
    last of an epoch, counts in proportion to its rows: its share is ``(1 - momentum) * rows / rows before``. Evaluation
    uses the running statistics, as constants in the backward pass. Two departures from the book: the running variance
    starts at 1, where 0 would multiply an untrained net's activations by 1000, and images are normalised per channel.
    Unlike PyTorch, momentum weighs the old statistics, the running variance is the biased one, and batches are weighted by
    their rows.

    Input in half precision is computed with in float32, and statistics stay in float32. In mixed precision so do gamma, beta
    and their gradients.

    Examples
    --------
    >>> layer = BatchNormalization()
    >>> layer.forward(np.array([[1.0], [3.0]])).round(3)
    array([[-1.],
           [ 1.]])
    >>> layer.running_mean
    array([0.2])
    """

    accepts_train_flg: ClassVar[bool] = True
    keep_fp32_params: ClassVar[bool] = True
    #: warn of a batch with one value per feature, which the book checks a gradient on, instead of refusing it
    allow_one_row: bool = False
    gamma, beta = parameter("gamma"), parameter("beta")
    dgamma, dbeta = gradient("gamma"), gradient("beta")

    def __init__(
        self,
        gamma: Any = None,
        beta: Any = None,
        momentum: float = 0.9,
        running_mean: Array | None = None,
        running_var: Array | None = None,
        *,
        eps: float = 1e-6,
        sync: bool = False,
    ) -> None:
        super().__init__()
        self.sync = flag(sync, "sync", self.name)
        self.momentum = number(momentum, "momentum", self.name, "in [0, 1]")
        self.eps = number(eps, "eps", self.name, "positive")
        self._fill = {"gamma": 1.0, "beta": 0.0}
        for key, given in (("gamma", gamma), ("beta", beta)):
            if isinstance(given, (int, float)):  # bool too, which is none
                self._fill[key] = number(given, key, self.name)
            elif given is not None:
                self.params[key] = given
        given_state = {"running_mean": running_mean, "running_var": running_var}
        self.state.update({key: given for key, given in given_state.items() if given is not None})
        _require_one_shape({**self.params, **self.state}, self.name)
        self._counts = {"rows": 0}  # of the last batch that was trained with, 0 before the first
        self.saved: tuple[Any, ...] | None = None  # see `forward_fused`; the input, or a function that computes it

    running_mean = property(lambda self: self.state.get("running_mean"))
    running_var = property(lambda self: self.state.get("running_var"))

    @property
    def built(self) -> bool:
        return len(self.params) == 2 and len(self.state) == 2

    def _features(self, input_shape: Shape) -> int:
        """Size of gamma for rows of that shape."""
        known = next(iter((*self.params.values(), *self.state.values())), None)
        size = row_size(input_shape)
        return size if known is not None and known.shape[0] == size else input_shape[0]

    def output_shape(self, input_shape: Shape) -> Shape:
        if not input_shape:
            raise ShapeError(f"{self.name}: expected a batch (N, D) or (N, C, H, W), got rows without an axis")
        _require_size({**self.params, **self.state}, (self._features(input_shape),), input_shape, self.name)
        return input_shape

    def create_parameters(self, input_shape: Shape, make: Make) -> None:
        size = (self._features(input_shape),)
        for key, value in self._fill.items():
            if key not in self.params:
                zeros = make(key, size, "zeros")
                self.params[key] = array_namespace(zeros).add(zeros, value)
        self.params = {"gamma": self.gamma, "beta": self.beta}
        for key, start in (("running_mean", "zeros"), ("running_var", "ones")):
            if key not in self.state:
                self.state[key] = widened(make(key, size, start))

    def forward(self, x: Array, train_flg: bool | None = None) -> Array:
        """The normalised input, in its shape; `train_flg` stands for the layer's mode when given."""
        return self.forward_fused(x, train_flg)

    def forward_fused(
        self, x: Array, train_flg: bool | None = None, *, activation: str | None = None, residual: Array | None = None
    ) -> Array:
        """`forward` with an epilogue of `xpdl.ops.normalization.batch_normalization`."""
        self.prepare(x)
        self.output_shape(tuple(x.shape[1:]))
        xp = array_namespace(x, *self.state.values(), owner=self.name)
        # the book's form for images: every activation is a feature
        rows = x if self.gamma.shape[0] == x.shape[1] else xp.reshape(x, (x.shape[0], -1))
        residual = None if residual is None else _reshaped(residual, rows.shape)
        training = in_training(self, train_flg)
        share = self.share if training and self.sync and self.share and self.share.communicator else None
        epilogue: dict[str, Any] = {"activation": activation, "residual": residual}
        if training and share is None:
            _require_statistics(rows, self.running_mean, self.name, self.allow_one_row)
            given = rows, self.gamma, self.beta, self.running_mean, self.running_var, self._kept(x), self.eps
            y, mean, var, *running = ops.tracked_batch_normalization(*given, **epilogue)
            self.state["running_mean"], self.state["running_var"] = running
        else:
            mean, var = self.running_mean, self.running_var
            if share is not None:
                mean, var = ops.statistics_of_ranks(rows, self.gamma, *_of_ranks(share))
                self.state.update(_tracked(self.state, self._kept(x), mean, var))
            y = ops.normalize(rows, self.gamma, self.beta, mean, var, self.eps, **epilogue)
        self.saved = (training, rows, mean, var, tuple(x.shape), share)
        return _reshaped(y, x.shape)

    def _kept(self, x: Array) -> float:
        """Return the weight of the old running statistics beside those of the batch `x`, whose rows are saved."""
        rows = self.share.rows if self.share else batch_rows(x, self.name)
        before, self._counts["rows"] = self._counts["rows"] or rows, rows
        return self.momentum if rows >= before else 1.0 - (1.0 - self.momentum) * (rows / before)

    def named(self, kind: str) -> Iterator[Entry]:
        yield from super().named(kind)
        if kind == "state":  # beside the arrays: part of a checkpoint, not of the model
            yield "rows", self._counts, "rows"

    def backward(self, dout: Array) -> Array:
        """``dx`` in the shape of the input; fills ``dgamma`` and ``dbeta``."""
        return self.backward_fused(dout)

    def backward_fused(
        self, dout: Array, *, y: Array | None = None, activation: str | None = None, need_dx: bool = True
    ) -> Array:
        """`backward` through the activation of `forward_fused`, whose output is `y`; ``dx`` also without `need_dx`."""
        training, x, mean, var, shape, share = self.require_saved(self.saved)
        x = x() if callable(x) else x
        self.require_dout(dout, shape, x)
        op: Any = ops.batch_normalization_backward if training else ops.normalize_backward
        op, more = (op, ()) if share is None else (ops.normalize_of_ranks_backward, _of_ranks(share))
        y, needed = None if y is None else _reshaped(y, x.shape), {} if training else {"need_dgamma": self.trainable}
        given = _reshaped(dout, x.shape), x, self.gamma, mean, var, self.eps, *more
        dx, dgamma, dbeta = op(*given, y=y, activation=activation, **needed)
        self.grads = {"gamma": dgamma, "beta": dbeta} if self.trainable else {}
        return _reshaped(dx, shape)


def _tracked(state: dict[str, Array], kept: float, mean: Array, var: Array) -> dict[str, Array]:
    """Return the running statistics after a batch, of which the old ones make the share `kept`."""
    new = {"running_mean": mean, "running_var": var}
    return {key: kept * state[key] + (1.0 - kept) * value for key, value in new.items()}


def _of_ranks(share: Any) -> tuple[int, bool, ops.Reduce]:
    return share.rows, share.is_idle, share.communicator.allreduce


def _reshaped(a: Array, shape: Shape) -> Array:
    """`a` in another shape of as many values, or itself where it has that."""
    return a if tuple(a.shape) == tuple(shape) else array_namespace(a).reshape(a, shape)


def _require_statistics(rows: Array, running: Array, owner: str, allow_one_row: bool) -> None:
    """Statistics of the batch exist, and may replace the `running` ones."""
    require_no_leak(running, rows, owner, "running statistics")
    if batch_rows(rows, owner) == 1 and math.prod(rows.shape[2:]) == 1:
        problem = f"{owner}: training needs more than one value per feature to have a variance, got a batch of shape "
        cure = "take larger batches, or drop a last batch of one row: Trainer(..., drop_last=True)"
        if not allow_one_row:
            raise ShapeError(f"{problem}{tuple(rows.shape)}; {cure}")
        warnings.warn(f"{problem}{tuple(rows.shape)}: every row is beta; {cure}", stacklevel=4)


def _require_size(arrays: dict[str, Array], needed: Shape, input_shape: Shape, owner: str) -> None:
    """Parameters and statistics fit the rows that they are for."""
    for key, value in arrays.items():
        if tuple(value.shape) != needed:
            raise ShapeError(
                f"{owner}: {key} has shape {tuple(value.shape)}; rows of shape {input_shape} need {needed}, "
                f"or ({row_size(input_shape)},) to normalise each activation by itself"
            )


def _require_one_shape(arrays: dict[str, Array], owner: str) -> None:
    if arrays:
        require_parameters(owner, **arrays)
    shapes = [tuple(a.shape) for a in arrays.values()]
    if any(len(shape) != 1 or shape != shapes[0] for shape in shapes):
        raise ShapeError(f"{owner}: gamma, beta and running statistics must share one shape (C,): {shapes}")
