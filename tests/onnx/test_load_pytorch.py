"""Files of PyTorch's exporters: branches, several inputs, recurrent layers and attention, computed and trained."""

from __future__ import annotations

import functools
import warnings
from typing import Any

import numpy as np
import pytest

import xpdl
from tests.harness import nonempty
from tests.onnx.graphs import outputs

pytestmark = [pytest.mark.needs("onnx", "torch", "onnxscript"), pytest.mark.exhaustive]


def module(torch: Any, layers: dict[str, Any], forward: Any) -> Any:
    """A module of layers by name, and a function of it and its inputs."""

    class Net(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            for name, layer in layers.items():
                setattr(self, name, layer)

        def forward(self, *xs: Any) -> Any:
            return forward(self, *xs)

    return Net()


def resnet(torch: Any) -> Any:
    nn = torch.nn

    def block(inputs: int, filters: int, stride: int) -> Any:
        body = nn.Sequential(
            *(nn.Conv2d(inputs, filters, 3, stride, 1, bias=False), nn.BatchNorm2d(filters), nn.ReLU()),
            *(nn.Conv2d(filters, filters, 3, 1, 1, bias=False), nn.BatchNorm2d(filters)),
        )
        way = nn.Sequential(nn.Conv2d(inputs, filters, 1, stride, bias=False), nn.BatchNorm2d(filters))
        layers = {"body": body, "way": way if stride > 1 else nn.Identity()}
        return module(torch, layers, lambda net, x: torch.relu(net.body(x) + net.way(x)))

    first = (nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
    last = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5))
    whole = nn.Sequential(*first, block(4, 4, 1), block(4, 6, 2), *last)
    return module(torch, {"whole": whole}, lambda net, x: net.whole(x)), [(3, 12, 12)]


def unet(torch: Any, up: str) -> Any:
    nn = torch.nn
    enlarge = nn.ConvTranspose2d(6, 4, 2, 2) if up == "transposed" else nn.Upsample(scale_factor=2)
    layers = {
        "top": nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.LeakyReLU(0.1)),
        "low": nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(4, 6, 3, padding=1), nn.SiLU()),
        "up": enlarge,
        "last": nn.Conv2d(8 if up == "transposed" else 10, 3, 1),
    }

    def forward(net: Any, x: Any) -> Any:
        top = net.top(x)
        return net.last(torch.cat([net.up(net.low(top)), top], 1))

    return module(torch, layers, forward), [(2, 8, 8)]


def two_inputs(torch: Any) -> Any:
    nn = torch.nn
    layers = {"image": nn.Conv2d(1, 3, 3), "more": nn.Linear(4, 3), "last": nn.Linear(51, 5)}

    def forward(net: Any, image: Any, more: Any) -> Any:
        a, b = torch.relu(net.image(image)).flatten(1), net.more(more)
        return net.last(torch.cat([a, b * torch.sigmoid(b)], -1)) - 0.5

    return module(torch, layers, forward), [(1, 6, 6), (4,)]


def recurrent(torch: Any, kind: str, both: bool, layers: int = 1, last: bool = False) -> Any:
    nn = torch.nn
    net = getattr(nn, kind)(3, 4, num_layers=layers, batch_first=True, bidirectional=both)

    def forward(net: Any, x: Any) -> Any:
        y, _ = net.cells(x)
        return net.last(y[:, -1] if last else y)

    return module(torch, {"cells": net, "last": nn.Linear(8 if both else 4, 5)}, forward), [(6, 3)]


def transformer(torch: Any, causal: bool, packed: bool = False) -> Any:
    nn, E = torch.nn, 8
    maps = {"qkv": nn.Linear(E, 3 * E)} if packed else {name: nn.Linear(E, E, bias=False) for name in "qkv"}
    layers = {
        **maps,
        "o": nn.Linear(E, E),
        "norm": nn.LayerNorm(E),
        "norm2": nn.LayerNorm(E),
        "wide": nn.Linear(E, 2 * E),
        "back": nn.Linear(2 * E, E),
        "last": nn.Linear(E, 5),
    }

    def forward(net: Any, x: Any) -> Any:
        h = net.norm(x)
        parts = net.qkv(h).split(E, dim=2) if packed else (net.q(h), net.k(h), net.v(h))
        q, k, v = (one.view(x.size(0), x.size(1), 2, E // 2).transpose(1, 2) for one in parts)
        y = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal)
        x = x + net.o(y.transpose(1, 2).reshape(x.size(0), x.size(1), E))
        return net.last(x + net.back(nn.functional.gelu(net.wide(net.norm2(x)))))

    return module(torch, layers, forward), [(6, E)]


def squeezed(torch: Any) -> Any:
    """A gate of channels, convolutions of single pixels on their means, and the largest values."""
    nn = torch.nn
    gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 2, 1), nn.ReLU(), nn.Conv2d(2, 4, 1), nn.Sigmoid())
    layers = {"first": nn.Conv2d(3, 4, 3), "gate": gate, "last": nn.Linear(4, 5)}

    def forward(net: Any, x: Any) -> Any:
        h = net.first(x)
        return net.last((h * net.gate(h)).amax((2, 3)))

    return module(torch, layers, forward), [(3, 6, 6)]


