"""Loss layers of regressions, whose outputs are the numbers themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from xpdl.backends.namespaces import Array
from xpdl.errors import ShapeError
from xpdl.layers.loss_layer import LossLayer
from xpdl.layers.losses import targets_like
from xpdl.ops import losses, regression_losses
from xpdl.ops.checks import number
from xpdl.ops.targets import check_numbers


class IdentityWithLoss(LossLayer):
    """The identity and half the sum of squared errors over a row's outputs, mean over the batch: regression.

    Notes
    -----
    `x` and `t` have the same shape (N, ...). ``dx = (x - t) dout / N``; with ``sample_weight`` r, an array (N,) given to
    `forward`, ``r (x - t) dout / sum(r)``.
    """

    classifies = False

    def forward(self, x: Array, t: Any = None, sample_weight: Array | None = None) -> Array:
        self.t, self.y = targets_like(x, self._targets(x, t), self.name), x
        rows = self._weights_of(sample_weight)
        self.loss = losses.identity_with_loss(x, self.t, rows)
        self.weight = losses.total_weight(x, self.t, None, rows, self.name)
        return self.loss

    def check_targets(self, t: Array, output_shape: tuple[int, ...], owner: str) -> None:
        check_numbers(t, output_shape, owner)

    def mean_over_outputs(self, loss: float) -> tuple[str, float] | None:
        count = self._outputs()
        return ("mse", 2.0 * loss / count) if count > 1 else None

    def backward(self, dout: Array | float = 1.0) -> Array:
        y = self.require_saved(self.y)
        return losses.identity_with_loss_backward(y, self.t, self._scale(dout, y), self._sample_weight)


class _MeanError(LossLayer):
    """A mean over all values of the batch, whose op and its backward take `options`."""

    classifies = False
    error: ClassVar[Callable[..., Array]]
    error_backward: ClassVar[Callable[..., Array]]

    @property
    def options(self) -> dict[str, Any]:
        return {}

    def forward(self, x: Array, t: Any = None, sample_weight: Array | None = None) -> Array:
        self.t, self.y = targets_like(x, self._targets(x, t), self.name), x
        rows = self._weights_of(sample_weight)
        self.loss = type(self).error(x, self.t, **self.options, sample_weight=rows)
        self.weight = losses.total_weight(x, self.t, None, rows, self.name)
        return self.loss

    def check_targets(self, t: Array, output_shape: tuple[int, ...], owner: str) -> None:
        check_numbers(t, output_shape, owner)

    def backward(self, dout: Array | float = 1.0) -> Array:
        y, options = self.require_saved(self.y), self.options
        scale = self._scale(dout, y)
        return type(self).error_backward(y, self.t, scale, **options, sample_weight=self._sample_weight)


class MeanSquaredError(_MeanError):
    """The identity and the mean of squared errors over all values of the batch: regression.

    Notes
    -----
    `x` and `t` have the same shape (N, ...). Of one output a row, it is twice the loss of `IdentityWithLoss`, the book's,
    which sums over the outputs of a row. With ``sample_weight``, an array (N,) given to `forward`, rows are weighted.
    Metrics: ``mse mae r2``.

    Examples
    --------
    >>> layer = MeanSquaredError()
    >>> float(layer.forward(np.array([[1.0, 2.0]]), np.array([[0.0, 0.0]])))
    2.5
    >>> layer.backward()
    array([[1., 2.]])
    """

    error, error_backward = (
        staticmethod(regression_losses.squared_error),
        staticmethod(regression_losses.squared_error_backward),
    )


class MeanAbsoluteError(_MeanError):
    """The identity and the mean of absolute errors over all values of the batch: regression with outliers.

    Notes
    -----
    `x` and `t` have the same shape (N, ...). The gradient of an error of 0 is 0. With ``sample_weight``, an array (N,) given
    to `forward`, rows are weighted. Metrics: ``mse mae r2``.

    Examples
    --------
    >>> layer = MeanAbsoluteError()
    >>> float(layer.forward(np.array([[1.0, -2.0]]), np.array([[0.0, 0.0]])))
    1.5
    >>> layer.backward()
    array([[ 0.5, -0.5]])
    """

    error, error_backward = (
        staticmethod(regression_losses.absolute_error),
        staticmethod(regression_losses.absolute_error_backward),
    )


class Huber(_MeanError):
    """The identity and Huber's loss, the mean over all values: squared errors, which grow linearly beyond `delta`.

    A value costs ``e^2 / 2`` where ``|e| <= delta`` for the error e, else ``delta (|e| - delta / 2)``.

    Parameters
    ----------
    delta : float

    Notes
    -----
    `x` and `t` have the same shape (N, ...). With ``sample_weight``, an array (N,) given to `forward`, rows are weighted.
    Metrics: ``mse mae r2``.

    Examples
    --------
    >>> layer = Huber()
    >>> float(layer.forward(np.array([[1.0, -3.0]]), np.array([[0.0, 0.0]])))
    1.5
    >>> layer.backward()
    array([[ 0.5, -0.5]])
    """

    error = staticmethod(regression_losses.huber)
    error_backward = staticmethod(regression_losses.huber_backward)

    def __init__(self, delta: float = 1.0) -> None:
        super().__init__()
        self.delta = number(delta, "delta", self.name, "positive")

    @property
    def options(self) -> dict[str, Any]:
        return {"delta": self.delta}

    def __repr__(self) -> str:
        return f"Huber({'' if self.delta == 1.0 else self.delta})"


class GaussianKL(LossLayer):
    """Kullback-Leibler divergence of diagonal Gaussians, by default from the standard normal distribution.

    The second loss of a variational autoencoder (arXiv:1312.6114, appendix B). Summed over a row, mean over the batch.

    Raises
    ------
    ShapeError
        If a row of `x` has an odd number of values, or `t` another shape.

    Notes
    -----
    `forward` takes `x` (N, 2 D), whose rows hold D means and then D logarithms of variances, and perhaps `t` of the same
    shape, the Gaussians to compare with. For variances v and means m, a row costs ``sum(v + m^2 - 1 - log(v)) / 2``. With
    ``sample_weight``, an array (N,), rows are weighted. No metric fits.

    Examples
    --------
    >>> layer = GaussianKL()
    >>> float(layer.forward(np.array([[1.0, 0.0]])))
    0.5
    >>> layer.backward()
    array([[1., 0.]])
    """

    classifies = False

    def forward(self, x: Array, t: Any = None, sample_weight: Array | None = None) -> Array:
        self._targets(x, x if t is None else t)
        if x.ndim != 2 or x.shape[1] % 2:
            raise ShapeError(
                f"{self.name}: expected means and log variances (N, 2 D), an even number a row, got shape {tuple(x.shape)}"
            )
        self.t, self.y = None if t is None else losses.targets(x, t, self.name), x
        rows = self._weights_of(sample_weight)
        self.loss = regression_losses.gaussian_kl(x, self.t, rows)
        self.weight = losses.total_weight(x, x, None, rows, self.name)
        return self.loss

    def check_targets(self, t: Array, output_shape: tuple[int, ...], owner: str) -> None:
        check_numbers(t, output_shape, owner)

    def backward(self, dout: Array | float = 1.0) -> Array:
        y = self.require_saved(self.y)
        return regression_losses.gaussian_kl_backward(y, self.t, self._scale(dout, y), self._sample_weight)
