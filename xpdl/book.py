"""Run a script of the book unchanged: ``python -m xpdl.book ch05/train_neuralnet.py``."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import runpy
import sys
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import xpdl

_FUNCTIONS = (
    "identity_function", "step_function", "sigmoid", "sigmoid_grad", "relu", "relu_grad", "softmax", "tanh",
    "sum_squared_error", "mean_squared_error", "cross_entropy_error",
)  # fmt: skip
_IMAGES = ("im2col", "col2im")
_LAYERS = (
    "Relu", "Sigmoid", "Affine", "SoftmaxWithLoss", "Dropout", "BatchNormalization", "Convolution", "Pooling",
)  # fmt: skip

#: module of the book -> the names of `xpdl` that it has; each also has ``np``, as the book's star imports expect
MODULES: dict[str, tuple[str, ...]] = {
    "common.functions": _FUNCTIONS,
    "common.gradient": ("numerical_gradient",),
    "common.layers": (*_LAYERS, *_FUNCTIONS, *_IMAGES),
    "common.multi_layer_net": ("MultiLayerNet",),
    "common.multi_layer_net_extend": ("MultiLayerNetExtend",),
    "common.optimizer": ("SGD", "Momentum", "Nesterov", "AdaGrad", "RMSprop", "Adam"),
    "common.trainer": ("Trainer",),
    "common.util": ("smooth_curve", "shuffle_dataset", "conv_output_size", *_IMAGES),
    "dataset.mnist": ("load_mnist",),
    "layer_naive": ("AddLayer", "MulLayer"),
    "two_layer_net": ("TwoLayerNet",),
    "multi_layer_net": ("MultiLayerNet",),
    "multi_layer_net_extend": ("MultiLayerNetExtend",),
    "simple_convnet": ("SimpleConvNet",),
    "deep_convnet": ("DeepConvNet",),
}
#: file that scripts read -> where it comes from
_WRITTEN_BY = {
    "params.pkl": "run train_convnet.py or train_deepnet.py first, which write theirs",
    "sample_weight.pkl": "it is part of the book's own code, in its folder ch03: copy it beside the script",
}
_EXTRA = {"matplotlib": "plot", "PIL": "images"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script that `argv` names, and return the exit code: 2 with one line for what is missing."""
    parser = argparse.ArgumentParser(
        prog="python -m xpdl.book",
        description="Run a script of Deep Learning from Scratch, unchanged and in its own folder, with the layers, nets and "
        f"data of xpdl in place of {', '.join(MODULES)}.",
    )
    parser.add_argument("--mini", action="store_true", help="load_mnist gives the 6,000 digits in the package")
    parser.add_argument("--float32", action="store_true", help="in place of the book's float64")
    parser.add_argument("--figures", type=Path, metavar="FOLDER", help="write figures there instead of showing them")
    parser.add_argument("script", type=Path)
    parser.add_argument("args", nargs=argparse.REMAINDER, help="for the script").required = False
    args = parser.parse_args(argv)
    try:
        script = args.script.resolve()
        if not script.is_file():
            raise FileNotFoundError(f"{args.script}: there is no such script")
        draws = "matplotlib" in script.read_text(encoding="utf-8")
        folder = None if args.figures is None else args.figures.resolve()
        with _modules(args.mini), _as_script(script, args.args), _former_names(xpdl.np):
            if draws and (folder is not None or not _has_display()):
                _draw_without_display(script.stem, folder)
            with xpdl.use("numpy", dtype="float32" if args.float32 else "float64"):
                runpy.run_path(str(script), run_name="__main__")
    except (ImportError, OSError) as error:
        if (cure := _cure(error)) is None:
            raise
        print(f"python -m xpdl.book: error: {cure}", file=sys.stderr)
        return 2
    return 0


def _cure(error: Exception) -> str | None:
    """Return one line for an error that is not a mistake in the script: a file or a library is missing."""
    if isinstance(error, FileNotFoundError):
        name = Path(str(error.filename)).name
        return f"{error}{next((f'; {cure}' for end, cure in _WRITTEN_BY.items() if name.endswith(end)), '')}"
    if isinstance(error, OSError):
        return (
            f"{error}; --mini takes the 6,000 digits in the package instead"
            if str(error).startswith("MNIST: ")
            else None
        )
    name = getattr(error, "name", None) or ""
    if name.partition(".")[0] in _EXTRA:
        return f"the script needs {name}: pip install 'xpdl[{_EXTRA[name.partition('.')[0]]}]'"
    if name.partition(".")[0] in {module.partition(".")[0] for module in MODULES}:
        return f"{error}; xpdl has {', '.join(MODULES.get(name, MODULES))} there"
    return None


@contextlib.contextmanager
def _modules(mini: bool) -> Iterator[None]:
    """Stand in for the modules of the book, even where their files lie beside the script."""
    before = dict(sys.modules)
    for name, public in MODULES.items():
        package, _, _ = name.rpartition(".")
        if package:
            sys.modules.setdefault(package, types.ModuleType(package)).__dict__["__path__"] = []
        module = sys.modules[name] = types.ModuleType(name, f"{name} of the book, by xpdl")
        vars(module).update({one: getattr(xpdl, one) for one in public}, np=xpdl.np)
        if package:
            setattr(sys.modules[package], name.rpartition(".")[2], module)
    if mini:
        vars(sys.modules["dataset.mnist"])["load_mnist"] = xpdl.load_mini_mnist
    try:
        yield
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] in {m.partition(".")[0] for m in MODULES}]:
            del sys.modules[name]
            if name in before:
                sys.modules[name] = before[name]


@contextlib.contextmanager
def _as_script(script: Path, args: list[str]) -> Iterator[None]:
    """Let the script find what it would in its own folder, as the book starts it there."""
    argv, path, folder = sys.argv, list(sys.path), Path.cwd()
    sys.argv, sys.path[:] = [str(script), *args], [str(script.parent), *path]
    os.chdir(script.parent)
    try:
        yield
    finally:
        sys.argv, sys.path[:] = argv, path
        os.chdir(folder)


@contextlib.contextmanager
def _former_names(module: Any) -> Iterator[None]:
    """Give NumPy the aliases ``np.int`` and ``np.float`` back, which it had when the book was written."""
    missing = [alias for alias in (int, float) if alias.__name__ not in vars(module)]
    for alias in missing:
        setattr(module, alias.__name__, alias)
    try:
        yield
    finally:
        for alias in missing:
            delattr(module, alias.__name__)


def _has_display() -> bool:
    """Return whether windows can be shown, or the environment says how figures are drawn."""
    return sys.platform != "linux" or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY", "MPLBACKEND")))


def _draw_without_display(stem: str, folder: Path | None) -> None:
    """Make ``plt.show()`` write the figures to `folder`, or say that there is no display."""
    importlib.import_module("matplotlib").use("Agg")
    plt: Any = importlib.import_module("matplotlib.pyplot")
    count = 0

    def show(*_: Any, **__: Any) -> None:
        nonlocal count
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        for number in plt.get_fignums():
            count += 1
            if folder is None:
                print("a figure is not shown, as there is no display; --figures FOLDER writes it", file=sys.stderr)
            else:
                plt.figure(number).savefig(folder / f"{stem}-{count}.png")
                print(f"wrote {folder / f'{stem}-{count}.png'}", file=sys.stderr)
        plt.close("all")

    plt.show = show


if __name__ == "__main__":
    sys.exit(main())