def normalized(torch: Any, kind: str) -> Any:
    nn = torch.nn
    norm = nn.GroupNorm(2, 4) if kind == "groups" else nn.LayerNorm((4, 4, 4))
    whole = nn.Sequential(nn.Conv2d(3, 4, 3), norm, nn.GELU(), nn.Flatten(), nn.Linear(64, 5))
    return module(torch, {"whole": whole}, lambda net, x: net.whole(x)), [(3, 6, 6)]


def pieces(torch: Any) -> Any:
    """The root mean square as LLaMA has it, halves of features, and a layer in two places."""
    nn = torch.nn
    layers = {"a": nn.Linear(6, 6), "b": nn.Linear(6, 8), "c": nn.Linear(4, 5)}

    def forward(net: Any, x: Any) -> Any:
        x = torch.tanh(net.a(torch.nn.functional.softplus(net.a(x))))
        x = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)
        left, right = net.b(x).chunk(2, -1)
        return net.c(left * torch.sigmoid(right))

    return module(torch, layers, forward), [(6,)]


NETS = {
    "squeezed": squeezed,
    "pieces": pieces,
    **{f"normalized {kind}": functools.partial(normalized, kind=kind) for kind in ("groups", "layer")},
    "resnet": resnet,
    "unet": functools.partial(unet, up="transposed"),
    "unet, repeated": functools.partial(unet, up="repeated"),
    "two inputs": two_inputs,
    **{kind: functools.partial(recurrent, kind=kind, both=False) for kind in ("RNN", "LSTM", "GRU")},
    **{f"{kind} in both directions": functools.partial(recurrent, kind=kind, both=True) for kind in ("LSTM", "GRU")},
    "two layers of LSTM": functools.partial(recurrent, kind="LSTM", both=True, layers=2),
    "last step of GRU": functools.partial(recurrent, kind="GRU", both=False, last=True),
    "transformer": functools.partial(transformer, causal=False),
    "causal transformer": functools.partial(transformer, causal=True),
    "packed transformer": functools.partial(transformer, causal=True, packed=True),
}


#: exporters, and the opset of each; at opset 18 the newer one merges the axes of rows and heads, which no layer does
LEGACY, DYNAMO, NEWEST = "legacy", "dynamo", "dynamo, opset 23"


def export(torch: Any, net: Any, xs: list[Any], path: Any, kind: str, free: bool) -> None:
    options: dict[str, Any] = {"dynamo": kind != LEGACY}
    names = [f"x{place}" for place in range(len(xs))]
    if kind == NEWEST:
        options["opset_version"] = 23
    if free and kind == LEGACY:
        options["dynamic_axes"] = {name: {0: "n"} for name in names}
    elif free:
        options["dynamic_shapes"] = {"xs": tuple({0: torch.export.Dim("n", min=2)} for _ in xs)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's own
        torch.onnx.export(net, tuple(map(torch.from_numpy, xs)), str(path), input_names=names, verbose=False, **options)


CASES = [
    *((name, LEGACY, free) for name in NETS for free in (False, True)),
    *((name, DYNAMO, True) for name in NETS if name != "RNN" and "transformer" not in name),
    *((name, NEWEST, True) for name in ("transformer", "causal transformer", "packed transformer", "last step of GRU")),
]


@pytest.mark.parametrize(("name", "kind", "free"), CASES)
def test_nets_of_pytorch(name: str, kind: str, free: bool, torch: Any, tmp_path: Any, capfd: Any) -> None:
    torch.manual_seed(0)
    net, shapes = NETS[name](torch)
    rng = np.random.default_rng(0)
    xs = [rng.standard_normal((4, *shape)).astype("float32") for shape in shapes]
    net.train()(*map(torch.from_numpy, xs))  # statistics other than those it began with
    net.eval()
    export(torch, net, xs, tmp_path / "x.onnx", kind, free)
    with torch.no_grad():
        expected = net(*map(torch.from_numpy, xs)).numpy()
    loaded = xpdl.onnx.load(tmp_path / "x.onnx", loss=xpdl.MeanSquaredError)
    x = tuple(xs) if len(xs) > 1 else xs[0]
    np.testing.assert_allclose(outputs(loaded, x), expected, atol=1e-5 * np.abs(expected).max(), rtol=0)
    before = {key: array.copy() for key, array in loaded.params.items()}
    xpdl.SGD(lr=0.1).update(loaded.params, loaded.gradient(x, np.zeros_like(expected)))
    same = [key for key, array in loaded.params.items() if np.array_equal(before[key], array)]
    # a bias of all keys has no effect on what a softmax makes of them
    assert before and all(key.endswith(".bk") for key in same)


def test_what_the_newer_exporter_unrolls_is_named(torch: Any, tmp_path: Any, capfd: Any) -> None:
    torch.manual_seed(0)
    for name in nonempty(("RNN", "transformer")):
        net, shapes = NETS[name](torch)
        xs = [np.ones((4, *shape), "float32") for shape in shapes]
        export(torch, net.eval(), xs, tmp_path / "x.onnx", DYNAMO, False)
        with pytest.raises(ValueError, match=r"cannot be read into layers: node '\w+' \(\w+\): "):
            xpdl.onnx.load(tmp_path / "x.onnx")
