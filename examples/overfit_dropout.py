"""Overfitting 300 digits, and what dropout does about it (chapter 6.4.3)."""

from shared import digits, options, save

import xpdl
from xpdl import plots


def main(argv=None):
    args = options(__doc__, argv)
    train, test = digits(args, train=300, test=500 if args.short else None)
    histories, gaps = {}, {}
    for name, use_dropout in (("without", False), ("with dropout", True)):
        net = xpdl.MultiLayerNetExtend(784, [100] * 6, 10, use_dropout=use_dropout, dropout_ration=0.2, seed=args.seed)
        how = {"optimizer_param": {"lr": 0.01}, "epochs": 120 if args.short else 300, "seed": args.seed}
        histories[name] = history = xpdl.Trainer(net, *train, *test, verbose=False, **how).train()
        gaps[name] = history.train_acc_list[-1] - history.test_acc_list[-1]
        print(
            f"{name:12} training {history.train_acc_list[-1]:.3f}, test {history.test_acc_list[-1]:.3f}, "
            f"gap {gaps[name]:.3f}"
        )
    save(plots.learning_curves(histories, title="300 digits, seven layers"), args, "overfit_dropout")
    return gaps


if __name__ == "__main__":
    main()
