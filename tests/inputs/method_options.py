"""Options of methods, of the figures of `xpdl.plots`, and of the estimators for scikit-learn; see `options.py`."""

from __future__ import annotations

import contextlib
import io
import types
import warnings
from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np
from matplotlib.text import Text

import xpdl
from tests.inputs.options import Beside, Refused, Watched
from xpdl import layers, models, plots
from xpdl.backends import make_backend
from xpdl.backends.random import Stream
from xpdl.data.augment import Noise
from xpdl.integrations.scikit_learn import XpdlClassifier, XpdlRegressor
from xpdl.layers.composite import Composite
from xpdl.search import SearchResult, Trial
from xpdl.training import History

_rng = np.random.default_rng(8)
X = _rng.standard_normal((6, 3)).astype("float32")
T = np.asarray([0, 1, 1, 0, 1, 0])
_SHARES = np.linspace(0.0, 1.0, 6).astype("float32")


class _Counted(layers.Identity):
    """Passes forward are counted."""

    passes = 0

    def forward(self, x: Any) -> Any:
        self.passes += 1
        return super().forward(x)


def net() -> Any:
    made = models.Sequential(_Counted(), xpdl.Affine(units=2), xpdl.Dropout(0.5), loss=xpdl.SoftmaxWithLoss, seed=0)
    made.build((3,))
    return made


def on_net(*given: Any) -> Callable[..., Any]:
    def watch(method: Any, **arguments: Any) -> Any:
        network = net()
        found = method(network, *given, **arguments)
        return found, next(iter(network.layers.values())).passes

    return watch


def of_a_file(method: Any, *, more: bool, **arguments: Any) -> Any:
    network = net()
    return method(network, {**network.state_dict(), **({"more": X} if more else {})}, **arguments)


def printed(method: Any, **arguments: Any) -> Any:
    network = models.Sequential(xpdl.Affine(units=2), loss=xpdl.SoftmaxWithLoss, seed=0)
    with contextlib.redirect_stdout(io.StringIO()) as out:
        method(network, **arguments)
    return out.getvalue()


def built(make: Callable[[], Any]) -> Callable[..., Any]:
    def watch(method: Any, **arguments: Any) -> Any:
        xpdl.seed(3)
        layer = make()
        method(layer, (3,), **arguments)
        return layer.params, layer.state

    return watch


def of_dropout(method: Any, **arguments: Any) -> Any:
    layer = xpdl.Dropout(0.5) if method is layers.Dropout.forward else layers.Chain(xpdl.Dropout(0.5))
    layer.build((3,), stream=Stream(0))
    return method(layer, X, **arguments)


def of_loss(method: Any, **arguments: Any) -> Any:
    layer = xpdl.SoftmaxWithLoss()
    layer.forward(X[:, :2], T)
    first = () if method is xpdl.SoftmaxWithLoss.backward else (X[:, :2],)
    return method(layer, *first, **arguments)


def of_adam(method: Any, **arguments: Any) -> Any:
    adam, params = xpdl.Adam(), {"W": X + 0}
    method(adam, params, {"W": X})
    method(adam, params, {"W": X}, **arguments)
    return params


def mode_of(method: Any, **arguments: Any) -> Any:
    return method(xpdl.Dropout().eval(), **arguments).training


def inner_mode_of(method: Any, **arguments: Any) -> Any:
    chain = layers.Chain(xpdl.Dropout())
    method(chain, **arguments)
    return [layer.training for layer in chain.layers.values()]


def result() -> SearchResult:
    trials = [
        Trial(k, {"lr": 0.1 * k, "units": k}, 0.1 * k, History(test_acc_list=[0.1, 0.1 * k]), 1.0) for k in range(4)
    ]
    return SearchResult(trials)


