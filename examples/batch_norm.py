"""With batch normalization, training works from any scale of initial weights: 16 of them (chapter 6.3.2)."""

import warnings
from typing import Any

from shared import Split, digits, options, save

import xpdl
from xpdl import plots


def main(argv: list[str] | None = None) -> dict[str, list[float]]:
    args = options(__doc__, argv)
    train, test = digits(args, train=1000, test=100)
    panels: dict[str, dict[str, list[float]]] = {}
    ends: dict[str, list[float]] = {}
    for k in range(16):
        std = 10 ** (-4 * k / 15)
        curves = {}
        for name, use_batchnorm in (("with", True), ("without", False)):
            net = xpdl.MultiLayerNetExtend(
                784, [100] * 5, 10, weight_init_std=std, use_batchnorm=use_batchnorm, seed=args.seed
            )
            accuracies = train_briefly(net, train, test, 8 if args.short else 20, args.seed)
            curves[name] = accuracies
            ends.setdefault(name, []).append(accuracies[-1])
        panels[f"std {std:.4f}"] = curves
        print(f"std {std:.4f}: training accuracy {curves['with'][-1]:.2f} with, {curves['without'][-1]:.2f} without")
    figure = plots.curve_grid(
        panels, columns=4, xlabel="epoch", ylabel="training accuracy", title="Batch normalization"
    )
    save(figure, args, "batch_norm")
    return ends


def train_briefly(net: xpdl.Sequential, train: Split, test: Split, epochs: int, seed: int) -> list[float]:
    how: dict[str, Any] = {"optimizer_param": {"lr": 0.1}, "seed": seed, "evaluate_sample_num_per_epoch": 500}
    with warnings.catch_warnings():
        # with weights so large and no normalization, numbers overflow at once, and the loss becomes NaN
        warnings.filterwarnings("ignore", "(overflow|invalid value) encountered", RuntimeWarning)
        try:
            return xpdl.Trainer(net, *train, *test, epochs=epochs, verbose=False, **how).train().train_acc_list
        except FloatingPointError:
            return [0.1] * epochs


if __name__ == "__main__":
    main()
