"""A net as a classifier of scikit-learn, for its pipelines and searches (``pip install "xpdl[scikit-learn]"``).

Import it by its own name, ``from xpdl.training.scikit_learn import XpdlClassifier``: nothing else of xpdl loads
scikit-learn.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.preprocessing import LabelEncoder
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from xpdl.backends import asarray, asnumpy
from xpdl.backends.random import seeded
from xpdl.functional import softmax
from xpdl.layers import Affine, Relu, SoftmaxWithLoss
from xpdl.models import Sequential
from xpdl.training.run_state import require_new
from xpdl.training.trainer import Trainer


class XpdlClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Trains a net on tables of features, with the interface of a classifier of scikit-learn.

    Parameters
    ----------
    build : callable, optional
        ``build(features, classes)`` -> a `Sequential` that ends in so many scores. By default two affine layers with 100
        units between them.
    epochs, batch_size, optimizer, lr
        As for `Trainer`.
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
        lr: float = 0.01,
        random_state: Any = None,
    ) -> None:
        self.build = build
        self.epochs = epochs
        self.batch_size = batch_size
        self.optimizer = optimizer
        self.lr = lr
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> XpdlClassifier:
        """Train a new net on rows `X` (N, F) and their classes `y` (N,)."""
        X, y = validate_data(self, X, y, dtype="float32")
        check_classification_targets(y)
        labels = LabelEncoder()
        x, t = asarray(X), asarray(labels.fit_transform(y))
        self.classes_ = labels.classes_
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        with seeded(seed):
            self.net_ = (self.build or _two_layers)(X.shape[1], len(self.classes_))
            require_new(self.net_, "XpdlClassifier")
            # a copy: fitting changes no argument
            optimizer = copy.deepcopy(self.optimizer)
            trainer = Trainer(
                self.net_, x, t, x, t, self.epochs, self.batch_size, optimizer, {"lr": self.lr}, verbose=False
            )
            self.history_ = trainer.train()
        return self

    def predict_proba(self, X: Any) -> Any:
        """Probabilities (N, K) of the classes."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype="float32", reset=False)
        return asnumpy(softmax(self.net_.predict(asarray(X))))

    def predict(self, X: Any) -> Any:
        """The most probable class of each row."""
        likely = self.predict_proba(X).argmax(axis=1)
        return self.classes_[likely]


def _two_layers(features: int, classes: int) -> Sequential:
    return Sequential(Affine(units=100), Relu(), Affine(units=classes), loss=SoftmaxWithLoss)
