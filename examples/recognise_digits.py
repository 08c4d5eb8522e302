"""Digits recognised with trained weights, one by one and in batches (chapter 3.6).

--weights takes a file of weights for 784, 50, 100 and 10 units, also the pickle sample_weight.pkl of the book's code;
without it, the net is trained first.
"""

import time

from shared import digits, options, save, trained

import xpdl
from xpdl import plots


def main(argv: list[str] | None = None) -> dict[int, list[int]]:
    args = options(__doc__, argv, data=True, weights=True)
    data = digits(args, train=500 if args.short else None, test=100 if args.short else None)
    net = xpdl.MultiLayerNet(784, [50, 100], 10, activation="sigmoid", weight_init_std="xavier")
    net = trained(args, net, data, epochs=2 if args.short else 20)

    x, t = data[1]
    labels = xpdl.asnumpy(t)
    found = {}
    for size in (1, 100):
        start = time.perf_counter()
        scores = [xpdl.asnumpy(net.predict(x[i : i + size, :])) for i in range(0, x.shape[0], size)]
        found[size] = [int(k) for batch in scores for k in batch.argmax(axis=1)]
        right = sum(a == b for a, b in zip(found[size], labels, strict=True))
        print(f"batches of {size:3}: {right} of {len(labels)} right, {time.perf_counter() - start:.3f} s")

    titles = [f"{k}" for k in found[100][:24]]
    save(plots.images(x[:24, :], titles=titles, title="Digits, and what they are taken for"), args, "recognise_digits")
    return found


if __name__ == "__main__":
    main()
