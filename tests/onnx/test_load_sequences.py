"""Files with layers of sequences, read back: GPT, recurrent nodes of others, attention in pieces and as one operator."""

from __future__ import annotations

import importlib
import json
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import xpdl
from tests.harness import nonempty
from tests.onnx.graphs import Builder, loaded_from
from tests.onnx.test_export import assert_same, loaded, runner
from tests.onnx.test_export_sequences import built
from xpdl import layers as L

pytestmark = [pytest.mark.needs("onnx"), pytest.mark.exhaustive]

RNG = np.random.default_rng(0)


@pytest.mark.needs("onnxruntime")
@pytest.mark.parametrize("gelu", ["tanh", "none"])
@pytest.mark.parametrize("rotary", [False, True])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("named", [False, True])
def test_a_gpt_there_and_back(named: bool, tied: bool, rotary: bool, gelu: str, tmp_path: Any) -> None:
    """By its name in the metadata, and node by node."""
    options = {"tied": tied, "rotary": rotary, "gelu": gelu, "dropout": 0.1, "seed": 0}
    with xpdl.use("numpy", dtype="float32"):
        net = built(xpdl.GPT(9, 8, 8, heads=2, depth=2, **options), shape=(8,))
        xpdl.onnx.export(net, tmp_path / "x.onnx")
        if not named:
            without(tmp_path / "x.onnx", "architecture")
        again = xpdl.onnx.load(tmp_path / "x.onnx", seed=0)
    assert type(again) is (xpdl.GPT if named else xpdl.Sequential)
    again.save(tmp_path / "x.safetensors")
    loaded_again = xpdl.load_model(tmp_path / "x.safetensors")
    ids, targets = (RNG.integers(0, 9, (3, 8)) for _ in range(2))
    for model in nonempty((again, loaded_again)):
        np.testing.assert_array_equal(model.predict(ids), net.predict(ids))
    assert_same(runner(tmp_path / "x.onnx")(ids), net.predict(ids), "float32")
    for model in nonempty((net, again)):
        for layer in model.tree():  # whose masks are drawn by the names of layers
            layer.dropout_ratio = 0.0
    before = {key: array.copy() for key, array in net.params.items()}
    for model in (net, again):
        xpdl.Adam(lr=0.01).update(model.params, model.gradient(ids, targets))
    assert len(net.params) == len(again.params)
    for old, a, b in zip(before.values(), net.params.values(), again.params.values(), strict=True):
        np.testing.assert_array_equal(a, b)
        assert not np.array_equal(a, old)


def without(path: Any, key: str) -> None:
    """Remove a text from the metadata of a file."""
    proto = loaded(path)
    kept = [one for one in proto.metadata_props if one.key != key]
    del proto.metadata_props[:]
    proto.metadata_props.extend(kept)
    path.write_bytes(proto.SerializeToString())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("activation", [None, "softmax"])
def test_a_gpt_goes_on_with_texts(activation: str | None, dtype: str, tmp_path: Any) -> None:
    vocabulary = xpdl.Vocabulary(list("abcdefghi"))
    with xpdl.use("numpy", dtype=dtype):
        net = built(xpdl.GPT(len(vocabulary), 8, 8, heads=2, depth=2, seed=0), dtype, (8,))
        net.vocabulary, net.class_names = vocabulary, ["a"]
        xpdl.onnx.export(net, tmp_path / "x.onnx", (5,), activation=activation)
        again = xpdl.onnx.load(tmp_path / "x.onnx")
    assert type(again) is xpdl.GPT and again.vocabulary == vocabulary and again.class_names == ["a"]
    prompt = np.array([1, 2])
    np.testing.assert_array_equal(again.generate(prompt, 9, seed=1), net.generate(prompt, 9, seed=1))


def another_node(proto: Any, description: dict[str, Any]) -> None:
    (node,) = (one for one in proto.graph.node if one.name == "norm")
    node.attribute[1].f = 1e-3


