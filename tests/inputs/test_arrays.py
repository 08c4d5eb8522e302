"""Wrong arrays in every public function and layer: the same documented error on every backend, which says what to do.

What is no error is said too: an empty batch gives an empty result where that has a meaning, and NaN comes out where it
went in.
"""

import importlib
import re

import numpy as np
import pytest

import xpdl
from tests.harness import SPECS, Backend
from tests.layers.table import FIRST, Row
from xpdl import layers
from xpdl.errors import DTypeError, LabelError, MixedArraysError, ShapeError

ROWS = {row.cls.__name__: row for row in FIRST}
# of numbers as well as arrays, or of several arrays (tests/layers/test_merging.py), and what only others are made of
NODES = {"AddLayer", "MulLayer", "Add", "Multiply", "Concatenate"}
BASES = {"Layer", "LossLayer"}
LOSSES = {"SoftmaxWithLoss", "SigmoidWithLoss", "IdentityWithLoss"}
LOSSES |= {"MeanSquaredError", "MeanAbsoluteError", "Huber", "Hinge", "NegativeSampling"}
# of ids alone, or of targets that may be missing: see TestIds and test_regression_losses.py
OTHERS = {"Embedding", "GaussianKL"}
IMAGES = {"Convolution", "Pooling", "AveragePooling", "GlobalAveragePooling", "GlobalMaxPooling"}
IMAGES |= {"ConvolutionTranspose", "UpSampling"}
# after the first axis, or along the last
SIZED = {
    "Affine",
    "Convolution",
    "ConvolutionTranspose",
    "BatchNormalization",
    "GroupNormalization",
    "Residual",
    "Chain",
    "Dag",
    "Reshape",
}
SIZED_LAST = {"LayerNormalization", "RMSNormalization"}
SEQUENCES = {"RNN", "LSTM", "GRU", "Bidirectional", "MultiHeadAttention", "LearnedPositions"}
# give back what they get: of any dtype, and beside nothing else
KEEPERS = {"Identity", "Flatten", "Reshape", "Permute", "Slice"}
# compute integers as floats, as nothing is learnt from them
OF_INTEGERS = {"Relu", "Sigmoid", "Tanh", "Softmax", "Identity", "Flatten", "Reshape", "Permute", "Slice"}
OF_INTEGERS |= {"Gelu", "Silu", "LeakyRelu", "Elu", "Softplus", "LogSoftmax"}
LAYERS = sorted(set(ROWS) - NODES - LOSSES - OTHERS)
eager = pytest.mark.backends("eager")


def without(*names):
    """Drop what is not refused by these layers or functions, or has no meaning for them."""
    return pytest.mark.applies(lambda name: name not in names)


def only(*names):
    return pytest.mark.applies(lambda name: name in names)


FUNCTIONS = {
    **{name: ((3, 4),) for name in ("relu_grad", "sigmoid", "sigmoid_grad", "softmax", "log_softmax", "tanh")},
    **{name: ((3, 4), (3, 4)) for name in ("sum_squared_error", "mean_squared_error")},
    **{name: ((3, 4), (3, 4)) for name in ("cross_entropy_error", "softmax_cross_entropy")},
    "shuffle_dataset": ((3, 4), (3,)),
    "im2col": ((1, 2, 4, 4),),
    "col2im": ((9, 8),),
    "smooth_curve": ((12,),),
}
REST = {"im2col": (2, 2), "col2im": ((1, 2, 4, 4), 2, 2)}
# undefined without rows or, for a softmax, without columns
EMPTY = {name: (0, 4) for name in ("cross_entropy_error", "softmax_cross_entropy", "shuffle_dataset")}
EMPTY |= {name: (3, 0) for name in ("softmax", "log_softmax")}


def test_every_layer_is_driven():
    assert set(layers.__all__) - BASES == set(ROWS)
    assert set(LAYERS) | NODES | LOSSES | OTHERS == set(ROWS)


def made(backend, row: Row, dtype="float32"):
    """A layer of the table and an input that it takes, on a backend."""
    arrays = {**row.params, **row.constants}
    layer = row.make({name: backend.asarray(a, dtype) for name, a in arrays.items()})
    return layer, backend.asarray(row.inputs[0], dtype)


