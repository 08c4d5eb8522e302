"""Check a layer's or a model's backward pass against central differences."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import math
from collections.abc import Callable
from typing import Any

from xpdl.backends import Backend, make_backend
from xpdl.backends.namespaces import Array, array_namespace, is_array, is_floating, on_its_device
from xpdl.backends.random import Stream, checked_seed
from xpdl.data.structure import arrays_of, first_array, map_arrays, require_arrays
from xpdl.errors import BackendError, GradientCheckError
from xpdl.layers.base import Layer
from xpdl.layers.losses import LossLayer
from xpdl.layers.recurrent_state import stateful_layers
from xpdl.ops.checks import require_floating

# (step of the difference, relative error still taken for rounding)
_PRECISION = {"float64": (1e-6, 1e-5), "float32": (1e-2, 2e-2)}
# Beside a kink, others are near: shorter steps cross fewer of them, as far as rounding allows.
_SHORTER_STEPS = {"float64": (1e-7, 1e-8), "float32": ()}
_DIRECTIONS = 3
# Distance of the point beside a kink, in standard deviations of a normal distribution; far more than a step in float64.
_BESIDE = 0.1


_KINKS = "zeros of relu or ties of max pooling, where two derivatives are right"


@dataclasses.dataclass(frozen=True)
class GradientReport:
    """The relative error of each gradient, ``"x"`` for the input's, as `check_gradients` found it.

    Attributes
    ----------
    errors : dict of str to float
    tolerance : float
        The error that rounding alone explains.
    kinks : bool
        Whether the given point lies on kinks, so that the errors are those at a random point beside it.
    """

    errors: dict[str, float]
    tolerance: float
    kinks: bool = False

    @property
    def worst(self) -> str:
        return max(self.errors, key=lambda name: self.errors[name])

    @property
    def passed(self) -> bool:
        # `not <=` so that NaN fails too
        return not any(not error <= self.tolerance for error in self.errors.values())

    def __str__(self) -> str:
        width = max(map(len, self.errors))
        rows = [f"{name:<{width}}  {error:.1e}" for name, error in self.errors.items()]
        if self.kinks:
            rows.append(f"measured {_BESIDE:g} beside the given point, which lies on kinks: {_KINKS}")
        return "\n".join([f"{'gradient':<{width}}  relative error (tolerance {self.tolerance:.0e})", *rows])


@on_its_device
def check_gradients(model_or_layer: Any, x: Array, t: Any = None, *, seed: int = 0) -> GradientReport:
    """Compare every gradient of a layer, or of a model's loss, with central differences along random directions.

    Parameters
    ----------
    model_or_layer : Layer
        With `t`, a loss layer or a model that has one; else a layer, whose output is weighted with a random upstream
        gradient: with all ones, a normalisation whose backward returns zeros would pass. A copy is checked, in float64
        where the library has it, in training mode, with the same dropout mask in every evaluation.
    x : floating array, or tuple or dict of arrays
        Input, integers for a layer that takes ids, as `Embedding` does; several for a layer or model that takes several,
        those of integers without a gradient.
    t : array, or tuple or dict of arrays, optional
        Targets, for a loss alone.
    seed : int
        Of the upstream gradient and the directions.

    Returns
    -------
    GradientReport

    Raises
    ------
    GradientCheckError
        If a gradient is off by more than rounding explains; the message names the worst one.

    Notes
    -----
    On a kink (a zero of relu, a tie of max pooling, as in the black borders of digits) two derivatives are right, and a
    central difference is neither. Where a gradient is off and the slopes on both sides differ, everything is checked again
    at a random point beside the given one, input and parameters moved; the report's ``kinks`` says so.

    Examples
    --------
    >>> x = np.random.default_rng(0).standard_normal((4, 3))
    >>> check_gradients(Affine(units=2), x).worst in ("x", "W", "b")
    True
    """
    if not isinstance(model_or_layer, Layer):
        raise TypeError(f"check_gradients: expected a layer or a model, got {model_or_layer!r}")
    is_loss = isinstance(model_or_layer, LossLayer) or hasattr(model_or_layer, "predict")
    if t is not None and not is_loss and "t" not in inspect.signature(model_or_layer.forward).parameters:
        raise TypeError(f"check_gradients: {model_or_layer.name} takes no targets; leave out t")
    require_arrays(x, "check_gradients")
    floating = [one for _, one in arrays_of(x) if is_floating(one)]
    if not floating and not model_or_layer.takes_ids:
        require_floating(first_array(x), "check_gradients")
    seed = checked_seed(seed, "check_gradients")
    layer = copy.deepcopy(model_or_layer).train()
    for one in stateful_layers(layer):  # each evaluation begins with states of zeros
        one.reset_state()
        one.stateful = False
    run = _Run(layer, t, Stream(seed, "check_gradients"))
    run.build_for(x)
    backend = run.backend = _widest(Backend.of(floating[0] if floating else first_array(x)))
    step, tolerance = _PRECISION[backend.dtype]
    x = map_arrays(lambda one: backend.asarray(one) if is_floating(one) else one, x)
    for kind in ("params", "state"):
        for _, owner, key in layer.named(kind):
            if is_array(owner[key]) and is_floating(owner[key]):
                owner[key] = backend.asarray(owner[key])

    report, kinks = _compared(run, x, (step,), tolerance)
    if kinks and not report.passed:
        steps = (step, *_SHORTER_STEPS[backend.dtype])
        report = dataclasses.replace(_compared(run, run.moved(x), steps, tolerance)[0], kinks=True)
    if not report.passed:
        raise GradientCheckError(
            f"check_gradients: the gradient of {report.worst} is off by {report.errors[report.worst]:.1e} relative to "
            f"central differences\n{report}"
        )
    return report


def _compared(run: _Run, x: Any, steps: tuple[float, ...], tolerance: float) -> tuple[GradientReport, bool]:
    """The errors at `x`, each for the best of `steps`, and whether slopes differ on both sides where a gradient is off."""
    loss = run.loss(x)
    dx, grads = run.backward()
    inputs, gradients = dict(arrays_of(x, "x")), dict(arrays_of(dx, "x"))
    places: list[tuple[str, Array, Array, Callable[[Array], float]]] = [
        (name, one, gradients[name], run.with_input(x, name)) for name, one in inputs.items() if is_floating(one)
    ]
    frozen = [id(layer.own("params")) for layer in run.layer.tree() if not layer.trainable]
    for name, owner, key in run.layer.named_params():
        if id(owner) in frozen:
            continue
        if name not in grads:
            raise GradientCheckError(
                f"check_gradients: backward of {run.layer.name} leaves no gradient of {name}, so that nothing would train "
                f"it; set grads[{key!r}] of its layer there, or make it state if it is no parameter"
            )
        places.append((name, owner[key], grads[name], run.with_parameter(owner, key, x)))
    errors, kinks = {}, False
    for name, value, grad, evaluate in places:
        streams = [run.stream.child(f"{name}/{i}") for i in range(_DIRECTIONS)]
        found = [
            min(_error(value, grad, evaluate, loss, step, tolerance, stream, run.backend) for step in steps)
            for stream in streams
        ]
        errors[name] = max(error for error, _ in found)
        kinks = kinks or any(error > tolerance and gap > tolerance for error, gap in found)
    return GradientReport(errors, tolerance), kinks


class _Run:
    """Evaluations of one layer that all start from the same state."""

    backend: Backend

    def __init__(self, layer: Any, t: Any, stream: Stream) -> None:
        self.layer, self.t, self.stream = layer, t, stream
        self._start: list[tuple[dict[str, Any], dict[str, Any]]] = []
        self._upstream: Any = None

    def build_for(self, x: Any) -> None:
        """Build the layer, and note the state that each evaluation starts from."""
        if isinstance(x, tuple) and not self.layer.takes_tuple:
            if not self.layer.built:
                self.layer.build(tuple(tuple(one.shape[1:]) for one in x), backend=Backend.of(x[0]))
        else:
            self.layer.build_for(x)
        self._start = [(owner, dict(owner)) for owner in {id(o): o for _, o, _ in self.layer.named_state()}.values()]

    def loss(self, x: Any) -> float:
        for owner, values in self._start:
            owner.update(values)
        if self.t is not None:
            is_model = hasattr(self.layer, "predict")
            return float(self.layer.loss(x, self.t, train_flg=True) if is_model else self.layer.forward(x, self.t))
        y = self.layer.forward(*x) if isinstance(x, tuple) and not self.layer.takes_tuple else self.layer.forward(x)
        self._upstream = self._noise_like(y) if self._upstream is None else self._upstream
        ys, douts = (dict(arrays_of(value)) for value in (y, self._upstream))
        return sum(float(array_namespace(one).sum(one * douts[name])) for name, one in ys.items())

    def moved(self, x: Any) -> Any:
        """A point beside `x`; the parameters are moved, too."""

        def beside(name: str, a: Array) -> Array:
            noise = self.stream.generator(f"beside/{name}").standard_normal(tuple(a.shape))
            return a + self.backend.asarray(_BESIDE * noise)

        for name, owner, key in self.layer.named_params():
            owner[key] = beside(name, owner[key])
        names = iter([name for name, _ in arrays_of(x, "x")])
        return map_arrays(lambda a: beside(name, a) if (name := next(names)) and is_floating(a) else a, x)

    def backward(self) -> tuple[Any, dict[str, Array]]:
        """``dx`` and the gradients by path of the evaluation just made."""
        if self.t is None:
            dx = self.layer.backward(self._upstream)
        elif hasattr(self.layer, "predict"):
            dx = self.layer.backward(self.layer.last_layer.backward())
        else:
            dx = self.layer.backward()
        return dx, {path: owner[key] for path, owner, key in self.layer.named_grads()}

    def with_input(self, x: Any, changed: str) -> Callable[[Array], float]:
        """The loss as a function of one of the inputs."""

        def evaluate(value: Array) -> float:
            names = iter([name for name, _ in arrays_of(x, "x")])
            return self.loss(map_arrays(lambda a: value if next(names) == changed else a, x))

        return evaluate

    def _noise_like(self, y: Any) -> Any:
        names = iter([name for name, _ in arrays_of(y, "dout")])
        return map_arrays(
            lambda a: self.backend.asarray(self.stream.generator(next(names)).standard_normal(tuple(a.shape))), y
        )

    def with_parameter(self, owner: dict[str, Array], key: str, x: Array) -> Callable[[Array], float]:
        def evaluate(value: Array) -> float:
            before, owner[key] = owner[key], value
            try:
                return self.loss(x)
            finally:
                owner[key] = before

        return evaluate


def _error(
    value: Array,
    grad: Array,
    evaluate: Callable[[Array], float],
    loss: float,
    step: float,
    tolerance: float,
    stream: Stream,
    backend: Backend,
) -> tuple[float, float]:
    """The relative error of a gradient along a random direction, and how much the slopes on both sides differ."""
    xp = array_namespace(value, grad)
    if tuple(grad.shape) != tuple(value.shape):
        return math.inf, 0.0
    direction = backend.asarray(stream.generator("direction").standard_normal(tuple(value.shape)))
    above, below = evaluate(value + step * direction), evaluate(value - step * direction)
    measured = (above - below) / (2 * step)
    claimed = float(xp.sum(grad * direction))
    rounding = max(1e-3 * step, 2e-16 / step) * max(1.0, abs(loss))
    size = max(abs(claimed), abs(measured), math.sqrt(float(xp.sum(grad * grad))))
    off = abs(claimed - measured)
    # of a small gradient, what rounding explains is within the tolerance, and shown as the number that it is
    error = off / max(size, rounding / tolerance)
    return error, abs(above - 2 * loss + below) / step / size if off > rounding else 0.0


def _widest(backend: Backend) -> Backend:
    """The same place in float64 if it has that, else in float32."""
    for dtype in ("float64", "float32"):
        try:
            return make_backend(backend.xp, backend.device, dtype)
        except BackendError:
            continue
    raise BackendError(f"check_gradients: {backend.name} on {backend.device} has neither float64 nor float32")
