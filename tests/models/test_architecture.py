"""Whole models in one file: what is saved comes back, and what cannot be saved or read is one clear error."""

import json

import numpy as np
import pytest
from safetensors import safe_open

import xpdl
from xpdl import layers
from xpdl.backends.namespaces import array_namespace
from xpdl.io.tensors import write_tensors
from xpdl.layers.base import Layer
from xpdl.layers.composite import Composite
from xpdl.layers.tied_embedding import TiedEmbedding, TiedScores
from xpdl.models import architecture
from xpdl.models.registry import MODELS

IMAGE = (2, 8, 8)


@xpdl.register_layer
class Shrink(Layer):
    """y = x / divisor, or its cube root; the arguments are kept under other names."""

    def __init__(self, divisor, *, root=None):
        super().__init__()
        self._by = {"divisor": divisor, "root": root}

    def get_config(self):
        return self._by

    def forward(self, x):
        return x / self._by["divisor"]

    def backward(self, dout):
        return dout / self._by["divisor"]


@xpdl.register_layer
class Around(Composite):
    """A layer that is made of another one."""

    def __init__(self, inner, times=1):
        super().__init__()
        self.inner = inner
        self.times = times

    def children(self):
        yield "inner", self.inner

    def build(self, input_shape, *, stream=None, backend=None):
        return self.inner.build(input_shape, stream=stream, backend=backend)

    def output_shape(self, input_shape):
        return self.inner.output_shape(input_shape)

    def forward(self, x, train_flg=None):
        return self.inner.forward(x) * self.times

    def backward(self, dout):
        return self.inner.backward(dout * self.times)


@xpdl.register_layer
class Classifier(xpdl.Sequential):
    """A model class that makes its own layers."""

    def __init__(self, units):  # and no seed: the class chooses it
        super().__init__(xpdl.Affine(units=units), xpdl.Tanh(), xpdl.Affine(units=3), loss=xpdl.SoftmaxWithLoss, seed=7)
        self.config = {"units": units}


class Unknown(Layer):
    """A layer that no file knows."""

    def forward(self, x):
        return x


def small(shape, rng):
    return rng.standard_normal(shape) / 10


def dag():
    x = xpdl.Input((8, 2, 8), "images")
    conv = xpdl.Convolution(filters=8, size=3, pad=1)
    joined = xpdl.Concatenate(2)(conv(xpdl.Relu()(conv(x, name="twice"))), xpdl.Slice(0, 1, axis=2)(x))
    return layers.Dag(x, xpdl.Slice(2)(joined), fuse=False)