def elsewhere(backend, a):
    """The same array in another library, or, for the strict one, on another device of it."""
    if backend.spec.library == "array_api_strict":
        other = "device1" if backend.spec.device != "device1" else "CPU_DEVICE"
        return backend.xp.asarray(np.asarray(a, np.float32), device=backend.xp.Device(other))
    if backend.spec.library == "numpy":
        return importlib.import_module("array_api_strict").asarray(np.asarray(a, np.float32))
    return np.asarray(a, np.float32)


# two messages differ in what the library calls its dtypes and itself
def neutral(message):
    message = re.sub(r"\b(numpy|array_api_strict|torch|jax|cupy)\b", "LIBRARY", message)
    return re.sub(r"ndarray|ArrayImpl|Tensor|Array\b", "ARRAY", message)


def same_everywhere(backend, error, match, run):
    """The error of `run(backend)`, whose message is that on NumPy."""
    with pytest.raises(error, match=match) as failed:
        run(backend)
    with pytest.raises(error) as plain:
        run(Backend(SPECS["numpy"]))
    assert neutral(str(failed.value)) == neutral(str(plain.value))


@eager
@pytest.mark.parametrize("name", LAYERS)
class TestLayers:
    @pytest.mark.parametrize("value", [None, "text", [[1.0]], 3.0], ids=repr)
    def test_what_is_no_array(self, backend, name, value):
        def run(backend):
            made(backend, ROWS[name])[0].forward(value)

        same_everywhere(backend, TypeError, r"expected (an )?arrays?, got", run)

    def test_any_object(self, backend, name):
        with pytest.raises(TypeError, match=r"xpdl\.asarray"):
            made(backend, ROWS[name])[0].forward(object())

    @without(*KEEPERS)
    def test_complex(self, backend, name):
        def run(backend):
            layer, x = made(backend, ROWS[name])
            layer.forward(backend.asarray(np.ones(x.shape), "complex64"))

        same_everywhere(backend, DTypeError, "real numbers|floating array", run)

    @without(*OF_INTEGERS)
    @pytest.mark.parametrize("dtype", ["bool", "int32"])
    def test_integers(self, backend, name, dtype):
        def run(backend):
            layer, x = made(backend, ROWS[name])
            layer.forward(backend.asarray(np.ones(x.shape), dtype))

        same_everywhere(backend, DTypeError, "real numbers|floating array", run)

    @only(*(OF_INTEGERS - KEEPERS))
    @pytest.mark.skip_backend("meta", reason="has no values")
    @pytest.mark.parametrize("dtype", ["bool", "int32"])
    def test_integers_are_computed_as_floats(self, backend, name, dtype):
        layer, x = made(backend, ROWS[name])
        wanted = layer.forward(backend.xp.ones(tuple(x.shape), device=backend.device))
        backend.check(layer.forward(backend.asarray(np.ones(x.shape), dtype)), backend.to_numpy(wanted))

    @only(*KEEPERS)
    @pytest.mark.parametrize("dtype", ["complex64", "bool", "int32"])
    def test_any_dtype_is_kept(self, backend, name, dtype):
        layer, x = made(backend, ROWS[name])
        x = backend.asarray(np.ones(x.shape), dtype)
        assert layer.forward(x).dtype == x.dtype

    @without(*KEEPERS)
    def test_library_or_device(self, backend, name):
        """Of parameters and input or, without parameters, of input and dout."""
        layer, x = made(backend, ROWS[name])
        there = elsewhere(backend, ROWS[name].inputs[0])
        with pytest.raises(MixedArraysError, match=r"are mixed; move one with xpdl\.asarray"):
            if any(layer.named_params()):
                layer.forward(there)
            else:
                y = layer.forward(x)
                layer.backward(elsewhere(backend, np.ones(y.shape)))

    @pytest.mark.skip_backend("meta", reason="has no values")
    def test_nan_comes_out(self, backend, name):
        layer, _ = made(backend, ROWS[name])
        x = np.array(ROWS[name].inputs[0], np.float32)
        x[0, ...] = np.nan
        if name == "Dropout":
            layer.eval()
        assert np.isnan(backend.to_numpy(layer.forward(backend.asarray(x)))[0]).all()

    @without("BatchNormalization")
    def test_empty_batch_gives_an_empty_result(self, backend, name):
        layer, x = made(backend, ROWS[name])
        y = layer.forward(x[:0, ...])
        assert y.shape[0] == 0
        assert tuple(layer.backward(y).shape) == (0, *x.shape[1:])

    @only("BatchNormalization")
    def test_empty_batch_has_no_statistics(self, backend, name):
        def run(backend):
            layer, x = made(backend, ROWS[name])
            layer.forward(x[:0, ...])

        same_everywhere(backend, ShapeError, "BatchNormalization: .* an empty batch is undefined", run)

    @only(*IMAGES, *SIZED, *SIZED_LAST)
    def test_rank(self, backend, name):
        def run(backend):
            layer, _ = made(backend, ROWS[name])
            shape = {"Convolution": (2, 5), "BatchNormalization": (4,)}.get(name, (2, 3) if name in IMAGES else (7,))
            layer.forward(backend.asarray(np.ones(shape), "float32"))

        same_everywhere(backend, ShapeError, "got", run)

    @only(*SIZED)
    def test_size(self, backend, name):
        def run(backend):
            layer, x = made(backend, ROWS[name])
            shape = (x.shape[0], x.shape[1] + 1, *x.shape[2:])
            layer.forward(backend.asarray(np.ones(shape), "float32"))

        same_everywhere(backend, ShapeError, r"\d", run)

    @only(*SEQUENCES)
    @pytest.mark.parametrize("shape", [(2, 3, 5), (2, 3), (2, 3, 2, 2), (2, 9, 3)])
    def test_sequences(self, backend, name, shape):
        def run(backend):
            made(backend, ROWS[name])[0].forward(backend.asarray(np.ones(shape), "float32"))

        same_everywhere(backend, ShapeError, "expected sequences", run)

    @only(*SIZED_LAST)
    def test_size_of_the_last_axis(self, backend, name):
        def run(backend):
            layer, x = made(backend, ROWS[name])
            shape = (*x.shape[:-1], x.shape[-1] + 1)
            layer.forward(backend.asarray(np.ones(shape), "float32"))

        same_everywhere(backend, ShapeError, r"needs \d values along axis -1, got rows of shape", run)

    @without("Identity")  # saves nothing
    def test_dout(self, backend, name):
        def wrong_shape(backend):
            layer, x = made(backend, ROWS[name])
            y = layer.forward(x)
            layer.backward(backend.asarray(np.ones((*y.shape, 1)), "float32"))

        def no_array(backend):
            layer, x = made(backend, ROWS[name])
            layer.forward(x)
            layer.backward([1.0])

        def too_early(backend):
            layer, x = made(backend, ROWS[name])
            layer.backward(x)

        same_everywhere(backend, ShapeError, r"dout must have the shape of the output|got", wrong_shape)
        same_everywhere(backend, TypeError, r"expected an array dout .*, got list", no_array)
        same_everywhere(backend, RuntimeError, "backward needs a forward first", too_early)


