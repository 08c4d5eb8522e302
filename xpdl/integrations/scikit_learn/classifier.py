"""The classifier."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.preprocessing import LabelEncoder
from sklearn.utils.validation import column_or_1d

from xpdl.backends import Backend
from xpdl.backends.namespaces import Array, array_namespace, on_device_of
from xpdl.backends.rows import rows_at
from xpdl.deprecation import renamed_options
from xpdl.integrations.scikit_learn import inputs, labels, nets
from xpdl.integrations.scikit_learn.base import ACTIVATION, HIDDEN_LAYER_SIZES, NetEstimator
from xpdl.layers import SigmoidWithLoss, SoftmaxWithLoss
from xpdl.models import Sequential


class XpdlClassifier(ClassifierMixin, NetEstimator):  # type: ignore[misc]
    """Train a net to classify rows of features, with the interface of a classifier of scikit-learn.

    Parameters
    ----------
    build : callable, optional
        ``build(features, classes)``, ``build(features)`` or ``build()`` -> a `Sequential` that ends in a score for each
        class, with `SoftmaxWithLoss`, or with `SigmoidWithLoss` for a yes or no to each; of two classes it may end in one
        score, for the second, with `SigmoidWithLoss`. By default affine layers of `hidden_layer_sizes`.
    epochs, batch_size, drop_last
        As for `Trainer`.
    optimizer : str, class or Optimizer
        As for `Trainer`; of an instance a copy is used.
    learning_rate : float, optional
        By default that of the rule, and for Adam 0.01. An optimizer that exists already takes none.
    random_state : int or RandomState, optional
        Of initial weights, the order of rows, and the rows to validate with.
    hidden_layer_sizes : int or sequence of int
        Units of each layer between the features and the scores; ``()`` is a linear model.
    activation : {"relu", "tanh", "sigmoid", "logistic", "identity"}
        After each of them; "logistic" is another name of the sigmoid.
    weight_decay : float, optional
        Strength of the L2 penalty on weights, without biases, by default 0.001; of AdamW, its own weight decay. An optimizer
        that exists already takes none.
    schedule : {"cosine", "constant"}
        The learning rate falls to 0 along `CosineLR` over all `epochs`, or stays. Others go into `callbacks`.
    early_stopping : bool
        Keep a share of the rows from training, stop when their loss has not fallen for `n_iter_no_change` epochs, and take
        back the weights of the best epoch. The rows are drawn so that each class keeps its share; they count by
        `class_weight` and ``sample_weight``.
    validation_fraction : float
        That share.
    n_iter_no_change : int
    class_weight : "balanced" or dict, optional
        Factors of the weights of the rows, by class; "balanced" makes the classes count alike. Of several labels, a list of
        dicts. See `sklearn.utils.class_weight.compute_sample_weight`.
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
    classes_ : array (K,)
        Of several labels, their numbers.
    multilabel_ : bool
    net_ : Sequential
        Its `class_names` are those of `classes_`, unless these are 0, 1, 2 and so on.
    history_ : History
        Of all epochs. With `early_stopping` it has ``val_loss_list`` and ``val_acc_list``, of the rows that are kept from
        training, all counted alike.
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

    `y` has classes (N,), numbers or strings, or for several labels a row of 0 and 1 each (N, K).

    Examples
    --------
    >>> x, t = xpdl.data.moons(200, noise=0.1, seed=0)
    >>> model = XpdlClassifier(hidden_layer_sizes=(32, 32), epochs=40, random_state=0).fit(x, t)
    >>> bool(model.score(x, t) > 0.9)
    True
    """

    _numeric = False

    @renamed_options("XpdlClassifier", lr="learning_rate")
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
        class_weight: Any = None,
        callbacks: Iterable[Any] | None = None,
        verbose: bool | int = False,
        warm_start: bool = False,
        input_shape: Sequence[int] | None = None,
    ) -> None:
        self._keep(locals())

    @renamed_options("XpdlClassifier", lr="learning_rate")
    def set_params(self, **params: Any) -> XpdlClassifier:
        """Set parameters by name, and return the estimator."""
        super().set_params(**params)
        return self

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> XpdlClassifier:
        """Train for one epoch on some rows, from where the net and its optimizer are.

        Parameters
        ----------
        X, y, sample_weight
            As for `fit`.
        classes : array (K,), optional
            All classes that there will be: for the first call, whose `y` may lack some.

        Returns
        -------
        self
        """
        new = not hasattr(self, "net_")
        if self.class_weight == "balanced":
            raise ValueError(
                "XpdlClassifier: class_weight='balanced' needs all rows, which partial_fit does not see; give it as a dict"
            )
        if classes is not None:
            classes = inputs.targets(classes, numeric=False, owner="XpdlClassifier")
            if not new and sorted(set(classes.tolist())) != self.classes_.tolist():
                raise ValueError(
                    f"XpdlClassifier: classes={classes} are others than in the first call, {self.classes_}"
                )
        self._train(X, y, sample_weight, new=new, partial=True, classes=classes)
        return self

    def predict_proba(self, X: Any) -> Array:
        """Return probabilities (N, K).

        Of several classes they add up to 1: the softmax of the scores, or answers of yes and no to each class, divided by
        their sum. Of labels that may all be there, each is a probability by itself.
        """
        scores, last = self._scores(X), self.net_.last_layer
        assert last is not None
        with on_device_of(scores):
            return labels.probabilities(scores, last, len(self.classes_), self.multilabel_)

    def predict(self, X: Any) -> Any:
        """Return the most probable class of each row, or the labels that are more probable than not."""
        p = self.predict_proba(X)
        xp = array_namespace(p)
        if self.multilabel_:
            with on_device_of(p):
                return xp.astype(p > 0.5, xp.__array_namespace_info__().default_dtypes()["integral"])
        likely = xp.argmax(p, axis=1)
        if inputs.is_foreign(p) and self.classes_.dtype.kind in "biuf":
            return rows_at(Backend.of(p).asarray(self.classes_), likely)
        return self.classes_[inputs.on_host(likely)]

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the accuracy; of several labels, the share of rows that are right in all of them."""
        y, sample_weight = inputs.on_host(y), inputs.on_host(sample_weight)
        return float(accuracy_score(y, inputs.on_host(self.predict(X)), sample_weight=sample_weight))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.classifier_tags.multi_label = True
        return tags

    def _targets(self, y: Any, new: bool, classes: Any) -> Any:
        multilabel = labels.is_multilabel(y)
        y = y if multilabel else column_or_1d(y, warn=True)
        if new:
            self.multilabel_ = multilabel
            known = list(range(y.shape[1])) if multilabel else y if classes is None else classes
            self.classes_ = LabelEncoder().fit(known).classes_
        elif multilabel != self.multilabel_ or (multilabel and y.shape[1] != len(self.classes_)):
            raise ValueError(
                f"XpdlClassifier: y of shape {y.shape} is not of the kind that the net was first fitted to; make another "
                "estimator, or leave out warm_start"
            )
        if multilabel:
            return y
        encoder = LabelEncoder()
        encoder.classes_ = self.classes_
        return encoder.transform(y)

    def _outputs(self) -> int:
        return len(self.classes_)

    def _default_net(self, features: int, outputs: int) -> Sequential:
        loss = SigmoidWithLoss("row") if self.multilabel_ else SoftmaxWithLoss()
        return nets.perceptron(self.hidden_layer_sizes, self.activation, outputs, loss, "XpdlClassifier")

    def _new_net(self, X: Any, row_shape: tuple[int, ...], seed: int) -> Sequential:
        net = super()._new_net(X, row_shape, seed)
        names = [str(name) for name in self.classes_.tolist()]
        if not self.multilabel_ and net.class_names is None and names != [str(number) for number in range(len(names))]:
            net.class_names = names
        return net

    def _encoded(self, targets: Any, row_shape: tuple[int, ...]) -> Any:
        return labels.encoded(targets, self.net_, row_shape, len(self.classes_), self.multilabel_)

    def _splitter(self, targets: Any) -> Any:
        return labels.splitter(targets, self.validation_fraction)
