"""Evaluation of a network on a whole data set, computed batch by batch."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from xpdl.backends import asnumpy
from xpdl.backends.namespaces import Array, array_namespace, is_array
from xpdl.data.structure import map_arrays, rows_in, take_rows
from xpdl.distributed import Communicator
from xpdl.layers.recurrent_state import states_of_zeros
from xpdl.models.base import Model
from xpdl.models.batched import count_right, joined
from xpdl.models.seq2seq import Seq2seq
from xpdl.ops.checks import label_rows
from xpdl.ops.shares import share_of
from xpdl.training.history import LISTS, History
from xpdl.training.measures import Measure, Outputs, activation_of, kind_of, loss_words
from xpdl.training.step import weight_of
from xpdl.training.whole_sets import ROWS, as_share, batched, home, rows_of

# Of shares in float32, relative.
_ROUNDING = 1e-6
_WIDE = 32


class Evaluator:
    """Measures a network after each epoch of a training, on each of its data sets.

    Parameters
    ----------
    network
    sets : dict of str to (x, t)
        ``"train"``, and ``"val"`` and ``"test"`` where there are such rows.
    measures : sequence of Measure
    rows : int, optional
        Measure on so many first rows of each set instead of on all.
    communicator : Communicator, optional
        Of ranks that share the rows of each set, every row once.
    """

    def __init__(
        self,
        network: Any,
        sets: Mapping[str, tuple[Array, Array]],
        measures: Sequence[Measure] = (),
        rows: int | None = None,
        communicator: Communicator | None = None,
    ) -> None:
        self.network, self.sets, self.measures, self.rows = network, sets, measures, rows
        self.communicator = communicator if communicator is not None and communicator.size > 1 else None
        self.classifies = kind_of(network) in ("classes", "labels")

    def measure(self, history: History) -> str:
        """Measure, record in `history`, and return the line to print."""
        words, measured = [], {}
        for which, (x, t) in self.sets.items():
            kinds = self._kinds(which)
            if not kinds and not self.measures:
                continue
            # the standard leaves open what a slice beyond the last row gives
            rows = min(self.rows or rows_in(x), rows_in(x))
            x, t = take_rows((x, t), 0, rows)
            with states_of_zeros(self.network):  # rows are sequences of their own
                values = evaluate(self.network, x, t, kinds, self.measures, self.communicator)
            for name, value in values.items():
                measured[f"{which}_{name}"] = value
                shown = loss_words(self.network, value) if name == "loss" else f"{value:.4f}"
                words.append(f"{which} {'accuracy' if name == 'acc' else name} {shown}")
        for name, value in measured.items():  # once all is measured, which may be broken off and made again
            history.record(name, value)
        return "  ".join(words)

    def measured(self) -> dict[str, Measure | None]:
        """Return the names of all that is measured, those of `LISTS` first and in its order, and the metrics behind them."""
        found: dict[str, Measure | None] = {}
        for which in self.sets:
            found |= {f"{which}_{kind}": None for kind in self._kinds(which)}
            found |= {f"{which}_{one.name}": one for one in self.measures}
        first = [name for name in LISTS if name in found]
        return {name: found[name] for name in [*first, *(name for name in found if name not in first)]}

    def _kinds(self, which: str) -> tuple[str, ...]:
        """Return which of accuracy and loss are measured on a set; the loss of the training rows is known from the steps."""
        loss = which != "train" and callable(getattr(self.network, "loss", None))
        return ("acc",) * self.classifies + ("loss",) * loss


def evaluate(
    network: Any,
    x: Array,
    t: Array,
    kinds: Collection[str],
    measures: Sequence[Measure] = (),
    communicator: Communicator | None = None,
) -> dict[str, float]:
    """Numbers by their names: those of `kinds`, ``"acc"`` and ``"loss"``, and `measures`, each over all rows together.

    The ranks of a `communicator` share the rows, and all of them get the same numbers.
    """
    found: dict[str, float] = {}
    if communicator is not None:
        found = {kind: _divided(*sums) for kind, sums in _sums_of_ranks(network, x, t, kinds, communicator).items()}
    elif kinds and _is_plain(network, kinds):
        found = {kind: _divided(*sums) for kind, sums in _in_one_pass(network, x, t, kinds).items()}
    elif kinds:
        found = {kind: (accuracy if kind == "acc" else mean_loss)(network, x, t) for kind in kinds}
    if measures:
        outputs = _outputs(network, x, t, communicator)
        found |= {one.name: one.function(outputs) for one in measures}
    return found


def _sums_of_ranks(
    network: Any, x: Array, t: Array, kinds: Collection[str], communicator: Communicator
) -> dict[str, tuple[float, float]]:
    """Add up what the ranks' rows have right, or their losses, and what these are divided by."""
    start, stop = share_of(rows_of(x, t, "evaluate"), communicator.rank, communicator.size)
    x, t = take_rows((x, t), start, stop)
    own: dict[str, tuple[float, float]] = {}
    if start == stop or not kinds:
        own = dict.fromkeys(kinds, (0.0, 0.0))
    elif _is_plain(network, kinds):
        own = _in_one_pass(network, x, t, kinds)
    else:
        rows = stop - start
        own = {
            kind: (_whole(accuracy(network, x, t) * rows, rows), rows)
            if kind == "acc"
            else _loss(network, x, t, start, communicator)
            for kind in kinds
        }
    every = communicator.allgather({kind: (float(total), float(weight)) for kind, (total, weight) in own.items()})
    return {kind: (sum(one[kind][0] for one in every), sum(one[kind][1] for one in every)) for kind in kinds}


