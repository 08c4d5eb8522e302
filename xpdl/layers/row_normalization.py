"""Normalization layers without statistics of the batch: of layers, of groups of channels, by the root mean square."""

from __future__ import annotations

from typing import ClassVar

from xpdl.backends.namespaces import Array, array_namespace
from xpdl.errors import ShapeError
from xpdl.layers.base import Layer, Make, Shape, gradient, parameter, require_parameters
from xpdl.ops import row_normalization as ops
from xpdl.ops.checks import number, positive_int


class _RowNormalization(Layer):
    """Scale, and perhaps shift, along one axis; subclasses say which of a row's axes that is."""

    keep_fp32_params: ClassVar[bool] = True
    fill: ClassVar[dict[str, float]] = {"gamma": 1.0, "beta": 0.0}
    axis: ClassVar[int] = -1
    gamma, dgamma = parameter("gamma"), gradient("gamma")

    def __init__(self, eps: float, **given: Array | None) -> None:
        super().__init__()
        self.eps = number(eps, "eps", self.name, "positive")
        self.params = {key: value for key, value in given.items() if value is not None}
        if self.params:
            require_parameters(self.name, **self.params)
        shapes = {key: tuple(value.shape) for key, value in self.params.items()}
        if len(set(shapes.values())) > 1 or any(len(shape) != 1 for shape in shapes.values()):
            raise ShapeError(f"{self.name}: {' and '.join(self.fill)} must share one shape (F,), got {shapes}")
        self.saved: tuple[Array, ...] | None = None  # the input and its statistics

    @property
    def built(self) -> bool:
        return len(self.params) == len(self.fill)

    def output_shape(self, input_shape: Shape) -> Shape:
        if not input_shape:
            raise ShapeError(f"{self.name}: expected rows of features (N, ..., F), got rows without an axis")
        for key, value in self.params.items():
            if tuple(value.shape) != (input_shape[self.axis],):
                raise ShapeError(
                    f"{self.name}: {key} {tuple(value.shape)} needs {value.shape[0]} values along axis "
                    f"{self.axis if self.axis < 0 else self.axis + 1}, got rows of shape {input_shape}"
                )
        return input_shape

    def create_parameters(self, input_shape: Shape, make: Make) -> None:
        for key, value in self.fill.items():
            if key not in self.params:
                zeros = make(key, (input_shape[self.axis],), "zeros")
                self.params[key] = array_namespace(zeros).add(zeros, value)
        self.params = {key: self.params[key] for key in self.fill}

    def forward(self, x: Array) -> Array:
        """The normalised input, in its shape."""
        self.prepare(x)
        self.output_shape(tuple(x.shape[1:]))
        y, *statistics = self._normalized(x)
        self.saved = (x, *statistics)
        return y

    def backward(self, dout: Array) -> Array:
        """``dx`` in the shape of the input; fills the gradients of the parameters."""
        x, *statistics = self.require_saved(self.saved)
        self.require_dout(dout, x.shape, x)
        dx, *gradients = self._gradients(dout, x, *statistics)
        self.grads = dict(zip(self.fill, gradients, strict=True)) if self.trainable else {}
        return dx

    def _normalized(self, x: Array) -> tuple[Array, ...]:
        """The output and the statistics of `x`."""
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def _gradients(self, dout: Array, x: Array, *statistics: Array) -> tuple[Array | None, ...]:
        """``dx`` and the gradients of the parameters, each None in a frozen layer."""
        raise NotImplementedError(f"{type(self).__name__} has no backward")


class LayerNormalization(_RowNormalization):
    """Normalise each vector along the last axis, then scale by gamma and shift by beta (arXiv:1607.06450).

    ``y = gamma (x - mean) / sqrt(var + eps) + beta``, with the mean and the biased variance of the F values.

    Parameters
    ----------
    eps : float
        Added to the variance under the root.
    gamma, beta : array (F,), optional
        Scale and shift, used as they are and not copied; ones and zeros when not given.

    Raises
    ------
    ShapeError
        If the last axis of an input does not fit gamma.
    DTypeError
        If the input is not floating.

    Notes
    -----
    An input (N, ..., F) of any rank keeps its shape. The layer saves its input, the means and the roots. It does in training
    and evaluation the same. Half precision is computed with in float32; in mixed precision gamma, beta and their gradients
    stay in float32.

    Examples
    --------
    >>> layer = LayerNormalization()
    >>> layer.forward(np.array([[1.0, 3.0], [10.0, 10.0]])).round(3)
    array([[-1.,  1.],
           [ 0.,  0.]])
    """

    beta, dbeta = parameter("beta"), gradient("beta")

    def __init__(self, eps: float = 1e-5, *, gamma: Array | None = None, beta: Array | None = None) -> None:
        super().__init__(eps, gamma=gamma, beta=beta)

    def _normalized(self, x: Array) -> tuple[Array, ...]:
        return ops.layer_normalization(x, self.gamma, self.beta, self.eps)

    def _gradients(self, dout: Array, x: Array, *statistics: Array) -> tuple[Array | None, ...]:
        mean, std = statistics
        return ops.layer_normalization_backward(dout, x, self.gamma, mean, std, need_dgamma=self.trainable)


