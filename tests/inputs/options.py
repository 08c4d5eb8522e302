"""Every option of every public function and constructor, with what it changes: the table of the tests of options.

An option is an argument with a default. `WATCHED` has for each public name a function that calls it and returns all that
there is to see of the call, and for each of its options another valid value, or arguments of which it is refused, or a
reason why no result can show it. A public name, or an option, that is missing here is a failure.
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import io
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import xpdl
from tests.data.test_mnist import write_set
from tests.data.test_other_sets import contents
from tests.search.test_optuna import FakeTrial
from xpdl import data, layers, metrics, models, search
from xpdl.backends import numerics as numeric_settings
from xpdl.backends.cpu import thread_pool
from xpdl.backends.namespaces import is_array
from xpdl.backends.random import Stream
from xpdl.data import augment
from xpdl.integrations import pytorch
from xpdl.training.checkpoint.rotation import CheckpointFiles


@dataclasses.dataclass(frozen=True)
class Beside:
    """Another value of an option, which shows beside these other arguments alone."""

    value: Any
    arguments: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Refused:
    """A value that is refused beside the arguments of the table; `message` is a pattern of what the error says."""

    value: Any
    message: str


@dataclasses.dataclass(frozen=True)
class Watched:
    """A public function or class, what is seen of a call, arguments with which it works, and other values of its options.

    `unseen` are options that change no result, each with the reason and what tests them instead.
    """

    function: Callable[..., Any]
    watch: Callable[..., Any]
    arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    others: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    unseen: Mapping[str, str] = dataclasses.field(default_factory=dict)


_rng = np.random.default_rng(7)
X = _rng.standard_normal((6, 3))
T = np.asarray([0, 1, 2, 1, 0, 2])
SOFT = _rng.dirichlet(np.ones(3), 6)
IMAGES = _rng.standard_normal((2, 2, 8, 8))
FILTERS_BACK = np.random.default_rng(1).standard_normal((2, 3, 3, 3))
W, B = _rng.standard_normal((3, 2)), _rng.standard_normal(2)
FILTERS, FILTERS_B = _rng.standard_normal((2, 2, 3, 3)), _rng.standard_normal(2)


def value_of(function: Any, **arguments: Any) -> Any:
    return function(**arguments)


@contextlib.contextmanager
def folder(**variables: str) -> Iterator[Path]:
    """A folder that is the current one, with some environment variables."""
    before, environment = Path.cwd(), dict(os.environ)
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        os.environ.update(variables)
        try:
            yield Path(name)
        finally:
            os.chdir(before)
            os.environ.clear()
            os.environ.update(environment)


# layers and models


def layer_on(x: Any) -> Callable[..., Any]:
    """Watch a layer trained for two steps on `x`, and then evaluated."""

    def watch(function: Any, **arguments: Any) -> Any:
        layer = function(**arguments)
        layer.build(x.shape[1:], stream=Stream(0), backend=xpdl.backends.Backend.of(x))
        y = layer.forward(x)
        dx = layer.backward(np.cos(y))
        again = layer.forward(2 * x)
        return y, dx, again, layer.eval().forward(x), layer.params, layer.grads

    return watch


def loss_of(x: Any, t: Any) -> Callable[..., Any]:
    def watch(function: Any, **arguments: Any) -> Any:
        layer = function(**arguments)
        return layer.forward(x, t), layer.backward(), layer.correct(x, t), repr(layer)

    return watch


def loss_of_numbers(function: Any, **arguments: Any) -> Any:
    layer = function(**arguments)
    return layer.forward(X, SOFT), layer.backward(), repr(layer)


def table_of(function: Any, **arguments: Any) -> Any:
    """Watch a layer trained for a step on ids."""
    layer = function(**arguments)
    layer.build((), stream=Stream(0), backend=xpdl.backends.make_backend("numpy", None, "float64"))
    y = layer.forward(T)
    layer.backward(np.cos(y))
    return y, layer.params, layer.grads


def model_on(x: Any) -> Callable[..., Any]:
    """Watch a model that is made twice, with other streams if it has no seed: its weights, scores, loss and gradients."""

    def watch(function: Any, *args: Any, **arguments: Any) -> Any:
        xpdl.seed(3)
        net = function(*args, **arguments)
        net.build(x.shape[1:])
        t = np.arange(len(x)) % 2
        loss = net.loss(x, t) if net.last_layer is not None else None
        grads = net.gradient(x, t) if net.last_layer is not None else None
        return net.params, net.predict(x), loss, grads

    return watch


def answers(function: Any, **arguments: Any) -> Any:
    xpdl.seed(3)
    net, ids = function(**arguments), np.arange(12).reshape(3, 4) % 5
    return net.gradient(ids, ids), net.last_loss, net.generate(ids, 1, 2)


def language_model(function: Any, **arguments: Any) -> Any:
    xpdl.seed(3)
    net, ids = function(**arguments), np.arange(12).reshape(3, 4) % 5
    return net.gradient(ids, ids), net.last_loss, net.predict(ids)


def word_vectors(function: Any, **arguments: Any) -> Any:
    xpdl.seed(3)
    net, ids = function(**arguments), np.arange(30) % 5
    contexts, target = data.create_contexts_target(ids, arguments.get("window_size", 1))
    return net.gradient(*((contexts, target) if function is models.CBOW else (target, contexts))), net.last_loss


def sequential(function: Any, **arguments: Any) -> Any:
    x = X.astype("float32")
    return model_on(x)(lambda **options: function(xpdl.Affine(units=2), xpdl.Dropout(0.5), **options), **arguments)


def dag(function: Any, **arguments: Any) -> Any:
    x = models.Input(X.shape[1:])
    y = xpdl.Relu()(xpdl.Affine(units=3)(x))
    return layer_on(X)(lambda **options: function(x, y, **options), **arguments)


def graph(function: Any, **arguments: Any) -> Any:
    x = models.Input(X.shape[1:])
    return model_on(X.astype("float32"))(
        lambda **options: function(x, xpdl.Dropout(0.5)(xpdl.Affine(units=2)(x)), **options), **arguments
    )


def two_losses(function: Any, **arguments: Any) -> Any:
    x = models.Input(X.shape[1:])
    net = function(x, [xpdl.Affine(units=2)(x), xpdl.Affine(units=3)(x)], **arguments)
    return net.gradient(X, (X[:, :2], X[:, :1] * np.ones((1, 3))))


def twice_on(x: Any) -> Callable[..., Any]:
    """Watch a layer that gets one input twice."""

    def watch(function: Any, **arguments: Any) -> Any:
        layer = function(**arguments)
        y = layer.forward(x, 2 * x)
        return y, layer.backward(np.cos(y))

    return watch


def named_input(function: Any, **arguments: Any) -> Any:
    x = function(**arguments)
    return xpdl.Graph(x, xpdl.Relu()(x)).inputs


def residual(function: Any, **arguments: Any) -> Any:
    return layer_on(X)(lambda **options: function(xpdl.Affine(units=3), **options), **arguments)


def saved_pytorch(function: Any, **arguments: Any) -> Any:
    with folder() as place:
        function(_net(), place / "x", **arguments)
        return (place / "x").read_bytes()


def loaded_pytorch(function: Any, *, written: Any = "short", more: bool = False, **arguments: Any) -> Any:
    with folder() as place:
        pytorch.save_pytorch(_net(deeper=more), place / "x", written)
        net = _net(seed=1)
        return function(net, place / "x", **arguments), net.params


def _net(seed: int = 0, deeper: bool = False) -> Any:
    more = [xpdl.Relu(), xpdl.Affine(units=2)] if deeper else []
    net = models.Sequential(xpdl.Affine(units=2), *more, loss=xpdl.SoftmaxWithLoss, seed=seed)
    net.build((3,))
    return net


def gpt(function: Any, **arguments: Any) -> Any:
    """Return the loss of a net in training."""
    with xpdl.backends.random.seeded(3):
        made = function(**arguments)
    for W in made.params.values():  # to where the forms of gelu differ
        W *= 30
    return made.loss(np.asarray([[0, 1, 2]]), np.asarray([[1, 2, 3]]), train_flg=True)


_ROWS = X.astype("float32")
_PICTURES = _rng.standard_normal((2, 1, 8, 8)).astype("float32")
_DEEP = {f"conv_param_{k}": {"filter_num": 3} for k in range(1, 7)}
_LOSSES = [
    Watched(layers.SigmoidWithLoss, loss_of(X, np.round(SOFT)), {}, {"accuracy": "row"}),
    *(
        Watched(layers.SoftmaxWithLoss, loss_of(X, t), {}, {"label_smoothing": 0.2, "class_weights": [1.0, 2.0, 3.0]})
        for t in (T, np.eye(3)[T], SOFT)
    ),
]
_LOSSES += [
    Watched(layers.SoftmaxWithLoss, loss_of(X, T), {}, {"ignore_label": 2}),
    Watched(layers.Huber, loss_of_numbers, {}, {"delta": 0.3}),
    Watched(layers.Hinge, loss_of(X, T), {}, {"margin": 0.3}),
]
_FUSE = {"fuse": "changes the passes over memory, never a result: test_fusion.py counts calls"}
_GIVEN = {"gamma": np.asarray([1.0, 2.0, 3.0]), "beta": np.asarray([1.0, 2.0, 3.0])}
_LAYERS = [
    Watched(
        layers.Embedding,
        table_of,
        {"count": 3, "units": 2},
        {"count": 4, "units": 3, "init": 0.5, "W": Refused(W, "draw no W where one is given")},
    ),
    Watched(
        layers.Embedding,
        table_of,
        {"W": W},
        {
            "W": 2 * W,
            "count": Refused(3, "draw no W where one is given"),
            "units": Refused(3, "draw no W where one is given"),
            "init": Refused(0.5, "draw no W where one is given"),
        },
    ),
    *(
        Watched(
            cls,
            layer_on(IMAGES[0]),
            {"units": 2},
            {"return_sequences": False, "stateful": True, "init": 0.5},
        )
        for cls in (layers.RNN, layers.LSTM, layers.GRU)
    ),
    Watched(
        layers.MultiHeadAttention,
        layer_on(IMAGES[0]),
        {"heads": 2},
        {"causal": True, "rotary": True, "use_bias": False, "init": 0.5, "init_output": 0.5},
    ),
    Watched(layers.SinusoidalPositions, layer_on(IMAGES[0]), {}, {"base": 10.0}),
    Watched(layers.LearnedPositions, layer_on(IMAGES[0]), {"length": 8}, {"init": 0.5}),
    Watched(layers.Bidirectional, layer_on(IMAGES[0]), {"layer": layers.RNN(2)}),
    Watched(layers.Gelu, layer_on(X), {}, {"approximate": "tanh"}),
    Watched(layers.LeakyRelu, layer_on(X), {}, {"slope": 0.3}),
    Watched(layers.Elu, layer_on(X), {}, {"alpha": 0.3}),
    Watched(layers.LayerNormalization, layer_on(X), {}, {"eps": 0.1, **_GIVEN}),
    Watched(layers.RMSNormalization, layer_on(X), {}, {"eps": 0.1, "gamma": _GIVEN["gamma"]}),
    Watched(layers.GroupNormalization, layer_on(X), {"groups": 1}, {"eps": 0.1, **_GIVEN}),
    Watched(
        layers.Affine,
        layer_on(X),
        {"units": 2},
        {"units": 3, "init": "zeros", "use_bias": False, "W": Refused(W, "either"), "b": Refused(B, "b without W")},
    ),
    Watched(
        layers.Affine,
        layer_on(X),
        {"W": W},
        {
            "W": 2 * W,
            "b": B,
            "units": Refused(2, "either"),
            "init": Refused("zeros", "init='zeros' draws no W"),
        },
    ),
    Watched(layers.Affine, layer_on(IMAGES), {"units": 2}, {"axis": -1}),
    Watched(layers.Affine, layer_on(X), {"W": W, "b": B}, {"use_bias": Refused(False, "use_bias=False, but b")}),
    Watched(
        layers.Convolution,
        layer_on(IMAGES),
        {"filters": 2, "size": 3},
        {
            "filters": 4,
            "size": (3, 2),
            "stride": 2,
            "pad": (1, 0),
            "dilation": 2,
            "groups": 2,
            "init": 0.1,
            "use_bias": False,
            "W": Refused(FILTERS, "filters and size"),
            "b": Refused(FILTERS_B, "array W"),
        },
    ),
    Watched(
        layers.Convolution,
        layer_on(IMAGES),
        {"W": FILTERS},
        {
            "W": 2 * FILTERS,
            "b": FILTERS_B,
            "stride": 2,
            "pad": 1,
            "dilation": 2,
            "groups": Refused(2, "channels"),
            "filters": Refused(2, "filters and size follow from W"),
            "size": Refused(3, "filters and size follow from W"),
            "init": Refused("zeros", "init='zeros' draws no W"),
        },
    ),
    Watched(
        layers.Convolution,
        layer_on(IMAGES),
        {"W": FILTERS, "b": FILTERS_B},
        {"use_bias": Refused(False, "use_bias=False, but b")},
    ),
    Watched(
        layers.ConvolutionTranspose,
        layer_on(IMAGES),
        {"filters": 2, "size": 3},
        {
            "filters": 4,
            "size": (3, 2),
            "stride": 2,
            "pad": (1, 0),
            "output_pad": Beside(1, {"stride": 2}),
            "dilation": 2,
            "groups": 2,
            "init": 0.1,
            "use_bias": False,
            "W": Refused(FILTERS, "filters and size"),
            "b": Refused(FILTERS_B, "array W"),
        },
    ),
    Watched(
        layers.ConvolutionTranspose,
        layer_on(IMAGES),
        {"W": FILTERS_BACK},
        {
            "W": 2 * FILTERS_BACK,
            "b": np.ones(3),
            "stride": 2,
            "pad": 1,
            "output_pad": Beside(1, {"stride": 2}),
            "dilation": 2,
            "groups": 2,
            "filters": Refused(2, "filters and size follow from W"),
            "size": Refused(3, "filters and size follow from W"),
            "init": Refused("zeros", "init='zeros' draws no W"),
        },
    ),
    Watched(
        layers.ConvolutionTranspose,
        layer_on(IMAGES),
        {"W": FILTERS_BACK, "b": np.ones(3)},
        {"use_bias": Refused(False, "use_bias=False, but b")},
    ),
    Watched(layers.Softmax, layer_on(IMAGES), {}, {"axis": 1}),
    Watched(layers.LogSoftmax, layer_on(IMAGES), {}, {"axis": 1}),
    Watched(layers.UpSampling, layer_on(IMAGES), {}, {"scale": (1, 3), "mode": "linear"}),
    *(
        Watched(
            pooling,
            layer_on(IMAGES),
            {"size": (2, 3)},
            {
                "stride": (1, 2),
                "pad": 1,
                "size": (2, 2),
                "dilation": (2, 1),
                "ceil_mode": Beside(True, {"stride": 3}),
                "pool_h": Refused(2, "either pool_h and pool_w or size"),
                "pool_w": Refused(2, "either pool_h and pool_w or size"),
                **({"count_include_pad": Beside(False, {"pad": 1})} if pooling is layers.AveragePooling else {}),
            },
        )
        for pooling in (layers.Pooling, layers.AveragePooling)
    ),
    Watched(
        layers.BatchNormalization,
        layer_on(X),
        {},
        {
            "gamma": 2.0,
            "beta": np.ones(3),
            "momentum": 0.5,
            "eps": 0.1,
            "running_mean": np.ones(3),
            "running_var": 2 * np.ones(3),
        },
        {"sync": "shows on several ranks alone: tests/distributed/equal_to_one_process.py compares them"},
    ),
    Watched(layers.Dropout, layer_on(X), {}, {"dropout_ratio": 0.25, "inverted": True}),
    Watched(layers.Residual, residual, {}, {"shortcut": xpdl.Affine(units=3, init=0.5)}, _FUSE),
    Watched(layers.Chain, residual, unseen=_FUSE),
    Watched(layers.Dag, dag, unseen=_FUSE),
    Watched(layers.Concatenate, twice_on(_rng.standard_normal((2, 3, 2))), {}, {"axis": 2}),
    Watched(
        layers.Slice,
        layer_on(_rng.standard_normal((2, 3, 4))),
        {},
        {"start": 1, "stop": 2, "axis": Beside(2, {"start": 1})},
    ),
]
_MODELS = [
    Watched(models.Sequential, sequential, {}, {"loss": xpdl.SoftmaxWithLoss, "seed": 0}, _FUSE),
    Watched(models.Input, named_input, {"shape": (3,)}, {"name": "left"}),
    Watched(
        models.GPT,
        gpt,
        {"vocab": 5, "context": 4, "width": 4, "heads": 1, "depth": 1},
        {"rotary": True, "dropout": 0.5, "tied": False, "gelu": "none", "seed": 0},
    ),
    Watched(
        models.Graph,
        graph,
        {},
        {"loss": xpdl.SoftmaxWithLoss, "seed": 0, "loss_weights": Refused([1.0], "for a list or dict of losses")},
        _FUSE,
    ),
    Watched(
        models.Graph,
        two_losses,
        {"loss": [xpdl.IdentityWithLoss, xpdl.IdentityWithLoss], "seed": 0},
        {"loss_weights": [1.0, 0.5]},
    ),
    *(
        Watched(model, answers, {"vocab_size": 5, "wordvec_size": 3, "hidden_size": 3}, {"seed": 0})
        for model in (models.Seq2seq, models.PeekySeq2seq, models.AttentionSeq2seq)
    ),
    *(
        Watched(
            model,
            word_vectors,
            {"vocab_size": 5, "hidden_size": 3},
            {
                "window_size": 2,
                "corpus": np.asarray([0, 0, 0, 0, 1, 2, 3]),
                "sample_size": 3,
                "power": Beside(0.0, {"corpus": np.asarray([0, 0, 0, 0, 1, 2, 3])}),
                "seed": 0,
            },
        )
        for model in (models.CBOW, models.SkipGram)
    ),
    Watched(
        models.RnnLm,
        language_model,
        {"vocab_size": 5, "wordvec_size": 3, "hidden_size": 3},
        {
            "vocab_size": 6,
            "wordvec_size": 4,
            "hidden_size": 4,
            "dropout_ratio": 0.2,
            "depth": 1,
            "tie_weights": False,
            "stateful": False,
            "seed": 0,
        },
    ),
    Watched(
        models.TwoLayerNet,
        model_on(_ROWS),
        {"input_size": 3, "hidden_size": 4, "output_size": 2},
        {"weight_init_std": 0.5, "seed": 0},
    ),
    *(
        Watched(
            model,
            model_on(_ROWS),
            {"input_size": 3, "hidden_size_list": [4], "output_size": 2},
            {"activation": "tanh", "weight_init_std": 0.5, "weight_decay_lambda": 0.1, "seed": 0, **more},
        )
        for model, more in (
            (models.MultiLayerNet, {}),
            (
                models.MultiLayerNetExtend,
                {
                    "use_dropout": True,
                    "dropout_ration": Beside(0.2, {"use_dropout": True}),
                    "use_batchnorm": True,
                },
            ),
        )
    ),
    Watched(
        models.SimpleConvNet,
        model_on(_PICTURES),
        {"input_dim": (1, 8, 8)},
        {
            "input_dim": Refused((2, 8, 8), "channels"),
            "conv_param": {"filter_num": 3, "pad": 1},
            "hidden_size": 4,
            "output_size": 3,
            "weight_init_std": 0.5,
            "seed": 0,
        },
    ),
    Watched(
        models.DeepConvNet,
        model_on(_PICTURES),
        {"input_dim": (1, 8, 8)},
        {"input_dim": Refused((2, 8, 8), "channels"), **_DEEP, "hidden_size": 4, "output_size": 3, "seed": 0},
    ),
    Watched(pytorch.save_pytorch, saved_pytorch, {}, {"names": "index"}),
    Watched(
        pytorch.load_pytorch,
        loaded_pytorch,
        {"more": True, "strict": False},
        {"strict": Refused(True, "unexpected|more|fc2"), "names": "index"},
    ),
]


# optimizers


class _Plain(xpdl.Optimizer):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.lr = 0.1

    def step(self, p: Any, g: Any) -> tuple[Any, ...]:
        return (p - self.lr * g,)


def updated(function: Any, **arguments: Any) -> Any:
    optimizer = (_Plain if function is xpdl.Optimizer else function)(**arguments)
    params = {"W": np.array(W), "b": np.array(B)}
    for step in range(1, 4):
        optimizer.update(params, {name: 3.0 * np.cos(step * p) for name, p in params.items()})
    return params, repr(optimizer)


_SHARED = {"weight_decay": {"l1": 0.1, "l2": 0.2}, "lr_groups": {"b": 0.5}, "max_norm": 0.5, "clip_norm": 0.5}
_SHARED["decay"] = Beside("weights", {"weight_decay": {"l2": 0.2}})
_OPTIMIZERS = [
    Watched(function, updated, {}, {**_SHARED, **own})
    for function, own in (
        (xpdl.Optimizer, {}),
        (xpdl.SGD, {"lr": 0.5}),
        (xpdl.Momentum, {"lr": 0.5, "momentum": 0.5}),
        (xpdl.Nesterov, {"lr": 0.5, "momentum": 0.5}),
        (xpdl.AdaGrad, {"lr": 0.5, "eps": 0.1}),
        (xpdl.RMSprop, {"lr": 0.5, "decay_rate": 0.5, "eps": 0.1}),
        (xpdl.AdaDelta, {"lr": 0.5, "rho": 0.5, "eps": 0.1}),
        (xpdl.Adam, {"lr": 0.5, "beta1": 0.5, "beta2": 0.5, "eps": 0.1}),
        (
            xpdl.AdamW,
            {"lr": 0.5, "beta1": 0.5, "beta2": 0.5, "eps": 0.1, "weight_decay": 0.2, "decay": "weights"},
        ),
    )
]


# data


def _few(sets: Any) -> Any:
    return [(x.shape, x[:3], t[:3]) for x, t in sets]


def loaded_here(function: Any, **arguments: Any) -> Any:
    return _few(function(**arguments))


def loaded_idx(function: Any, **arguments: Any) -> Any:
    with folder() as place:
        os.environ |= {"XPDL_DATA": str(place), "XPDL_CACHE": str(place / "cache")}
        write_set(place / "fashion-mnist" if function is xpdl.load_fashion_mnist else place)
        return _few(function(**arguments))


def loaded_cifar(function: Any, **arguments: Any) -> Any:
    with folder() as place:
        os.environ |= {"XPDL_DATA": str(place), "XPDL_CACHE": str(place / "cache")}
        (place / "cifar-10-batches-bin").mkdir()
        for name, body in contents().items():
            (place / "cifar-10-batches-bin" / name).write_bytes(body)
        return _few(function(**arguments))


def loaded_pictures(function: Any, **arguments: Any) -> Any:
    with folder() as place:
        for name in ("cats", "dogs"):
            (place / name).mkdir()
            # 2x4 pixels of a binary PPM
            (place / name / "1.ppm").write_bytes(b"P6 4 2 255 " + name.encode() * 6)
        return function(place, **arguments).x


def two_passes(function: Any, **arguments: Any) -> Any:
    xpdl.seed(3)
    batches = function(**arguments)
    return [[tuple(batch) for batch in batches] for _ in range(2)]


def transformed(function: Any, **arguments: Any) -> Any:
    return function(**arguments)(np.abs(IMAGES), Stream(0)), repr(function(**arguments))


def seeded(function: Any, **arguments: Any) -> Any:
    xpdl.seed(3)
    return function(**arguments)


_FORMS = {"normalize": False, "flatten": False, "one_hot_label": True}
_VERIFY = {**_FORMS, "verify": Refused(True, "verify=False")}
_PASSES = {"shuffle": False, "seed": 0, "drop_last": True, "transform": lambda x: 2 * x, "shard": (0, 2)}
_PASSES |= {"classes": Refused(2, "2"), "backend": xpdl.backends.make_backend("numpy", None, "float16")}
_WINDOWS = {"ids": np.arange(20), "batch_size": 2, "length": 4}
_VECTORS = {"vocabulary": xpdl.Vocabulary([*"abcdef"]), "word_vecs": X}
_MOVED = {"backend": "moves ids, whose dtype is the same everywhere: test_windows.py"}
_DATA = [
    Watched(xpdl.load_mini_mnist, loaded_here, {}, _FORMS),
    Watched(xpdl.load_mnist, loaded_idx, {"verify": False}, _VERIFY),
    Watched(xpdl.load_fashion_mnist, loaded_idx, {"verify": False}, _VERIFY),
    Watched(xpdl.load_cifar10, loaded_cifar, {"verify": False}, _VERIFY),
    Watched(xpdl.load_folder, loaded_pictures, {}, {"size": (2, 3), "channels": 1, "fit": "letterbox"}),
    Watched(xpdl.Batches, two_passes, {"x": X, "t": T, "batch_size": 4}, {**_PASSES, "sample_weight": np.arange(6.0)}),
    Watched(xpdl.ChunkedBatches, two_passes, {"chunks": [(X, T), (-X, T)], "batch_size": 5}, _PASSES),
    Watched(
        xpdl.Prefetch,
        two_passes,
        {"batches": [(X, T)]},
        unseen={"ahead": "is how far a thread works ahead, never what it makes: test_prefetch.py counts batches"},
    ),
    Watched(
        xpdl.Vocabulary,
        lambda function, **arguments: repr(function(**arguments)),
        {"tokens": ["a", "b"]},
        {"kind": "characters", "lower": True, **dict(padding="<p>", unknown="<u>", begin="<b>", end="<e>")},
    ),
    Watched(data.ContiguousWindows, two_passes, _WINDOWS, {"shard": (0, 2), "drop_last": True}, _MOVED),
    Watched(data.RandomWindows, two_passes, _WINDOWS, {"shard": (0, 2), "batches": 3, "seed": 0}, _MOVED),
    Watched(
        data.PaddedBatches,
        two_passes,
        {"x": [[1] * (k % 5) for k in range(21)], "t": [[2] * (k % 5) for k in range(21)], "batch_size": 4},
        {
            "shard": (0, 2),
            "padding": 7,
            "target_padding": 7,
            "mask": True,
            "pool": 2,
            "shuffle": False,
            "seed": 0,
            "drop_last": True,
        },
        _MOVED,
    ),
    Watched(data.pad_sequences, value_of, {"sequences": [[1, 2], [3]]}, {"padding": 7, "length": 4}),
    Watched(
        data.UnigramSampler,
        lambda function, **arguments: seeded(function, **arguments).get_negative_sample(np.arange(4)),
        {"corpus": np.asarray([0, 0, 0, 0, 1, 2, 3])},
        {"power": 3.0, "sample_size": 2, "seed": 0},
    ),
    Watched(data.create_contexts_target, value_of, {"corpus": T}, {"window_size": 2}),
    Watched(data.most_similar, value_of, {"query": "a", **_VECTORS}, {"top": 1}),
    Watched(data.analogy, value_of, {"a": "a", "b": "b", "c": "d", **_VECTORS}, {"top": 1}),
    Watched(data.additions, seeded, {"n": 50}, {"n": 40, "digits": 2, "test_share": 0.5, "seed": 0}),
    *(
        Watched(f, seeded, {"n": 50}, {"n": 40, "length": 8, "test_share": 0.5, "seed": 0})
        for f in (data.brackets, data.copies)
    ),
    Watched(data.dates, seeded, {"n": 50}, {"n": 40, "test_share": 0.5, "seed": 0}),
    Watched(xpdl.shuffle_dataset, seeded, {"x": X, "t": T}, {"seed": 0}),
    Watched(xpdl.spiral, seeded, {}, {"n_per_class": 7, "classes": 2, "noise": 0.5, "seed": 0}),
    Watched(xpdl.moons, seeded, {}, {"n": 7, "noise": 0.5, "seed": 0}),
    Watched(xpdl.xor_points, seeded, {}, {"n": 7, "noise": 0.5, "seed": 0}),
    Watched(augment.Brightness, transformed, {}, {"low": 0.1, "high": 2.0}),
    Watched(augment.Scale, transformed, {}, {"low": 0.5, "high": 2.0}),
    Watched(augment.Crop, transformed, {}, {"size": (3, 4), "pad": 1}),
    Watched(augment.Cutout, transformed, {}, {"size": (2, 3)}),
    Watched(augment.Elastic, transformed, {}, {"alpha": 8.0, "sigma": 2.0}),
    Watched(augment.Flip, transformed, {}, {"horizontal": 1.0, "vertical": 1.0}),
    Watched(augment.Noise, transformed, {}, {"std": 0.5}),
    Watched(augment.Rotate, transformed, {}, {"degrees": 45}),
    Watched(augment.Shift, transformed, {}, {"pixels": (1, 3), "whole": False}),
]


# functions, backends and metrics


def output_size(function: Any, **arguments: Any) -> Any:
    try:
        function(5, 9, **arguments)
    except ValueError as error:
        return function(9, 2, **arguments), str(error)
    raise AssertionError("a filter larger than the image is an error")


def folded(function: Any, **arguments: Any) -> Any:
    return function(xpdl.im2col(IMAGES, 2, 2, **arguments), IMAGES.shape, 2, 2, **arguments)


def found_by_descent(function: Any, **arguments: Any) -> Any:
    return function(lambda x: (x**2).sum(), np.ones(3), **arguments)


class _Wrong(xpdl.Affine):
    """Its gradients have errors, which show along which directions they were measured."""

    def backward(self, dout: Any) -> Any:
        return super().backward(dout)[::-1]


def checked(function: Any, **arguments: Any) -> Any:
    net = models.Sequential(_Wrong(units=2), loss=xpdl.SoftmaxWithLoss, seed=0)
    try:
        return function(net, X, **arguments)
    except xpdl.GradientCheckError as error:
        return str(error)


def in_use(function: Any, **arguments: Any) -> Any:
    with function(**arguments) as backend, contextlib.redirect_stderr(io.StringIO()):
        return backend.name, str(backend.device), backend.dtype, thread_pool.thread_count()


def made_array(function: Any, **arguments: Any) -> Any:
    with xpdl.use("array_api_strict"):
        made = function(X, **arguments)
        return str(made.dtype), str(made.device)


def numerics_set(function: Any, **arguments: Any) -> Any:
    before = numeric_settings.get_numerics()
    with function(**arguments):
        found = numeric_settings.get_numerics()
    assert numeric_settings.get_numerics() == before
    return found


#: three labels a row, of which the third never occurs
_BITS = {"y": np.asarray([[1, 0, 0], [1, 1, 0], [0, 1, 0]]), "t": np.asarray([[1, 1, 0], [1, 1, 0], [1, 0, 0]])}
_SCORES = _rng.standard_normal((6, 3))
_FUNCTIONS = [
    *(
        Watched(
            xpdl.softmax_cross_entropy,
            value_of,
            {"x": X, "t": t},
            {"label_smoothing": 0.2, "class_weights": [1.0, 2.0, 3.0]},
        )
        for t in (T, np.eye(3)[T], SOFT)
    ),
    Watched(
        xpdl.im2col, value_of, {"input_data": IMAGES, "filter_h": 2, "filter_w": 3}, {"stride": (1, 2), "pad": (0, 1)}
    ),
    Watched(xpdl.col2im, folded, {}, {"stride": (1, 2), "pad": (0, 1)}),
    Watched(xpdl.conv_output_size, output_size, {}, {"stride": 2, "pad": 1, "dilation": 2, "owner": "Unfold"}),
    Watched(xpdl.gradient_descent, found_by_descent, {}, {"lr": 0.2, "step_num": 3}),
    Watched(xpdl.check_gradients, checked, {}, {"t": np.zeros(6, dtype=int), "seed": 1}),
    Watched(
        xpdl.asarray,
        made_array,
        {},
        {"dtype": "float64", "device": "device1", "copy": Refused(False, "copy=False, and")},
    ),
    Watched(xpdl.numerics, numerics_set, {}, {"precision": "tf32", "deterministic": False}),
    Watched(
        xpdl.use,
        in_use,
        {"name": "array_api_strict", "threads": 2},
        {"name": "numpy", "device": "device1", "dtype": "float64", "threads": 1},
    ),
    Watched(metrics.accuracy, value_of, _BITS, {"whole_rows": True}),
    Watched(metrics.top_k_accuracy, value_of, {"y": _SCORES, "t": T}, {"k": 1}),
    *(
        Watched(measure, value_of, {**_BITS, "average": "macro"}, {"average": "weighted", "zero_division": 1.0})
        for measure in (metrics.precision, metrics.recall, metrics.f1)
    ),
    Watched(metrics.perplexity, value_of, {"y": SOFT, "t": T}, {"ignore_label": 1}),
    Watched(metrics.roc_auc, value_of, {"y": _SCORES, "t": np.asarray([0, 1, 2, 1, 1, 2])}, {"average": "micro"}),
]


# training

_POINTS, _LABELS = xpdl.moons(40, noise=0.3, seed=0)


class Rates(xpdl.Callback):
    """Learning rates, step by step."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_batch_end(self, trainer: Any, step: int) -> None:
        self.seen.append(float(trainer.optimizer.lr))


