"""Logic gates are perceptrons; XOR takes two layers of them (chapter 2)."""

from collections.abc import Callable

from shared import options, save

import xpdl
from xpdl import AND, NAND, OR, XOR, plots
from xpdl.backends.namespaces import Array


def main(argv: list[str] | None = None) -> list[int]:
    args = options(__doc__, argv)
    corners = [(0, 0), (1, 0), (0, 1), (1, 1)]
    print("x1 x2   AND NAND OR XOR")
    for x1, x2 in corners:
        print(f" {x1}  {x2}   {AND(x1, x2):3} {NAND(x1, x2):4} {OR(x1, x2):2} {XOR(x1, x2):3}")

    x = xpdl.asarray([[float(a), float(b)] for a, b in corners])
    for gate in (OR, XOR):

        def fires(points: Array, gate: Callable[..., int] = gate) -> list[int]:
            return [gate(a, b) for a, b in xpdl.asnumpy(points)]

        t = xpdl.asarray(fires(x))
        title = f"{gate.__name__}: {'one line' if gate is OR else 'two lines: two layers'}"
        save(
            plots.decision_boundary(fires, x, t, title=title, classes=["0", "1"]), args, f"gate_{gate.__name__.lower()}"
        )
    return [XOR(*corner) for corner in corners]


if __name__ == "__main__":
    main()
