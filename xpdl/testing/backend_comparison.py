"""The same step on several backends, compared layer by layer."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from xpdl.backends import Backend, asnumpy, make_backend
from xpdl.backends.namespaces import Array, is_floating
from xpdl.data.structure import arrays_of, first_array, map_arrays, require_arrays
from xpdl.errors import BackendError
from xpdl.layers.layerwise import Uses, Visits, backward_by_layer, forward_by_layer, layers_of
from xpdl.models.base import Model
from xpdl.ops.checks import require_floating


class LayerDifference(NamedTuple):
    """Difference between backends at one place of a step.

    Attributes
    ----------
    layer : str
        Path of the layer.
    what : str
        ``"output"``, ``"dx"`` or ``"dW"``, ``"db"``... for the gradient of a parameter.
    differences : dict
        Backend -> largest difference from the first backend, relative to the largest value there; NaN or infinity where a
        side has values that are not finite and the other does not have the same.
    """

    layer: str
    what: str
    differences: dict[str, float]


def compare_backends(model: Model, x: Any, t: Any, backends: Sequence[Any]) -> list[LayerDifference]:
    """Print, and return, how far the same training step is apart on several backends, layer by layer.

    Parameters
    ----------
    model : Sequential or Graph
        With a loss. Copies of it are moved to each backend, with the same dropout masks; it stays as it is.
    x : floating array (N, ...), ids for a model that takes them, or a tuple or dict of these
    t : array, or tuple or dict of arrays
        Targets.
    backends : sequence
        At least two: names for `use`, which take the model's dtype, or what `use` or `get_backend` returned. The others are
        compared with the first.

    Returns
    -------
    list of LayerDifference
        Going forward from the first layer to the loss, then back.

    Raises
    ------
    BackendError
        If a backend does not work here.
    ValueError
        If there are fewer than two.

    Notes
    -----
    A gradient that is 0 but for rounding, as that of a bias in front of a batch normalisation, differs by as much as it is.

    Examples
    --------
    >>> net = Sequential(Affine(units=3), Relu(), Affine(units=2), loss=SoftmaxWithLoss, seed=0)
    >>> rows = compare_backends(net, np.ones((4, 3)), np.asarray([0, 1, 1, 0]), ["numpy", "numpy"])
    layer            what    numpy float64 2
    ----------------------------------------
    Affine1          output              0.0
    Relu1            output              0.0
    Affine2          output              0.0
    SoftmaxWithLoss  output              0.0
    SoftmaxWithLoss  dx                  0.0
    Affine2          dW                  0.0
    Affine2          db                  0.0
    Affine2          dx                  0.0
    Relu1            dx                  0.0
    Affine1          dW                  0.0
    Affine1          db                  0.0
    Affine1          dx                  0.0
    """
    owner = "compare_backends"
    if not isinstance(model, Model) or model.last_layer is None:
        raise TypeError(f"{owner}: expected a model with a loss, Sequential(..., loss=SoftmaxWithLoss), got {model!r}")
    for value in (x, t):
        require_arrays(value, owner)
    if not any(is_floating(one) for _, one in arrays_of(x)) and not model.takes_ids:
        require_floating(first_array(x), owner)
    if isinstance(backends, str) or not isinstance(backends, Sequence) or len(backends) < 2:
        raise ValueError(
            f"{owner}: backends must be a list of at least two, names of libraries or what `use` returns, got {backends!r}"
        )
    original = copy.deepcopy(model)
    original.build_for(x)
    home = original.backend or Backend.of(first_array(x))
    there = [_backend(backend, home.dtype) for backend in backends]
    host_x, host_t = map_arrays(asnumpy, x), map_arrays(asnumpy, t)
    rows: list[LayerDifference] = []
    first = [(layer, what, asnumpy(value)) for layer, what, value in _values(original, there[0], host_x, host_t)]
    for layer, what, _ in first:
        rows.append(LayerDifference(layer, what, {}))
    for label, backend in list(zip(_labels(there), there, strict=True))[1:]:
        values = _values(original, backend, host_x, host_t)
        for row, (_, _, want), (_, _, value) in zip(rows, first, values, strict=True):
            row.differences[label] = _difference(asnumpy(value), want)
    print(_table(rows))
    return rows


def _backend(given: Any, dtype: str) -> Backend:
    backend = getattr(given, "backend", given)  # of what `use` returned
    if isinstance(backend, Backend):
        return backend
    try:
        return make_backend(given, dtype=dtype)
    except BackendError as error:
        raise BackendError(f"compare_backends: {error}") from error


def _labels(backends: Sequence[Backend]) -> list[str]:
    """A name for each: the library's, as far as that tells them apart."""
    names = [backend.name for backend in backends]
    if len(set(names)) == len(names):
        return names
    return [f"{backend.name} {backend.dtype} {number}" for number, backend in enumerate(backends, start=1)]


def _values(original: Model, backend: Backend, x: Any, t: Any) -> Iterator[tuple[str, str, Array]]:
    """(layer, what, array) of a training step of a copy of a model, as it is computed."""
    model = copy.deepcopy(original).to(backend)
    layers = layers_of(model)
    uses: Uses = {}
    visits = Visits(forward_by_layer(layers, map_arrays(backend.asarray, x), True, saved=uses))
    for visit in visits:
        yield visit.path, "output", visit.value
    last = model.last_layer
    assert last is not None
    name = type(last).__name__
    yield name, "output", last.forward(visits.result, map_arrays(backend.asarray, t))
    dout = last.backward()
    for _, one in arrays_of(dout):
        yield name, "dx", one
    for visit in backward_by_layer(layers, dout, saved=uses):
        for key, value in visit.own.items():
            yield visit.path, f"d{key}", value
        if visit.value is not None:
            yield visit.path, "dx", visit.value


def _difference(value: Any, want: Any) -> float:
    """Largest difference of two host arrays, relative to the largest value of `want`."""
    if value.shape != want.shape:
        return math.inf
    value, want = value.astype("float64"), want.astype("float64")
    apart = abs(value - want)[~((value == want) | ((value != value) & (want != want)))]
    if not apart.size:
        return 0.0
    largest = float(abs(want).max())
    return float(apart.max()) / largest if largest else math.inf


def _table(rows: Sequence[LayerDifference]) -> str:
    labels = list(rows[0].differences)
    lines = [("layer", "what", *labels)]
    for row in rows:
        shown = (f"{value:.1e}" if value else "0.0" for value in row.differences.values())
        lines.append((row.layer, row.what, *shown))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = [
        "  ".join(
            f"{word:<{w}}" if i < 2 else f"{word:>{w}}" for i, (word, w) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    ]
    return "\n".join([text[0], "-" * len(text[0]), *text[1:]])
