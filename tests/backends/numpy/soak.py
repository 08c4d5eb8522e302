"""NumPy's kernels against the generic ops on random cases: ``python -m tests.backends.numpy.soak --seconds 60 --seed 1``.

A case draws an op, shapes, values with ties, zeros of both signs, infinities and NaN, a dtype, the layout of each array in
memory, and where a kernel begins to cut its work or to be compiled. What a kernel gives must have the dtype of the generic
op's, be about as close to the result in long doubles, be finite where that is, leave its inputs alone, and have the same
bits for one thread and for three. Kernels are compiled where that is possible; ``XPDL_COMPILED=0`` compares NumPy's
functions. A finding is repeated by ``--seed S --case N``. The exit code says whether there were any.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import xpdl
from tests.backends.watched import watch_kernels
from xpdl import optimizers
from xpdl.backends import dispatch
from xpdl.backends.cpu.tuning import tuned
from xpdl.backends.numba import loading
from xpdl.ops import activations, affine, arithmetic, convolution, dropout, losses, normalization, pooling

FLOATS = (np.float32, np.float32, np.float32, np.float64, np.float64, np.float16)

#: thresholds of kernels, but for numbers that become part of compiled code, and the values that a case may take
LIMITS = {
    "batch_norm_task": (1, 100),
    "compiled_parameters": (0,),
    "shared_parameters": (0,),
    "small_array": (1,),
    "affine_task_products": (1, 100),
    "rows_task_bytes": (1, 2000),
    "rows_task_images": (1, 10),
    "optimizer_task": (7, 64),
    "pooling_task": (1, 100),
    "winograd_1d_channels": (0,),
    "winograd_1d_task_bytes": (1, 5000),
    "compiled_rows_fewest_images": (1,),
    "compiled_rows_task_bytes": (1, 2000),
    "compiled_rows_tasks": (1, 3),
    "compiled_pooling_few": (0, 1 << 30),
    "compiled_pooling_neighbours": (1,),
    "compiled_pooling_neighbours_backward": (1,),
    "compiled_pooling_task": (1, 100),
    "winograd_2d_channels": (0,),
    "winograd_2d_columns": (1, 50),
    "winograd_2d_fewest_images": (1,),
    "winograd_2d_tasks": (1, 3),
}


class Failed(AssertionError):
    """A kernel is not its op."""


class Draw:
    """The choices of one case, and the comparison of what comes of them."""

    def __init__(self, seed: int, case: int) -> None:
        self.rng = np.random.default_rng([seed, case])
        self.dtype = self.choice(FLOATS)
        self.special = self.rng.random() < 0.2
        self.said: list[str] = []

    def choice(self, options: Any) -> Any:
        return options[int(self.rng.integers(len(options)))]

    def integer(self, low: int, high: int) -> int:
        """Draw a number from `low` to `high`, small ones more often."""
        return low + int((high - low + 1) * self.rng.random() ** 2)

    def flag(self, probability: float = 0.5) -> bool:
        return bool(self.rng.random() < probability)

    def pair(self, low: int, high: int) -> tuple[int, int]:
        one = self.integer(low, high)
        return (one, self.integer(low, high)) if self.flag() else (one, one)

    def array(self, *shape: int, plain: bool = False, positive: bool = False) -> Any:
        """Random values in a random layout; ordinary ones if `plain`."""
        kind = self.choice(("normal", "normal", "few", "zeros", "large"))
        values = self.rng.normal(size=shape)
        if kind == "few":
            values = self.rng.integers(-2, 3, shape).astype(float)
        elif kind == "zeros":
            values[self.rng.random(shape) < 0.5] = self.choice((0.0, -0.0))
        elif kind == "large":
            values *= self.choice((1e-3, 1e2, 1e4))
        if positive:
            values = np.abs(values)
        if self.special and not plain:
            some = self.rng.random(shape) < 0.03
            values[some] = self.rng.choice([np.inf, -np.inf, np.nan, -0.0], int(some.sum()))
        return self.laid_out(values.astype(self.dtype))

    def laid_out(self, a: Any) -> Any:
        """The same values in another layout."""
        layout = self.choice(
            ("C", "C", "F", "images innermost", "channels innermost", "permuted", "gaps", "reversed", "odd")
        )
        if layout == "F":
            a = a.copy("F")
        elif layout in ("images innermost", "channels innermost") and a.ndim == 4:
            axes = (2, 1, 3, 0) if layout == "images innermost" else (0, 2, 3, 1)
            a = a.transpose(axes).copy("C").transpose(np.argsort(axes))
        elif layout == "permuted":
            axes = self.rng.permutation(a.ndim)
            a = a.transpose(axes).copy("C").transpose(np.argsort(axes))
        elif layout == "gaps" and a.ndim:
            axis = int(self.rng.integers(a.ndim))
            wide = np.repeat(a, 2, axis)
            a = wide[tuple(slice(None, None, 2) if k == axis else slice(None) for k in range(a.ndim))]
        elif layout == "reversed" and a.ndim:
            axis = int(self.rng.integers(a.ndim))
            a = np.flip(np.flip(a, axis).copy("C"), axis)
        elif layout == "odd":
            a = self._odd(a)
        if self.flag(0.3):
            a = a.view()
            a.flags.writeable = False
        self.said.append(f"{a.dtype}{list(a.shape)} {layout}")
        return a

    def _odd(self, a: Any) -> Any:
        """At an address that is no multiple of an element's size, in the other order of bytes, or all values the same."""
        kind = self.choice(("unaligned", "order of bytes", "broadcast"))
        if kind == "order of bytes":
            return a.astype(a.dtype.newbyteorder())
        if kind == "broadcast" and a.size:
            return np.broadcast_to(a.reshape(-1)[0], a.shape)
        memory = np.empty(a.nbytes + 1, np.uint8)[1:]
        shifted = memory[: a.nbytes].view(a.dtype).reshape(a.shape)
        shifted[...] = a
        return shifted

    def compare(
        self,
        op: Callable[..., Any],
        *arrays: Any,
        exact: bool = False,
        signs: bool = True,
        infinite: bool = True,
        scale: float = 0.0,
        **static: Any,
    ) -> Any:
        """Return the kernel's results, after the comparison with the generic op.

        `exact` asks for the same values, with the same signs of zeros if `signs`. Without `infinite`, NaN may stand for an
        infinity. `scale` is the size of what was summed on the way, where results are smaller than that.
        """
        self.said.append(f"{op.__name__} {static}")
        before = [a.tobytes() if isinstance(a, np.ndarray) else None for a in arrays]
        found = self._kernels(op, *arrays, **static)
        for a, content in zip(arrays, before, strict=True):
            if content is not None and a.tobytes() != content:
                raise Failed("an input was changed")
        long = [a.astype(np.longdouble) if _is_float(a) else a for a in arrays]
        with dispatch.generic_only(), np.errstate(all="ignore"):
            generic = op(*arrays, **static)
            truth = op(*long, **static)
        for k, (got, same, true) in enumerate(zip(*map(_tuple, (found, generic, truth)), strict=True)):
            if same is None and got is None:
                continue
            self._alike(f"result {k}", got, same, true, exact, signs, infinite, scale)
        return found

    def _kernels(self, op: Callable[..., Any], *arrays: Any, **static: Any) -> Any:
        """Return the results of kernels with one thread, and with three."""
        with np.errstate(all="ignore"):
            with xpdl.use("numpy", threads=1):
                one = op(*arrays, **static)
            with xpdl.use("numpy", threads=3):
                three = op(*arrays, **static)
        for a, b in zip(_tuple(one), _tuple(three), strict=True):
            if a is not None and np.asarray(a).tobytes() != np.asarray(b).tobytes():
                raise Failed("threads change the bits")
        return one

    def _alike(
        self, what: str, got: Any, same: Any, true: Any, exact: bool, signs: bool, infinite: bool, scale: float
    ) -> None:
        got, same, true = np.asarray(got), np.asarray(same), np.asarray(true)
        # the other order of bytes may be kept or not
        if (got.dtype.newbyteorder("="), got.shape) != (same.dtype.newbyteorder("="), same.shape):
            raise Failed(f"{what} is {got.dtype}{got.shape}, and {same.dtype}{same.shape} is right")
        if got.dtype.kind != "f":
            self._expect(got == same, f"{what} is another one", got, same, true)
            return
        if exact:
            alike = (got == same) & ((not signs) | (np.signbit(got) == np.signbit(same))) | np.isnan(got) & np.isnan(
                same
            )
            self._expect(alike, f"{what} has other values or signs of zeros", got, same, true)
            return
        finite = np.isfinite(same)
        kept = np.isfinite(got) == finite
        if infinite:
            kept &= finite | (got == same) | (np.isnan(got) & np.isnan(same))
        else:
            kept &= finite | np.isnan(got) | (got == same)
        # values at the end of the range may overflow in one order of summation and not in the other
        near_end = np.abs(true) > float(np.finfo(got.dtype).max) / 100
        kept |= (got == true) | np.isfinite(true) & (np.isfinite(got) | ~finite | near_end)
        self._expect(kept, f"{what} is finite at other places", got, same, true)
        finite &= np.isfinite(got) & np.isfinite(true)
        if not finite.any():
            return
        eps = float(np.finfo(got.dtype).eps)
        size = max(scale, float(np.abs(true[finite]).max()))
        allowed = 4 * float(np.abs(same - true)[finite].max()) + 16 * eps * size + float(np.finfo(got.dtype).tiny)
        near = ~finite | (np.abs(got - true) <= allowed)
        self._expect(near, f"{what} is further away than {allowed:.2g}", got, same, true)

    def _expect(self, fine: Any, what: str, got: Any, same: Any, true: Any) -> None:
        """That all is fine, else to show where not."""
        if not fine.all():
            where = [tuple(map(int, k)) for k in np.argwhere(~fine)]
            shown = [f"{list(k)} {got[k]!s}, generic {same[k]!s}, long {true[k]!s}" for k in where[:3]]
            raise Failed(f"{what} in {len(where)} of {fine.size}: " + "; ".join(shown))