def many_layers(proto: Any, description: dict[str, Any]) -> None:
    description["args"]["depth"] = 10**9


def large_table(proto: Any, description: dict[str, Any]) -> None:
    description["args"]["vocab"] = 10**9


def wrong_option(proto: Any, description: dict[str, Any]) -> None:
    description["args"]["gelu"] = ["tanh"]


def unknown_option(proto: Any, description: dict[str, Any]) -> None:
    description["args"]["colour"] = 1


def another_class(proto: Any, description: dict[str, Any]) -> None:
    description["__layer__"] = "RnnLm"


def no_arguments(proto: Any, description: dict[str, Any]) -> None:
    description["args"] = 3


CHANGES = [another_node, many_layers, large_table, wrong_option, unknown_option, another_class, no_arguments]


@pytest.mark.parametrize("change", CHANGES)
def test_a_gpt_that_was_changed_is_read_node_by_node(change: Any, tmp_path: Any) -> None:
    net = built(xpdl.GPT(9, 8, 8, heads=2, depth=1, seed=0), shape=(8,))
    xpdl.onnx.export(net, tmp_path / "x.onnx")
    proto = loaded(tmp_path / "x.onnx")
    (text,) = (one for one in proto.metadata_props if one.key == "architecture")
    description = json.loads(text.value)
    change(proto, description)
    text.value = json.dumps(description)
    (tmp_path / "x.onnx").write_bytes(proto.SerializeToString())
    assert type(xpdl.onnx.load(tmp_path / "x.onnx")) is xpdl.Sequential


@pytest.mark.parametrize("length", [2**20, 2**40])
def test_a_long_input_asks_for_no_long_mask(length: int, tmp_path: Any) -> None:
    net = built(xpdl.GPT(9, 8, 8, heads=2, depth=1, rotary=True, seed=0), shape=(8,))
    xpdl.onnx.export(net, tmp_path / "x.onnx")
    proto = loaded(tmp_path / "x.onnx")
    (text,) = (one for one in proto.metadata_props if one.key == "architecture")
    text.value = text.value.replace('"context": 8', f'"context": {length}')
    proto.graph.input[0].type.tensor_type.shape.dim[1].dim_value = length
    (tmp_path / "x.onnx").write_bytes(proto.SerializeToString())
    tracemalloc.start()
    with pytest.raises(ValueError, match="cannot be read into layers"):
        xpdl.onnx.load(tmp_path / "x.onnx")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**27


def test_the_hidden_states_of_a_gpt(tmp_path: Any) -> None:
    """Without the scores, its table is tied to nothing."""
    with xpdl.use("numpy", dtype="float32"):
        net = built(xpdl.GPT(9, 8, 8, heads=2, depth=1, seed=0), shape=(8,))
        xpdl.onnx.export(net, tmp_path / "x.onnx")
        hidden = xpdl.onnx.load(tmp_path / "x.onnx", output="norm", loss=L.MeanSquaredError)
    ids = RNG.integers(0, 9, (3, 8))
    y = hidden.predict(ids)
    np.testing.assert_allclose(y @ net.params["tokens.W"].T, net.predict(ids), atol=1e-5)
    assert hidden.gradient(ids, np.zeros_like(y)).keys() == hidden.params.keys()


def recurrent(kind: str, **changes: Any) -> Callable[[Builder], Any]:
    """A node of (T, N, F) with hidden states of 3, and what is changed in it."""

    def make(g: Builder) -> str:
        gates, count = {"RNN": 1, "LSTM": 4, "GRU": 3}[kind], changes.get("count", 1)
        W, R, B = (g.constant(count, *shape) for shape in ((gates * 3, 2), (gates * 3, 3), (gates * 6,)))
        options = {
            "hidden_size": 3,
            **({"linear_before_reset": 1} if kind == "GRU" else {}),
            **changes.get("options", {}),
        }
        more = [g.constant(values=one) if isinstance(one, np.ndarray) else one for one in changes.get("more", [])]
        x = "x" if "layout" in options else g.node("Transpose", "x", perm=[1, 0, 2])
        g.nodes.append(g.helper.make_node(kind, [x, W, R, B, *more], ["y", "h"], name="r", **options))
        both = g.node("Transpose", "y", perm=[2, 0, 1, 3])
        return g.node("Reshape", both, g.constant(values=np.array([0, 0, -1])))

    return make