class RMSNormalization(_RowNormalization):
    """Divide each vector along the last axis by the root of its mean square, then scale by gamma (arXiv:1910.07467).

    ``y = gamma x / sqrt(mean(x^2) + eps)``. The paper has no eps.

    Parameters
    ----------
    eps : float
        Added to the mean square under the root.
    gamma : array (F,), optional
        Scale, used as it is and not copied; ones when not given.

    Raises
    ------
    ShapeError
        If the last axis of an input does not fit gamma.
    DTypeError
        If the input is not floating.

    Notes
    -----
    As in `LayerNormalization`, but for the mean, which is neither subtracted nor saved.

    Examples
    --------
    >>> RMSNormalization().forward(np.array([[3.0, 4.0]])).round(3)
    array([[0.849, 1.131]])
    """

    fill: ClassVar[dict[str, float]] = {"gamma": 1.0}

    def __init__(self, eps: float = 1e-6, *, gamma: Array | None = None) -> None:
        super().__init__(eps, gamma=gamma)

    def _normalized(self, x: Array) -> tuple[Array, ...]:
        return ops.rms_normalization(x, self.gamma, self.eps)

    def _gradients(self, dout: Array, x: Array, *statistics: Array) -> tuple[Array | None, ...]:
        return ops.rms_normalization_backward(dout, x, self.gamma, *statistics, need_dgamma=self.trainable)


class GroupNormalization(_RowNormalization):
    """Normalise groups of channels of each row, then scale by gamma and shift by beta (arXiv:1803.08494).

    Each of the `groups` holds channels that lie side by side, and has one mean and one biased variance, over its channels
    and all positions. One group normalises all of a row; as many groups as channels are instance normalization.

    Parameters
    ----------
    groups : int
        Divides the number C of channels.
    eps : float
        Added to the variance under the root.
    gamma, beta : array (C,), optional
        Scale and shift, used as they are and not copied; ones and zeros when not given.

    Raises
    ------
    ShapeError
        If the channels of an input do not fit gamma, or cannot be shared among the groups.
    DTypeError
        If the input is not floating.

    Notes
    -----
    An input (N, C, ...) keeps its shape: features (N, C), sequences (N, C, T), images (N, C, H, W). Otherwise as in
    `LayerNormalization`.

    Examples
    --------
    >>> layer = GroupNormalization(2)
    >>> layer.forward(np.array([[1.0, 3.0, 20.0, 10.0]])).round(3)
    array([[-1.,  1.,  1., -1.]])
    """

    axis: ClassVar[int] = 0
    beta, dbeta = parameter("beta"), gradient("beta")

    def __init__(
        self, groups: int, eps: float = 1e-5, *, gamma: Array | None = None, beta: Array | None = None
    ) -> None:
        super().__init__(eps, gamma=gamma, beta=beta)
        self.groups = positive_int(groups, "groups", self.name)

    def output_shape(self, input_shape: Shape) -> Shape:
        super().output_shape(input_shape)
        if input_shape[0] % self.groups:
            raise ShapeError(
                f"{self.name}: {input_shape[0]} channels cannot be shared among {self.groups} groups; choose groups that "
                f"divide the channels, got rows of shape {input_shape}"
            )
        return input_shape

    def _normalized(self, x: Array) -> tuple[Array, ...]:
        return ops.group_normalization(x, self.gamma, self.beta, self.groups, self.eps)

    def _gradients(self, dout: Array, x: Array, *statistics: Array) -> tuple[Array | None, ...]:
        mean, std = statistics
        given = dout, x, self.gamma, self.groups, mean, std
        return ops.group_normalization_backward(*given, need_dgamma=self.trainable)
