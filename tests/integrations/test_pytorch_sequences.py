"""State dicts of PyTorch's modules for sequences, both ways, by outputs on the same data."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import xpdl
from xpdl import Affine, Bidirectional, Embedding, Graph, Input, MultiHeadAttention, Sequential

pytestmark = pytest.mark.needs("torch")

N, T, F, H = 3, 5, 4, 6
RNG = np.random.default_rng(0)
X, CONTEXT = RNG.standard_normal((N, T, F)), RNG.standard_normal((N, T + 2, F))
IDS = RNG.integers(0, 7, (N, T))


class Pair(NamedTuple):
    """One layer, the module by its short name, and what that gives for the input."""

    layers: Callable[[], list[Any]]
    name: str
    module: Callable[[Any], Any]
    call: Callable[[Any, Any], Any] = lambda module, x: module(x)
    x: Any = X


def _sequences(module: Any, x: Any) -> Any:
    return module(x)[0]


def _itself(module: Any, x: Any) -> Any:
    return module(x, x, x)[0]


def _recurrent(kind: str, both: bool = False) -> Pair:
    def layers() -> list[Any]:
        layer = getattr(xpdl, kind)(H)
        return [Bidirectional(layer) if both else layer]

    def module(nn: Any) -> Any:
        return getattr(nn, kind)(F, H, batch_first=True, bidirectional=both)

    return Pair(layers, f"{kind.lower()}1", module, _sequences)


PAIRS = {
    "Embedding": Pair(lambda: [Embedding(7, H)], "emb1", lambda nn: nn.Embedding(7, H), x=IDS),
    "LayerNormalization": Pair(lambda: [xpdl.LayerNormalization()], "ln1", lambda nn: nn.LayerNorm(F)),
    "RMSNormalization": Pair(lambda: [xpdl.RMSNormalization()], "rms1", lambda nn: nn.RMSNorm(F, eps=1e-6)),
    "GroupNormalization": Pair(
        lambda: [xpdl.GroupNormalization(2)],
        "gn1",
        lambda nn: nn.GroupNorm(2, 6),
        x=RNG.standard_normal((N, 6, 2, 2)),
    ),
    "Affine of positions": Pair(lambda: [Affine(units=H, axis=-1)], "fc1", lambda nn: nn.Linear(F, H)),
    **{kind: _recurrent(kind) for kind in ("RNN", "LSTM", "GRU")},
    **{f"Bidirectional {kind}": _recurrent(kind, both=True) for kind in ("RNN", "LSTM", "GRU")},
    "MultiHeadAttention": Pair(
        lambda: [MultiHeadAttention(2)], "attn1", lambda nn: nn.MultiheadAttention(F, 2, batch_first=True), _itself
    ),
    "MultiHeadAttention without biases": Pair(
        lambda: [MultiHeadAttention(2, use_bias=False)],
        "attn1",
        lambda nn: nn.MultiheadAttention(F, 2, bias=False, batch_first=True),
        _itself,
    ),
}
DTYPES = {"float64": 1e-12, "float32": 1e-6}


def built(pair: Pair, dtype: str = "float64") -> Sequential:
    net = Sequential(*pair.layers(), seed=0)
    with xpdl.use("numpy", dtype=dtype):
        net.build(pair.x.shape[1:])
    for value in net.params.values():
        value += 0.1 * np.cos(np.arange(value.size)).reshape(value.shape).astype(value.dtype)
    return net


def there(torch: Any, pair: Pair, dtype: str = "float64") -> Any:
    """The module by itself, with biases that are not 0."""
    torch.manual_seed(1)
    module = pair.module(torch.nn).to(getattr(torch, dtype))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return module.eval()


def assert_alike(torch: Any, net: Sequential, module: Any, pair: Pair, dtype: str) -> None:
    x = pair.x if pair.x.dtype.kind == "i" else pair.x.astype(dtype)
    with torch.no_grad():
        expected = pair.call(module, torch.tensor(x)).numpy()
    y = net.predict(x)
    assert y.dtype == expected.dtype == dtype
    np.testing.assert_allclose(y, expected, rtol=0, atol=DTYPES[dtype] * max(1.0, np.abs(expected).max()))


@pytest.fixture
def path(tmp_path: Any) -> Any:
    return tmp_path / "net.safetensors"


@pytest.mark.exhaustive
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", PAIRS)
def test_written_here_gives_the_same_outputs_there(torch: Any, path: Any, name: str, dtype: str) -> None:
    pair = PAIRS[name]
    net, module = built(pair, dtype), there(torch, pair, dtype)
    xpdl.save_pytorch(net, path, {next(iter(net.layers)): "m"})
    loaded = importlib.import_module("safetensors.torch").load_file(path)
    module.load_state_dict({key.removeprefix("m."): value for key, value in loaded.items()})  # strictly
    assert_alike(torch, net, module, pair, dtype)


@pytest.mark.exhaustive
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", PAIRS)
def test_written_there_gives_the_same_outputs_here(torch: Any, path: Any, name: str, dtype: str) -> None:
    pair = PAIRS[name]
    net, module = built(pair, dtype), there(torch, pair, dtype)
    outer = torch.nn.ModuleDict({pair.name: module})
    importlib.import_module("safetensors.torch").save_file(outer.state_dict(), path)
    assert xpdl.load_pytorch(net, path) == ([], [])
    assert_alike(torch, net, module, pair, dtype)
    before = net.state_dict()
    xpdl.save_pytorch(net, path)
    xpdl.load_pytorch(net, path)
    for key, value in net.state_dict().items():
        np.testing.assert_array_equal(value, before[key])


@pytest.mark.exhaustive
def test_a_whole_model_with_last_states(torch: Any, path: Any) -> None:
    nn = torch.nn
    torch.manual_seed(2)
    modules = nn.ModuleDict({"words": nn.Embedding(7, 4), "rnn": nn.LSTM(4, 3, batch_first=True, bidirectional=True)})
    modules["head"] = nn.Linear(6, 2)
    modules.double()
    net = Sequential(
        Embedding(7, 4), Bidirectional(xpdl.LSTM(3, return_sequences=False)), Affine(units=2), loss=xpdl.SoftmaxWithLoss
    )
    with xpdl.use("numpy", dtype="float64"):
        net.build((T,))
    importlib.import_module("safetensors.torch").save_file(modules.state_dict(), path)
    xpdl.load_pytorch(net, path, {"Embedding1": "words", "Bidirectional1": "rnn", "Affine1": "head"})
    _, (state, _) = modules["rnn"](modules["words"](torch.tensor(IDS)))
    expected = modules["head"](torch.cat(list(state), dim=1)).detach().numpy()
    np.testing.assert_allclose(net.predict(IDS), expected, rtol=1e-12)


@pytest.mark.exhaustive
def test_attention_to_a_context_in_a_graph(torch: Any, path: Any) -> None:
    x, context = Input((T, F)), Input((T + 2, F))
    net = Graph((x, context), MultiHeadAttention(2)(x, context), seed=0)
    with xpdl.use("numpy", dtype="float64"):
        net.build()
    module = there(torch, PAIRS["MultiHeadAttention"])
    state = torch.nn.ModuleDict({"attn1": module}).state_dict()
    importlib.import_module("safetensors.torch").save_file(state, path)
    xpdl.load_pytorch(net, path)
    queries, keys = torch.tensor(X), torch.tensor(CONTEXT)
    expected = module(queries, keys, keys)[0].detach().numpy()
    np.testing.assert_allclose(net.predict((X, CONTEXT)), expected, rtol=0, atol=1e-12)


def _file(path: Any, net: Any, **changes: Any) -> None:
    """The file of a net, where arrays are replaced, or left out for None."""
    xpdl.save_pytorch(net, path)
    arrays = {**load_file(path), **{name.replace("__", "."): value for name, value in changes.items()}}
    save_file({name: np.ascontiguousarray(value) for name, value in arrays.items() if value is not None}, path)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("LSTM", {"lstm1__weight_ih_l1": np.zeros((24, 6))}, r"unexpected lstm1.weight_ih_l1 \(24, 6\)"),
        ("LSTM", {"lstm1__bias_hh_l0": None}, r"missing LSTM1.b \(24,\); unexpected lstm1.bias_ih_l0 \(24,\)"),
        (
            "GRU",
            {"gru1__bias_hh_l0": np.zeros(3)},
            r"gru1.bias_ih_l0 and gru1.bias_hh_l0 must have one axis and one size",
        ),
        ("GRU", {"gru1__bias_hh_l0": np.zeros((1, 18)), "gru1__bias_ih_l0": np.zeros((1, 18))}, "must have one axis"),
        ("RNN", {"rnn1__weight_hh_l0": np.zeros((5, 6))}, r"RNN1.Wh has shape \(6, 5\), expected \(6, 6\)"),
        (
            "MultiHeadAttention",
            {"attn1__in_proj_weight": np.zeros((8, 4))},
            r"must be those of queries, keys and values",
        ),
        (
            "MultiHeadAttention",
            {"attn1__in_proj_weight": np.zeros((6, 4))},
            r"Wq has shape \(4, 2\), expected \(4, 4\)",
        ),
        ("MultiHeadAttention", {"attn1__bias_k": np.zeros((1, 1, 4))}, r"unexpected attn1.bias_k \(1, 1, 4\)"),
        ("Bidirectional GRU", {"gru1__weight_ih_l0_reverse": None}, r"missing Bidirectional1.backwards.Wx \(4, 18\)"),
    ],
)
def test_what_does_not_fit_is_named_and_changes_nothing(path: Any, name: str, changes: Any, message: str) -> None:
    net = built(PAIRS[name])
    _file(path, built(PAIRS[name]), **changes)
    before = net.state_dict()
    with pytest.raises(ValueError, match=message):
        xpdl.load_pytorch(net, path)
    for key, value in net.state_dict().items():
        np.testing.assert_array_equal(value, before[key])