def accuracy(network: Any, x: Array, t: Array) -> float:
    """Share of all rows of `x` that ``network.accuracy`` counts as right.

    A `Sequential` counts on its device, and the host reads one number. Another network is asked batch by batch, and where
    its ``accuracy`` has a ``batch_size``, as in the book, that is always the batch at hand: the book's own code drops what
    does not fill a batch.
    """
    rows = rows_of(x, t, "accuracy")
    if getattr(type(network), "accuracy", None) is Model.accuracy:
        return float(batched(network, lambda size: network.accuracy(x, t, batch_size=size)))
    own_batches = "batch_size" in inspect.signature(network.accuracy).parameters
    right = 0.0
    for start in range(0, rows, ROWS):
        end = min(start + ROWS, rows)
        option = {"batch_size": end - start} if own_batches else {}
        right += float(network.accuracy(*take_rows((x, t), start, end), **option)) * (end - start)
    return _whole(right, rows) / rows


def mean_loss(network: Any, x: Array, t: Array) -> float:
    """The mean over all rows of ``network.loss``, in which rows have the weights that they have in the loss."""
    return _divided(*_loss(network, x, t))


def _loss(
    network: Any, x: Array, t: Array, first: int = 0, communicator: Communicator | None = None
) -> tuple[Any, Any]:
    """The sum of the losses of all rows, and what the mean is divided by.

    Of a rank, `first` is the number of its first row in the set: its passes end where those of one process end, and layers
    see which rows of these they get.
    """
    rows, to_home = rows_of(x, t, "mean_loss"), home(network)

    def sums(size: int) -> Any:
        total: Any = 0.0
        weights: Any = 0.0
        end = 0
        while end < rows:
            start, place = end, (first + end) % size
            end = min(start + size - place, rows)
            batch, targets = to_home(take_rows((x, t), start, end))
            with as_share(network, place, end - start, communicator):
                loss = network.loss(batch, targets)
            weight = weight_of(network, batch)
            total, weights = total + _wide(loss) * weight, weights + weight
        return total, weights

    found: tuple[Any, Any] = batched(network, sums)
    return found


def _whole(right: float, rows: int) -> float:
    """A count of rows, which is whole but for rounding; a count of labels per row need not be."""
    return round(right) if abs(right - round(right)) < _ROUNDING * rows else right


def _is_plain(network: Any, kinds: Collection[str]) -> bool:
    """Return whether accuracy and loss are functions of the scores alone, so that one pass gives both."""
    cls = type(network)
    return (
        isinstance(network, Model)
        and set(kinds) <= {"acc", "loss"}
        and (cls.accuracy, cls.loss, cls.predict)
        == (
            Model.accuracy,
            Model.loss,
            Model.predict,
        )
    )


def _in_one_pass(network: Model, x: Array, t: Array, kinds: Collection[str]) -> dict[str, tuple[Any, Any]]:
    """For each of `kinds`, a sum over all rows and what it is divided by."""
    rows, to_home, last = rows_of(x, t, "evaluate"), home(network), network.last_layer
    assert last is not None

    def measured(size: int) -> dict[str, tuple[Any, Any]]:
        right: Any = 0
        total: Any = 0.0
        weights: Any = 0.0
        decisions: Any = 0
        for start in range(0, rows, size):
            end = min(start + size, rows)
            batch, targets = to_home(take_rows((x, t), start, end))
            scores = network.predict(batch)
            if "acc" in kinds:
                hits, of = count_right(last.correct(scores, targets), last.counted(scores, targets))
                right, decisions = right + hits, decisions + of
            if "loss" in kinds:
                loss = last.forward(scores, targets)
                weight = weight_of(network, scores)
                total, weights = total + _wide(loss) * weight, weights + weight
        sums = {"acc": (right, decisions), "loss": (total, weights)}
        return {kind: sums[kind] for kind in kinds}

    found: dict[str, tuple[Any, Any]] = batched(network, measured)
    return found


def _outputs(network: Any, x: Array, t: Array, communicator: Communicator | None) -> Outputs:
    """The scores for all rows, on the host in float64."""
    if isinstance(network, Seq2seq):  # each id of an answer is told from those before it
        x, t = (x, t[:, :-1]), t[:, 1:]
    rows, to_home = rows_of(x, t, "evaluate"), home(network)
    begin, rows = (0, rows) if communicator is None else share_of(rows, communicator.rank, communicator.size)

    def scores(size: int) -> list[Array]:
        parts = (
            network.predict(to_home(take_rows(x, start, min(start + size, rows)))) for start in range(begin, rows, size)
        )
        return [map_arrays(asnumpy, part) for part in parts]

    parts = batched(network, scores)
    if communicator is not None:
        parts = [part for of_rank in communicator.allgather(parts) for part in of_rank]
    wide = map_arrays(lambda a: array_namespace(a).astype(a, array_namespace(a).float64), joined(parts))
    kind, targets = kind_of(network), map_arrays(asnumpy, t)
    if kind == "classes":
        targets = label_rows(targets, wide)
    return Outputs(kind, wide, activation_of(network)(wide), targets)


def _wide(loss: Any) -> Any:
    """A loss in float32 at least: a sum over many rows is beyond float16."""
    if not is_array(loss):
        return loss
    xp = array_namespace(loss)
    return xp.astype(loss, xp.float32) if xp.finfo(loss.dtype).bits < _WIDE else loss


def _divided(total: Any, weights: Any) -> float:
    weight = float(weights)
    return float(total) / weight if weight else 0.0
