"""Feature maps of one digit in a convolutional net (chapters 7.6 and 8.1).

--weights takes a file that deep_conv_net.py has written; without it, the net is trained briefly first.
"""

from shared import digits, options, save, trained

import xpdl
from xpdl import plots
from xpdl.backends.namespaces import Array


def main(argv: list[str] | None = None) -> dict[str, Array]:
    args = options(__doc__, argv, data=True, weights=True, seconds=25)
    data = digits(args, flatten=False, train=300 if args.short else None, test=100 if args.short else None)
    net = trained(args, xpdl.DeepConvNet(seed=args.seed), data, epochs=1 if args.short else 3)
    net.eval()
    x = data[1][0][:1, ...]
    maps = {"image": x}
    for name, layer in net.layers.items():
        if not name.startswith(("Conv", "Relu", "Pool")) or name == "Relu7":
            break
        x = layer.forward(x)
        if not name.startswith("Conv"):
            maps[name] = x
    for name, seen in maps.items():
        print(f"{name:6} {tuple(seen.shape)}")
    save(plots.feature_maps(maps, title="One digit, from pixels to parts"), args, "what_layers_see")
    return maps


if __name__ == "__main__":
    main()
