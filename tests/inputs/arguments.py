"""Every argument of every public function and constructor, by kind: what the tests of wrong arguments are made from.

`CALLS` has one `Call` per public name. Each of its arguments has a `Kind`, which lists values that are wrong for it, or a
sentence saying why no value is. A public name, or an argument, that is missing here is a failure.
"""

from __future__ import annotations

import dataclasses
import math
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

import xpdl
from xpdl import data, layers, metrics, models, search
from xpdl.backends.random import Stream
from xpdl.data import augment
from xpdl.integrations import pytorch


@dataclasses.dataclass(frozen=True)
class Kind:
    """Kinds of arguments, each by values that it refuses."""

    wrong: tuple[Any, ...]

    def __or__(self, allowed: Any) -> Kind:
        """The same, where `allowed` is right, too."""
        return Kind(tuple(value for value in self.wrong if value is not allowed))


class Anything:
    def __repr__(self) -> str:
        return "<anything>"


_THING = Anything()
_WORDS = ("3", "", "yes", None, [], (), {}, [1.0], _THING)
COUNT = Kind((*_WORDS, True, False, 0, -1, 1.5, 2.0, math.nan, math.inf, np.float32(2), 1j))
PAIR = Kind((*_WORDS, True, False, 0, -1, 1.5, math.nan, (1, 2, 3), (1, 0), (1, "2"), (True, 1), (1, None), (1.0, 2)))
BORDER = Kind(tuple(value for value in PAIR.wrong if not (type(value) is int and value == 0) and value != (1, 0)))
# of windows along as many axes as there are numbers
WINDOW = Kind((*(value for value in PAIR.wrong if value != (1, 2, 3)), (1, 2, 3, 4)))
NUMBER = Kind((*_WORDS, True, False, math.nan, math.inf, -math.inf, 1j, (1.0, 2.0, 3.0)))
AT_LEAST_0 = Kind((*NUMBER.wrong, -1, -1e-9, 10**400))
POSITIVE = Kind((*AT_LEAST_0.wrong, 0, 0.0))
SHARE = Kind((*AT_LEAST_0.wrong, 1.0, 2))  # below 1
PROBABILITY = Kind((*AT_LEAST_0.wrong, 1.5))
FLAG = Kind((*_WORDS, 0, 1, 1.0, math.nan))
SEED = Kind((*(value for value in _WORDS if value is not None), True, 1.5, math.nan))
SIZES = Kind((3, None, True, "28", [0], [-1], [1.5], ["3"], [None], [True], _THING))
WEIGHTS = Kind((True, "nonsense", "", [1.0], {}, _THING, math.nan, math.inf, -1.0, None))
FUNCTION = Kind((None, 3, "f", [1]))
CHOICE = Kind(("nonsense", "", 3, None, True, [1], _THING))
FILE = Kind((Path(tempfile.gettempdir()) / "no such folder" / "file",))
ARRAY = Kind(("text", None, [1.0, 2.0], (1.0,), {}, True, _THING))
VALUES = Kind(("text", None, {}, _THING))  # lists and numbers are right
ROWS = Kind(("text", None, {}, (), True, 3.0, _THING))  # so are lists, and tuples and dicts of arrays
NONE = Kind(())


@dataclasses.dataclass(frozen=True)
class Call:
    """A public function or class, arguments with which it works, and kinds of all of them.

    `free` are arguments for which nothing is wrong, or nothing that could be told, each with the reason.
    """

    function: Callable[..., Any]
    valid: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    kinds: Mapping[str, Kind] = dataclasses.field(default_factory=dict)
    free: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.function.__name__


_rng = np.random.default_rng(5)
X = _rng.standard_normal((4, 3))
IMAGES = _rng.standard_normal((4, 2, 6, 6))
T = np.asarray([0, 1, 2, 1])
OUT = "an array of one's own, checked in test_arrays.py"
OPTIONS = {"weight_decay": Kind((3, "l2", True, [1], {"l3": 1.0}, {"l2": "3"}, {"l2": -1.0}, {"l1": math.nan}))}
OPTIONS |= {"max_norm": POSITIVE | None, "clip_norm": POSITIVE | None}
OPTIONS |= {
    "decay": Kind(("", 3, [], (), {}, [1.0], _THING)),
    "lr_groups": Kind((3, "b", ["b"], {1: 1.0}, {"b": -1.0}, _THING)),
}
_W = {"W": Kind(("text", [[1.0]], 3, _THING, np.ones(2))), "b": Kind(("text", [1.0], 3, _THING, np.ones(3)))}
_SCALES = dict.fromkeys(("gamma", "beta"), Kind(("text", [1.0], 3.0, True, _THING, np.ones((2, 2)))))
AXIS = Kind((*_WORDS, True, False, 0, 2, -2, 1.5, math.nan, (1,)))
_CONV = Kind(
    (3, None, "x", [1], {"filter_numb": 3}, {"filter_num": 0}, {"pad": -1}, {"stride": 0}, {"stride": "3"}, _THING)
)


