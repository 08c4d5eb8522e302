"""Half the bits do for recognising digits: float16 beside float32 and float64 (chapter 8.3.4)."""

from shared import digits, options, trained

import xpdl


def main(argv: list[str] | None = None) -> dict[str, float]:
    args = options(__doc__, argv, data=True, weights=True, seconds=15)
    rows = {"train": 500 if args.short else None, "test": 200 if args.short else None}
    net = trained(
        args, xpdl.SimpleConvNet(seed=args.seed), digits(args, flatten=False, **rows), epochs=1 if args.short else 8
    )
    weights = args.weights or args.out / "float16.safetensors"
    if not args.weights:
        net.save_params(weights)
    accuracy = {}
    for dtype in ("float64", "float32", "float16"):
        try:
            handle = xpdl.use(args.backend, dtype=dtype)
        except xpdl.BackendError as error:
            print(f"{dtype}: {error}")
            continue
        with handle:
            _, (x, t) = digits(args, flatten=False, **rows)
            again = xpdl.SimpleConvNet()
            again.load_params(weights)
            accuracy[dtype] = again.accuracy(x, t)
            size = sum(xpdl.asnumpy(value).nbytes for value in again.params.values())
        print(f"{dtype}: accuracy {accuracy[dtype]:.4f}, weights {size / 1e6:.2f} MB")
    return accuracy


if __name__ == "__main__":
    main()