@pytest.mark.needs("onnxruntime")
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_all_steps_and_the_last_of_one_node(kind: str, both: bool, tmp_path: Any) -> None:
    g = Builder()
    zeros = [np.zeros((2 if both else 1, 5, 3), np.float32)] * (2 if kind == "LSTM" else 1)
    lengths = np.full(5, 4, np.int32)
    direction = {"direction": "bidirectional"} if both else {}
    steps = recurrent(kind, count=2 if both else 1, options=direction, more=[lengths, *zeros])(g)
    last = g.node("Flatten", g.node("Transpose", "h", perm=[1, 0, 2]))
    proto = g.model(steps, ("n", 4, 2))
    proto.graph.output.add().CopyFrom(proto.graph.output[0])
    proto.graph.output[1].name = last
    x = RNG.standard_normal((5, 4, 2)).astype("float32")
    session = importlib.import_module("onnxruntime").InferenceSession(proto.SerializeToString())
    net = loaded_from(proto, tmp_path)
    assert sum(bool(layer.params) for layer in net.layers.values()) == 1
    for got, want in nonempty(zip(net.predict(x).values(), session.run(None, {"x": x}), strict=True)):
        np.testing.assert_allclose(got, want, atol=1e-6)


STATE = np.ones((1, 5, 3), np.float32)
REFUSED = [
    (recurrent("RNN", options={"direction": "reverse"}), r"\(RNN\): it reads sequences from their end alone"),
    (recurrent("RNN", options={"activations": ["Relu"]}), r"its activations are relu, and not tanh"),
    (recurrent("LSTM", options={"clip": 1.0}), r"\(LSTM\): it clips its gates"),
    (recurrent("LSTM", options={"input_forget": 1}), r"\(LSTM\): it clips its gates, or couples them"),
    (recurrent("GRU", options={"linear_before_reset": 0}), r"\(GRU\): its reset gate multiplies the state before"),
    (recurrent("GRU", more=["", STATE]), r"its initial_h is not 0, and layers begin with states of zeros"),
    (recurrent("LSTM", more=["", "", STATE]), r"its initial_c is not 0"),
    (recurrent("LSTM", more=["", "", "", np.ones((1, 9), np.float32)]), r"its P is not 0"),
    (recurrent("RNN", more=["", "x"]), r"its initial_h is computed"),
    (recurrent("RNN", more=[np.full(5, 2, np.int32)]), r"its sequence_lens are no numbers of steps of a mask"),
    (
        recurrent("RNN", options={"layout": 0}),
        r"its input is no sequences whose rows are along axis 1.*batch_first=True",
    ),
]
DAMAGED = [
    (recurrent("RNN", options={"hidden_size": 4}), r"W, R and B of shapes .* are not "),
    (recurrent("RNN", count=2), r"W, R and B of shapes .* are not "),
    (recurrent("RNN", more=["", "", STATE]), r"the operator takes another number of inputs"),
]


@pytest.mark.parametrize(("make", "message"), REFUSED + DAMAGED, ids=[one[1][:40] for one in REFUSED + DAMAGED])
def test_recurrent_nodes_that_no_layer_is(make: Any, message: str, tmp_path: Any) -> None:
    g = Builder()
    with pytest.raises(ValueError, match=message) as caught:
        loaded_from(g.model(make(g), ("n", 4, 2)), tmp_path)
    assert "\n" not in str(caught.value) and caught.value.__cause__ is None


