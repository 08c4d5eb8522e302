"""Overfitting 300 digits, and what L1, L2 and max-norm do about it (chapter 6.4.2)."""

from typing import Any

from shared import digits, options, save

import xpdl
from xpdl import plots


def main(argv: list[str] | None = None) -> dict[str, tuple[float, float]]:
    args = options(__doc__, argv)
    train, test = digits(args, train=300, test=500 if args.short else None)
    penalties: dict[str, dict[str, Any]] = {
        "none": {},
        "L2, 0.05": {"weight_decay": {"l2": 0.05}},
        "L2, 0.1": {"weight_decay": {"l2": 0.1}},
        "L1, 0.01": {"weight_decay": {"l1": 0.01}},
        "max-norm, 0.2": {"max_norm": 0.2},
    }
    histories, found = {}, {}
    for name, penalty in penalties.items():
        net = xpdl.MultiLayerNet(784, [100] * 6, 10, seed=args.seed)
        how: dict[str, Any] = {"optimizer": xpdl.SGD(lr=0.01, **penalty), "epochs": 70 if args.short else 200}
        histories[name] = history = xpdl.Trainer(net, *train, *test, seed=args.seed, verbose=False, **how).train()
        found[name] = training, testing = history.train_acc_list[-1], history.test_acc_list[-1]
        print(f"{name:13} training {training:.3f}, test {testing:.3f}, gap {training - testing:.3f}")
    save(plots.learning_curves(histories, title="300 digits, seven layers"), args, "overfit_weight_decay")
    return found


if __name__ == "__main__":
    main()