_PLACES = {"stream": Stream(5), "backend": make_backend("numpy", None, "float64")}
_METHODS = [
    Watched(
        models.Sequential.compiled_step,
        lambda method, **arguments: method.__name__,
        unseen={"accumulate_grad_batches": "needs JAX: test_compiled_accumulation.py compares updates"},
    ),
    Watched(models.Sequential.predict, on_net(X), {}, {"train_flg": True, "batch_size": 2}),
    Watched(
        models.Sequential.predict, on_net(X), {"train_flg": True}, {"batch_size": Refused(2, "all rows in one pass")}
    ),
    Watched(models.Sequential.accuracy, on_net(X, T), {}, {"batch_size": 2}),
    Watched(models.Sequential.loss, on_net(X, T), {}, {"train_flg": True, "sample_weight": _SHARES}),
    Watched(models.Sequential.gradient, on_net(X, T), {}, {"sample_weight": _SHARES}),
    Watched(models.Sequential.input_gradient, on_net(X), {"t": T}, {"t": 1 - T, "output": Refused(1, "and not both")}),
    Watched(models.Sequential.input_gradient, on_net(X), {"output": 0}, {"output": 1}),
    Watched(
        models.Sequential.load_state_dict, of_a_file, {"more": True, "strict": False}, {"strict": Refused(True, "more")}
    ),
    Watched(models.Sequential.summary, printed, {}, {"input_shape": (3,)}),
    Watched(layers.Layer.build, built(lambda: xpdl.Affine(units=2)), {}, _PLACES),
    Watched(models.Sequential.build, built(lambda: models.Sequential(xpdl.Affine(units=2))), {}, _PLACES),
    Watched(
        layers.Dropout.build,
        built(xpdl.Dropout),
        {},
        {"stream": Stream(5)},
        {"backend": "the layer has no arrays; the argument is that of every layer"},
    ),
    Watched(layers.Layer.train, mode_of, {}, {"mode": False}),
    Watched(Composite.train, inner_mode_of, {}, {"mode": False}),
    Watched(layers.Chain.forward, of_dropout, {}, {"train_flg": False}),
    Watched(layers.Dropout.forward, of_dropout, {}, {"train_flg": False}),
    Watched(xpdl.SoftmaxWithLoss.forward, of_loss, {"t": T}, {"t": 1 - T, "sample_weight": _SHARES}),
    Watched(xpdl.SoftmaxWithLoss.backward, of_loss, {}, {"dout": 2.0}),
    Watched(
        xpdl.Optimizer.update,
        of_adam,
        {"apply_if": np.asarray(True)},
        {"apply_if": np.asarray(False), "skipped_steps": np.asarray(1.0)},
    ),
    Watched(SearchResult.table, lambda method, **arguments: method(result(), **arguments), {}, {"rows": 2}),
]

# figures


def drawn(function: Any, *given: Any, **arguments: Any) -> Any:
    """Content of a figure: sizes, words, scales, lines and pictures."""
    figure = function(*given, **arguments)
    words = [text.get_text() for text in figure.findobj(Text)]
    panels = [
        (axes.get_position().bounds, axes.get_xscale(), axes.get_yscale(), axes.get_xlim(), axes.get_ylim())
        for axes in figure.axes
    ]
    lines = [line.get_xydata() for axes in figure.axes for line in axes.lines]
    shapes = [patch.get_path().vertices for axes in figure.axes for patch in axes.patches]
    points = [one.get_paths()[0].vertices for axes in figure.axes for one in axes.collections if len(one.get_paths())]
    places = [np.asarray(one.get_offsets()) for axes in figure.axes for one in axes.collections]
    pictures = [np.asarray(image.get_array()) for axes in figure.axes for image in axes.images]
    return [figure.get_size_inches(), words, panels, lines, shapes, points, places, pictures]


def figure_of(*given: Any) -> Callable[..., Any]:
    return lambda function, **arguments: drawn(function, *given, **arguments)


def redrawn(function: Any, **arguments: Any) -> list[str]:
    """Calls of IPython's display in a training of four epochs, by a stand-in."""
    calls: list[str] = []
    handle = types.SimpleNamespace(update=lambda image: calls.append("update"))

    def display(image: Any, display_id: bool) -> Any:
        calls.append("display")
        return handle

    shown = types.SimpleNamespace(Image=lambda data: data, display=display)
    with mock.patch("xpdl.plots.live._ipython", lambda: shown):
        callback = function(**arguments)
        xpdl.Trainer(net(), X, T, epochs=4, callbacks=[callback], verbose=False).train()
    return calls


