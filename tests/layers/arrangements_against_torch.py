"""Random configurations of layers that join, cut and reorder arrays, beside PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.layers.against_torch import Draw, Rng, batch, built
from xpdl import layers as L


def _inputs(rng: Rng, vary: str) -> tuple[tuple[Any, ...], int]:
    """Two to four arrays and an axis: "nothing", that "axis", or any axis by being 1 ("repeated"), is not alike."""
    shape = [int(size) for size in rng.integers(1, 5, int(rng.integers(2, 5)))]
    axis, shapes = int(rng.integers(1, len(shape))), []
    for _ in range(int(rng.integers(2, 5))):
        one = list(shape)
        if vary == "axis":
            one[axis] = int(rng.integers(1, 5))
        elif vary == "repeated":
            one[1:] = [size if rng.integers(2) else 1 for size in one[1:]]
        shapes.append(one)
    return tuple(rng.standard_normal(one) for one in shapes), axis


def merged(cls: Any, function: Callable[[Any, Any], Any]) -> Callable[[Rng], Draw]:
    def draw(rng: Rng) -> Draw:
        inputs, _ = _inputs(rng, "repeated" if rng.integers(2) else "nothing")

        def there(torch: Any, inputs: list[Any], params: dict[str, Any]) -> Any:
            y = inputs[0]
            for x in inputs[1:]:
                y = function(y, x)
            return y

        return Draw(cls(), inputs, there)

    return draw


def concatenate(rng: Rng) -> Draw:
    inputs, axis = _inputs(rng, "axis")
    layer = L.Concatenate(axis - inputs[0].ndim * int(rng.integers(2)))
    return Draw(layer, inputs, lambda torch, inputs, params: torch.cat(inputs, axis))


def reshape(rng: Rng) -> Draw:
    (x, *_), _ = _inputs(rng, "nothing")
    shape = [int(size) for size in rng.permutation([*x.shape[1:], 1])]
    given = [-1, *shape[1:]] if rng.integers(2) else shape
    return Draw(L.Reshape(given), (x,), lambda torch, inputs, params: inputs[0].reshape(len(x), *shape))


def flatten(rng: Rng) -> Draw:
    x = batch(rng)
    return Draw(L.Flatten(), (x,), lambda torch, inputs, params: inputs[0].flatten(1))


def permute(rng: Rng) -> Draw:
    x = batch(rng)
    axes = [int(axis) for axis in 1 + rng.permutation(x.ndim - 1)]
    return Draw(L.Permute(axes), (x,), lambda torch, inputs, params: inputs[0].permute(0, *axes))


def cut(rng: Rng) -> Draw:
    x = batch(rng)
    axis = int(rng.integers(1, x.ndim))
    start = int(rng.integers(x.shape[axis]))
    stop = int(rng.integers(start + 1, x.shape[axis] + 1))
    layer = L.Slice(start - x.shape[axis] * int(rng.integers(2)), stop, axis)
    return Draw(layer, (x,), lambda torch, inputs, params: inputs[0].narrow(axis, start, stop - start))


def affine_of_rows(rng: Rng) -> Draw:
    x = batch(rng)
    layer = built(L.Affine(units=int(rng.integers(1, 5)), use_bias=bool(rng.integers(2))), rng, x)

    def there(torch: Any, inputs: list[Any], params: dict[str, Any]) -> Any:
        return torch.nn.functional.linear(inputs[0].flatten(1), params["W"].T, params.get("b"))

    return Draw(layer, (x,), there)


def global_average_pooling(rng: Rng) -> Draw:
    x = rng.standard_normal(rng.integers(1, 5, 4))
    return Draw(L.GlobalAveragePooling(), (x,), lambda torch, inputs, params: inputs[0].mean((2, 3)))


PEERS: dict[str, Callable[[Rng], Draw]] = {
    "Add": merged(L.Add, lambda y, x: y + x),
    "Multiply": merged(L.Multiply, lambda y, x: y * x),
    "Concatenate": concatenate,
    "Reshape": reshape,
    "Flatten": flatten,
    "Permute": permute,
    "Slice": cut,
    "Affine of rows": affine_of_rows,
    "GlobalAveragePooling": global_average_pooling,
}
