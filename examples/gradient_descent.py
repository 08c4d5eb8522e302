"""The gradient field, and descent with good and bad learning rates (chapter 4.4)."""

from shared import options, save

import xpdl
from xpdl import gradient_descent, numerical_gradient, plots
from xpdl.backends.namespaces import Array


def f(x: Array) -> Array:
    return x[0] ** 2 + x[1] ** 2


def main(argv: list[str] | None = None) -> dict[float, float]:
    args = options(__doc__, argv)
    for at in ([3.0, 4.0], [0.0, 2.0], [3.0, 0.0]):
        print(f"gradient at {at}: {xpdl.asnumpy(numerical_gradient(f, xpdl.asarray(at))).round(3)}")
    save(
        plots.gradient_field(f, points=9 if args.short else 15, title="$-\\nabla (x_0^2 + x_1^2)$"),
        args,
        "gradient_field",
    )

    start = xpdl.asarray([-3.0, 4.0])
    paths, ends = {}, {}
    for lr, words in ((0.1, "good"), (0.9, "swings"), (0.001, "too small"), (1.05, "too large")):
        x, path = start, [xpdl.asnumpy(start)]
        for _ in range(20):
            x = gradient_descent(f, x, lr=lr, step_num=1)
            path.append(xpdl.asnumpy(x))
        paths[f"rate {lr} ({words})"], ends[lr] = path, float(f(x))
        print(f"rate {lr:5}: f is {ends[lr]:.3g} after 20 steps ({words})")
    figure = plots.optimizer_paths(lambda x, y: x**2 + y**2, paths, x=(-6, 6), y=(-6, 6), minima=[(0, 0)])
    save(figure, args, "gradient_descent")
    return ends


if __name__ == "__main__":
    main()