_LINES = {"one": [1.0, 2.0, 4.0], "two": [2.0, 1.0, 0.5]}
_PICTURES = _rng.random((6, 4, 4))
_TITLE = {"title": "Title"}
_LABELS = {**_TITLE, "xlabel": "x", "ylabel": "y"}
_HISTORY = History(train_loss_list=[2.0, 1.0], train_acc_list=[0.5, 1.0], test_acc_list=[0.5, 0.75])
_SHARE = {"Relu1": [0.1, 0.5]}
_FIGURES = [
    Watched(
        plots.activation_histograms,
        figure_of({"a": _PICTURES, "b": _PICTURES, "c": _PICTURES}),
        {},
        {"bins": 5, "limits": (0.0, 2.0), "columns": 2, **_TITLE},
    ),
    Watched(plots.confusion_matrix, figure_of(T, 1 - T), {}, {"classes": ["no", "yes"], **_TITLE}),
    Watched(plots.confusion_matrix, figure_of(T, T), {}, {"classes": Refused(["no"], "1 names for 2 classes")}),
    Watched(plots.curve_grid, figure_of({"a": _LINES, "b": _LINES, "c": _LINES}), {}, {"columns": 2, **_LABELS}),
    Watched(plots.curves, figure_of(_LINES), {}, {"x": [1.0, 5.0, 9.0], "log": "xy", **_LABELS}),
    Watched(plots.curves, figure_of(_LINES), {}, {"log": Refused("z", "log must be")}),
    Watched(
        plots.decision_boundary,
        figure_of(lambda x: x[:, 0] > 0, X[:, :2], T),
        {"resolution": 5},
        {"classes": ["no", "yes"], "resolution": 9, **_TITLE},
    ),
    Watched(
        plots.decision_boundary,
        figure_of(lambda x: x[:, 0] > 0, X[:, :2], T),
        {"resolution": 5},
        {"classes": Refused(["no"], "1 names for 2 classes")},
    ),
    Watched(
        plots.diagnostics,
        figure_of(),
        {"measured": {"dead_relu": _SHARE}},
        {"measured": {"dead_relu": {"Relu1": [0.2, 0.3]}}, "dead_relu": {"Relu1": [0.4, 0.5]}},
    ),
    Watched(
        plots.diagnostics,
        figure_of(),
        {"dead_relu": _SHARE},
        {
            "dead_relu": {"Relu1": [0.2, 0.3]},
            "saturation": _SHARE,
            "update_ratio": {"Affine1.W": [0.001, 0.002]},
            "xlabel": "step",
        },
    ),
    Watched(
        plots.augmented,
        figure_of(np.float32(_PICTURES)[:, None], Noise(0.5)),
        {},
        {"copies": 2, "limit": 3, "seed": 1, **_TITLE},
    ),
    Watched(plots.feature_maps, figure_of({"a": _PICTURES, "b": _PICTURES}), {}, {"columns": 2, **_TITLE}),
    Watched(plots.filters, figure_of(_PICTURES[:, None]), {}, {"columns": 2, "limit": 3, **_TITLE}),
    Watched(
        plots.gradient_field,
        figure_of(lambda x: (x**2).sum()),
        {"points": 4},
        {"x": (-1, 1), "y": (-1, 1), "points": 5, **_TITLE},
    ),
    Watched(plots.images, figure_of(_PICTURES), {}, {"titles": list("abcdef"), "columns": 2, **_TITLE}),
    Watched(plots.images, figure_of(_PICTURES), {}, {"titles": Refused(list("abcdefg"), "7 titles for 6 images")}),
    Watched(plots.learning_curves, figure_of(_HISTORY), {}, _TITLE),
    Watched(plots.network, figure_of(net()), {}, _TITLE),
    Watched(plots.LiveCurves, redrawn, {}, {"every": 2}),
    Watched(plots.misclassified, figure_of(_PICTURES, T, 1 - T), {}, {"limit": 2, "columns": 2, "classes": ["a", "b"]}),
    Watched(
        plots.optimizer_paths,
        figure_of(lambda x, y: x**2 / 20 + y**2, {"a": [(1.0, 2.0), (0.5, 1.0)], "b": [(1.0, 2.0)], "c": [(1.0, 1.0)]}),
        {},
        {"x": (-3, 3), "y": (-3, 3), "minima": [(0.0, 0.0)], "columns": 3, **_TITLE},
    ),
    Watched(plots.search_results, figure_of(result()), {}, {"columns": 2, "limit": 2}),
]

