"""The regressor."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score

from xpdl.backends import Backend
from xpdl.backends.namespaces import Array, array_namespace, on_device_of
from xpdl.integrations.scikit_learn import inputs, nets
from xpdl.integrations.scikit_learn.base import ACTIVATION, HIDDEN_LAYER_SIZES, NetEstimator
from xpdl.layers import IdentityWithLoss
from xpdl.models import Sequential

# Of the mean: less is the spread of a constant.
_ROUNDING = 1e-9


class XpdlRegressor(RegressorMixin, NetEstimator):  # type: ignore[misc]
    """Train a net to predict numbers from rows of features, with the interface of a regressor of scikit-learn.

    Parameters
    ----------
    build : callable, optional
        ``build(features, targets)``, ``build(features)`` or ``build()`` -> a `Sequential` that ends in a number for each
        target, with `IdentityWithLoss`. By default affine layers of `hidden_layer_sizes`.
    epochs, batch_size, drop_last
        As for `Trainer`.
    optimizer : str, class or Optimizer
        As for `Trainer`; of an instance a copy is used.
    learning_rate : float, optional
        By default that of the rule, and for Adam 0.01. An optimizer that exists already takes none.
    random_state : int or RandomState, optional
        Of initial weights, the order of rows, and the rows to validate with.
    hidden_layer_sizes : int or sequence of int
        Units of each layer between the features and the targets; ``()`` is a linear model.
    activation : {"relu", "tanh", "sigmoid", "logistic", "identity"}
        After each of them; "logistic" is another name of the sigmoid.
    weight_decay : float, optional
        Strength of the L2 penalty on weights, without biases, by default 0.001; of AdamW, its own weight decay. An optimizer
        that exists already takes none.
    schedule : {"cosine", "constant"}
        The learning rate falls to 0 along `CosineLR` over all `epochs`, or stays. Others go into `callbacks`.
    early_stopping : bool
        Keep a share of the rows from training, stop when their loss has not fallen for `n_iter_no_change` epochs, and take
        back the weights of the best epoch. The rows count by ``sample_weight``.
    validation_fraction : float
        That share.
    n_iter_no_change : int
    scale_targets : bool
        Train on targets less their mean, divided by their standard deviation; predictions are scaled back, losses in
        ``history_`` and outputs of ``net_`` are not. False for a net whose outputs are bounded, by a sigmoid for example.
    callbacks : iterable, optional
        As for `Trainer`.
    verbose : bool
        Print a line each epoch.
    warm_start : bool
        A second `fit` goes on with the net of the first, with a new optimizer, for `epochs` more.
    input_shape : sequence of int, optional
        Rows of features are pictures of this shape, such as ``(1, 8, 8)``, for a `build` with convolutions.

    Attributes
    ----------
    target_mean_, target_scale_ : float or array (K,)
        What targets are scaled by.
    net_ : Sequential
    history_ : History
        Of all epochs. With `early_stopping` it has ``val_loss_list``, of the rows that are kept from training, all
        counted alike.
    optimizer_ : Optimizer
    n_iter_ : int
        Epochs that were trained.
    n_features_in_, feature_names_in_
        As for every estimator of scikit-learn.

    Notes
    -----
    Features are used as they are: put a ``StandardScaler`` before it. `X` in float64 is trained in float64, any other in
    float32, which is quicker. Arrays of PyTorch, CuPy, JAX and others are trained where they are, and predictions are of
    the kind of the `X` they are for; NumPy arrays, DataFrames and sparse matrices are trained on the backend in use. Sparse
    `X` is made dense batch by batch, and not measured after an epoch; rows kept from training are made dense at once.

    `y` has a number (N,) or several (N, K) for each row, and predictions have its shape.

    Examples
    --------
    >>> x = np.linspace(-1, 1, 200)[:, None]
    >>> model = XpdlRegressor(random_state=0).fit(x, 1000 + 50 * x[:, 0] ** 2)
    >>> bool(model.score(x, 1000 + 50 * x[:, 0] ** 2) > 0.9)
    True
    """

    _numeric = True

    def __init__(
        self,
        build: Callable[..., Sequential] | None = None,
        epochs: int = 50,
        batch_size: int = 64,
        optimizer: Any = "adam",
        learning_rate: float | None = None,
        random_state: Any = None,
        drop_last: bool = False,
        *,
        hidden_layer_sizes: int | Sequence[int] = HIDDEN_LAYER_SIZES,
        activation: str = ACTIVATION,
        weight_decay: float | None = None,
        schedule: str = "cosine",
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        scale_targets: bool = True,
        callbacks: Iterable[Any] | None = None,
        verbose: bool | int = False,
        warm_start: bool = False,
        input_shape: Sequence[int] | None = None,
    ) -> None:
        self._keep(locals())

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> XpdlRegressor:
        """Train for one epoch on some rows, from where the net and its optimizer are.

        Parameters are as for `fit`. The first call sets what targets are scaled by.

        Returns
        -------
        self
        """
        self._train(X, y, sample_weight, new=not hasattr(self, "net_"), partial=True)
        return self

    def predict(self, X: Any) -> Array:
        """Return the predicted targets (N,) or (N, K), as they were in `y`."""
        scores, last = self._scores(X), self.net_.last_layer
        assert last is not None
        backend = Backend.of(scores)
        with on_device_of(scores):
            y = array_namespace(scores).reshape(last.activation(scores), (-1, *self._target_shape))
            return y * backend.asarray(self.target_scale_) + backend.asarray(self.target_mean_)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return R², the share of the variance that is explained; of several targets the mean over them."""
        y, sample_weight = inputs.on_host(y), inputs.on_host(sample_weight)
        return float(r2_score(y, inputs.on_host(self.predict(X)), sample_weight=sample_weight))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.target_tags.multi_output = True
        return tags

    def _targets(self, y: Any, new: bool, classes: Any) -> Any:
        if new:
            self._target_shape = y.shape[1:]
        elif y.shape[1:] != self._target_shape:
            raise ValueError(
                f"XpdlRegressor: y must have rows of shape {self._target_shape}, as in the first fit, got {y.shape}"
            )
        return y

    def _outputs(self) -> int:
        return math.prod(self._target_shape)

    def _default_net(self, features: int, outputs: int) -> Sequential:
        return nets.perceptron(self.hidden_layer_sizes, self.activation, outputs, IdentityWithLoss(), "XpdlRegressor")

    def _learn(self, targets: Any, weights: Any) -> None:
        self.target_mean_, self.target_scale_ = 0.0, 1.0
        if self.scale_targets:
            shares = (
                1.0 / len(targets)
                if weights is None
                else weights.reshape(-1, *[1] * (targets.ndim - 1)) / weights.sum()
            )
            self.target_mean_ = (shares * targets).sum(axis=0)
            scale = (shares * (targets - self.target_mean_) ** 2).sum(axis=0) ** 0.5
            constant = scale <= _ROUNDING * abs(self.target_mean_)
            self.target_scale_ = scale * (1 - constant) + constant

    def _encoded(self, targets: Any, row_shape: tuple[int, ...]) -> Any:
        last = self.net_.last_layer
        if last is None or last.classifies:
            raise TypeError(f"XpdlRegressor: build must return a Sequential with IdentityWithLoss, got {self.net_!r}")
        out = self.net_.output_shape(row_shape)
        if math.prod(out) != self._outputs():
            raise ValueError(
                f"XpdlRegressor: build must end in {self._outputs()} numbers, one for each target, got rows of shape {out}"
            )
        return ((targets - self.target_mean_) / self.target_scale_).reshape(-1, *out)