def graph(size):
    x = xpdl.Input((size * 3 // 2,))
    h = xpdl.Affine(units=4)(x)
    return xpdl.Graph([x], [xpdl.Affine(units=3)(xpdl.Add()(h, xpdl.Multiply()(h, xpdl.Tanh()(h))))][0], seed=5)


#: case -> layers of a model for `IMAGE`; every class of layers is in one
ROWS = {
    "affine": lambda: [xpdl.Affine(units=4, use_bias=False), xpdl.Sigmoid(), xpdl.Affine(units=3, init=0.1)],
    "given arrays": lambda: [xpdl.Affine(np.ones((128, 3), "f"), np.ones(3, "f"))],
    "callable init": lambda: [xpdl.Affine(units=3, init=small)],
    "convolution": lambda: [
        xpdl.Convolution(filters=4, size=(3, 2), stride=(1, 2), pad=(1, 0), dilation=(1, 2), groups=2, use_bias=False),
        xpdl.BatchNormalization(momentum=0.5, eps=1e-3),
        xpdl.Relu(),
        xpdl.Pooling(2, 1, stride=(2, 1), pad=(1, 0)),
        xpdl.Tanh(),
        xpdl.AveragePooling(2, 1),
        xpdl.Identity(),
        xpdl.Flatten(),
        xpdl.Dropout(0.3, inverted=True),
        xpdl.Affine(units=3),
    ],
    "windows": lambda: [
        xpdl.Convolution(filters=4, size=(3, 2), pad=((1, 0), 1), stride=(1, 2)),
        xpdl.Convolution(filters=2, size=3, pad="same"),
        xpdl.Pooling(size=(2, 2), stride=1, pad=((0, 1), 0), dilation=(2, 1), ceil_mode=True),
        xpdl.AveragePooling(2, 2, 1, 1, count_include_pad=False),
        xpdl.ConvolutionTranspose(filters=2, size=2, stride=2, output_pad=(0, 1)),
        xpdl.UpSampling((1, 2), mode="linear"),
        xpdl.Softmax(1),
        xpdl.Affine(units=3),
    ],
    "units": lambda: [
        xpdl.Gelu("tanh"),
        xpdl.Silu(),
        xpdl.GroupNormalization(2, 1e-3),
        xpdl.LeakyRelu(0.2),
        xpdl.Elu(0.5),
        xpdl.LayerNormalization(1e-4),
        xpdl.Softplus(),
        xpdl.LogSoftmax(1),
        xpdl.RMSNormalization(1e-4),
        xpdl.Affine(units=2, axis=-1),
        xpdl.GlobalMaxPooling(),
        xpdl.Affine(units=3),
    ],
    "even": lambda: [xpdl.Affine(units=4)],
    "residual": lambda: [
        xpdl.Residual(("conv", xpdl.Convolution(filters=2, size=3, pad=1)), xpdl.Relu()),
        xpdl.Residual(
            xpdl.Convolution(filters=3, size=1),
            xpdl.Residual(xpdl.Softmax()),
            shortcut=xpdl.Convolution(filters=3, size=1),
        ),
        xpdl.GlobalAveragePooling(),
    ],
    "chains": lambda: [
        layers.Chain(xpdl.Relu(), ("inner", layers.Chain(xpdl.Affine(units=5)))),
        ("head", xpdl.Sequential(xpdl.Affine(units=3), seed=4)),
    ],
    "graphs": lambda: [xpdl.Permute((3, 1, 2)), dag(), xpdl.Reshape((-1,)), graph(6 * 16)],
    "own classes": lambda: [Shrink(2.0, root=None), Around(xpdl.Affine(units=4), times=3), Classifier(3)],
}
LOSSES = {
    "softmax": lambda: xpdl.SoftmaxWithLoss(label_smoothing=0.1, class_weights=np.asarray([1.0, 2.0, 0.5])),
    "sigmoid": lambda: xpdl.SigmoidWithLoss("row"),
    "identity": xpdl.IdentityWithLoss,
    "padding": lambda: xpdl.SoftmaxWithLoss(ignore_label=-1),
    "squares": xpdl.MeanSquaredError,
    "sizes": xpdl.MeanAbsoluteError,
    "huber": lambda: xpdl.Huber(0.5),
    "hinge": lambda: xpdl.Hinge(0.5),
    "negative": xpdl.NegativeSampling,
    "gaussian": xpdl.GaussianKL,
    "none": lambda: None,
}


def tied():
    table = TiedEmbedding(7, 4, init=0.5)
    return [table, xpdl.Affine(units=4, axis=-1), TiedScores(table, use_bias=True)]


#: case -> layers of a model for `IDS`
OF_IDS = {
    "attention": lambda: [
        xpdl.Embedding(7, 4, init=0.5),
        xpdl.SinusoidalPositions(100.0),
        xpdl.LearnedPositions(6, init=0.1),
        xpdl.MultiHeadAttention(2, True, rotary=True, use_bias=False),
    ],
    "recurrent": lambda: [
        xpdl.Embedding(7, 3, init=0.5),
        xpdl.Bidirectional(xpdl.LSTM(2, init="orthogonal")),
        xpdl.RNN(4),
        xpdl.GRU(3, return_sequences=False),
        xpdl.Affine(units=2),
    ],
    "tied": tied,
    "words": lambda: [xpdl.Embedding(7, 3, init=0.5), xpdl.Affine(units=4, axis=-1)],
}
IDS = np.random.default_rng(0).integers(0, 7, (4, 5))


def sequence_model(row):
    model = xpdl.Sequential(*OF_IDS[row](), loss=xpdl.SoftmaxWithLoss(ignore_label=0), seed=2)
    model.predict(IDS)
    return model


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


def images(rows=5):
    return np.random.default_rng(0).normal(size=(rows, *IMAGE)).astype("f")


def model_of(row, loss="softmax"):
    model = xpdl.Sequential(*ROWS[row](), loss=LOSSES[loss](), seed=2)
    model.predict(images(), train_flg=True)  # a training step moves running statistics, too
    return model


def configs(model):
    return architecture.to_json(model, "test")


@pytest.mark.parametrize("row", ROWS)
def test_a_model_is_one_file(row, path):
    model = model_of(row)
    model.save(path)
    again = xpdl.load_model(path)
    assert type(again) is xpdl.Sequential
    assert again.input_shape == IMAGE
    assert configs(again) == configs(model)
    assert {**again.params, **again.buffers}.keys() == {**model.params, **model.buffers}.keys()
    np.testing.assert_array_equal(again.predict(images()), model.predict(images()))


@pytest.mark.parametrize("row", OF_IDS)
def test_a_model_of_ids_is_one_file(row, path):
    model = sequence_model(row)
    model.save(path)
    again = xpdl.load_model(path)
    assert (again.input_shape, again.takes_ids, configs(again)) == ((5,), True, configs(model))
    np.testing.assert_array_equal(again.predict(IDS), model.predict(IDS))


def test_a_table_that_is_saved_is_still_tied(path):
    model = sequence_model("tied")
    model.save(path)
    again = xpdl.load_model(path)
    table, _, scores = again.layers.values()
    assert scores.embedding is table and len(again.params) == len(model.params) == 4
    for net in (model, again):
        xpdl.SGD(lr=0.1).update(net.params, net.gradient(IDS, IDS))
    for name, array in model.params.items():
        np.testing.assert_array_equal(again.params[name], array)


@pytest.mark.parametrize("loss", LOSSES)
def test_losses_come_back(loss, path):
    model = model_of("even" if loss == "gaussian" else "affine", loss)
    model.save(path)
    again = xpdl.load_model(path)
    assert repr(again.last_layer) == repr(model.last_layer)
    if loss != "none":
        targets = np.eye(*model.output_shape(IMAGE), dtype="f")[[0, 1, 2, 1, 0]]
        assert again.loss(images(), targets) == model.loss(images(), targets)


def test_every_layer_is_in_a_case():
    named = {name for row in ROWS for name in _classes(json.loads(configs(model_of(row))))}
    named |= {type(make()).__name__ for make in LOSSES.values()}
    named |= {name for row in OF_IDS for name in _classes(json.loads(configs(sequence_model(row))))}
    abstract = {"Layer", "LossLayer", "AddLayer", "MulLayer"}
    assert set(layers.__all__) - abstract <= named


def _classes(value):
    if isinstance(value, dict):
        yield from [value["__layer__"]] if "__layer__" in value else []
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from _classes(one)


@pytest.mark.parametrize("name", MODELS)
def test_the_books_nets_come_back_as_themselves(name, path):
    sizes = {"input_size": 20, "output_size": 3}
    arguments = {
        "TwoLayerNet": {**sizes, "hidden_size": 4},
        "MultiLayerNet": {**sizes, "hidden_size_list": [5, 4], "activation": "sigmoid"},
        "MultiLayerNetExtend": {**sizes, "hidden_size_list": [5], "use_dropout": True, "use_batchnorm": True},
    }
    model = MODELS[name](**arguments.get(name, {}), seed=5)
    x = np.random.default_rng(1).normal(size=(3, *model.input_shape)).astype("f")
    model.save(path)
    again = xpdl.load_model(path)
    assert type(again) is type(model)
    assert (again.seed, again.config) == (5, model.config)
    np.testing.assert_array_equal(again.predict(x), model.predict(x))


def test_names_of_classes_and_preparation_go_along(path):
    model = model_of("affine")
    model.class_names, model.preparation = ["cat", "dog", "Käfer"], {"size": [8, 8], "mean": [0.5, 0.25], "fit": "crop"}
    model.save(path)
    again = xpdl.load_model(path)
    assert (again.class_names, again.preparation) == (model.class_names, model.preparation)


def test_training_goes_on_from_a_file(path):
    model, targets = model_of("convolution"), np.asarray([0, 1, 2, 1, 0])
    model.save(path)
    again = xpdl.load_model(path)
    before = again.loss(images(), targets)
    for _ in range(20):
        xpdl.SGD(lr=0.1).update(again.params, again.gradient(images(), targets))
    assert again.loss(images(), targets) < before


def test_no_code_is_in_the_file(path):
    model_of("own classes").save(path)
    with safe_open(path, "np") as file:
        described = json.loads(file.metadata()["architecture"])
    assert described["args"]["layers"][0] == [
        "Shrink1",
        {"__layer__": "Shrink", "args": {"divisor": 2.0, "root": None}},
    ]


class KeepsNothing(Shrink):
    get_config = Layer.get_config


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (Unknown, r"Unknown1 is a Unknown, a class that files do not know; decorate it with @xpdl.register_layer"),
        (lambda: Around(Unknown()), r"Around1.inner is a Unknown, a class that files do not know"),
        (lambda: Shrink({1, 2}), r"Shrink1.divisor is a set; a file keeps numbers"),
        (lambda: Shrink(np.ones(3)), r"Shrink1.divisor is a ndarray; a file keeps numbers"),
        (lambda: Shrink(2.0, root=[{"a": {3: 4}}]), r"Shrink1.root is a dict; a file keeps numbers"),
        (lambda: Shrink(2.0, root=print), r"Shrink1.root is a builtin_function_or_method"),
        (lambda: KeepsNothing(2.0), r"does not keep the argument divisor of KeepsNothing; set self.divisor"),
    ],
)
def test_unsaveable_layer_is_named_and_no_file_is_written(layer, message, path, monkeypatch):
    monkeypatch.setitem(architecture._CLASSES, "KeepsNothing", KeepsNothing)
    model = xpdl.Sequential(layer(), xpdl.Affine(units=3))
    model.build(IMAGE)
    with pytest.raises(TypeError, match=message):
        model.save(path)
    assert not path.exists()


