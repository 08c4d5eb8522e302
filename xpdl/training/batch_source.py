"""Batches that come ready made, from a loader or a generator function, in the place of training rows."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from xpdl.backends import tables
from xpdl.backends.namespaces import is_array
from xpdl.backends.random import Stream
from xpdl.data.batches import BatchIterator, Transforms, row_count
from xpdl.data.prefetch import Prefetch
from xpdl.data.structure import concat_rows, is_structure
from xpdl.errors import LabelError
from xpdl.models.batch_check import BatchCheck
from xpdl.training.conversion import features, stand_for_classes, targets_of

#: of a function that is told its rank
RANK_ARGUMENTS = 3
_CURE = "pass the function that makes it, or something that can be iterated over again"


def is_source(x: Any, t: Any, x_name: str = "x", t_name: str = "t") -> bool:
    """Return whether `x`, without targets of its own, is something that gives batches.

    Raises
    ------
    TypeError
        If it gives batches, or makes them, and `t` is there as well.
    """
    is_list_of_pairs = isinstance(x, list) and x is t and all(isinstance(one, tuple) for one in x)
    gives_batches = is_list_of_pairs or callable(x) or isinstance(x, (BatchIterator, Iterator))
    if t is not None and gives_batches and not is_array(x):
        cure = "pass test batches as x_test=..." if x_name == "x_train" else f"leave {t_name} out"
        raise TypeError(
            f"Trainer: {x_name} gives batches (x, t) with their targets, got {t_name} too, a {type(t).__name__}; {cure}"
        )
    if t is not None or is_array(x) or tables.is_table(x) or isinstance(x, (str, bytes, tuple, Mapping, type)):
        return False
    return callable(x) or isinstance(x, Iterable)


class BatchSource(BatchIterator):
    """BatchIterator over batches that somebody else makes.

    Parameters
    ----------
    source : iterable, or function
        Gives batches ``(x, t)`` or ``(x, t, sample_weight)``. A function is called in each pass and returns an iterable; one
        with a parameter gets the number of the epoch, from 0, and one with three also the rank and the number of ranks. What
        has ``epoch`` and ``first_batch`` as `Batches` has, is told them.
    name : str
        For messages.
    network
    seed : int
        Of `transform`.
    transform : callable or sequence of them, optional

    Attributes
    ----------
    backend : Backend or None
        Where the batches go.

    Notes
    -----
    A pass that is left goes on with the next one, where that begins with the batch after the last: the source is not asked
    again, whose order may be another each time.
    """

    #: this rank, and the number of them
    place = 0, 1
    #: of the last batch, the first row of this rank, the one after its last, and the rows of all ranks
    span = 0, 0, 0
    #: in a batch at least
    least_rows = 1
    #: whether labels that are names become numbers here
    numbers_names = True

    def __init__(
        self, source: Any, name: str, network: Any, seed: int | None = None, transform: Transforms | None = None
    ) -> None:
        super().__init__(1, False, seed, False, transform, None)
        self.source, self.name, self.network = source, name, network
        #: in whose order labels that are names are numbered
        self.class_names: list[str] | None = getattr(network, "class_names", None)
        self._live: Iterator[Any] | None = None
        self._check = BatchCheck(network)
        #: the epoch of the iterator, the number of batches that it gave, and the last one
        self._given: tuple[int, int, Any] = (0, 0, None)

    def __len__(self) -> int:
        return len(self.source)

    def __getstate__(self) -> dict[str, Any]:
        # an iterator cannot be copied
        return {**vars(self), "_live": None}

    @property
    def steps(self) -> int | None:
        """The number of batches of a pass, where it is known."""
        try:
            return len(self.source)
        except (TypeError, NotImplementedError):  # none, or of a loader whose data set has none
            return None

    def is_used_up_after_one_pass(self) -> bool:
        """Return whether it is an iterator, such as a generator."""
        return isinstance(self.source, Iterator)

    def first_inputs(self) -> Any:
        """Return x of the first batch, which is not lost to the first pass."""
        batch = self._first()
        if batch is None:
            raise ValueError(f"{self.name} gives no batch")
        return self._checked(batch, 1)[0]

    def learn_class_names(self) -> set[str] | None:
        """Return the names of all classes, by a pass over the batches; None where the first labels are no names of classes.

        Raises
        ------
        LabelError
            If the source gives its batches once, or the network tells no classes apart.
        """
        batch, name = self._first(), f"{self.name}, batch 1: t"
        if batch is None:
            return None
        t = self._targets(batch, 1)
        if is_structure(t) or not (tables.has_names(t) and stand_for_classes(t, self.network, name)):
            return None
        if self.is_used_up_after_one_pass():
            raise LabelError(
                f"{name} has names, and {type(self.source).__name__} gives its batches once; set class_names of the network "
                f"before, in the order of its outputs, or {_CURE}"
            )
        names: set[str] = set()
        for count, batch in enumerate(self._opened(0, 0), 1):
            names.update(tables.class_names(self._targets(batch, count), f"{self.name}, batch {count}: t"))
        return names

    def _first(self) -> Any:
        """Return the first batch or None; the first pass goes on with it, as another one might have another order."""
        iterator = self._opened(0, 0) if self._live is None else self._live
        batch = next(iterator, None)
        self._live = None if batch is None else itertools.chain([batch], iterator)
        return batch

    def _batches(self, stream: Stream, first: int) -> Iterator[tuple[Any, ...]]:
        epoch = self.epoch - 1  # this pass counts already
        of_epoch, count, last = self._given
        was_unused = last is not None and first == count - 1
        if self._live is None or of_epoch != epoch or not (was_unused or first == count):
            self._live, count = self._opened(epoch, first), first
        elif was_unused:
            self._live = itertools.chain([last], self._live)
        for count, batch in enumerate(self._live, first + 1):
            self._given = epoch, count, batch
            yield self._checked(batch, count)
        self._given = epoch, max(count, first), None

    def _opened(self, epoch: int, first: int) -> Iterator[Any]:
        source = self.source
        if hasattr(source, "epoch") and hasattr(source, "first_batch"):
            source.epoch, source.first_batch = epoch, first
            return iter(source)
        made = source(*_arguments(source, (epoch, *self.place), self.name)) if callable(source) else source
        if not isinstance(made, Iterable):
            raise TypeError(f"{self.name}: the function must return an iterable of batches, got {type(made).__name__}")
        return itertools.islice(made, first, None)

    def _targets(self, batch: Any, count: int) -> Any:
        """Return the targets of a batch as arrays; names of classes stay such."""
        name = f"{self.name}, batch {count}"
        if not (isinstance(batch, (tuple, list)) and len(batch) in (2, 3)):
            raise TypeError(f"{name}: expected a pair (x, t) or (x, t, sample_weight), got {_described(batch)}")
        return targets_of(batch[1], f"{name}: t")

    def _checked(self, batch: Any, count: int) -> tuple[Any, ...]:
        name, t = f"{self.name}, batch {count}", self._targets(batch, count)
        x, _, *weight = batch
        if is_array(t) and tables.has_names(t) and self.numbers_names:
            if self.class_names is None and tables.is_words(t):
                raise LabelError(
                    f"{name}: labels are names, and those of the first batch are none; give all of one kind, or set "
                    "class_names of the network before, in the order of its outputs"
                )
            t = t if self.class_names is None else tables.class_numbers(t, self.class_names, f"{name}: t")
        x = features(x, self.network, f"{name}: x")
        row_count(x, t, name, least=self.least_rows)
        self._check(x, t, f"{name}: x", f"{name}: t")
        return (x, t, *(tables.as_array(one, f"{name}: sample_weight") for one in weight))


def is_in_order(batches: object) -> bool:
    """Return whether a batch may go on where the one before ended: of a source, unless xpdl draws or shuffles it."""
    if not isinstance(batches, BatchSource):
        return False
    source = batches.source.batches if isinstance(batches.source, Prefetch) else batches.source
    return not (isinstance(source, BatchIterator) and source.shuffle)


def require_passes(batches: BatchSource, passes: int) -> None:
    """Refuse an iterator for more than one pass.

    Raises
    ------
    TypeError
        If it is one.
    """
    if batches.is_used_up_after_one_pass() and passes > 1:
        kind = type(batches.source).__name__
        raise TypeError(
            f"{batches.name} is a {kind}, which gives its batches once, but {passes} epochs are asked for; {_CURE}"
        )


def joined(source: Any, name: str, network: Any) -> tuple[Any, Any]:
    """Read all batches of a set that is measured, and return its rows.

    Raises
    ------
    ValueError
        If there is none.
    """
    rows = BatchSource(source, name, network, 0)
    rows.numbers_names = False  # as those of a set of arrays they are looked at together
    batches = [batch[:2] for batch in rows]
    if not batches:
        raise ValueError(f"{name} gives no batch")
    pair: tuple[Any, Any] = concat_rows(batches, name)
    return pair


def argument_count(function: Any) -> int:
    """Return the number of arguments that a function must be called with."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # of some functions written in C
        return 0
    return sum(p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)


def _arguments(function: Any, given: tuple[int, int, int], name: str) -> tuple[int, ...]:
    """Return the arguments that a function takes of the epoch, the rank and the number of ranks."""
    count = argument_count(function)
    if count not in (0, 1, RANK_ARGUMENTS):
        raise TypeError(
            f"{name}: the function must take nothing, the epoch, or the epoch, the rank and the number of ranks, "
            f"got one of {count} arguments"
        )
    return given[:count]


def _described(batch: Any) -> str:
    size = f" of {len(batch)}" if isinstance(batch, (tuple, list, Mapping)) else ""
    return f"{type(batch).__name__}{size}"