@eager
class TestIds:
    def embedding(self, backend):
        return layers.Embedding(W=backend.asarray(np.arange(6.0).reshape(3, 2), "float32"))

    @pytest.mark.parametrize("value", [None, "text", [[1]], 3], ids=repr)
    def test_what_is_no_array(self, backend, value):
        same_everywhere(
            backend,
            TypeError,
            r"Embedding: expected an array of ids, got \w+; (make one with xpdl\.asarray|encode a text)",
            lambda backend: self.embedding(backend).forward(value),
        )

    @pytest.mark.parametrize("dtype", ["float32", "bool"])
    def test_dtype(self, backend, dtype):
        same_everywhere(
            backend,
            DTypeError,
            f"Embedding: ids must be integers, got {dtype}; cast them",
            lambda backend: self.embedding(backend).forward(backend.asarray(np.ones((2, 3)), dtype)),
        )

    def test_rank(self, backend):
        same_everywhere(
            backend,
            ShapeError,
            "expected a batch of ids",
            lambda backend: self.embedding(backend).forward(backend.asarray(np.asarray(1))),
        )

    @pytest.mark.needs("torch")
    def test_library_or_device(self, backend):
        there = backend.asarray(np.ones((2, 3)), "int32")
        other = "torch" if backend.spec.library == "numpy" else "numpy"
        layer = layers.Embedding(W=Backend(SPECS[other]).asarray(np.ones((3, 2)), "float32"))
        with pytest.raises(MixedArraysError, match="Embedding: arrays of"):
            layer.forward(there)

    @pytest.mark.parametrize("wrong", [-1, 3])
    @pytest.mark.backends("values")
    def test_ids_that_are_no_rows(self, backend, wrong):
        layer, ids = self.embedding(backend), backend.asarray(np.asarray([[0, 1], [wrong, 2]]))
        with pytest.raises(LabelError, match=rf"here: id {wrong} is not a row of the table of 3, whose ids are 0 to 2"):
            layer.check_ids(ids, "here")

    @pytest.mark.parametrize("wrong", [-1, 3])
    @pytest.mark.backends("numpy", "torch", "jax")
    @pytest.mark.skip_backend("meta", reason="has no values")
    @pytest.mark.skip_backend("gpu", reason="the host would wait for the ids")
    def test_ids_that_are_no_rows_on_the_host(self, backend, wrong):
        with pytest.raises(LabelError, match=f"Embedding: id {wrong} is not a row"):
            self.embedding(backend).forward(backend.asarray(np.asarray([0, wrong])))

    @pytest.mark.parametrize("wrong", [-1, 3])
    @pytest.mark.backends("array_api_strict", "cupy", "torch:cuda")
    def test_ids_that_are_no_rows_give_nan_elsewhere(self, backend, wrong):
        y = backend.to_numpy(self.embedding(backend).forward(backend.asarray(np.asarray([1, wrong]))))
        np.testing.assert_array_equal(y, [[2.0, 3.0], [np.nan, np.nan]])

    def test_empty_batch(self, backend):
        layer = self.embedding(backend)
        y = layer.forward(backend.asarray(np.ones((0, 3)), "int32"))
        assert tuple(y.shape) == (0, 3, 2) and layer.backward(y) is None
        backend.check(layer.dW, np.zeros((3, 2), np.float32))


