"""The digits that a net gets wrong (chapter 8.1.2).

--weights takes a file that simple_conv_net.py has written; without it, the net is trained first.
"""

from shared import digits, options, save, trained

import xpdl
from xpdl import plots
from xpdl.backends.namespaces import Array


def main(argv: list[str] | None = None) -> tuple[int, Array]:
    args = options(__doc__, argv, data=True, weights=True, seconds=13)
    data = digits(args, flatten=False, train=500 if args.short else None, test=200 if args.short else None)
    net = trained(args, xpdl.SimpleConvNet(seed=args.seed), data, epochs=1 if args.short else 8)
    x, t = data[1]
    scores = xpdl.asnumpy(net.predict(x))
    wrong = int((scores.argmax(axis=1) != xpdl.asnumpy(t)).sum())
    print(f"{wrong} of {t.shape[0]} test digits are taken for another one")
    save(plots.misclassified(x, t, scores), args, "misclassified_digits")
    return wrong, scores


if __name__ == "__main__":
    main()