def _tuple(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def _is_float(a: Any) -> bool:
    return isinstance(a, np.ndarray) and a.dtype.kind == "f"


def _size(*factors: Any) -> float:
    """The size of sums of products of these arrays."""
    finite = [np.abs(a[np.isfinite(a)].astype(float)).max(initial=0.0) for a in factors]
    return float(np.prod(finite))


# --- one case of each kind


def a_pooling(draw: Draw) -> None:
    size, stride = draw.pair(1, 4), draw.pair(1, 3)
    pad = tuple(int(draw.rng.integers(0, k)) for k in size) if draw.flag() else (0, 0)
    n, c = draw.integer(1, 40), draw.integer(1, 6)
    h, w = (max(k - 2 * p, 1) + draw.integer(0, 9) for k, p in zip(size, pad, strict=True))
    x = draw.array(n, c, h, w)
    # nobody says whether a border or an image has the first of values that are all minus infinity
    x = draw.laid_out(np.where(np.isneginf(x), x.dtype.type(0), x)) if pad != (0, 0) else x
    # NumPy's maximum of zeros of both signs is now this one, now that one
    y = draw.compare(pooling.max_pooling, x, size, stride, pad, exact=True, signs=False)
    dy = draw.array(*y.shape)
    draw.compare(pooling.max_pooling_backward, dy, x, draw.laid_out(y), size, stride, pad, scale=_size(dy))
    relu = {"activation": "relu"}
    y = draw.compare(pooling.max_pooling, x, size, stride, pad, exact=True, signs=False, **relu)
    draw.compare(pooling.max_pooling_backward, dy, x, draw.laid_out(y), size, stride, pad, scale=_size(dy), **relu)
    draw.compare(pooling.average_pooling, x, size, stride, pad, scale=_size(x))
    draw.compare(pooling.average_pooling_backward, dy, x, size, stride, pad, scale=_size(dy))


def an_elementwise(draw: Draw) -> None:
    shape = tuple(draw.integer(0 if draw.flag(0.1) else 1, 20) for _ in range(draw.integer(1, 4)))
    if draw.flag(0.02):  # enough for several tasks
        shape = (3, 1 << 17)
    x, dy = draw.array(*shape), draw.array(*shape)
    y = draw.compare(activations.relu, x, exact=True)
    draw.compare(activations.relu_backward, dy, draw.laid_out(y), exact=True)
    mask = draw.laid_out(draw.rng.random(shape) < 0.6)
    draw.compare(dropout.dropout, x, mask, draw.choice((1.0, 1.0 / 0.6, 2.0)), exact=True)
    for activation in (None, "relu"):
        draw.compare(arithmetic.add, x, dy, exact=True, activation=activation)


def a_mask(draw: Draw) -> None:
    x = draw.array(*(draw.integer(0 if draw.flag(0.1) else 1, 30) for _ in range(draw.integer(1, 4))))
    words = tuple(int(word) for word in draw.rng.integers(0, 1 << 32, 4))
    ratio, counter = draw.choice((0.0, 0.2, 0.5, 0.999, float(draw.rng.random()))), int(draw.rng.integers(0, 1 << 40))
    draw.compare(dropout.dropout_mask, x, ratio, words, counter, exact=True)


def a_convolution(draw: Draw) -> None:
    three = draw.flag()
    size = (3, 3) if three else draw.pair(1, 5)
    stride, dilation = ((1, 1), (1, 1)) if three and draw.flag(0.8) else (draw.pair(1, 3), draw.pair(1, 2))
    pad = draw.pair(0, 3)
    groups = 1 if draw.flag(0.8) else draw.integer(1, 3)
    n, c, f = draw.integer(1, 40), groups * draw.integer(1, 10), groups * draw.integer(1, 10)
    h, w = (max(d * (k - 1) + 1 - 2 * p, 1) + draw.integer(0, 12) for k, d, p in zip(size, dilation, pad, strict=True))
    # zero times infinity at a border depends on the algorithm
    x, W = draw.array(n, c, h, w), draw.array(f, c // groups, *size, plain=True)
    b = None if draw.flag(0.3) else draw.array(f, plain=True)
    options = {"stride": stride, "pad": pad, "dilation": dilation, "groups": groups}
    # sums of tiles have errors of the size of their terms
    terms = c // groups * size[0] * size[1]
    # relu keeps NaN that stands for minus infinity
    activation = None if draw.special or draw.flag() else "relu"
    scale, forward = terms**0.5 * _size(x, W), {**options, "activation": activation}
    y = draw.compare(convolution.convolution, x, W, b, infinite=False, scale=scale, **forward)
    x, dy = draw.array(n, c, h, w, plain=True), draw.array(*y.shape, plain=True)
    scale = max((n * y.shape[2] * y.shape[3]) ** 0.5 * _size(x, dy), terms**0.5 * _size(dy, W))
    needed = {"need_dx": draw.flag(0.8), "need_db": draw.flag(0.8)}
    draw.compare(convolution.convolution_backward, dy, x, W, infinite=False, scale=scale, **needed, **options)


def an_affine(draw: Draw) -> None:
    n, units = draw.integer(0 if draw.flag(0.05) else 1, 70), draw.integer(1, 70)
    inner = [draw.integer(1, 60)] if draw.flag() else [draw.integer(1, 5) for _ in range(3)]
    x, W = draw.array(n, *inner), draw.array(int(np.prod(inner)), units)
    b = None if draw.flag(0.3) else draw.array(units)
    # results of BLAS for infinities are unspecified
    activation = None if draw.special or draw.flag() else "relu"
    scale = len(W) ** 0.5 * _size(x, W)
    y = draw.compare(affine.affine, x, W, b, infinite=False, scale=scale, activation=activation)
    dy = draw.array(*y.shape)
    scale = max(n**0.5 * _size(x, dy), units**0.5 * _size(dy, W))
    needed = {"need_dx": draw.flag(0.8), "need_db": draw.flag(0.8)}
    draw.compare(affine.affine_backward, dy, x, W, infinite=False, scale=scale, **needed)


def a_normalization(draw: Draw) -> None:
    shape = (
        draw.integer(1, 30),
        draw.integer(1, 9),
        *(draw.integer(1, 9) for _ in range(draw.choice((0, 2, 2, 2, 1)))),
    )
    c, eps, activation = shape[1], draw.choice((1e-5, 1e-3, 1.0)), "relu" if draw.flag() else None
    if draw.dtype == np.float16:
        eps = 1e-3
    x, gamma, beta = draw.array(*shape), draw.array(c), draw.array(c)
    if draw.flag(0.2):
        wide = np.float32 if draw.dtype == np.float16 else np.float64
        gamma, beta = gamma.astype(wide), beta.astype(wide)
    epilogue = {"activation": activation, "residual": draw.array(*shape) if draw.flag(0.3) else None}
    largest = _size(x) * max(1.0, _size(gamma))
    y, mean, var = draw.compare(normalization.batch_normalization, x, gamma, beta, eps, scale=largest, **epilogue)
    dy, through = draw.array(*shape), {"y": draw.laid_out(y), "activation": activation}
    for backward in normalization.batch_normalization_backward, normalization.normalize_backward:
        steep = float(np.nanmax(1 / np.sqrt(var.astype(float) + eps), initial=1.0))
        scale = _size(dy) * max(x[:, 0].size, steep * _size(gamma), 1.0) * max(1.0, steep * _size(x))
        draw.compare(backward, dy, x, gamma, mean, var, eps, scale=scale, **through)
    given = draw.array(c), draw.array(c, plain=True, positive=True)
    largest = max(_size(x), _size(given[0])) * _size(gamma) / eps**0.5
    draw.compare(normalization.normalize, x, gamma, beta, *given, eps, scale=largest, **epilogue)


def a_loss(draw: Draw) -> None:
    n, k = draw.integer(1, 40), draw.integer(2, 30)
    x, t = draw.array(n, k, plain=True), draw.rng.integers(0, k, n)
    smoothing = draw.choice((0.0, 0.0, 0.1))
    _, y = draw.compare(losses.softmax_with_loss, x, t, None, smoothing, scale=_size(x))
    draw.compare(losses.softmax_with_loss_backward, y, t, draw.choice((1.0, 0.5)), None, smoothing)


RULES = [
    lambda **options: optimizers.SGD(lr=0.1, **options),
    lambda **options: optimizers.Momentum(lr=0.1, **options),
    lambda **options: optimizers.Nesterov(lr=0.1, **options),
    lambda **options: optimizers.AdaGrad(lr=0.1, **options),
    lambda **options: optimizers.AdaDelta(**options),
    lambda **options: optimizers.RMSprop(lr=0.1, **options),
    lambda **options: optimizers.Adam(lr=0.1, **options),
    lambda **options: optimizers.AdamW(lr=0.1, **options),
]


def an_optimizer(draw: Draw) -> None:
    """Some steps of a rule on some parameters; not an op, so compared here."""
    if draw.dtype == np.float16:  # whose rules are the generic ones of NumPy's functions
        draw.dtype = np.float32
    options: dict[str, Any] = {}
    rule = draw.choice(RULES)
    if draw.flag(0.3) and rule is not RULES[-1]:
        options["weight_decay"] = draw.choice(({"l1": 1e-3}, {"l2": 1e-2}, {"l1": 1e-3, "l2": 1e-2}))
    if draw.flag(0.2):
        options["max_norm"] = 0.5
    if draw.flag(0.2):
        options["clip_norm"] = draw.choice((1e-3, 1.0, 100.0))
    shapes = [tuple(draw.integer(1, 20) for _ in range(draw.integer(0, 3))) for _ in range(draw.integer(1, 4))]
    params = {str(k): draw.array(*shape, plain=True) for k, shape in enumerate(shapes)}
    steps = [{name: draw.array(*p.shape, plain=True) for name, p in params.items()} for _ in range(draw.integer(1, 4))]
    draw.said.append(f"{type(rule()).__name__} {options}, {len(steps)} steps")

    def run(dtype: Any, threads: int) -> tuple[Any, ...]:
        # in the layout that was drawn, as far as it can be written to
        mine = {
            name: p.astype(dtype) if dtype != p.dtype or not p.flags.writeable else p.copy("K")
            for name, p in params.items()
        }
        optimizer = rule(**options)
        with xpdl.use("numpy", threads=threads):
            for grads in steps:
                optimizer.update(mine, {name: g.astype(dtype) if dtype != g.dtype else g for name, g in grads.items()})
        memory = [np.asarray(getattr(optimizer, kind)[name]) for kind in optimizer.state_names for name in mine]
        return (*map(np.asarray, mine.values()), *memory)

    with np.errstate(all="ignore"):
        found, three = run(draw.dtype, 1), run(draw.dtype, 3)
        with dispatch.generic_only():
            generic, truth = run(draw.dtype, 1), run(np.float64, 1)
    if [a.tobytes() for a in found] != [a.tobytes() for a in three]:
        raise Failed("threads change the bits")
    # parameters change by up to 0.1, and sums of gradients may cancel
    scale = max(1.0, *(_size(g) for grads in steps for g in grads.values()))
    for k, (got, same, true) in enumerate(zip(found, generic, truth, strict=True)):
        draw._alike(f"result {k}", got, same, true, False, True, True, scale)


CASES = [a_pooling, an_elementwise, a_mask, a_convolution, an_affine, a_normalization, a_loss, an_optimizer]


@contextlib.contextmanager
def limits(draw: Draw) -> Iterator[None]:
    """In most cases, work is cut elsewhere than usual."""
    drawn = {}
    if draw.flag(0.7):
        drawn = {name: draw.choice(values) for name, values in LIMITS.items() if draw.flag()}
        draw.said += [f"{name}={value}" for name, value in drawn.items()]
    with tuned(**drawn):
        yield


def run_case(kind: Callable[[Draw], None], seed: int, case: int) -> str | None:
    """None, or what is wrong with the case."""
    draw = Draw(seed, case)
    try:
        with limits(draw), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            kind(draw)
    except Exception as error:
        last = "" if isinstance(error, Failed) else traceback.format_exc()
        return f"{kind.__name__} --seed {seed} --case {case}: {error}\n{'; '.join(draw.said)}\n{last}"
    return None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--case", type=int, help="this one alone")
    parser.add_argument("--kind", choices=[kind.__name__ for kind in CASES], help="of one kind alone")
    args = parser.parse_args()
    kinds = [kind for kind in CASES if args.kind in (None, kind.__name__)]
    ran: list[str] = []
    end, count, findings = time.monotonic() + args.seconds, 0, []
    with watch_kernels(ran) if loading.problem() is None else contextlib.nullcontext():
        while time.monotonic() < end and len(findings) < 20:
            case = count if args.case is None else args.case
            found = run_case(kinds[case % len(kinds)] if args.kind else CASES[case % len(CASES)], args.seed, case)
            if found:
                findings.append(found)
                print(found, flush=True)
            count += 1
            if args.case is not None:
                break
    print(f"kernels: {loading.state()}")
    print("compiled kernels:", ", ".join(f"{name} {times}" for name, times in sorted(collections.Counter(ran).items())))
    print(f"{count} cases from seed {args.seed}, {len(findings)} findings")
    return bool(findings)


if __name__ == "__main__":
    raise SystemExit(main())