def trained(function: Any = xpdl.Trainer, **arguments: Any) -> Any:
    """All that is seen of a training of the two moons: numbers, weights, printed lines, and files."""
    xpdl.seed(3)
    net = models.Sequential(xpdl.Affine(units=4), xpdl.Tanh(), xpdl.Affine(units=2), loss=xpdl.SoftmaxWithLoss, seed=0)
    rates = Rates()
    options = {"epochs": 2, "mini_batch_size": 9, "verbose": False, "optimizer": "sgd", **arguments}
    options["callbacks"] = [*options.get("callbacks", ()), rates]
    sets = {"x_train": _POINTS[:30], "t_train": _LABELS[:30], "x_test": _POINTS[30:], "t_test": _LABELS[30:]}
    with folder() as place, contextlib.redirect_stdout(io.StringIO()) as printed:
        trainer = function(net, **{**sets, **options})
        history = trainer.train()
        files = sorted(str(file.relative_to(place)) for file in place.rglob("*") if not file.name.startswith("."))
    numbers = {name: value for name, value in vars(history).items() if name != "seconds"}
    return (
        numbers,
        net.params,
        rates.seen,
        bool(printed.getvalue()),
        files,
        trainer.current_iter,
        repr(trainer.optimizer),
    )


def called_back(**options: Any) -> Callable[..., Any]:
    """Watch a callback in a training; what it shows of itself counts as well."""

    def watch(function: Any, **arguments: Any) -> Any:
        callback = function(**arguments)
        found = trained(**{"epochs": 4, "seed": 0, "callbacks": [callback], **options})
        return found, getattr(callback, "best", None), getattr(callback, "history", None)

    return watch


