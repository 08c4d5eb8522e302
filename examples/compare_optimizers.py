"""SGD, Momentum, AdaGrad and Adam on digits, with the same net and the same batches (chapter 6.1.8)."""

from typing import Any

from shared import digits, options, save

import xpdl
from xpdl import plots


def main(argv: list[str] | None = None) -> dict[str, list[float]]:
    args = options(__doc__, argv, data=True)
    train, test = digits(args, train=1000 if args.short else None, test=300 if args.short else None)
    rules = {"SGD": xpdl.SGD(), "Momentum": xpdl.Momentum(), "AdaGrad": xpdl.AdaGrad(), "Adam": xpdl.Adam()}
    histories = {}
    for name, optimizer in rules.items():
        net = xpdl.MultiLayerNet(784, [100] * 4, 10, seed=args.seed)
        how: dict[str, Any] = {"epochs": 5, "mini_batch_size": 128, "seed": args.seed, "verbose": False}
        histories[name] = history = xpdl.Trainer(net, *train, *test, optimizer=optimizer, **how).train()
        print(f"{name:9} loss {history.train_loss_list[-1]:.3f}, test accuracy {history.test_acc_list[-1]:.3f}")
    save(plots.learning_curves(histories, title="One net, four optimizers"), args, "compare_optimizers")
    return {name: history.train_loss_list for name, history in histories.items()}


if __name__ == "__main__":
    main()
