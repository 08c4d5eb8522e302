"""Try an installed xpdl: ``python smoke.py CHECKOUT``, where it must not be imported from.

It trains some steps on the digits in the package, and writes and reads the net.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np

import xpdl


def main(checkout: str) -> None:
    package = Path(xpdl.__file__).resolve().parent
    assert Path(checkout).resolve() not in package.parents, f"xpdl is imported from the checkout, {package}"
    assert (package / "py.typed").is_file()
    assert not {"tests", "scripts"} & {path.name for path in package.parent.iterdir()}
    (x, t), _ = xpdl.load_mini_mnist(flatten=False)
    assert xpdl.load_alice().endswith("THE END\n")
    net = xpdl.SimpleConvNet(seed=0)
    before = float(net.loss(x[:200], t[:200]))
    xpdl.Trainer(net, x[:1000], t[:1000], epochs=1, optimizer=xpdl.Adam(lr=0.01), verbose=False, seed=0).train()
    after = float(net.loss(x[:200], t[:200]))
    assert after < before / 2, f"the loss went from {before} to {after}"
    with tempfile.TemporaryDirectory() as folder:
        net.save_params(Path(folder) / "net.safetensors")
        same = xpdl.load_model(Path(folder) / "net.safetensors")
    assert np.array_equal(same.predict(x[:10]), net.predict(x[:10]))
    print(f"xpdl {xpdl.__version__} from {package}: loss {before:.3f} -> {after:.3f} in 10 steps")


if __name__ == "__main__":
    main(sys.argv[1])