def heads_of(g: Builder, x: str, bias: bool) -> str:
    x = g.node("MatMul", x, g.constant(8, 8))
    x = g.node("Add", x, g.constant(8)) if bias else x
    return g.node("Transpose", g.node("Reshape", x, g.constant(values=np.array([0, 0, 2, 4]))), perm=[0, 2, 1, 3])


def ended(g: Builder, y: str) -> str:
    y = g.node("Reshape", g.node("Transpose", y, perm=[0, 2, 1, 3]), g.constant(values=np.array([0, 0, 8])))
    return g.node("Add", g.node("MatMul", y, g.constant(8, 8)), g.constant(8))


def in_pieces(mask: str, factor: float = 0.5) -> Callable[[Builder], str]:
    def make(g: Builder) -> str:
        q, k, v = (heads_of(g, "x", bias) for bias in (True, False, True))
        scores = g.node("MatMul", q, g.node("Transpose", k, perm=[0, 1, 3, 2]))
        scores = g.node("Div", scores, g.constant(values=np.float32(1 / factor)))
        seen = np.tri(5, dtype=bool)
        if mask == "added":
            scores = g.node("Add", scores, g.constant(values=np.where(seen, 0, -np.inf).astype("float32")))
        elif mask == "chosen":
            never = g.constant(values=np.float32(-1e9))
            scores = g.node("Where", g.constant(values=~seen), never, scores)
        return ended(g, g.node("MatMul", g.node("Softmax", scores, axis=-1), v))

    return make


def operator(**options: Any) -> Callable[[Builder], str]:
    def make(g: Builder) -> str:
        return ended(g, g.node("Attention", *(heads_of(g, "x", True) for _ in range(3)), **options))

    return make


def operator_of_sequences(g: Builder) -> str:
    q, k, v = (g.node("MatMul", "x", g.constant(8, 8)) for _ in range(3))
    y = g.node("Attention", q, k, v, q_num_heads=4, kv_num_heads=4, scale=0.3)
    return g.node("MatMul", y, g.constant(8, 8))


ATTENTION = [
    (in_pieces("none"), 17, False),
    (in_pieces("none", 0.2), 17, False),
    (in_pieces("added"), 17, True),
    (in_pieces("chosen"), 17, True),
    (operator(), 23, False),
    (operator(is_causal=1), 23, True),
    (operator_of_sequences, 23, False),
]


@pytest.mark.parametrize(("make", "opset", "causal"), ATTENTION)
def test_attention(make: Any, opset: int, causal: bool, tmp_path: Any) -> None:
    g = Builder()
    proto = g.model(make(g), ("n", 5, 8), opset)
    x = RNG.standard_normal((3, 5, 8)).astype("float32")
    (expected,) = importlib.import_module("onnx.reference").ReferenceEvaluator(proto).run(None, {"x": x})
    net = loaded_from(proto, tmp_path)
    (layer,) = net.layers.values()
    assert isinstance(layer, L.MultiHeadAttention) and layer.causal is causal
    np.testing.assert_allclose(net.predict(x), expected, atol=2e-6)


FOLDED = [
    ("Gather", [np.arange(4.0), np.array([4])], r"\(Gather\): it takes the entry 4 of an axis of size 4"),
    ("Gather", [np.arange(4.0), np.array([-5])], r"\(Gather\): it takes the entry -5 of an axis of size 4"),
    ("Range", [np.float64(-1e308), np.float64(1e308), np.float64(1e-308)], r"\(Range\): it goes from"),
    ("Range", [np.int64(0), np.int64(2**62), np.int64(1)], r"take more memory than the size of the file accounts for"),
    ("Range", [np.int64(0), np.int64(4), np.int64(0)], r"\(Range\): it goes from 0 to 4 by steps of 0"),
    ("ConstantOfShape", [np.array([2**40, 2**20])], r"take more memory than the size of the file accounts for"),
    ("ConstantOfShape", [np.array([-4])], r"it makes a constant of shape \(-4,\)"),
    ("Expand", [np.zeros(1), np.array([2**40])], r"take more memory than the size of the file accounts for"),
    ("Expand", [np.zeros(1)], r"\(Expand\): the operator takes another number of inputs than 1"),
    ("Unsqueeze", [np.zeros(1), np.array([-(2**63)])], r"\(Unsqueeze\): Python int too large"),
    ("Slice", [np.zeros(4), np.array([0]), np.array([2]), np.array([1])], r"along axis 1 of 1 by steps of 1"),
    ("Trilu", [np.zeros(4)], r"\(Trilu\): its input is no matrix"),
]


