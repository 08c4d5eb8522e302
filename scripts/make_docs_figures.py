"""Draw the figures of the documentation: those of the examples, the benchmark chart and the map of the source.

``python scripts/make_docs_figures.py`` runs every example that draws (about six minutes on two cores) and writes
``docs/figures/*.png``, reduced to `WIDTH` pixels and 64 colours. ``--only NAME...`` runs just those examples, or
``performance``, ``architecture``, ``tables`` (which takes scikit-learn) or ``attention_map``, which run none.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from PIL import Image

import xpdl

ROOT = Path(__file__).parents[1]
FIGURES = ROOT / "docs" / "figures"
WIDTH = 800

#: example -> the figures of it that the documentation shows
SHOWN = {
    "activation_functions": ["activation_functions"],
    "augmentation": ["augmentation_digits", "augmentation"],
    "autoencoder": ["autoencoder"],
    "batch_norm": ["batch_norm"],
    "compare_optimizers": ["compare_optimizers"],
    "dates_with_attention": ["dates_with_attention"],
    "gan": ["gan"],
    "gates": ["gate_xor"],
    "gradient_descent": ["gradient_field"],
    "hyperparameter_search": ["hyperparameter_search"],
    "initial_weights": ["initial_weights"],
    "layer_diagnostics": ["layer_diagnostics_rate_too_large"],
    "losses": ["losses"],
    "misclassified_digits": ["misclassified_digits"],
    "numerical_differentiation": ["numerical_differentiation"],
    "optimizer_paths": ["optimizer_paths_valley"],
    "overfit_dropout": ["overfit_dropout_adam"],
    "overfit_weight_decay": ["overfit_weight_decay"],
    "recognise_digits": ["recognise_digits"],
    "simple_conv_net": ["simple_conv_net", "simple_conv_net_confusion", "simple_conv_net_filters"],
    "text_by_gpt": ["text_by_gpt"],
    "vae": ["vae"],
    "what_layers_see": ["what_layers_see"],
}
BLUE, ORANGE, INK = "#0072b2", "#d55e00", "#444444"

#: rows of the map, from the top: package -> what it holds
LAYERS = [
    [("cli", "the command xpdl"), ("bench", "timing, rooflines"), ("plots", "figures")],
    [("training", "Trainer, callbacks, checkpoints"), ("search", "hyperparameters")],
    [("models", "Sequential, the book's nets"), ("data", "data sets, batches")],
    [("layers", "parameters, saved values"), ("optimizers", "one rule a file")],
    [("ops", "forward and backward pairs in the array API")],
    [("numpy, numba", "CPU kernels"), ("cupy", "CUDA, cuDNN, cuBLAS"), ("generic op", "torch, JAX, any other")],
]


def main() -> None:
    """Parse the options, draw and reduce."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    others = {"performance": draw_performance, "architecture": draw_architecture, "tables": draw_tables}
    others["attention_map"] = draw_attention_map
    parser.add_argument("--only", nargs="+", choices=[*SHOWN, *others], metavar="NAME")
    only = parser.parse_args().only or [*SHOWN, *others]
    matplotlib.use("agg")
    FIGURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        for example in (name for name in only if name in SHOWN):
            subprocess.run([sys.executable, f"examples/{example}.py", "--out", folder], cwd=ROOT, check=True)
            for name in SHOWN[example]:
                reduce(out / f"{name}.png")
        for name, draw in others.items():
            if name in only:
                draw().savefig(out / f"{name}.png", dpi=120)
                reduce(out / f"{name}.png")


def reduce(path: Path) -> None:
    """Write the figure to `FIGURES`, at most `WIDTH` pixels wide, in 64 colours."""
    image = Image.open(path).convert("RGB")
    image.thumbnail((WIDTH, 2 * WIDTH))
    image.quantize(64, dither=Image.Dither.NONE).save(FIGURES / path.name, optimize=True)
    print(f"{path.name}: {(FIGURES / path.name).stat().st_size / 1000:.0f} kB")


