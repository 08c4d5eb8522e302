"""Step, sigmoid, tanh and ReLU side by side (chapter 3.2)."""

from shared import options, save

import xpdl
from xpdl import plots
from xpdl.backends.namespaces import Array


def main(argv: list[str] | None = None) -> dict[str, Array]:
    args = options(__doc__, argv)
    x = xpdl.asarray([i / 20 - 3 for i in range(121)])
    functions = {"step": xpdl.step_function, "sigmoid": xpdl.sigmoid, "tanh": xpdl.tanh, "ReLU": xpdl.relu}
    for name, f in functions.items():
        print(f"{name:8}", *(f"{float(f(value)):6.3f}" for value in (-2.0, 0.0, 2.0)))
    curves = {name: f(x) for name, f in functions.items()}
    save(plots.curves(curves, x=x, title="Activation functions", xlabel="x", ylabel="y"), args, "activation_functions")
    return curves


if __name__ == "__main__":
    main()