_GPT_SIZES = ("vocab", "context", "width", "heads", "depth")


def _model() -> Any:
    return models.TwoLayerNet(3, 4, 3, seed=0)


def _mean(x: Any) -> Any:
    return (x**2).sum()


def _square(x: Any) -> Any:
    return x**2


def _constant(lr: float, epochs: int = 1) -> float:
    return 1.0


def _plain(function: Callable[..., Any], **valid: Any) -> Call:
    """Of arrays alone."""
    return Call(function, valid, dict.fromkeys(valid, ARRAY))


def _layer(function: Any) -> Call:
    return Call(function)


def _rule(function: Any, **kinds: Kind) -> Call:
    return Call(function, {}, {"lr": AT_LEAST_0, **OPTIONS, **kinds})


_GATES = [
    Call(gate, {"x1": 1, "x2": 0}, dict.fromkeys(("x1", "x2"), Kind(("1", None, math.nan, [1], _THING))))
    for gate in (xpdl.AND, xpdl.NAND, xpdl.OR, xpdl.XOR)
]
_ELEMENTWISE = [
    Call(function, {"x": X}, {"x": Kind(("text", None, [1.0, 2.0], {}, _THING))})
    for function in (
        *(xpdl.relu, xpdl.relu_grad, xpdl.sigmoid, xpdl.sigmoid_grad, xpdl.softmax, xpdl.log_softmax, xpdl.tanh),
        xpdl.step_function,
    )
]
_NO_WEIGHTS = ("text", 3, True, 1j, [], (), {}, {0: 1.0}, [-1.0], [math.inf], ["1"], [None], [True], [0.0, 0.0], _THING)
_CLASS_WEIGHTS = Kind((*_NO_WEIGHTS, math.nan, np.ones((2, 2)), np.ones(()), np.array([-1.0])))
_FUNCTIONS = [
    Call(xpdl.identity_function, {"x": X}, {}, {"x": "whatever it is, it is given back"}),
    _plain(xpdl.sum_squared_error, y=X, t=X),
    _plain(xpdl.mean_squared_error, y=X, t=X),
    _plain(xpdl.cross_entropy_error, y=X * X, t=T),
    Call(
        xpdl.softmax_cross_entropy,
        {"x": X, "t": T},
        {"x": ARRAY, "t": ARRAY, "label_smoothing": SHARE, "class_weights": _CLASS_WEIGHTS},
    ),
    Call(
        xpdl.im2col,
        {"input_data": IMAGES, "filter_h": 2, "filter_w": 2, "stride": 1, "pad": 0},
        {"input_data": ARRAY, "filter_h": COUNT, "filter_w": COUNT, "stride": PAIR, "pad": BORDER},
    ),
    Call(
        xpdl.col2im,
        {"col": np.zeros((16, 4)), "input_shape": (1, 1, 5, 5), "filter_h": 2, "filter_w": 2, "stride": 1, "pad": 0},
        {
            "col": ARRAY,
            "input_shape": Kind((*SIZES.wrong, (1, 5, 5), ())),
            "filter_h": COUNT,
            "filter_w": COUNT,
            "stride": PAIR,
            "pad": BORDER,
        },
    ),
    Call(
        xpdl.conv_output_size,
        {"input_size": 5, "filter_size": 2},
        {
            "input_size": COUNT,
            "filter_size": COUNT,
            "stride": COUNT,
            "dilation": COUNT,
            "pad": Kind(tuple(value for value in COUNT.wrong if type(value) is not int or value != 0)),
        },
        {"owner": "stands in messages"},
    ),
    Call(xpdl.numerical_diff, {"f": _square, "x": 3.0}, {"f": FUNCTION, "x": Kind(("text", None, {}, True, _THING))}),
    Call(xpdl.numerical_gradient, {"f": _mean, "x": X}, {"f": FUNCTION, "x": ARRAY}),
    Call(
        xpdl.gradient_descent,
        {"f": _mean, "init_x": X, "lr": 0.1, "step_num": 1},
        {
            "f": FUNCTION,
            "init_x": ARRAY,
            "lr": NUMBER,
            "step_num": Kind(tuple(value for value in COUNT.wrong if type(value) is not int or value != 0)),
        },
    ),
    Call(
        xpdl.check_gradients,
        {"model_or_layer": xpdl.Affine(units=2), "x": X},
        {"model_or_layer": Kind((None, 3, "layer", xpdl.Affine)), "x": ARRAY, "seed": Kind((*SEED.wrong, None))},
        {"t": "targets are the model's to judge"},
    ),
    Call(
        xpdl.compare_backends,
        {"model": _model(), "x": X, "t": T, "backends": ["numpy", "numpy"]},
        {
            "model": Kind((None, 3, "net", models.TwoLayerNet, models.Sequential(xpdl.Relu()))),
            "x": ARRAY,
            "t": ARRAY,
            "backends": Kind((None, 3, "numpy", [], ["numpy"], ["numpy", "nonsense"], ["numpy", 3], [None, "numpy"])),
        },
    ),
    Call(xpdl.smooth_curve, {"x": [1.0, 2.0]}, {"x": VALUES}),
    Call(
        xpdl.asarray,
        {"a": X},
        {
            "a": VALUES,
            "dtype": Kind(("float31", "text", 3)),
            "device": Kind(("nowhere",)),
            "copy": Kind((0, 1, "no")),
        },
    ),
    Call(xpdl.asnumpy, {"a": X}, {}, {"a": "NumPy makes an array of anything"}),
    Call(xpdl.available_backends),
    Call(xpdl.get_backend),
    Call(
        xpdl.numerics,
        {},
        {
            "precision": Kind(tuple(value for value in CHOICE.wrong if value is not None)),
            "deterministic": Kind(tuple(value for value in FLAG.wrong if value is not None)),
        },
    ),
    Call(xpdl.seed, {"n": 1}, {"n": Kind((*SEED.wrong, None))}),
    Call(
        xpdl.use,
        {"name": "numpy"},
        {
            "name": Kind(("no_such_library", "", None, 3, _THING, math)),
            "device": Kind(("nowhere", 3)),
            "threads": COUNT | None,
            "dtype": Kind(("float31", "int32", None, 3)),
        },
    ),
]
_AXIS = Kind(("1", 1.0, [1], True, None, 0, _THING))
_LAYERS = [
    *map(_layer, (layers.AddLayer, layers.MulLayer, layers.Relu, layers.Sigmoid, layers.Tanh)),
    *(
        Call(cls, {}, {"axis": Kind((*(value for value in COUNT.wrong if value != -1 or value is True), 0))})
        for cls in (layers.Softmax, layers.LogSoftmax)
    ),
    *map(_layer, (layers.Identity, layers.Flatten, layers.GlobalAveragePooling, layers.Layer, layers.LossLayer)),
    *map(_layer, (layers.IdentityWithLoss, layers.GlobalMaxPooling, layers.Silu, layers.Softplus)),
    *map(_layer, (layers.MeanSquaredError, layers.MeanAbsoluteError, layers.GaussianKL, layers.NegativeSampling)),
    Call(layers.Huber, {}, {"delta": POSITIVE}),
    Call(layers.Hinge, {}, {"margin": POSITIVE}),
    *(
        Call(cls, {"units": 2}, {"units": COUNT, "return_sequences": FLAG, "stateful": FLAG, "init": WEIGHTS})
        for cls in (layers.RNN, layers.LSTM, layers.GRU)
    ),
    Call(
        layers.MultiHeadAttention,
        {"heads": 2},
        {
            "heads": COUNT,
            "causal": FLAG,
            "rotary": FLAG,
            "use_bias": FLAG,
            "init": WEIGHTS,
            "init_output": WEIGHTS | None,
        },
    ),
    Call(layers.SinusoidalPositions, {}, {"base": POSITIVE}),
    Call(layers.LearnedPositions, {"length": 4}, {"length": COUNT, "init": WEIGHTS}),
    Call(
        layers.Bidirectional,
        {"layer": layers.RNN(2)},
        {"layer": Kind((3, "x", None, layers.RNN, layers.Relu(), _THING))},
    ),
    Call(layers.Embedding, {"count": 3, "units": 2}, {"count": COUNT, "units": COUNT, "init": WEIGHTS}),
    Call(layers.Embedding, {"W": np.ones((3, 2))}, {"W": _W["W"]}),
    Call(layers.Gelu, {}, {"approximate": CHOICE}),
    Call(layers.LeakyRelu, {}, {"slope": AT_LEAST_0}),
    Call(layers.Elu, {}, {"alpha": AT_LEAST_0}),
    Call(layers.LayerNormalization, {}, {"eps": POSITIVE, **_SCALES}),
    Call(layers.RMSNormalization, {}, {"eps": POSITIVE, "gamma": _SCALES["gamma"]}),
    Call(layers.GroupNormalization, {"groups": 2}, {"groups": COUNT, "eps": POSITIVE, **_SCALES}),
    Call(layers.SigmoidWithLoss, {}, {"accuracy": CHOICE}),
    Call(
        layers.SoftmaxWithLoss,
        {},
        {
            "label_smoothing": SHARE,
            "class_weights": _CLASS_WEIGHTS,
            "ignore_label": Kind(("3", "", 1.5, [1], {}, True, math.nan, _THING)),
        },
    ),
    Call(layers.Affine, {"units": 3}, {"units": COUNT | None, "init": WEIGHTS, "use_bias": FLAG, "axis": AXIS}),
    Call(layers.Affine, {"W": np.ones((3, 2)), "b": np.ones(2)}, _W),
    Call(
        layers.Convolution,
        {"filters": 2, "size": 3},
        {
            "stride": PAIR,
            "pad": BORDER,
            "filters": COUNT | None,
            "size": WINDOW | None,
            "dilation": PAIR,
            "groups": COUNT,
            "init": WEIGHTS,
            "use_bias": FLAG,
        },
    ),
    Call(layers.Convolution, {"W": np.ones((2, 1, 3, 3)), "b": np.ones(2)}, _W),
    Call(
        layers.ConvolutionTranspose,
        {"filters": 2, "size": 3},
        {
            "stride": PAIR,
            "pad": BORDER,
            "filters": COUNT | None,
            "size": WINDOW | None,
            "output_pad": Kind((*BORDER.wrong, 1)),
            "dilation": PAIR,
            "groups": COUNT,
            "init": WEIGHTS,
            "use_bias": FLAG,
        },
    ),
    Call(layers.ConvolutionTranspose, {"W": np.ones((1, 2, 3, 3)), "b": np.ones(2)}, _W),
    Call(layers.UpSampling, {}, {"scale": WINDOW, "mode": CHOICE}),
    *(
        Call(
            pooling,
            {"pool_h": 2, "pool_w": 2},
            {
                "pool_h": COUNT,
                "pool_w": COUNT,
                "stride": PAIR,
                "pad": Kind((*BORDER.wrong, 2, ((0, 2), 0), ((0, 1, 1), 0), ((1, None), 1))),
                "dilation": PAIR,
                "ceil_mode": FLAG,
                **({"count_include_pad": FLAG} if pooling is layers.AveragePooling else {}),
            },
        )
        for pooling in (layers.Pooling, layers.AveragePooling)
    ),
    *(Call(pooling, {"size": 2}, {"size": WINDOW}) for pooling in (layers.Pooling, layers.AveragePooling)),
    Call(
        layers.BatchNormalization,
        {},
        {
            **dict.fromkeys(
                ("gamma", "beta"), Kind(("text", [1.0], True, math.nan, math.inf, _THING, np.ones((2, 2))))
            ),
            **dict.fromkeys(("running_mean", "running_var"), Kind(("text", [1.0], 3.0, _THING, np.ones((2, 2))))),
            "momentum": PROBABILITY,
            "eps": POSITIVE,
            "sync": FLAG,
        },
    ),
    Call(layers.Dropout, {}, {"dropout_ratio": SHARE, "inverted": FLAG}),
    _layer(layers.Add),
    _layer(layers.Multiply),
    Call(layers.Concatenate, {}, {"axis": _AXIS}),
    Call(
        layers.Reshape,
        {"shape": (3,)},
        {"shape": Kind((3, None, True, "28", [0], [1.5], ["3"], [None], [True], [-1, -1], [-2], [2, 0], _THING))},
    ),
    Call(layers.Permute, {"axes": (2, 1)}, {"axes": Kind((*SIZES.wrong[:-1], [0, 1], [1, 1], [2], [-1], [1, 3]))}),
    Call(
        layers.Slice,
        {},
        {**dict.fromkeys(("start", "stop"), Kind(("1", 1.0, [1], True, _THING))), "axis": _AXIS},
    ),
    Call(layers.Residual, {}, {"shortcut": Kind((3, "x", xpdl.Relu, (1, 2, 3), _THING)), "fuse": FLAG}),
]
_IN = models.Input((3,))
_OUT = xpdl.Relu()(_IN)
_INPUTS = Kind((3, None, "x", (3,), [], [1], {}, xpdl.Input, _OUT, _THING))
_OUTPUTS = Kind((3, None, "y", [], {}, [1], {1: _OUT}, xpdl.Relu(), _THING))
_MODELS = [
    Call(
        models.Sequential,
        {},
        {"loss": Kind((3, "softmax", xpdl.Relu, xpdl.Relu(), [1], _THING)), "seed": SEED, "fuse": FLAG},
    ),
    Call(layers.Chain, {}, {"fuse": FLAG}),
    Call(
        layers.Dag,
        {"inputs": _IN, "outputs": _OUT},
        {"inputs": _INPUTS, "outputs": _OUTPUTS, "fuse": FLAG},
    ),
    Call(
        models.Graph,
        {"inputs": _IN, "outputs": _OUT},
        {
            "inputs": _INPUTS,
            "outputs": _OUTPUTS,
            "loss": Kind((3, "softmax", xpdl.Relu, xpdl.Relu(), [1], [], {}, {"y": xpdl.SoftmaxWithLoss}, _THING)),
            "loss_weights": Kind((3, "1", [1.0], {"Relu1": 1.0}, _THING)),
            "seed": SEED,
            "fuse": FLAG,
        },
    ),
    Call(
        models.GPT,
        dict.fromkeys(_GPT_SIZES, 4),
        {
            **dict.fromkeys(_GPT_SIZES, COUNT),
            **dict.fromkeys(("rotary", "tied"), FLAG),
            "dropout": SHARE,
            "gelu": CHOICE,
            "seed": SEED,
        },
    ),
    Call(
        models.Input,
        {"shape": (3,)},
        {
            "shape": Kind((3, None, True, "28", [0], [-1], [1.5], ["3"], [None], [True], _THING)),
            "name": Kind((3, "", [1], _THING)),
        },
    ),
    Call(
        models.TwoLayerNet,
        {"input_size": 3, "hidden_size": 2, "output_size": 3},
        {"input_size": COUNT, "hidden_size": COUNT, "output_size": COUNT, "weight_init_std": WEIGHTS, "seed": SEED},
    ),
    *(
        Call(
            model,
            {"input_size": 3, "hidden_size_list": [2], "output_size": 3},
            {
                "input_size": COUNT,
                "hidden_size_list": SIZES,
                "output_size": COUNT,
                "activation": CHOICE,
                "weight_init_std": WEIGHTS,
                "weight_decay_lambda": AT_LEAST_0,
                "seed": SEED,
                **extended,
            },
        )
        for model, extended in (
            (models.MultiLayerNet, {}),
            (models.MultiLayerNetExtend, {"use_dropout": FLAG, "dropout_ration": SHARE, "use_batchnorm": FLAG}),
        )
    ),
    Call(
        models.SimpleConvNet,
        {"input_dim": (1, 8, 8)},
        {
            "input_dim": Kind(SIZES.wrong),
            "conv_param": _CONV,
            "hidden_size": COUNT,
            "output_size": COUNT,
            "weight_init_std": WEIGHTS,
            "seed": SEED,
        },
    ),
    Call(
        models.DeepConvNet,
        {"input_dim": (1, 8, 8)},
        {
            "input_dim": Kind(SIZES.wrong),
            "hidden_size": COUNT,
            "output_size": COUNT,
            "seed": SEED,
            **{f"conv_param_{k}": _CONV for k in range(1, 7)},
        },
    ),
    *(
        Call(
            model,
            {"vocab_size": 5, "wordvec_size": 2, "hidden_size": 2},
            {"vocab_size": COUNT, "wordvec_size": COUNT, "hidden_size": COUNT, "seed": SEED},
        )
        for model in (models.Seq2seq, models.PeekySeq2seq, models.AttentionSeq2seq)
    ),
    *(
        Call(
            model,
            {"vocab_size": 4, "hidden_size": 2, "window_size": 1, "corpus": T},
            {
                **dict.fromkeys(("vocab_size", "hidden_size", "window_size", "sample_size"), COUNT),
                "corpus": Kind(
                    ("text", [1, 2], True, _THING, X, np.arange(4.0), np.asarray([4, 1]), np.asarray([1, 1]))
                ),
                "power": AT_LEAST_0,
                "seed": SEED,
            },
        )
        for model in (models.CBOW, models.SkipGram)
    ),
    Call(
        models.RnnLm,
        {"vocab_size": 5, "wordvec_size": 2, "hidden_size": 2},
        {
            "vocab_size": COUNT,
            "wordvec_size": COUNT,
            "hidden_size": COUNT,
            "dropout_ratio": SHARE,
            "depth": COUNT,
            "tie_weights": FLAG | None,
            "stateful": FLAG,
            "seed": SEED,
        },
    ),
    Call(models.load_model, {}, {"path": FILE}),
    Call(models.register_layer, {"kind": layers.Relu}, {"kind": Kind((None, 3, "Relu", int, layers.Relu(), _THING))}),
    Call(
        pytorch.save_pytorch,
        {"model": _model(), "path": Path(tempfile.gettempdir()) / "xpdl-unused" / "x"},
        {"path": FILE, "names": Kind(("long", None, 3, ["conv"], {}))},
        {"model": "one of another kind has not the attributes that are read"},
    ),
    Call(
        pytorch.load_pytorch,
        {"model": _model(), "path": Path(tempfile.gettempdir()) / "xpdl-unused" / "x"},
        {"path": FILE, "strict": NONE},
        {"model": "as above", "names": "as above, once the file was found"},
    ),
]
_OPTIMIZERS = [
    Call(xpdl.Optimizer, {}, OPTIONS),
    _rule(xpdl.SGD),
    _rule(xpdl.Momentum, momentum=SHARE),
    _rule(xpdl.Nesterov, momentum=SHARE),
    _rule(xpdl.AdaGrad, eps=POSITIVE),
    _rule(xpdl.RMSprop, decay_rate=SHARE, eps=POSITIVE),
    _rule(xpdl.AdaDelta, rho=SHARE, eps=POSITIVE),
    _rule(xpdl.Adam, beta1=SHARE, beta2=SHARE, eps=POSITIVE),
    _rule(xpdl.AdamW, beta1=SHARE, beta2=SHARE, eps=POSITIVE, weight_decay=AT_LEAST_0),
]
_LOADERS = [
    Call(loader, {}, {"normalize": FLAG, "flatten": FLAG, "one_hot_label": FLAG, **verify})
    for loader, verify in (
        (xpdl.load_mini_mnist, {}),
        (xpdl.load_mnist, {"verify": FLAG}),
        (xpdl.load_fashion_mnist, {"verify": FLAG}),
        (xpdl.load_cifar10, {"verify": FLAG}),
    )
]
_BATCHES = {"batch_size": COUNT, "shuffle": FLAG, "seed": SEED, "drop_last": FLAG}
_BATCHES |= {
    "transform": Kind((3, "flip", [3], _THING)),
    "classes": COUNT | None,
    "backend": Kind((3, "numpy", _THING)),
    "shard": Kind((3, None, "0/2", [0, 2], (0,), (2, 2), (-1, 2), (0, 0), (0.0, 2), (True, "2"), _THING)),
}
_CORPUS = Kind((*ARRAY.wrong, X, np.arange(4.0), np.asarray([1]), np.asarray([-1, 2, 3])))
_VECTORS = {"vocabulary": xpdl.Vocabulary(["a", "b"]), "word_vecs": X[:2]}
_SIMILAR = {
    "vocabulary": Kind((3, None, ["a", "b"], {}, _THING)),
    "word_vecs": Kind((*ARRAY.wrong, X, X[0])),
    "top": COUNT,
}
_WINDOWS = {"ids": np.arange(20), "batch_size": 2, "length": 3}
_IDS = Kind((*ARRAY.wrong, X, np.arange(4.0), np.arange(2)))
INTEGER = Kind(("3", "", None, [], 1.5, math.nan, True, _THING))
_ROWS_OF_IDS = Kind(("ab", None, 3, [], [3], [1.0, 2.0], ["a"], [[0.5]], {}, True, _THING))
_TASK = {"n": COUNT, "test_share": Kind((*SHARE.wrong, 0, 1e-9)), "seed": SEED}
_DATA = [
    Call(
        xpdl.Batches,
        {"x": X, "t": T, "batch_size": 2},
        {"x": ARRAY, "t": ARRAY, **_BATCHES, "sample_weight": Kind((3, "all", [1.0], np.ones((2, 2)), _THING))},
    ),
    Call(
        xpdl.ChunkedBatches,
        {"chunks": [(X, T)], "batch_size": 2},
        {"chunks": Kind((3, None, _THING)), **_BATCHES},
    ),
    Call(
        xpdl.Prefetch,
        {"batches": [(X, T)], "ahead": 2},
        {"batches": Kind((3, None, _THING)), "ahead": COUNT},
    ),
    Call(
        xpdl.load_folder,
        {"path": "not read, as the options are checked before"},
        {"path": FILE, "size": PAIR, "channels": Kind((0, 2, 4, -1, True, "3", None, [3], _THING)), "fit": CHOICE},
    ),
    Call(xpdl.load_alice, {}, {}),
    Call(
        xpdl.Vocabulary,
        {"tokens": ["a", "b"]},
        {
            "tokens": Kind((3, "ab", None, True, [], [1], [""], ["a", "a"], {}, _THING)),
            "kind": CHOICE,
            "lower": FLAG,
            **dict.fromkeys(("padding", "unknown", "begin", "end"), Kind((3, "", True, [1], _THING))),
        },
    ),
    *(
        Call(windows, _WINDOWS, {"ids": _IDS, "batch_size": COUNT, "length": COUNT, **more})
        for windows, more in (
            (data.ContiguousWindows, {"drop_last": FLAG, "backend": _BATCHES["backend"], "shard": _BATCHES["shard"]}),
            (
                data.RandomWindows,
                {"batches": COUNT | None, "seed": SEED, "backend": _BATCHES["backend"], "shard": _BATCHES["shard"]},
            ),
        )
    ),
    Call(
        data.PaddedBatches,
        {"x": [[1, 2], [3]], "t": [0, 1], "batch_size": 1},
        {
            "x": _ROWS_OF_IDS,
            "t": Kind(("ab", None, 3, [1.0, 2.0], {}, True, _THING)),
            **dict.fromkeys(("padding", "target_padding"), INTEGER),
            "mask": FLAG,
            "pool": COUNT,
            **{key: kind for key, kind in _BATCHES.items() if key not in ("transform", "classes", "sample_weight")},
        },
    ),
    Call(
        data.pad_sequences,
        {"sequences": [[1, 2], [3]]},
        {"sequences": _ROWS_OF_IDS, "padding": INTEGER, "length": Kind((*COUNT.wrong, 1)) | None},
    ),
    Call(
        data.UnigramSampler, {"corpus": T}, {"corpus": _CORPUS, "power": AT_LEAST_0, "sample_size": COUNT, "seed": SEED}
    ),
    Call(data.create_contexts_target, {"corpus": T}, {"corpus": _CORPUS, "window_size": COUNT}),
    Call(data.most_similar, {"query": "a", **_VECTORS}, {"query": Kind(("c", "", 3, None)), **_SIMILAR}),
    Call(
        data.analogy,
        {"a": "a", "b": "b", "c": "a", **_VECTORS},
        {**dict.fromkeys("abc", Kind(("c", "", 3, None))), **_SIMILAR},
    ),
    Call(data.additions, {"n": 50}, {**_TASK, "digits": Kind((*COUNT.wrong, 10))}),
    *(Call(task, {"n": 50}, {**_TASK, "length": COUNT}) for task in (data.brackets, data.copies)),
    Call(data.dates, {"n": 50}, _TASK),
    Call(xpdl.shuffle_dataset, {"x": X, "t": T}, {"x": ARRAY, "t": ARRAY, "seed": SEED}),
    Call(xpdl.spiral, {}, {"n_per_class": COUNT, "classes": COUNT, "noise": AT_LEAST_0, "seed": SEED}),
    Call(xpdl.moons, {}, {"n": COUNT, "noise": AT_LEAST_0, "seed": SEED}),
    Call(xpdl.xor_points, {}, {"n": COUNT, "noise": AT_LEAST_0, "seed": SEED}),
    Call(
        data.check_labels,
        {"t": T, "classes": 3, "owner": "check_labels"},
        {"t": Kind((*ARRAY.wrong, np.asarray([3]), np.asarray([-1]), np.asarray([0.0])))},
        {"classes": "comes from a shape", "owner": "stands in messages"},
    ),
    Call(data.is_mapped, {"a": X}, {}, {"a": "what is no mapped array is none"}),
]
_AUGMENT = [
    Call(augment.Transform),
    Call(augment.Brightness, {}, {"low": AT_LEAST_0, "high": AT_LEAST_0}),
    Call(augment.Scale, {}, {"low": POSITIVE, "high": AT_LEAST_0}),
    Call(augment.Crop, {}, {"size": PAIR | None, "pad": BORDER}),
    Call(augment.Cutout, {}, {"size": BORDER}),
    Call(augment.Elastic, {}, {"alpha": AT_LEAST_0, "sigma": POSITIVE}),
    Call(augment.Flip, {}, {"horizontal": PROBABILITY, "vertical": PROBABILITY}),
    Call(augment.Noise, {}, {"std": AT_LEAST_0}),
    Call(augment.Rotate, {}, {"degrees": NUMBER}),
    Call(augment.Shift, {}, {"pixels": NUMBER, "whole": FLAG}),
    Call(augment.Compose),
]
_SEARCH = {
    "n_trials": COUNT,
    "executor": Kind((3, "pool", ThreadPoolExecutor(1), ProcessPoolExecutor, _THING)),
    "seed": SEED,
    "score": FUNCTION,
    "processes": COUNT,
    "verbose": FLAG,
}
_SEARCH["executor"] = Kind((3, "pool", ThreadPoolExecutor(1), ProcessPoolExecutor, _THING))
_SEARCH |= {"build": FUNCTION, "space": Kind((3, None, [1], {"lr": 3}, {"lr": (0, 1)})), "log": FILE}
_SPACE: Mapping[str, Any] = {"build": _constant, "space": {"lr": xpdl.uniform(0, 1)}, "n_trials": 1, "verbose": False}
_AVERAGE = {"average": CHOICE, "zero_division": Kind(("warn", None, 0.5, True, _THING))}
_METRICS = [
    Call(metrics.accuracy, {"y": T, "t": T}, {"y": ARRAY, "t": ARRAY, "whole_rows": FLAG}),
    Call(metrics.top_k_accuracy, {"y": X, "t": T}, {"y": ARRAY, "t": ARRAY, "k": COUNT}),
    *(
        Call(measure, {"y": T, "t": T, "average": "macro"}, {"y": ARRAY, "t": ARRAY, **_AVERAGE})
        for measure in (metrics.precision, metrics.recall, metrics.f1)
    ),
    Call(
        metrics.perplexity,
        {"y": abs(X), "t": T},
        {"y": ARRAY, "t": ARRAY, "ignore_label": Kind(("3", "", [], 1.5, True, _THING))},
    ),
    Call(metrics.roc_auc, {"y": X, "t": T}, {"y": ARRAY, "t": ARRAY, "average": CHOICE}),
    *(Call(measure, {"y": X, "t": X}, {"y": ARRAY, "t": ARRAY}) for measure in (metrics.mse, metrics.mae, metrics.r2)),
]
_TRAINING = [
    Call(
        xpdl.Trainer,
        {"network": _model(), "x_train": X, "t_train": T, "x_test": X, "t_test": T, "seed": 0},
        {
            "network": Kind((None, 3, "net", models.TwoLayerNet)),
            **dict.fromkeys(("x_train", "t_train", "x_test", "t_test"), Kind((*ROWS.wrong, np.zeros((3, 3))))),
            "epochs": COUNT,
            "mini_batch_size": COUNT | None,
            "evaluate_sample_num_per_epoch": COUNT | None,
            "verbose": FLAG,
            "compile": FLAG,
            "seed": SEED,
            "augment": Kind((3, "flip", [3], _THING)),
            "validation_split": Kind((*SHARE.wrong, 0.01, 0.99)),
            "validation_data": Kind((3, "xt", [1], X, _THING)),
            "metrics": Kind((3, None, "f1", [3], ["nonsense"], ["mse"], {"f1": 3}, _THING)),
            "sample_weight": Kind((3, "all", (1.0,), np.ones((2, 2)), -np.ones(len(T)), _THING)),
            "drop_last": FLAG,
            "accumulate_grad_batches": COUNT,
            "optimizer": Kind(("nonsense", "", 3, None, xpdl.Relu, [1], _THING)),
            "optimizer_param": Kind(({"rate": 0.1}, {"lr": -1}, {"lr": math.nan}, {"lr": "3"}, 3, [1])),
            "callbacks": Kind((3, None, _THING)),
            "checkpoint_every": COUNT | None,
            "max_checkpoints": COUNT,
            "communicator": Kind((3, "mpi", xpdl.distributed.Communicator, _THING)),
            "check_ranks_every": COUNT | None,
            "shard_optimizer": FLAG,
            "precision": Kind(tuple(value for value in CHOICE.wrong if value is not None)),
        },
        {"checkpoint": "a file that cannot be written is said by the run itself"},
    ),
    Call(xpdl.random_search, {**_SPACE, "seed": 0}, _SEARCH),
    Call(
        search.optuna_objective,
        {"build": _constant, "space": {"lr": xpdl.uniform(0, 1)}},
        {key: _SEARCH[key] for key in ("build", "space", "seed", "score")},
    ),
    Call(
        xpdl.successive_halving,
        {**_SPACE, "seed": 0},
        {**_SEARCH, "min_epochs": COUNT, "max_epochs": COUNT, "factor": Kind((*COUNT.wrong, 1))},
    ),
    Call(xpdl.uniform, {"low": 0, "high": 1}, {"low": Kind((*NUMBER.wrong, 2)), "high": Kind((*NUMBER.wrong, -1))}),
    Call(xpdl.log_uniform, {"low": 1, "high": 2}, {"low": Kind((*POSITIVE.wrong, 3)), "high": POSITIVE}),
    Call(xpdl.choice, {"options": [1]}, {"options": Kind((3, None, [], "", _THING))}),
]
_MONITOR = Kind(("accuracy", "", 3, _THING))
_PATH = Kind((3, None, 1.5, [], _THING))
_SCHEDULES = [
    Call(xpdl.LearningRateSchedule, {"factor": math.exp}, {"factor": Kind((3, None, "exp", _THING))}),
    Call(xpdl.StepLR, {"step_size": 2}, {"step_size": COUNT, "gamma": POSITIVE}),
    Call(xpdl.ExponentialLR, {"gamma": 0.9}, {"gamma": POSITIVE}),
    Call(xpdl.CosineLR, {}, {"epochs": COUNT | None, "final": AT_LEAST_0}),
    Call(
        xpdl.WarmupLR,
        {"epochs": 1},
        {"epochs": POSITIVE, "after": Kind((3, "cosine", xpdl.CosineLR, math.exp, _THING)), "start": AT_LEAST_0},
    ),
    Call(
        xpdl.OneCycleLR,
        {},
        {"epochs": COUNT | None, "rise": SHARE, "start": AT_LEAST_0, "final": AT_LEAST_0},
    ),
    Call(
        xpdl.ReduceLROnPlateau,
        {},
        {
            "monitor": _MONITOR,
            "gamma": SHARE,
            "patience": COUNT,
            "min_delta": AT_LEAST_0,
            "min_lr": AT_LEAST_0,
        },
    ),
]
_CALLBACKS = [
    Call(xpdl.Callback, {}, {}),
    Call(xpdl.EMA, {}, {"decay": SHARE}),
    Call(
        xpdl.MixedPrecision,
        {},
        {"dtype": CHOICE, "scale": Kind((*POSITIVE.wrong, 0.5)) | None, "growth_interval": COUNT},
    ),
    Call(xpdl.Diagnostics, {"x": X}, {"x": Kind((*ARRAY.wrong, T, X[:0])), "margin": Kind((*POSITIVE.wrong, 0.5, 1))}),
    Call(
        xpdl.EarlyStopping,
        {},
        {"monitor": _MONITOR, "patience": COUNT, "min_delta": AT_LEAST_0, "restore_best_weights": FLAG},
    ),
    Call(xpdl.ModelCheckpoint, {"path": "x"}, {"path": _PATH, "monitor": _MONITOR, "save_best_only": FLAG}),
    *(Call(logger, {"path": "x"}, {"path": _PATH}) for logger in (xpdl.CSVLogger, xpdl.JSONLogger)),
    Call(xpdl.TensorBoard, {"log_dir": "x"}, {"log_dir": _PATH}),
]
_PERCEPTRON = [
    Call(
        xpdl.Perceptron,
        {"w": [1.0], "b": 0.5},
        {"w": Kind((3, None, "3", ["3"], [None], [math.nan], _THING)), "b": Kind(("3", None, [1.0], math.nan, _THING))},
    )
]

CALLS = [
    *(*_GATES, *_ELEMENTWISE, *_FUNCTIONS, *_LAYERS, *_MODELS, *_OPTIMIZERS, *_LOADERS, *_DATA, *_AUGMENT),
    *(*_METRICS, *_TRAINING, *_SCHEDULES, *_CALLBACKS, *_PERCEPTRON),
]

#: names of records and of what only other functions make
RECORDS = {"Node", "History", "SearchResult", "Trial"}
STREAM = Stream(0)