def mixed(function: Any, **arguments: Any) -> Any:
    precision = function(**arguments)
    with xpdl.use("numpy", dtype="float64"):
        return trained(precision=precision, seed=0), precision.scale, precision.skipped_steps


def built(**params: Any) -> Any:
    """A trainer for searches."""
    net = models.Sequential(xpdl.Affine(units=2), loss=xpdl.SoftmaxWithLoss)
    epochs = params.get("epochs", 1)
    points = {"x_test": _POINTS, "t_test": _LABELS, "epochs": epochs, "verbose": False}
    return xpdl.Trainer(net, _POINTS, _LABELS, optimizer_param={"lr": params["lr"]}, **points)


def first_loss(history: Any) -> float:
    return -history.train_loss_list[0]


def searched(function: Any, **arguments: Any) -> Any:
    xpdl.seed(3)
    with folder() as place, contextlib.redirect_stdout(io.StringIO()) as printed:
        result = function(built, {"lr": xpdl.uniform(0.01, 0.5)}, 3, **arguments)
        files = [file.name for file in place.iterdir()]
    trials = [(trial.number, trial.params, trial.score, trial.epochs) for trial in result.trials]
    return trials, bool(printed.getvalue()), files


def studied(function: Any, **arguments: Any) -> Any:
    xpdl.seed(3)
    trial = FakeTrial()
    return function(built, {"lr": xpdl.uniform(0.01, 0.5)}, **arguments)(trial), trial.reported