@eager
@pytest.mark.parametrize("name", ["Convolution", "Pooling", "AveragePooling"])
def test_window_larger_than_the_padded_image(backend, name):
    def run(backend):
        layer = layers.Convolution(filters=1, size=9) if name == "Convolution" else getattr(layers, name)(9, 9)
        layer.forward(backend.asarray(np.ones((1, 1, 8, 8)), "float32"))

    same_everywhere(backend, ShapeError, r"covers 9 but .* only 8 \+ 2\*0; use a smaller filter", run)


@eager
@pytest.mark.parametrize("name", sorted(LOSSES))
class TestLosses:
    def test_empty_batch(self, backend, name):
        def run(backend):
            x = backend.asarray(np.ones((0, 3)), "float32")
            getattr(layers, name)().forward(x, x)

        same_everywhere(backend, ShapeError, "the mean over an empty batch is undefined", run)

    @pytest.mark.parametrize("value", [None, "text", [[1.0]], 3.0], ids=repr)
    def test_what_is_no_array(self, backend, name, value):
        x = np.ones((4, 3))

        def scores(backend):
            getattr(layers, name)().forward(value, backend.asarray(x, "float32"))

        def targets(backend):
            getattr(layers, name)().forward(backend.asarray(x, "float32"), value)

        same_everywhere(backend, TypeError, rf"{name}: expected|needs the targets", scores)
        same_everywhere(backend, TypeError, rf"{name}: expected|needs the targets", targets)

    def test_dtype_of_scores(self, backend, name):
        def run(backend):
            x = backend.asarray(np.ones((4, 3)), "int32")
            getattr(layers, name)().forward(x, x)

        same_everywhere(backend, DTypeError, f"{name}: expected a floating array, got int32", run)

    def test_shape_of_targets(self, backend, name):
        def run(backend):
            x, t = (backend.asarray(np.ones(shape), "float32") for shape in ((4, 3), (4, 2)))
            getattr(layers, name)().forward(x, t)

        same_everywhere(backend, ShapeError, r"\(4, 3\).*\(4, 2\)", run)

    def test_library_or_device(self, backend, name):
        x = np.ones((4, 3))
        with pytest.raises(MixedArraysError, match=f"{name}: arrays .* are mixed"):
            getattr(layers, name)().forward(backend.asarray(x, "float32"), elsewhere(backend, x))

    @pytest.mark.skip_backend("meta", reason="has no values")
    def test_nan_comes_out(self, backend, name):
        x = backend.asarray(np.full((2, 3), np.nan), "float32")
        t = backend.asarray(np.eye(3)[:2], "float32")
        assert np.isnan(backend.to_numpy(getattr(layers, name)().forward(x, t)))

    def test_backward_first(self, backend, name):
        with pytest.raises(RuntimeError, match="backward needs a forward first"):
            getattr(layers, name)().backward()


