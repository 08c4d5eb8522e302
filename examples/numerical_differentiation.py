"""A derivative by numbers is the slope of the tangent (chapter 4.3)."""

from shared import options, save

import xpdl
from xpdl import numerical_diff, plots
from xpdl.backends.namespaces import Array


def f(x: Array) -> Array:
    return 0.01 * x**2 + 0.1 * x


def main(argv: list[str] | None = None) -> dict[int, float]:
    args = options(__doc__, argv)
    slopes = {at: numerical_diff(f, at) for at in (5, 10)}
    x = xpdl.asarray([i / 4 for i in range(81)])
    curves = {"f(x) = 0.01 x² + 0.1 x": f(x)}
    for at, slope in slopes.items():
        print(f"f'({at}) = {slope:.10f}, exactly {0.02 * at + 0.1:.1f}")
        curves[f"tangent at {at}"] = f(at) + slope * (x - at)
    save(plots.curves(curves, x=x, xlabel="x", ylabel="f(x)"), args, "numerical_differentiation")

    # partial derivatives of x0² + x1² at (3, 4): one variable moves, the other stays
    partial = numerical_diff(lambda x0: x0**2 + 4.0**2, 3.0), numerical_diff(lambda x1: 3.0**2 + x1**2, 4.0)
    print(f"partial derivatives of x0² + x1² at (3, 4): {partial[0]:.6f}, {partial[1]:.6f}")
    return slopes


if __name__ == "__main__":
    main()