def draw_performance() -> Figure:
    """Draw a step's time in ratio to PyTorch, with and without Numba, from the figures of docs/performance.md."""
    text = (ROOT / "docs" / "performance.md").read_text()
    table = re.search(r"<!-- bench -->\n(.*?)<!-- /bench -->", text, re.DOTALL)
    prose = re.search(r"Without the extra \(.*?geometric mean is [\d.]+", text, re.DOTALL)
    assert table and prose
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in table[1].splitlines()]
    compiled = {row[0]: float(row[8]) for row in rows if len(row) > 8 and row[3] == "numpy"}
    pure = {name: float(value) for name, value in re.findall(r"(\w+) (\d\.\d+) \(", prose[0])}
    figure, axes = plt.subplots(figsize=(6.4, 2.8), layout="constrained")
    for offset, (label, ratios, colour) in enumerate(
        [("NumPy", pure, ORANGE), ("NumPy, kernels compiled by Numba", compiled, BLUE)]
    ):
        places = [number + 0.4 * offset for number in range(len(compiled))]
        bars = axes.bar(places, [ratios[name] for name in compiled], 0.36, color=colour, label=label)
        axes.bar_label(bars, fmt="%.2f", fontsize=8, color=INK)
    axes.axhline(1, color=INK, linewidth=0.8)
    axes.annotate("PyTorch", (len(compiled) - 0.3, 1), (0, 3), textcoords="offset points", ha="right", color=INK)
    axes.set_xticks([number + 0.2 for number in range(len(compiled))], list(compiled))
    axes.set_ylabel("time of a step / PyTorch's")
    axes.legend(frameon=False, loc="upper left", fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def draw_tables() -> Figure:
    """Draw a regression that stops early: losses of its epochs, and predictions beside the targets of other rows."""
    from sklearn.datasets import make_friedman1
    from sklearn.model_selection import train_test_split
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, y = make_friedman1(2000, noise=1.0, random_state=0)
    x, x_test, y, y_test = train_test_split(x, y, random_state=0)
    net = xpdl.XpdlRegressor(hidden_layer_sizes=(64, 64), epochs=200, early_stopping=True, random_state=0)
    model = make_pipeline(StandardScaler(), net).fit(x, y)
    history = net.history_
    best = history.val_loss_list.index(min(history.val_loss_list))
    figure, (left, right) = plt.subplots(1, 2, figsize=(6.4, 2.8), layout="constrained")
    epochs = range(1, net.n_iter_ + 1)
    left.plot(epochs, history.epoch_loss_list, color=BLUE, label="rows trained with")
    left.plot(epochs, history.val_loss_list, color=ORANGE, label="rows kept from training")
    left.axvline(best + 1, color=INK, linewidth=0.8, linestyle="--")
    left.annotate(
        f"epoch {best + 1} is kept", (best + 1, 0.014), (-4, 0), textcoords="offset points", ha="right", color=INK
    )
    left.set(xlabel="epoch", ylabel="loss", yscale="log")
    left.legend(frameon=False, fontsize=8)
    right.plot([y.min(), y.max()], [y.min(), y.max()], color=INK, linewidth=0.8)
    right.scatter(y_test, model.predict(x_test), 6, color=BLUE, alpha=0.5, linewidths=0)
    right.set(xlabel="target", ylabel="prediction", title=f"R² {model.score(x_test, y_test):.2f}")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def draw_attention_map() -> Figure:
    """Run the blocks of the page on attention, the last of which draws."""
    page = (ROOT / "docs" / "gpt" / "4_attention.md").read_text()
    names: dict[str, Figure] = {}
    exec("\n".join(re.findall(r"```python\n(.*?)```", page, re.DOTALL)), names)
    return names["figure"]


def draw_architecture() -> Figure:
    """Draw the packages as rooms; each imports from those below it only."""
    figure, axes = plt.subplots(figsize=(6.4, 4.6), layout="constrained")
    axes.set(xlim=(0, 12), ylim=(0, 2 * len(LAYERS)))
    axes.axis("off")
    for depth, rooms in enumerate(LAYERS):
        y = 2 * (len(LAYERS) - 1 - depth) + 0.3
        width = 12 / len(rooms)
        for number, (name, holds) in enumerate(rooms):
            x = number * width
            shape = FancyBboxPatch((x + 0.2, y), width - 0.4, 1.3, "round,pad=0.02", fc="#eaf3fa", ec=BLUE)
            axes.add_patch(shape)
            axes.text(x + width / 2, y + 0.85, name, ha="center", va="center", weight="bold", color=INK)
            axes.text(x + width / 2, y + 0.36, holds, ha="center", va="center", fontsize=8, color=INK)
        if depth:
            axes.add_patch(FancyArrowPatch((6, y + 2.0), (6, y + 1.32), arrowstyle="-|>", mutation_scale=12, color=INK))
            if depth == len(LAYERS) - 1:
                axes.text(6.2, y + 1.62, "@op: dispatch by the array's library", fontsize=8, color=INK, va="center")
    return figure


if __name__ == "__main__":
    main()
