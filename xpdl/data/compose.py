"""Several transforms of rows, one after another."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

from xpdl.backends.namespaces import Array
from xpdl.backends.random import Stream, next_stream


class Compose:
    """Transforms one after another, itself a transform.

    Parameters
    ----------
    *transforms : callable
        ``transform(x, stream)``, or ``transform(x)`` where nothing is drawn; or one sequence of them. Each has a stream of
        its own, which depends on its place.

    Raises
    ------
    TypeError
        If one of them cannot be called, or the stream given in a call is none.

    Examples
    --------
    >>> x = np.ones((2, 1, 4, 4), dtype="float32")
    >>> augment.Compose(augment.Flip(), lambda x: x - 0.5)(x).mean()
    np.float32(0.5)
    """

    takes_stream = True

    def __init__(self, *transforms: Callable[..., Array] | Sequence[Callable[..., Array]]) -> None:
        if len(transforms) == 1 and isinstance(transforms[0], Sequence):
            transforms = tuple(transforms[0])
        self.transforms = transforms
        self._calls = [
            as_transform(transform, f"Compose: transform {number}") for number, transform in enumerate(transforms)
        ]

    def __call__(self, x: Array, stream: Stream | None = None) -> Array:
        stream = given_stream(stream, "Compose")
        for number, call in enumerate(self._calls):
            x = call(x, stream.child(f"transform {number}"))
        return x

    def __repr__(self) -> str:
        return f"Compose({', '.join(map(repr, self.transforms))})"


def given_stream(stream: Any, owner: str) -> Stream:
    """`stream`, or where it is None a fresh one that follows `xpdl.seed`."""
    if stream is None:
        return next_stream(owner)
    if not isinstance(stream, Stream):
        raise TypeError(
            f"{owner}: expected a Stream to draw from, got {stream!r}; xpdl.backends.random.Stream(seed) is one"
        )
    return stream


def as_transform(transform: Any, owner: str) -> Callable[[Array, Stream], Array]:
    """`transform`, to be called with a stream in any case.

    It sees the stream if it says ``takes_stream`` or cannot be called without; one that can be called with rows alone has a
    meaning of its own for a second argument.
    """
    if isinstance(transform, type):
        raise TypeError(f"{owner}: expected a transform, got a class; make one: {transform.__name__}()")
    if not callable(transform):
        raise TypeError(f"{owner}: expected a callable of (x, stream) or (x), got {transform!r}")
    if getattr(transform, "takes_stream", False):
        return transform  # type: ignore[no-any-return]
    alone = functools.partial(_without_stream, transform)
    try:
        inspect.signature(transform).bind(None)
    except TypeError:
        return transform  # type: ignore[no-any-return]
    except ValueError:  # some functions written in C have no signature
        return alone
    return alone


def _without_stream(transform: Callable[[Array], Array], x: Array, stream: Stream) -> Array:
    return transform(x)