@pytest.mark.parametrize(("kind", "arrays", "message"), FOLDED)
def test_constants_that_cannot_be_computed(kind: str, arrays: list[Any], message: str, tmp_path: Any) -> None:
    g = Builder()
    made = g.node(kind, *(g.constant(values=array) for array in arrays))
    with pytest.raises(ValueError, match=message):
        loaded_from(g.model(g.node("Add", "x", made)), tmp_path)


def test_a_mask_made_of_constants(tmp_path: Any) -> None:
    """As exporters compute it from the length of a sequence."""
    g = Builder()

    def constant(value: Any) -> str:
        return g.constant(values=np.asarray(value))

    ones = g.node("Expand", constant(np.float32(1)), constant([5, 5]))
    lower = g.node("Trilu", ones, constant(2**62), upper=0)
    rows = g.node("Unsqueeze", g.node("Range", *map(constant, (0, 5, 1))), constant([1]))
    columns = g.node("Transpose", rows, perm=[1, 0])
    seen = g.node("And", g.node("LessOrEqual", columns, rows), g.node("Equal", lower, ones))
    never = g.node("ConstantOfShape", constant([1]), value=minus_infinity())
    q, k, v = (heads_of(g, "x", False) for _ in range(3))
    products = g.node("MatMul", q, g.node("Transpose", k, perm=[0, 1, 3, 2]))
    scores = g.node("Where", seen, g.node("Mul", products, constant(np.float32(0.5))), never)
    net = loaded_from(g.model(ended(g, g.node("MatMul", g.node("Softmax", scores), v)), ("n", 5, 8)), tmp_path)
    (layer,) = net.layers.values()
    assert isinstance(layer, L.MultiHeadAttention) and layer.causal


def minus_infinity() -> Any:
    return importlib.import_module("onnx.numpy_helper").from_array(np.array([-np.inf], np.float32))


def odd_mask(g: Builder) -> str:
    """Scores of each query with the key after it alone."""
    q, k, v = (heads_of(g, "x", False) for _ in range(3))
    scores = g.node("MatMul", q, g.node("Transpose", k, perm=[0, 1, 3, 2]))
    scores = g.node("Add", scores, g.constant(values=np.where(np.eye(5, k=1), 0, -np.inf).astype("float32")))
    return ended(g, g.node("MatMul", g.node("Softmax", scores, axis=-1), v))


def unfinished(g: Builder) -> str:
    q, k = (heads_of(g, "x", False) for _ in range(2))
    return g.node("Softmax", g.node("MatMul", q, g.node("Transpose", k, perm=[0, 1, 3, 2])))


def raw_product(g: Builder) -> str:
    return g.node("MatMul", "x", g.node("Transpose", "x", perm=[0, 2, 1]))


def relative(g: Builder) -> str:
    """Numbers of positions that are added to scores."""
    q, k = (heads_of(g, "x", False) for _ in range(2))
    return g.node("Add", g.node("MatMul", q, g.node("Transpose", k, perm=[0, 1, 3, 2])), g.constant(5, 5))


