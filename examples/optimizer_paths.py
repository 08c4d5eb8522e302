"""The ways that optimizers take over a long valley, a saddle, and two minima (chapter 6.1)."""

from collections.abc import Callable

from shared import options, save

import xpdl
from xpdl import plots
from xpdl.backends.namespaces import Array

Point = tuple[float, float]
Slopes = tuple[Array, Array]


def valley(x: Array, y: Array) -> Array:
    return x**2 / 20 + y**2


def valley_slopes(x: Array, y: Array) -> Slopes:
    return x / 10, 2 * y


def saddle(x: Array, y: Array) -> Array:
    return x**2 - y**2 + y**4 / 8


def saddle_slopes(x: Array, y: Array) -> Slopes:
    return 2 * x, -2 * y + y**3 / 2


def two_minima(x: Array, y: Array) -> Array:
    return (x**2 - 1) ** 2 + 0.3 * x + y**2


def two_minima_slopes(x: Array, y: Array) -> Slopes:
    return 4 * x * (x**2 - 1) + 0.3, 2 * y


# name, function, slopes, start, steps, ranges, minima, factor of the book's learning rates
SURFACES = (
    ("valley", valley, valley_slopes, (-7.0, 2.0), 30, {"x": (-10, 10), "y": (-5, 5)}, [(0, 0)], 1.0),
    ("saddle", saddle, saddle_slopes, (-1.8, 0.001), 40, {"x": (-2, 2), "y": (-2.5, 2.5)}, [(0, 2), (0, -2)], 0.1),
    ("two_minima", two_minima, two_minima_slopes, (1.7, 1.2), 40, {"x": (-2, 2), "y": (-1.5, 1.5)}, [(-1.04, 0)], 0.1),
)


def walk(optimizer: xpdl.Optimizer, slopes: Callable[..., Slopes], start: Point, steps: int) -> list[Point]:
    params = {name: xpdl.asarray(value) for name, value in zip("xy", start, strict=True)}
    path = [start]
    for _ in range(steps):
        dx, dy = slopes(params["x"], params["y"])
        optimizer.update(params, {"x": dx, "y": dy})
        path.append((float(params["x"]), float(params["y"])))
    return path


def main(argv: list[str] | None = None) -> dict[str, dict[str, float]]:
    args = options(__doc__, argv)
    ends = {}
    for name, f, slopes, start, steps, ranges, minima, factor in SURFACES:
        rules = {
            "SGD": xpdl.SGD(lr=0.95 * factor),
            "Momentum": xpdl.Momentum(lr=0.1 * factor),
            "Nesterov": xpdl.Nesterov(lr=0.1 * factor),
            "AdaGrad": xpdl.AdaGrad(lr=1.5 * factor),
            "RMSprop": xpdl.RMSprop(lr=0.3 * factor, decay_rate=0.9),
            "Adam": xpdl.Adam(lr=0.3 * factor),
        }
        paths = {rule: walk(optimizer, slopes, start, steps) for rule, optimizer in rules.items()}
        ends[name] = {rule: float(f(*path[-1])) for rule, path in paths.items()}
        print(f"{name:10}", *(f"{rule} {value:.3f}" for rule, value in ends[name].items()), sep="  ")
        save(plots.optimizer_paths(f, paths, minima=minima, columns=3, **ranges), args, f"optimizer_paths_{name}")
    return ends


if __name__ == "__main__":
    main()