# scikit-learn


def fitted(function: Any, **arguments: Any) -> Any:
    """All that is seen of a fit, and of a second one: weights, losses, and printed lines."""
    estimator = function(**{"random_state": 0, **arguments})
    x, t = np.repeat(X, 4, axis=0), np.repeat(T, 4)
    with contextlib.redirect_stdout(io.StringIO()) as printed, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Trainer: the loss ended above its start")  # of large options
        found = [(estimator.fit(x, t).net_.state_dict(), estimator.history_.train_loss_list) for _ in range(2)]
    return found, bool(printed.getvalue()), estimator.predict(X)


def one_layer(features: int, outputs: int) -> Any:
    loss = xpdl.SoftmaxWithLoss if outputs > 1 else xpdl.IdentityWithLoss
    return models.Sequential(xpdl.Affine(units=outputs), loss=loss)


class Slow(xpdl.Callback):
    def on_batch_begin(self, trainer: Any, step: int) -> None:
        trainer.optimizer.lr = 1e-3


_STOPPED = {"early_stopping": True, "epochs": 10, "learning_rate": 0.5, "schedule": "constant"}
_ESTIMATOR = {
    "build": one_layer,
    "epochs": 2,
    "batch_size": 3,
    "optimizer": "sgd",
    "learning_rate": 0.5,
    "random_state": 1,
    "drop_last": True,
    "hidden_layer_sizes": (3,),
    "activation": "tanh",
    "weight_decay": 0.5,
    "schedule": "constant",
    "early_stopping": True,
    "validation_fraction": Beside(0.5, _STOPPED),
    "n_iter_no_change": Beside(1, _STOPPED),
    "callbacks": [Slow()],
    "verbose": True,
    "warm_start": True,
    "input_shape": Refused((1, 2, 2), "has 4 values, but rows of X have 3 features"),
}
_DROPPED = {
    "hidden_layer_sizes": Refused((3,), "would not change the net that build makes"),
    "activation": Refused("tanh", "would not change the net that build makes"),
}
_ESTIMATORS = [
    Watched(XpdlClassifier, fitted, {"batch_size": 10, "epochs": 1}, {**_ESTIMATOR, "class_weight": {0: 1.0, 1: 5.0}}),
    Watched(XpdlRegressor, fitted, {"batch_size": 10, "epochs": 1}, {**_ESTIMATOR, "scale_targets": False}),
    *(
        watched
        for estimator in (XpdlClassifier, XpdlRegressor)
        for watched in (
            Watched(estimator, fitted, {"build": one_layer}, _DROPPED),
            Watched(
                estimator,
                fitted,
                {"optimizer": xpdl.SGD(0.1)},
                {"learning_rate": Refused(0.5, "would not change"), "weight_decay": Refused(0.5, "would not change")},
            ),
        )
    ),
]

#: classes whose methods are in the table
CLASSES = (models.Sequential, layers.Dropout, xpdl.SoftmaxWithLoss, xpdl.Adam, SearchResult)
#: methods for those who write layers and rules
INSIDE = {"require_dout", "forward_fused"}

WATCHED = [*_METHODS, *_FIGURES, *_ESTIMATORS]


def methods() -> list[types.FunctionType]:
    """The public methods of `CLASSES`, each once however many inherit it."""
    found: dict[str, Any] = {}
    for cls in CLASSES:
        for name in dir(cls):
            function = getattr(cls, name)
            if isinstance(function, types.FunctionType) and not name.startswith("_") and name not in INSIDE:
                found[function.__qualname__] = function
    return list(found.values())
