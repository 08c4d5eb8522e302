"""A net as a classifier of scikit-learn, for its pipelines and searches (``pip install "xpdl[scikit-learn]"``).

Import it by its own name, ``from xpdl.integrations.scikit_learn import XpdlClassifier``: nothing else of xpdl loads
scikit-learn.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.preprocessing import LabelEncoder
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from xpdl.backends import asarray, asnumpy
from xpdl.backends.namespaces import array_namespace
from xpdl.backends.random import seeded
from xpdl.functional import sigmoid, softmax
from xpdl.layers import Affine, Relu, SigmoidWithLoss, SoftmaxWithLoss
from xpdl.models import Sequential
from xpdl.training.ownership import require_new
from xpdl.training.trainer import Trainer


class XpdlClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Trains a net on tables of features, with the interface of a classifier of scikit-learn.

    Parameters
    ----------
    build : callable, optional
        ``build(features, classes)`` -> a `Sequential` that ends in so many scores, with `SoftmaxWithLoss`, or with
        `SigmoidWithLoss` for a yes or no to each class; of two classes it may end in one score, for the second, with
        `SigmoidWithLoss`. By default two affine layers with 100 units between them.
    epochs, batch_size, optimizer, drop_last
        As for `Trainer`.
    lr : float, optional
        Learning rate; by default that of `Trainer`. An optimizer that exists already takes none.
    random_state : int or RandomState, optional
        Of initial weights and the order of rows.

    Attributes
    ----------
    classes_ : array (K,)
    net_ : Sequential
    history_ : History

    Notes
    -----
    Features are used as they are: put a ``StandardScaler`` before it. What scikit-learn passes and expects are NumPy
    arrays; the net is trained on the backend in use.
    """

    def __init__(
        self,
        build: Callable[[int, int], Sequential] | None = None,
        epochs: int = 50,
        batch_size: int = 100,
        optimizer: str = "adam",
        lr: float | None = None,
        random_state: Any = None,
        drop_last: bool = False,
    ) -> None:
        self.build = build
        self.epochs = epochs
        self.batch_size = batch_size
        self.optimizer = optimizer
        self.lr = lr
        self.random_state = random_state
        self.drop_last = drop_last

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> XpdlClassifier:
        """Train a new net on rows `X` (N, F) and their classes `y` (N,), rows weighted by `sample_weight` (N,)."""
        X, y = validate_data(self, X, y, dtype="float32")
        check_classification_targets(y)
        labels = LabelEncoder()
        t = labels.fit_transform(y)
        self.classes_ = labels.classes_
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, X, ensure_non_negative=True)
            counted = sample_weight > 0  # a row of weight 0 is one that is not there, also for batch normalization
            X, t, sample_weight = X[counted], t[counted], asarray(sample_weight[counted])
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        with seeded(seed):
            self.net_ = (self.build or _two_layers)(X.shape[1], len(self.classes_))
            require_new(self.net_, "XpdlClassifier")
            # a copy: fitting changes no argument
            optimizer, targets = copy.deepcopy(self.optimizer), _targets(self.net_, t, X.shape[1], len(self.classes_))
            options = {"verbose": False, "sample_weight": sample_weight, "drop_last": self.drop_last}
            trainer = Trainer(
                self.net_,
                asarray(X),
                asarray(targets),
                epochs=self.epochs,
                mini_batch_size=self.batch_size,
                optimizer=optimizer,
                optimizer_param=None if self.lr is None else {"lr": self.lr},
                **options,
            )
            self.history_ = trainer.train()
        return self

    def predict_proba(self, X: Any) -> Any:
        """Probabilities (N, K) of the classes; answers of yes or no to each of several are divided by their sum."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype="float32", reset=False)
        x, last = asarray(X), self.net_.last_layer
        scores = asnumpy(self.net_.predict(x))
        if not isinstance(last, SigmoidWithLoss):
            return softmax(scores)
        xp = array_namespace(scores)
        if len(self.classes_) == 2 and math.prod(scores.shape[1:]) == 1:
            yes = sigmoid(xp.reshape(scores, (-1,)))
            return xp.stack([1.0 - yes, yes], axis=-1)
        # the softmax of their logarithms, which is that quotient, does not underflow
        return softmax(-xp.logaddexp(xp.zeros_like(scores), -scores))

    def predict(self, X: Any) -> Any:
        """The most probable class of each row."""
        likely = self.predict_proba(X).argmax(axis=1)
        return self.classes_[likely]


def _two_layers(features: int, classes: int) -> Sequential:
    return Sequential(Affine(units=100), Relu(), Affine(units=classes), loss=SoftmaxWithLoss)


def _targets(net: Any, t: Any, features: int, classes: int) -> Any:
    """Labels `t` as the loss of a net takes them.

    Raises
    ------
    TypeError
        If it is no net with a loss for classification.
    ValueError
        If it does not end in as many scores as there are classes.
    """
    last = getattr(net, "last_layer", None)
    if last is None or not last.classifies:
        raise TypeError(
            f"XpdlClassifier: build must return a Sequential with SoftmaxWithLoss or SigmoidWithLoss, got {net!r}"
        )
    out = net.build((features,))
    sigmoid_of = isinstance(last, SigmoidWithLoss)
    if sigmoid_of and classes == 2 and math.prod(out) == 1:
        return t.astype("float32").reshape(-1, *out)
    if out != (classes,):
        one = ", or one score with SigmoidWithLoss" if classes == 2 else ""
        raise ValueError(
            f"XpdlClassifier: build must end in {classes} scores, one for each class{one}, got rows of shape {out}"
        )
    return (t[:, None] == range(classes)).astype("float32") if sigmoid_of else t
