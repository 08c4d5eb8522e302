"""Losses of one answer, and of a mini-batch (chapter 4.2)."""

from shared import digits, options, save

import xpdl
from xpdl import plots


def main(argv: list[str] | None = None) -> dict[str, tuple[float, float]]:
    args = options(__doc__, argv)
    t = xpdl.asarray([0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    sure = xpdl.asarray([0.1, 0.05, 0.6, 0.0, 0.05, 0.1, 0.0, 0.1, 0.0, 0.0])
    wrong = xpdl.asarray([0.1, 0.05, 0.1, 0.0, 0.05, 0.1, 0.0, 0.6, 0.0, 0.0])
    losses = {}
    for name, loss in (("squares", xpdl.sum_squared_error), ("cross entropy", xpdl.cross_entropy_error)):
        losses[name] = float(loss(sure, t)), float(loss(wrong, t))
        print(f"{name:14} right answer {losses[name][0]:.4f}, wrong answer {losses[name][1]:.4f}")

    # a net that knows nothing: -log(1/10), from all rows or from a mini-batch of them
    (x, labels), _ = digits(args, train=1000)
    net = xpdl.TwoLayerNet(784, 50, 10, seed=args.seed)
    batch_x, batch_t = next(iter(xpdl.Batches(x, labels, 100, seed=args.seed)))
    whole, part = float(net.loss(x, labels)), float(net.loss(batch_x, batch_t))
    print(f"untrained net: loss of 1,000 rows {whole:.3f}, of a mini-batch of 100 {part:.3f}, -log(0.1) is 2.303")

    p = [i / 200 for i in range(1, 201)]
    none = xpdl.asarray([0, 1])
    curves = {
        "cross entropy": [float(xpdl.cross_entropy_error(xpdl.asarray([q, 1 - q]), 0)) for q in p],
        "squares": [float(xpdl.sum_squared_error(xpdl.asarray([q, 1 - q]), 1 - none)) for q in p],
    }
    figure = plots.curves(
        curves, x=p, title="The loss of an answer", xlabel="probability of the right class", ylabel="loss"
    )
    save(figure, args, "losses")
    return losses


if __name__ == "__main__":
    main()
