"""The figures that the golden images show; ``python -m tests.plots.figures`` draws those anew, to be looked at.

Golden images hold for the minor version of matplotlib that stands in their metadata, as the drawing of text changes from
version to version.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import xpdl
from xpdl import plots
from xpdl.data.augment import Cutout, Rotate, Shift
from xpdl.search.result import SearchResult, Trial
from xpdl.training import History

GOLDEN = Path(__file__).parent / "golden"
DPI = 50


@contextmanager
def pinned_settings() -> Iterator[None]:
    """matplotlib's own settings, with its own font, whatever those of the user or the machine."""
    import matplotlib as mpl

    # rc_context would leave the backend as it is, which no figure of ours asks for
    settings = {key: value for key, value in mpl.rcParamsDefault.items() if not key.startswith("backend")}
    with mpl.rc_context(settings | {"font.family": "DejaVu Sans"}):
        yield


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def history(rate: float = 0.004, epochs: int = 10, steps: int = 60) -> History:
    step = np.arange(epochs * steps)
    loss = 2.3 * np.exp(-rate * step) + 0.1 + 0.05 * rng().standard_normal(step.size)
    epoch = np.arange(1, epochs + 1)
    train, test = (top - 0.6 * np.exp(-rate * steps * epoch) for top in (0.99, 0.95))
    return History(loss.tolist(), train.tolist(), test.tolist())


def digits(count: int) -> np.ndarray:
    """Squares with a bar: pictures that tell a direction."""
    x = np.zeros((count, 1, 8, 8))
    for k in range(count):
        x[k, 0, 1:7, k % 8] = 1
        x[k, 0, 1, :] = 0.5
    return x


def points() -> tuple[np.ndarray, np.ndarray]:
    x = rng().uniform(-1, 1, (60, 2))
    return x, (x[:, 0] > 0) + (x[:, 1] > x[:, 0] ** 2).astype(np.int64)


def search() -> SearchResult:
    return SearchResult(
        [
            Trial(k, {"lr": 10.0 ** (k - 5), "weight_decay": 10.0**-k}, k / 10, history(0.0005 * 2**k, 8))
            for k in range(7)
        ]
    )


def shrinking() -> dict[str, np.ndarray]:
    return {f"layer {k}": np.tanh(rng().standard_normal((50, 40)) * 1.5 / k) for k in range(1, 6)}


def bowl(x: Any, y: Any) -> Any:
    return x**2 / 20 + y**2


def path(way: float) -> np.ndarray:
    step = np.arange(31)
    return np.stack([-7 * 0.93**step, 2 * way**step], axis=1)


def branches() -> xpdl.Graph:
    """Two inputs, a layer in two places, a way around others, and two outputs."""
    left, right, number = xpdl.Input((8,), "left"), xpdl.Input((8,), "right"), xpdl.Input((4,), "number")
    half = xpdl.Affine(units=6)
    u, v = half(left, name="half"), half(right)
    both = xpdl.Concatenate()(xpdl.Multiply()(u, v), xpdl.Relu()(xpdl.Affine(units=3)(number)), number)
    outputs = {"same": xpdl.Affine(units=2)(both), "sum": xpdl.Affine(units=3)(u)}
    losses = {"same": xpdl.SoftmaxWithLoss, "sum": xpdl.IdentityWithLoss}
    return xpdl.Graph([left, right, number], outputs, loss=losses)


CASES: dict[str, Callable[[], Any]] = {
    "curves": lambda: plots.curves(
        {"sigmoid": [0.1, 0.3, 0.7, 0.9], "step": [0, 0, 1, 1]}, x=[-2, -1, 1, 2], title="Activations", xlabel="x"
    ),
    "curves_log": lambda: plots.curves({"error": [1, 0.1, 0.01]}, log=True, ylabel="error"),
    "curve_grid": lambda: plots.curve_grid(
        {f"std {k}": {"with": [0.4, 0.8, 0.9], "without": [0.1, 0.1 * k, 0.15 * k]} for k in range(6)}, xlabel="epoch"
    ),
    "learning_curves": lambda: plots.learning_curves(history(), title="One training"),
    "learning_curves_of_three": lambda: plots.learning_curves({f"rate {r}": history(r) for r in (0.001, 0.003, 0.01)}),
    "search_results": lambda: plots.search_results(search(), columns=4),
    "diagnostics": lambda: plots.diagnostics(
        dead_relu={"Relu1": [0.0, 0.1, 0.15], "Relu2": [0.2, 0.5, 0.7]},
        saturation={"Sigmoid1": [0.9, 0.5, 0.1]},
        update_ratio={"W1": [1e-2, 2e-3, 1e-3], "W2": [1e-4, 3e-4, 9e-4]},
    ),
    "decision_boundary": lambda: plots.decision_boundary(
        lambda x: (x[:, 0] > 0) + (x[:, 1] > x[:, 0] ** 2).astype(np.int64), *points(), title="Three classes"
    ),
    "gradient_field": lambda: plots.gradient_field(lambda x: (x**2).sum(), points=11, title="$x_0^2 + x_1^2$"),
    "optimizer_paths": lambda: plots.optimizer_paths(
        bowl, {"SGD": path(-0.9), "Momentum": path(0.5), "Adam": path(0.9)}, minima=[(0, 0)]
    ),
    "activation_histograms": lambda: plots.activation_histograms(shrinking(), title="std 1"),
    "confusion_matrix": lambda: plots.confusion_matrix(np.arange(300) % 10, (np.arange(300) * 7 // 6) % 10),
    "confusion_matrix_named": lambda: plots.confusion_matrix(
        [0, 1, 2, 2], [0, 1, 2, 1], classes=["trousers", "shirt", "bag"]
    ),
    "images": lambda: plots.images(digits(10), columns=5, title="Ten"),
    "augmented": lambda: plots.augmented(
        digits(3).astype("float32"), [Shift(2), Rotate(30), Cutout(3)], copies=4, title="Augmented"
    ),
    "misclassified": lambda: plots.misclassified(digits(30), np.arange(30) % 10, np.zeros(30, int), limit=10),
    "network": lambda: plots.network(branches(), title="Branches"),
    "filters": lambda: plots.filters({k: rng().standard_normal((12, 1, 5, 5)) for k in ("before", "after")}, columns=8),
    "feature_maps": lambda: plots.feature_maps(
        {"Conv1": rng().random((8, 9, 9)), "Pool1": np.maximum(rng().standard_normal((4, 4, 4)), 0)}, title="Maps"
    ),
}


def main(folder: Path, dpi: int) -> None:
    with pinned_settings():
        for name, draw in CASES.items():
            draw().savefig(folder / f"{name}.png", dpi=dpi)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else GOLDEN, int(sys.argv[2]) if sys.argv[2:] else DPI)
