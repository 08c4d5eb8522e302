"""Layers while a net trains well, and when weights or the learning rate are too large (chapter 6.2)."""

from typing import Any

from shared import digits, options, save

import xpdl
from xpdl import plots

#: words, activation, scale of the initial weights, learning rate
RUNS: dict[str, tuple[str, float | str, float]] = {
    "good": ("relu", "he", 0.1),
    "rate_too_large": ("relu", "he", 0.45),
    "weights_too_large": ("sigmoid", 1.0, 0.1),
}


def main(argv: list[str] | None = None) -> dict[str, dict[str, Any]]:
    args = options(__doc__, argv)
    train, test = digits(args, train=1000, test=300)
    found: dict[str, dict[str, Any]] = {}
    for name, (activation, init, lr) in RUNS.items():
        net = xpdl.MultiLayerNet(784, [100] * 4, 10, activation, init, seed=args.seed)
        layers = xpdl.Diagnostics(train[0][:200, :])
        how: dict[str, Any] = {"optimizer_param": {"lr": lr}, "callbacks": [layers], "seed": args.seed}
        history = xpdl.Trainer(net, *train, *test, epochs=4 if args.short else 10, verbose=False, **how).train()
        found[name] = {what: {k: v[-1] for k, v in of.items()} for what, of in layers.history.items()}
        shares = found[name]["dead_relu"] or found[name]["saturation"]
        print(
            f"{name:17} test accuracy {history.test_acc_list[-1]:.3f},",
            f"{'dead units' if found[name]['dead_relu'] else 'saturated outputs'}",
            *(f"{share:.2f}" for share in shares.values()),
        )
        measured: dict[str, Any] = {**layers.history}
        save(plots.diagnostics(**measured), args, f"layer_diagnostics_{name}")
    return found


if __name__ == "__main__":
    main()