@pytest.mark.parametrize("number", [np.float32(2.5), np.array(2.5), np.int64(3)], ids=lambda n: type(n).__name__)
def test_numbers_of_array_libraries_are_saved_as_numbers(number, path):
    model = xpdl.Sequential(Shrink(number), xpdl.Affine(units=3))
    model.build(IMAGE)
    model.save(path)
    divisor = xpdl.load_model(path).layers["Shrink1"].get_config()["divisor"]
    assert type(divisor) in (int, float) and divisor == number


def test_model_without_parameters_is_not_saved(path):
    with pytest.raises(xpdl.ShapeError, match="has no parameters yet"):
        xpdl.Sequential(xpdl.Affine(units=3)).save(path)
    assert not path.exists()


def test_shape_of_the_input_must_be_known(path):
    model = xpdl.Sequential(*ROWS["given arrays"]())
    with pytest.raises(ValueError, match="the shape of the input is not known yet; call build"):
        model.save(path)
    model.build(IMAGE)
    model.save(path)
    assert xpdl.load_model(path).input_shape == IMAGE


def described(name, **args):
    return {"__layer__": name, "args": args}


def chain(*row, **more):
    return described("Sequential", layers=[[f"L{k}", one] for k, one in enumerate(row)], **more)


def nested(depth):
    value = described("Relu")
    for _ in range(depth):
        value = described("Chain", layers=[["inner", value]])
    return value


