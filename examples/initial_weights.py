"""Effects of initial weights on activations, and on training (chapter 6.2)."""

from typing import Any

from shared import digits, options, save

import xpdl
from xpdl import plots
from xpdl.backends.namespaces import Array


def activations(activation: xpdl.Layer, init: float | str, x: Array) -> dict[str, Array]:
    """The outputs of five layers of 100 units."""
    found = {}
    for k in range(1, 6):
        x = activation.forward(xpdl.Sequential(xpdl.Affine(units=100, init=init), seed=k).predict(x))
        found[f"layer {k}"] = x
    return found


def main(argv: list[str] | None = None) -> tuple[dict[tuple[str, Any], float], dict[str, list[float]]]:
    args = options(__doc__, argv, data=True)
    x = xpdl.asarray(xpdl.initializers.normal(1.0)((1000, 100), xpdl.backends.random.Stream(args.seed).generator("x")))
    spread = {}
    for activation, inits in ((xpdl.Sigmoid(), (1.0, 0.01, "xavier")), (xpdl.Relu(), (0.01, "xavier", "he"))):
        kind = type(activation).__name__
        for init in inits:
            layers = activations(activation, init, x)
            spread[kind, init] = float(xpdl.asnumpy(layers["layer 5"]).std())
            words = init.capitalize() if isinstance(init, str) else f"std {init}"
            limits = (0, 1) if kind == "Sigmoid" else None
            figure = plots.activation_histograms(layers, limits=limits, title=f"{kind}, {words}")
            save(figure, args, f"activations_{kind.lower()}_{init}".replace(".", "_"))

    train, test = digits(args, train=2000 if args.short else None, test=300 if args.short else None)
    histories = {}
    for init in (0.01, "xavier", "he"):
        net = xpdl.MultiLayerNet(784, [100] * 4, 10, weight_init_std=init, seed=args.seed)
        how: dict[str, Any] = {"epochs": 8 if args.short else 12, "optimizer": xpdl.SGD(lr=0.03), "verbose": False}
        histories[str(init)] = xpdl.Trainer(net, *train, *test, seed=args.seed, **how).train()
        print(f"{init!s:7} loss {histories[str(init)].train_loss_list[-1]:.3f}")
    save(plots.learning_curves(histories, title="Initial weights, ReLU, SGD"), args, "initial_weights")
    return spread, {name: history.train_loss_list for name, history in histories.items()}


if __name__ == "__main__":
    main()
