"""Random configurations of layers with windows, beside PyTorch: one to three axes, and every option."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.layers.against_torch import Draw, Rng, built
from xpdl import layers as L


def _ints(rng: Rng, rank: int, least: int, most: int) -> tuple[int, ...]:
    return tuple(int(n) for n in rng.integers(least, most + 1, rank))


def _border(rng: Rng, most: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """(before, after) of each axis, of which neither is above `most`."""
    return tuple((int(rng.integers(0, n + 1)), int(rng.integers(0, n + 1))) for n in most)


def _flat(border: tuple[tuple[int, int], ...]) -> list[int]:
    """In the order of torch.nn.functional.pad: the last axis first."""
    return [size for sides in reversed(border) for size in sides]


def _same(length: tuple[int, ...], extent: tuple[int, ...], stride: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """The border of "same" in TensorFlow's words: ``SAME``."""
    totals = [max(cover - (n % step or step), 0) for n, cover, step in zip(length, extent, stride, strict=True)]
    return tuple((total // 2, total - total // 2) for total in totals)


def _window(rng: Rng) -> tuple[int, tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Number of axes; size, stride and dilation of a window, and what it covers."""
    rank = int(rng.integers(1, 4))
    size, stride, dilation = _ints(rng, rank, 1, 3), _ints(rng, rank, 1, 3), _ints(rng, rank, 1, 2)
    return rank, size, stride, dilation, tuple(g * (k - 1) + 1 for k, g in zip(size, dilation, strict=True))


def _length(rng: Rng, extent: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(n + rng.integers(0, 4)) for n in extent)


def convolution(rng: Rng) -> Draw:
    rank, size, stride, dilation, extent = _window(rng)
    groups, depth, per_group = _ints(rng, 3, 1, 2)
    length = _length(rng, extent)
    same = bool(rng.integers(2))
    border = _same(length, extent, stride) if same else _border(rng, (3,) * rank)
    x = rng.standard_normal((int(rng.integers(1, 3)), groups * depth, *length))
    options: dict[str, Any] = {
        "stride": stride,
        "dilation": dilation,
        "groups": groups,
        "use_bias": bool(rng.integers(2)),
    }
    layer = built(
        L.Convolution(filters=groups * per_group, size=size, pad="same" if same else border, **options), rng, x
    )

    def there(torch: Any, inputs: list[Any], params: dict[str, Any]) -> Any:
        padded = torch.nn.functional.pad(inputs[0], _flat(border))
        function = getattr(torch.nn.functional, f"conv{rank}d")
        return function(padded, params["W"], params.get("b"), stride, 0, dilation, groups)

    return Draw(layer, (x,), there)


def convolution_transpose(rng: Rng) -> Draw:
    rank, size, stride, dilation, extent = _window(rng)
    groups, depth, per_group = _ints(rng, 3, 1, 2)
    length = _ints(rng, rank, 1, 4)
    more = tuple(int(rng.integers(0, step)) for step in stride)
    full = [(n - 1) * step + cover + m for n, step, cover, m in zip(length, stride, extent, more, strict=True)]
    pad = tuple(int(rng.integers(0, (n - 1) // 2 + 1)) for n in full)
    x = rng.standard_normal((int(rng.integers(1, 3)), groups * depth, *length))
    options: dict[str, Any] = {
        "stride": stride,
        "dilation": dilation,
        "groups": groups,
        "use_bias": bool(rng.integers(2)),
    }
    layer = L.ConvolutionTranspose(filters=groups * per_group, size=size, pad=pad, output_pad=more, **options)

    def there(torch: Any, inputs: list[Any], params: dict[str, Any]) -> Any:
        function = getattr(torch.nn.functional, f"conv_transpose{rank}d")
        return function(inputs[0], params["W"], params.get("b"), stride, pad, more, groups, dilation)

    return Draw(built(layer, rng, x), (x,), there)


def pooling(rng: Rng) -> Draw:
    rank, size, stride, dilation, extent = _window(rng)
    length = _length(rng, extent)
    border = _border(rng, tuple(n // 2 for n in size))
    ceil = bool(rng.integers(2))
    if ceil:  # PyTorch's has as much on both sides, and its windows must start before the end of that
        border = tuple((before, before) for before, _ in border)
    x = rng.standard_normal((*_ints(rng, 2, 1, 3), *length))

    def there(torch: Any, inputs: list[Any], params: dict[str, Any]) -> Any:
        function = getattr(torch.nn.functional, f"max_pool{rank}d")
        if ceil:
            return function(inputs[0], size, stride, [before for before, _ in border], dilation, ceil_mode=True)
        padded = torch.nn.functional.pad(inputs[0], _flat(border), value=-float("inf"))
        return function(padded, size, stride, 0, dilation)

    layer = L.Pooling(size=size, stride=stride, pad=border, dilation=dilation, ceil_mode=ceil)
    return Draw(layer, (x,), there)


def average_pooling(rng: Rng) -> Draw:
    rank, size, stride, _, _ = _window(rng)
    length = _length(rng, size)
    pad = tuple(int(rng.integers(0, n // 2 + 1)) for n in size)
    options = {"ceil_mode": bool(rng.integers(2)), "count_include_pad": bool(rng.integers(2))}
    x = rng.standard_normal((*_ints(rng, 2, 1, 3), *length))

    def there(torch: Any, inputs: list[Any], params: dict[str, Any]) -> Any:
        return getattr(torch.nn.functional, f"avg_pool{rank}d")(inputs[0], size, stride, pad, **options)

    return Draw(L.AveragePooling(size=size, stride=stride, pad=pad, **options), (x,), there)


def upsampling(rng: Rng) -> Draw:
    rank = int(rng.integers(1, 4))
    scale = _ints(rng, rank, 1, 3)
    linear = bool(rng.integers(2))
    x = rng.standard_normal(_ints(rng, rank + 2, 1, 4))
    mode = ("linear", "bilinear", "trilinear")[rank - 1] if linear else "nearest"

    def there(torch: Any, inputs: list[Any], params: dict[str, Any]) -> Any:
        return torch.nn.functional.interpolate(inputs[0], scale_factor=scale, mode=mode)

    return Draw(L.UpSampling(scale, mode="linear" if linear else "nearest"), (x,), there)


def softmax(cls: Any, name: str) -> Callable[[Rng], Draw]:
    def draw(rng: Rng) -> Draw:
        x = rng.standard_normal(_ints(rng, int(rng.integers(2, 5)), 1, 4))
        axis = int(rng.integers(1, x.ndim)) - x.ndim * int(rng.integers(2))
        return Draw(cls(axis), (x,), lambda torch, inputs, params: getattr(torch, name)(inputs[0], axis))

    return draw


def batch_normalization(rng: Rng) -> Draw:
    x = rng.standard_normal((2, int(rng.integers(1, 4)), *_ints(rng, int(rng.integers(0, 4)), 1, 4)))
    layer = built(L.BatchNormalization(eps=1e-3), rng, x)

    def there(torch: Any, inputs: list[Any], params: dict[str, Any]) -> Any:
        options = {"training": True, "eps": 1e-3}
        return torch.nn.functional.batch_norm(inputs[0], None, None, params["gamma"], params["beta"], **options)

    return Draw(layer, (x,), there)


PEERS = {
    "Convolution": convolution,
    "ConvolutionTranspose": convolution_transpose,
    "Pooling": pooling,
    "AveragePooling": average_pooling,
    "UpSampling": upsampling,
    "Softmax": softmax(L.Softmax, "softmax"),
    "LogSoftmax": softmax(L.LogSoftmax, "log_softmax"),
    "BatchNormalization": batch_normalization,
}