_WEIGHTS = np.linspace(0.0, 1.0, 30)
_TRAINER = Watched(
    xpdl.Trainer,
    trained,
    {"seed": 0},
    {
        "t_train": 1 - _LABELS[:30],
        "x_test": _POINTS[20:30],
        "t_test": 1 - _LABELS[30:],
        "epochs": 1,
        "mini_batch_size": 10,
        "optimizer": "Momentum",
        "optimizer_param": {"lr": 0.5},
        "evaluate_sample_num_per_epoch": 3,
        "verbose": True,
        "callbacks": [xpdl.StepLR(1)],
        "seed": 1,
        "augment": lambda x: 2 * x,
        "validation_split": 0.2,
        "validation_data": (_POINTS[30:], _LABELS[30:]),
        "metrics": ["f1"],
        "sample_weight": _WEIGHTS,
        "drop_last": True,
        "accumulate_grad_batches": 2,
        "precision": "float16",
        "compile": Refused(True, "steps are compiled with CuPy"),
        "checkpoint": "run",
        "checkpoint_every": Beside(1, {"checkpoint": "run", "max_checkpoints": 5}),
        "max_checkpoints": Beside(1, {"checkpoint": "run"}),
        "shard_optimizer": Refused(True, "shard_optimizer=True without a communicator; pass"),
        "check_ranks_every": Refused(1, "check_ranks_every=1 without a communicator; pass"),
    },
    {
        "communicator": "shows on several ranks alone: tests/distributed compares them",
    },
)
_SEARCHES = {"seed": 0, "score": first_loss, "log": Beside("log", {"seed": 0}), "verbose": True}
_PROCESSES = {
    "processes": "results are those of one process: test_runner.py compares them",
    "executor": "results are those of one process: test_executors.py compares them",
}
_PLATEAU = {"monitor": "test_loss", "gamma": 0.5, "patience": 2, "min_delta": 0.0, "min_lr": 0.05}
_TRAINING = [
    _TRAINER,
    Watched(xpdl.random_search, searched, {"verbose": False}, _SEARCHES, _PROCESSES),
    Watched(search.optuna_objective, studied, {}, {"seed": 0, "score": first_loss}),
    Watched(
        xpdl.successive_halving,
        searched,
        {"verbose": False, "max_epochs": 3},
        {**_SEARCHES, "min_epochs": 2, "max_epochs": 2, "factor": 2},
        _PROCESSES,
    ),
    Watched(xpdl.StepLR, called_back(), {"step_size": 1}, {"gamma": 0.5}),
    Watched(xpdl.CosineLR, called_back(), {}, {"epochs": 2, "final": 0.5}),
    Watched(xpdl.WarmupLR, called_back(), {"epochs": 2}, {"after": xpdl.CosineLR(), "start": 0.5}),
    Watched(xpdl.OneCycleLR, called_back(), {}, {"epochs": 2, "rise": 0.6, "start": 0.2, "final": 0.5}),
    Watched(
        xpdl.ReduceLROnPlateau,
        called_back(),
        {"monitor": "loss", "patience": 1, "min_delta": 100.0},
        _PLATEAU,
    ),
    Watched(xpdl.EMA, called_back(), {}, {"decay": 0.1}),
    Watched(
        xpdl.MixedPrecision,
        mixed,
        {"dtype": "float16", "scale": 2.0**14},
        {"dtype": "float32", "scale": 4.0, "growth_interval": 2},
    ),
    Watched(xpdl.MixedPrecision, mixed, {"dtype": "float32"}, {"growth_interval": Refused(2, "without a scale")}),
    Watched(xpdl.Diagnostics, called_back(), {"x": _POINTS[:5]}, {"margin": 0.4}),
    Watched(
        xpdl.EarlyStopping,
        called_back(epochs=6),
        {"monitor": "loss", "patience": 1, "min_delta": 100.0},
        {"monitor": "test_acc", "patience": 2, "min_delta": 0.0, "restore_best_weights": False},
    ),
    Watched(
        xpdl.ModelCheckpoint,
        called_back(optimizer_param={"lr": 5.0}),
        {"path": "net-{epoch}"},
        {"monitor": "loss", "save_best_only": False},
    ),
]


