"""Training of a net on rows of features, which the classifier and the regressor share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from sklearn.base import BaseEstimator
from sklearn.model_selection import ShuffleSplit
from sklearn.utils import check_consistent_length, check_random_state
from sklearn.utils.validation import check_is_fitted

from xpdl.backends.namespaces import Array, array_namespace
from xpdl.integrations.scikit_learn import inputs, nets
from xpdl.integrations.scikit_learn.callbacks import early_stopping, schedule
from xpdl.integrations.scikit_learn.sparse import SparseBatches, dense, is_sparse, pieces
from xpdl.models import Sequential
from xpdl.ops.checks import positive_int
from xpdl.training.history import History
from xpdl.training.trainer import Trainer

F = TypeVar("F", bound=Callable[..., Any])

#: of the net that there is without `build`
HIDDEN_LAYER_SIZES = (100,)
ACTIVATION = "relu"


def _undone_on_error(method: F) -> F:
    """Let a method of an estimator that fails leave all its attributes as they were."""

    @functools.wraps(method)
    def undone(self: Any, *args: Any, **options: Any) -> Any:
        before = dict(vars(self))
        try:
            return method(self, *args, **options)
        except Exception:
            self.__dict__ = before
            raise

    return undone  # type: ignore[return-value]


class NetEstimator(BaseEstimator):  # type: ignore[misc]
    """Base of the estimators: a subclass has the parameters, the loss, and the targets as that takes them."""

    #: whether targets are numbers
    _numeric: bool
    class_weight: Any = None

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Train a net.

        Parameters
        ----------
        X : array, sparse matrix or DataFrame (N, F)
            Rows, or pictures (N, \\*input_shape). float64 is trained in float64, all else in float32.
        y : array (N,) or (N, K)
            Targets.
        sample_weight : array (N,), optional
            Weights of the rows, 0 or more; one of weight 0 is as if it were not there.

        Returns
        -------
        self
        """
        goes_on = self.warm_start and hasattr(self, "net_")
        self._train(X, y, sample_weight, new=not goes_on)
        return self

    # for subclasses

    def _targets(self, y: Any, new: bool, classes: Any) -> Any:
        """Return targets of all rows as numbers, and learn their kind for a new net."""
        raise NotImplementedError

    def _outputs(self) -> int:
        """Return the number of outputs of a net."""
        raise NotImplementedError

    def _default_net(self, features: int, outputs: int) -> Sequential:
        raise NotImplementedError

    def _learn(self, targets: Any, weights: Any) -> None:
        """Learn from the rows to train with what a new net needs."""

    def _encoded(self, targets: Any, row_shape: tuple[int, ...]) -> Any:
        """Return targets as the loss of ``net_`` takes them; refuse a net that does not suit."""
        raise NotImplementedError

    def _splitter(self, targets: Any) -> Any:
        """Return the class of scikit-learn that draws the rows to validate with."""
        return ShuffleSplit

    # inherited

    def _keep(self, arguments: dict[str, Any]) -> None:
        """Set each parameter of the constructor as the attribute of its name, which scikit-learn asks for."""
        for name in arguments.keys() - {"self"}:
            setattr(self, name, arguments[name])

    @_undone_on_error
    def _train(
        self, X: Any, y: Any, sample_weight: Any, *, new: bool, partial: bool = False, classes: Any = None
    ) -> None:
        owner = type(self).__name__
        X = inputs.features(self, X, reset=new)
        y = inputs.targets(y, numeric=self._numeric, owner=owner)
        check_consistent_length(X, y)
        targets = self._targets(y, new, classes)
        weights = inputs.weights(sample_weight, y, self.class_weight)
        X = X if is_sparse(X) else self._rows(X)
        if weights is not None:
            counted = weights.nonzero()[0]  # also for batch normalization, a row of weight 0 is not there
            X, targets, weights = inputs.taken(X, counted), targets[counted], weights[counted]
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        # those of the user have the last word on the learning rate
        callbacks = [*([] if partial else schedule(self.schedule, owner)), *(self.callbacks or ())]
        held_out = None
        if self.early_stopping and not partial:
            splitter = self._splitter(targets)(1, test_size=self.validation_fraction, random_state=seed)
            kept, held = next(splitter.split(targets, targets))
            rows = inputs.taken(X, held)
            held_out = self._rows(rows) if is_sparse(X) else rows, targets[held]
            callbacks.append(early_stopping(self.n_iter_no_change, None if weights is None else weights[held]))
            X, targets, weights = inputs.taken(X, kept), targets[kept], None if weights is None else weights[kept]
        row_shape = tuple(X.shape[1:] if self.input_shape is None else self.input_shape)
        if new:
            self._learn(targets, weights)
            self.net_ = self._new_net(X, row_shape, seed)
            self.history_ = History()
        batch_size = positive_int(self.batch_size, "batch_size", owner)
        t, of_rows = self._encoded(targets, row_shape), {"sample_weight": weights, "drop_last": self.drop_last}
        if is_sparse(X):
            X, t, of_rows = SparseBatches(X, t, row_shape, batch_size, seed=seed, **of_rows), None, {}
        else:
            of_rows["mini_batch_size"] = batch_size
        trainer = Trainer(
            self.net_,
            X,
            t,
            epochs=1 if partial else positive_int(self.epochs, "epochs", owner),
            optimizer=self._optimizer(goes_on=partial and not new),
            verbose=bool(self.verbose),
            callbacks=callbacks,
            seed=seed,
            validation_data=None if held_out is None else (held_out[0], self._encoded(held_out[1], row_shape)),
            **of_rows,
        )
        self.history_ = _joined(self.history_, trainer.train())
        self.optimizer_ = trainer.optimizer
        self.n_iter_ = len(self.history_.seconds)

    def _rows(self, X: Any) -> Any:
        """Return rows as the net takes them: dense, and pictures in their shape."""
        x = dense(X)
        return x if self.input_shape is None else array_namespace(x).reshape(x, (-1, *self.input_shape))

    def _new_net(self, X: Any, row_shape: tuple[int, ...], seed: int) -> Sequential:
        owner = type(self).__name__
        if self.build is not None:
            for name, default in (("hidden_layer_sizes", HIDDEN_LAYER_SIZES), ("activation", ACTIVATION)):
                if (value := getattr(self, name)) != default:
                    raise ValueError(
                        f"{owner}: {name}={value!r} would not change the net that build makes; leave one out"
                    )
        build = self.build or self._default_net
        return nets.built(build, (self.n_features_in_, self._outputs()), row_shape, seed, inputs.backend_of(X), owner)

    def _optimizer(self, goes_on: bool) -> Any:
        if not goes_on:
            return nets.optimizer(self.optimizer, self.learning_rate, self.weight_decay, type(self).__name__)
        # no longer another training's
        self.optimizer_.load_state_dict(self.optimizer_.state_dict())
        return self.optimizer_

    def _scores(self, X: Any) -> Array:
        """The outputs of the net before the activation of the loss, in the kind of array of `X`."""
        check_is_fitted(self)
        X = inputs.features(self, X, reset=False)
        if not is_sparse(X):
            return self.net_.predict(self._rows(X))
        parts = [self.net_.predict(self._rows(piece)) for piece in pieces(X)]
        return array_namespace(*parts).concat(parts)


def _joined(history: History, then: History) -> History:
    """Return one history with the numbers of two."""
    before = history.lists()
    return History.from_lists({name: [*before.get(name, ()), *values] for name, values in then.lists().items()})