@pytest.mark.backends("numpy")
@pytest.mark.parametrize("label", [-1, 3, 300])
def test_label_out_of_range(backend, label):
    """On the host at once; elsewhere when data enters, in `check_labels` and the trainer."""
    t = backend.asarray([0, label])
    x = backend.asarray(np.ones((2, 3)), "float32")
    for function in (layers.SoftmaxWithLoss().forward, xpdl.cross_entropy_error, xpdl.softmax_cross_entropy):
        with pytest.raises(LabelError, match=rf"label {label} of row \d is not one of the 3 classes 0 to 2"):
            function(x, t)


@eager
@pytest.mark.backends("values")
@pytest.mark.parametrize("label", [-1, 3])
def test_label_out_of_range_where_data_enters(backend, label):
    t = backend.asarray([0, label])
    with pytest.raises(LabelError, match=rf"label {label} of row 1 is not one of the 3 classes"):
        xpdl.data.check_labels(t, 3, "data")
    x = backend.asarray(np.ones((2, 4)), "float32")
    with backend.use("float32"):
        net = xpdl.TwoLayerNet(4, 2, 3)
    with pytest.raises(LabelError, match=f"Trainer: t_train: label {label}"):
        xpdl.Trainer(net, x, t, x, t)


@eager
@pytest.mark.parametrize("name", sorted(FUNCTIONS))
class TestFunctions:
    def run(self, backend, name, place, value):
        arrays = [backend.asarray(np.ones(shape), "float32") for shape in FUNCTIONS[name]]
        arrays[place] = value(backend, FUNCTIONS[name][place]) if callable(value) else value
        return getattr(xpdl, name)(*arrays, *REST.get(name, ()))

    @without("shuffle_dataset", "im2col", "col2im")  # move numbers of any kind
    def test_complex(self, backend, name):
        def run(backend):
            self.run(backend, name, 0, lambda backend, shape: backend.asarray(np.ones(shape), "complex64"))

        same_everywhere(backend, DTypeError, f"{name}: expected real numbers|floating", run)

    @pytest.mark.applies(lambda name: len(FUNCTIONS[name]) > 1)
    @without("shuffle_dataset")
    def test_library_or_device(self, backend, name):
        with pytest.raises(MixedArraysError, match=f"{name}: arrays .* are mixed"):
            self.run(backend, name, 1, lambda backend, shape: elsewhere(backend, np.ones(shape)))

    @only("sum_squared_error", "mean_squared_error", "cross_entropy_error", "softmax_cross_entropy")
    def test_size(self, backend, name):
        def run(backend):
            self.run(backend, name, 1, lambda backend, shape: backend.asarray(np.ones((3, 5)), "float32"))

        same_everywhere(backend, ShapeError, r"\(3, 4\).*\(3, 5\)", run)

    @only("im2col", "col2im", "cross_entropy_error", "softmax_cross_entropy", "smooth_curve")
    def test_rank(self, backend, name):
        def run(backend):
            self.run(backend, name, 0, lambda backend, shape: backend.asarray(np.ones((2, 2, 2)), "float32"))

        same_everywhere(backend, ShapeError, rf"{name}: .*got.*\(2, 2, 2\)", run)

    @only(*EMPTY)
    def test_empty(self, backend, name):
        def run(backend):
            a = backend.asarray(np.ones(EMPTY[name]), "float32")
            getattr(xpdl, name)(*[a] * len(FUNCTIONS[name]))

        same_everywhere(backend, ShapeError, name, run)

    @pytest.mark.skip_backend("meta", reason="has no values")
    @without("relu_grad", "shuffle_dataset")  # a comparison with NaN is false; rows of anything
    def test_nan_comes_out(self, backend, name):
        y = self.run(backend, name, 0, lambda backend, shape: backend.asarray(np.full(shape, np.nan), "float32"))
        assert np.isnan(backend.to_numpy(y)).all()