def of_a_number(function: Any, **arguments: Any) -> Any:
    return function(lambda lr: lr, {"lr": xpdl.uniform(0, 1)}, 1, **arguments).best.score


def of_a_layer(function: Any, **arguments: Any) -> Any:
    return function(xpdl.Dropout(0.5), X, **arguments)


_FILES = CheckpointFiles("run", max_checkpoints=3)
#: options that would be dropped beside others, or without them
_CONFLICTS = [
    Watched(
        xpdl.Trainer,
        trained,
        {},
        {
            "checkpoint": Refused("run", "needs a seed"),
            "checkpoint_every": Refused(3, "checkpoint_every=3 without a checkpoint"),
            "max_checkpoints": Refused(3, "max_checkpoints=3 without a checkpoint"),
            "x_test": Refused(None, "x_test must be an array"),
            "t_test": Refused(None, "t_test must be an array"),
            "sample_weight": Refused(_WEIGHTS[1:], "sample_weight"),
        },
    ),
    Watched(
        xpdl.Trainer,
        trained,
        {"seed": 0, "checkpoint": _FILES},
        {"max_checkpoints": Refused(4, "max_checkpoints=4, but .* max_checkpoints=3")},
    ),
    Watched(
        xpdl.Trainer,
        trained,
        {"validation_split": 0.2},
        {"validation_data": Refused((_POINTS, _LABELS), "not both")},
    ),
    Watched(
        xpdl.Trainer,
        trained,
        {"optimizer": xpdl.SGD(0.5)},
        {"optimizer_param": Refused({"lr": 0.5}, "optimizer_param .* would not change")},
    ),
    Watched(xpdl.check_gradients, of_a_layer, {}, {"t": Refused(T, "Dropout takes no targets")}),
    Watched(
        xpdl.random_search, of_a_number, {"verbose": False}, {"score": Refused(first_loss, "score takes a History")}
    ),
    *(
        Watched(watched.function, updated, {}, {"decay": Refused("weights", "decay='weights' says what weight_decay")})
        for watched in _OPTIMIZERS
        if watched.function is not xpdl.AdamW
    ),
]