def dropped_after(g: Builder) -> str:
    """Probabilities of keys that scores were not without."""
    q, k, v = (heads_of(g, "x", False) for _ in range(3))
    p = g.node("Softmax", g.node("MatMul", q, g.node("Transpose", k, perm=[0, 1, 3, 2])), axis=-1)
    p = g.node("Where", g.constant(values=np.tri(5, dtype=bool)), p, g.constant(values=np.float32(0)))
    return ended(g, g.node("MatMul", p, v))


def over_heads(g: Builder) -> str:
    q, k, v = (heads_of(g, "x", False) for _ in range(3))
    p = g.node("Softmax", g.node("MatMul", q, g.node("Transpose", k, perm=[0, 1, 3, 2])), axis=1)
    return ended(g, g.node("MatMul", p, v))


NO_ATTENTION = [
    (dropped_after, r"\(Where\): xpdl has no layer for it"),
    (over_heads, r"\(MatMul\): it multiplies two computed values"),
    (odd_mask, r"\(Add\): its mask is neither of keys, nor of those up to the query"),
    (unfinished, r"\(Softmax\): xpdl has no layer for it, or none that ends with it"),
    (raw_product, r"\(MatMul\): it multiplies two computed values, other than the queries and keys of an attention"),
    (relative, r"\(Add\): it adds other numbers to scores than 0"),
]


@pytest.mark.parametrize(("make", "message"), NO_ATTENTION, ids=[make.__name__ for make, _ in NO_ATTENTION])
def test_attention_of_other_kinds_is_named(make: Any, message: str, tmp_path: Any) -> None:
    g = Builder()
    with pytest.raises(ValueError, match=message):
        loaded_from(g.model(make(g), ("n", 5, 8)), tmp_path)


def quick_gelu(g: Builder) -> str:
    return g.node("Mul", "x", g.node("Sigmoid", g.node("Mul", "x", g.constant(values=np.float32(1.702)))))


def cubed_gelu(g: Builder) -> str:
    """The approximation as GPT-2 has it, with a power."""
    cubic = g.node("Mul", g.node("Pow", "x", g.constant(values=np.float32(3))), g.constant(values=np.float32(0.044715)))
    inner = g.node("Mul", g.node("Add", "x", cubic), g.constant(values=np.float32(np.sqrt(2 / np.pi))))
    half = g.node("Mul", g.node("Add", g.node("Tanh", inner), g.constant(values=np.float32(1))), "x")
    return g.node("Mul", half, g.constant(values=np.float32(0.5)))


def divided_gelu(g: Builder) -> str:
    """The function as PyTorch has it before opset 20."""
    cdf = g.node("Erf", g.node("Div", "x", g.constant(values=np.float32(np.sqrt(2)))))
    whole = g.node("Mul", "x", g.node("Add", cdf, g.constant(values=np.float32(1))))
    return g.node("Mul", whole, g.constant(values=np.float32(0.5)))


def leaky(g: Builder) -> str:
    scaled = g.node("Mul", "x", g.constant(values=np.float32(0.2)))
    return g.node("Where", g.node("Greater", "x", g.constant(values=np.float32(0))), "x", scaled)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (cubed_gelu, ["Gelu(approximate='tanh')"]),
        (divided_gelu, ["Gelu()"]),
        (leaky, ["LeakyRelu(slope=0.2)"]),
        (quick_gelu, ["ScaleShift(shape=[1, 1])", "Sigmoid()", "Multiply()"]),
    ],
)
def test_functions_in_pieces(make: Any, expected: list[str], tmp_path: Any) -> None:
    g = Builder()
    proto = g.model(make(g), ("n", 5, 8))
    net = loaded_from(proto, tmp_path)
    assert [repr(layer) for layer in net.layers.values()] == expected
    x = RNG.standard_normal((3, 5, 8)).astype("float32")
    (want,) = importlib.import_module("onnx.reference").ReferenceEvaluator(proto).run(None, {"x": x})
    np.testing.assert_allclose(net.predict(x), want, atol=1e-6)
