"""Random draws of tokens by their scores, on the host."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xpdl.backends.arrays import NDArray
from xpdl.backends.random import next_stream
from xpdl.ops.checks import number


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
    """

    def __init__(self, temperature: float, seed: int | None, owner: str, skip_ids: Sequence[int] = ()) -> None:
        self.temperature = number(temperature, "temperature", owner, "at least 0")
        self.owner, self.skip_ids = owner, list(skip_ids)
        self.generator = next_stream("generate", seed).generator("tokens")

    def __call__(self, scores: NDArray) -> NDArray:
        """Tokens (N,) for scores (N, K)."""
        scores = scores.astype(np.float64)
        if np.isnan(scores).any():
            raise ValueError(f"{self.owner}: scores of the net are NaN; train it anew, with a lower learning rate")
        scores[:, self.skip_ids] = -np.inf
        if self.temperature == 0:
            likeliest: NDArray = scores.argmax(axis=1)
            return likeliest
        sums = np.exp((scores - scores.max(axis=1, keepdims=True)) / self.temperature).cumsum(axis=1)
        # below the sum of all, also where the product is rounded up to it
        places = np.minimum(self.generator.random(len(sums)) * sums[:, -1], np.nextafter(sums[:, -1], 0))
        drawn: NDArray = (sums <= places[:, None]).sum(axis=1)
        return drawn
