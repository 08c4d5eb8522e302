"""Overfitting 300 digits, and what dropout does about it (chapter 6.4.3).

With the book's SGD, dropout slows the net down so much that there is little to overfit yet. Adam trains it to the end, and
then some of the gap between training and test is really closed.
"""

from shared import digits, options, save

import xpdl
from xpdl import plots


def main(argv: list[str] | None = None) -> dict[str, tuple[float, float]]:
    args = options(__doc__, argv)
    train, test = digits(args, train=300, test=500 if args.short else None)
    # rule, learning rate, share of units that are dropped, epochs
    runs = {"SGD": (0.01, 0.2, 60 if args.short else 300), "Adam": (0.001, 0.3, 150)}
    if args.short:
        del runs["Adam"]
    found = {}
    for rule, (lr, ratio, epochs) in runs.items():
        histories = {}
        for name in (rule, f"{rule}, dropout"):
            net = xpdl.MultiLayerNetExtend(
                784, [100] * 6, 10, use_dropout=name != rule, dropout_ration=ratio, seed=args.seed
            )
            optimizer = xpdl.optimizers.get(rule, lr=lr)
            trainer = xpdl.Trainer(
                net, *train, *test, optimizer=optimizer, epochs=epochs, seed=args.seed, verbose=False
            )
            histories[name] = history = trainer.train()
            found[name] = history.train_acc_list[-1], history.test_acc_list[-1]
            print("{:13} training {:.3f}, test {:.3f}".format(name, *found[name]))
        save(
            plots.learning_curves(histories, title="300 digits, seven layers"), args, f"overfit_dropout_{rule.lower()}"
        )
    return found


if __name__ == "__main__":
    main()