#: fault -> (architecture, part of the message)
DAMAGED = {
    "no JSON": ("{", "cannot make a model"),
    "a list": ("[]", "which is no model"),
    "a number": ("3", "which is no model"),
    "a layer alone": (json.dumps(described("Relu")), "describes a Relu, which is no model"),
    "unknown class": (json.dumps(chain(described("os.system", command="ls"))), "holds a layer 'os.system'"),
    "abstract class": (json.dumps(chain(described("Layer"))), "holds a layer 'Layer'"),
    "class that is no string": (json.dumps(chain({"__layer__": ["Relu"], "args": {}})), "is damaged"),
    "no arguments": (json.dumps(chain({"__layer__": "Relu"})), "is damaged"),
    "unknown argument": (json.dumps(chain(described("Relu", slope=2))), "slope"),
    "wrong argument": (json.dumps(chain(described("Affine", units=-3))), "units"),
    "huge layer": (json.dumps(chain(described("Affine", units=10**9))), "model"),
    "huge nested net": (
        json.dumps(chain(described("TwoLayerNet", input_size=1 << 40, hidden_size=9, output_size=3))),
        "more parameters than the file holds",
    ),
    "loss that is none": (json.dumps(chain(loss=described("Relu"))), "loss"),
    "layers that are no pairs": (json.dumps(described("Sequential", layers=[[1, 2, 3]])), "expected layers"),
    "layers that are a number": (json.dumps(described("Sequential", layers=7)), "must be an iterable"),
    "a layer that is not there": (json.dumps(chain(described("Relu"), {"__same__": 1})), "is damaged"),
    "a layer before all": (json.dumps(chain(described("Relu"), {"__same__": -1})), "is damaged"),
    "a layer by another number": (json.dumps(chain(described("Relu"), {"__same__": 0.0})), "is damaged"),
    "a layer in two places": (json.dumps(chain(described("Relu"), {"__same__": 0})), "stands in two places"),
    "scores of no table": (json.dumps(chain(described("TiedScores", embedding=3))), "must be a TiedEmbedding, got int"),
    "deep": (json.dumps(chain(nested(60))), "is damaged"),
    "very deep": ("[" * 100_000, "cannot make a model"),
    "class names": (json.dumps(chain(described("Affine", units=3))), "class_names"),
    "preparation": (json.dumps(chain(described("Affine", units=3))), "preparation"),
    "vocabulary": (json.dumps(chain(described("Affine", units=3))), "vocabulary is no text"),
    "text of a vocabulary": (json.dumps(chain(described("Affine", units=3))), "Vocabulary: expected a dict"),
    "loss of its own": (json.dumps(chain(described("Affine", units=3))), "the loss is a Relu"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_description_is_one_error(case, path):
    text, message = DAMAGED[case]
    metadata = {"model": "Sequential", "architecture": text, "input_shape": "[4]"}
    purposes = {"class names": {"class_names": "[1, 2]"}, "preparation": {"preparation": "[]"}}
    purposes |= {"vocabulary": {"vocabulary": "[]"}, "text of a vocabulary": {"vocabulary": '"[]"'}}
    purposes |= {"loss of its own": {"loss": json.dumps(json.dumps(described("Relu")))}}
    metadata |= purposes.get(case, {})
    write_tensors(path, {"L0.W": np.ones((4, 3), "f"), "L0.b": np.ones(3, "f")}, metadata)
    with pytest.raises(ValueError, match=message) as caught:
        xpdl.load_model(path)
    assert str(path) in str(caught.value)


def test_names_can_be_registered_once():
    with pytest.raises(ValueError, match=r"there is .*Relu under the name 'Relu' already; rename the class"):
        xpdl.register_layer(type("Relu", (Layer,), {}))
    first, second = (type("Cell", (Layer,), {"__module__": "notebook"}) for _ in range(2))
    try:
        assert xpdl.register_layer(first) is first
        assert xpdl.register_layer(second) is second
        assert architecture._CLASSES["Cell"] is second
    finally:
        del architecture._CLASSES["Cell"]


def test_file_opens_on_another_backend(path, torch):
    model = model_of("convolution")
    model.save(path)
    with xpdl.use("torch"):
        again = xpdl.load_model(path)
    y = again.predict(torch.asarray(images()))
    assert array_namespace(y).__name__.endswith("torch")
    np.testing.assert_allclose(np.asarray(y), model.predict(images()), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "make",
    [
        lambda: xpdl.TwoLayerNet(4, 3, 2, seed=0),
        lambda: xpdl.MultiLayerNet(4, [3], 2, seed=0),
        lambda: xpdl.SimpleConvNet((1, 8, 8), {"filter_num": 2, "filter_size": 3, "pad": 0, "stride": 1}, 3, 2, seed=0),
        lambda: xpdl.GPT(5, 8, 8, 2, 1, seed=0),
        lambda: xpdl.RnnLm(5, 4, 4, seed=0),
        lambda: xpdl.Seq2seq(5, 4, 4, seed=0),
        lambda: xpdl.AttentionSeq2seq(5, 4, 4, seed=0),
        lambda: model_of("affine"),
    ],
)
def test_a_loss_put_in_place_of_the_own_one_goes_along(make, path):
    model = make()
    own, again = repr(model.last_layer), None
    model.save(path)
    assert repr(xpdl.load_model(path).last_layer) == own
    model.last_layer = type(model.last_layer)(label_smoothing=0.125, ignore_label=-1)
    for _ in range(2):
        model.save(path)
        model = again = xpdl.load_model(path)
    assert type(again.last_layer).__name__ == own.partition("(")[0]
    assert again.last_layer.label_smoothing == 0.125 and again.last_layer.ignore_label == -1
    again.last_layer = xpdl.Sequential(loss=lambda y, t: (y.sum(), y)).last_layer
    with pytest.raises(TypeError, match="which files do not know"):
        again.save(path)


def test_the_vocabulary_goes_along(path):
    model = model_of("affine")
    model.vocabulary = xpdl.Vocabulary.characters("Käfer\n")
    model.save(path)
    assert xpdl.load_model(path).vocabulary == model.vocabulary
    with pytest.raises(TypeError, match=r"vocabulary must be an xpdl\.Vocabulary, got str"):
        model.vocabulary = "Käfer"


@pytest.mark.parametrize(
    "make",
    [
        lambda: xpdl.GPT(5, 8, 8, 2, 1, seed=0),
        lambda: xpdl.RnnLm(5, 4, 4, seed=0),
        lambda: xpdl.Seq2seq(5, 4, 4, seed=0),
        lambda: xpdl.CBOW(5, 4),
        lambda: xpdl.Sequential(xpdl.Embedding(5, 4), xpdl.LSTM(4)),
    ],
)
def test_a_vocabulary_is_of_the_size_of_the_net(make, path):
    model = make()
    model.vocabulary = letters = xpdl.Vocabulary.characters("abcde")
    for other in ("abc", "abcdef"):
        with pytest.raises(xpdl.errors.ShapeError, match=rf"the vocabulary has {len(other)} tokens, the net 5; take"):
            model.vocabulary = xpdl.Vocabulary.characters(other)
    assert model.vocabulary is letters
    model._vocabulary = xpdl.Vocabulary.characters("abc")  # a file that somebody put together
    if model.input_shape is None:
        model.build((3,))
    model.save(path)
    with pytest.raises(ValueError, match=r"the vocabulary has 3 tokens, the net 5"):
        xpdl.load_model(path)
