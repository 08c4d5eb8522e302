"""Random draws of tokens by their scores, on the host."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xpdl.backends.arrays import NDArray
from xpdl.backends.random import next_stream
from xpdl.ops.checks import number, positive_int


class Sampler:
    """Draw tokens by their scores.

    Parameters
    ----------
    temperature : float
        What scores are divided by: below 1 for likelier tokens, above 1 for a wider choice; 0 takes the highest score.
    seed : int or None
    owner : str
        Whose arguments they are, for messages.
    skip_ids : sequence of int
        Tokens that are never drawn.
    top_k : int, optional
        Draw among so many of the likeliest tokens; of equal ones, the first come first.
    top_p : float, optional
        Draw among the likeliest tokens that together have at least this probability, in (0, 1]; after `top_k`.
    """

    def __init__(
        self,
        temperature: float,
        seed: int | None,
        owner: str,
        skip_ids: Sequence[int] = (),
        *,
        top_k: int | None = None,
        top_p: float | None = None,
    ) -> None:
        self.temperature = number(temperature, "temperature", owner, "at least 0")
        self.top_k = None if top_k is None else positive_int(top_k, "top_k", owner)
        self.top_p = None if top_p is None else number(top_p, "top_p", owner, "positive")
        if self.top_p is not None and self.top_p > 1:
            raise ValueError(f"{owner}: top_p must be a probability in (0, 1], got {top_p!r}")
        self.owner, self.skip_ids = owner, list(skip_ids)
        self.generator = next_stream("generate", seed).generator("tokens")

    def __call__(self, scores: NDArray) -> NDArray:
        """Tokens (N,) for scores (N, K)."""
        scores = scores.astype(np.float64)
        scores[:, self.skip_ids] = -np.inf
        highest = scores.max(axis=1, keepdims=True)
        if not np.isfinite(highest).all():
            kind = "NaN" if np.isnan(highest).any() else "infinite"
            raise ValueError(f"{self.owner}: scores of the net are {kind}; train it anew, with a lower learning rate")
        if self.temperature == 0:
            likeliest: NDArray = scores.argmax(axis=1)
            return likeliest
        with np.errstate(over="ignore"):  # of a temperature near 0, whose other tokens have no probability
            weights = np.exp((scores - highest) / self.temperature)
        if self.top_k is not None or self.top_p is not None:
            weights = self._likeliest(weights)
        sums = weights.cumsum(axis=1)
        # below the sum of all, also where the product is rounded up to it
        places = np.minimum(self.generator.random(len(sums)) * sums[:, -1], np.nextafter(sums[:, -1], 0))
        drawn: NDArray = (sums <= places[:, None]).sum(axis=1)
        return drawn

    def _likeliest(self, weights: NDArray) -> NDArray:
        """`weights`, 0 for all tokens but those of `top_k` and `top_p`."""
        order = np.argsort(-weights, axis=1, kind="stable")
        ranked = np.take_along_axis(weights, order, axis=1)
        if self.top_k is not None:
            ranked[:, self.top_k :] = 0.0
        if self.top_p is not None:
            before = ranked.cumsum(axis=1) - ranked
            ranked[before >= self.top_p * ranked.sum(axis=1, keepdims=True)] = 0.0
        kept = np.zeros_like(weights)
        np.put_along_axis(kept, order, ranked, axis=1)
        return kept