WATCHED = [*_LOSSES, *_LAYERS, *_MODELS, *_OPTIMIZERS, *_DATA, *_FUNCTIONS, *_TRAINING, *_CONFLICTS]


def options_of(function: Any) -> set[str]:
    """Arguments with defaults, those that an optimizer passes to its base among them."""
    parameters = inspect.signature(function).parameters.values()
    found = {p.name for p in parameters if p.default is not p.empty}
    if function is not xpdl.Optimizer and any(p.kind == p.VAR_KEYWORD for p in parameters):
        found |= options_of(xpdl.Optimizer)
    return found


def plain(found: Any) -> Any:
    """A recorded result in a form that compares by value, types included."""
    if is_array(found):
        array = np.asarray(found)
        return array.dtype.name, array.shape, array.tobytes()
    if isinstance(found, Mapping):
        return {str(key): plain(value) for key, value in found.items()}
    if isinstance(found, (list, tuple)):
        return [plain(value) for value in found]
    return found if isinstance(found, bytes) else repr(found)


def faults(watched: Watched) -> list[str]:
    """The options of the table that change nothing, or are not refused where they should be."""
    found = []
    by_default: Any = None
    for option, other in watched.others.items():
        if isinstance(other, Refused):
            try:
                _seen(watched, **{option: other.value})
            except (TypeError, ValueError, OSError, xpdl.BackendError) as error:
                if not re.search(other.message, str(error)):
                    found.append(f"{option}={other.value!r:.60} is refused by: {error}")
            else:
                found.append(f"{option}={other.value!r:.60} is not refused")
            continue
        if isinstance(other, Beside):
            before, after = (_seen(watched, **other.arguments, **more) for more in ({}, {option: other.value}))
        else:
            by_default = before = by_default or _seen(watched)
            after = _seen(watched, **{option: other})
        if before == after:
            found.append(f"{option} changes nothing")
    return found


def _seen(watched: Watched, **arguments: Any) -> Any:
    return plain(watched.watch(watched.function, **{**watched.arguments, **arguments}))
