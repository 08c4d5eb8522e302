"""Learning rate and weight decay found at random (chapter 6.5)."""

from typing import Any

from shared import digits, options, save

import xpdl
from xpdl import plots
from xpdl.search import log_uniform, random_search
from xpdl.search.result import SearchResult


def main(argv: list[str] | None = None) -> SearchResult:
    args = options(__doc__, argv)
    (x, t), _ = digits(args, train=500)
    x, t = xpdl.shuffle_dataset(x, t, seed=args.seed)
    # 100 of the 500 training rows judge; the test set stays unseen
    validation, train = (x[:100, :], t[:100]), (x[100:, :], t[100:])

    def build(lr: float, weight_decay: float) -> xpdl.Trainer:
        net = xpdl.MultiLayerNet(784, [100] * 6, 10)
        optimizer = xpdl.SGD(lr=lr, weight_decay={"l2": weight_decay})
        how: dict[str, Any] = {"epochs": 10 if args.short else 15, "mini_batch_size": 20, "verbose": False}
        return xpdl.Trainer(net, *train, *validation, optimizer=optimizer, **how)

    space = {"lr": log_uniform(1e-6, 1e-2), "weight_decay": log_uniform(1e-8, 1e-4)}
    result = random_search(build, space, 16 if args.short else 100, seed=args.seed, verbose=not args.short)
    print(result.table())
    save(plots.search_results(result), args, "hyperparameter_search")
    return result


if __name__ == "__main__":
    main()
