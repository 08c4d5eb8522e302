"""Random configurations of losses, beside PyTorch's, whose mean over what counts is taken here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.layers.against_torch import Draw, Rng, batch
from xpdl import layers as L


def _weights_of(rng: Rng, *shape: int) -> Any:
    """Weights of rows or positions, of which some or all may be 0; or None."""
    return rng.random(shape) * (rng.random(shape) < rng.random()) if rng.integers(3) else None


def _mean(costs: Any, weights: Any) -> Any:
    """The mean of the costs of rows (N,), weighted; 0 where nothing counts, as of PyTorch's it would be NaN."""
    if weights is None:
        return costs.mean()
    return (weights * costs).sum() / (weights.sum() if weights.sum() > 0 else 1.0)


def softmax_with_loss(rng: Rng) -> Draw:
    x = 2.0 * rng.standard_normal(rng.integers(1, 6, int(rng.integers(2, 5))))
    places, classes = x.shape[:-1], x.shape[-1]
    kind = str(rng.choice(["labels", "shares"]))
    t = rng.integers(-1, classes, places) if kind == "labels" else rng.random(x.shape)
    ignored = -1 if kind == "labels" else None
    weights = list(0.5 + rng.random(classes)) if rng.integers(2) else None
    layer = L.SoftmaxWithLoss(0.3 * rng.integers(2), weights, ignore_label=ignored)
    rows = _weights_of(rng, *(places if rng.integers(2) else places[:1]))

    def there(torch: Any, inputs: list[Any], params: dict[str, Any]) -> Any:
        x, t, rows = inputs
        x, t = x.reshape(-1, classes), t.reshape(-1) if kind == "labels" else t.reshape(-1, classes)
        own = None if weights is None else torch.tensor(weights, dtype=torch.float64)
        options = {"weight": own, "label_smoothing": layer.label_smoothing, "reduction": "none"}
        costs = torch.nn.functional.cross_entropy(x, t, ignore_index=-1, **options)
        counts = torch.ones(len(x), dtype=torch.float64)
        if rows is not None:
            counts = rows.reshape(*rows.shape, *(1,) * (len(places) - rows.ndim)).expand(places).reshape(-1)
        total = counts
        if kind == "labels":
            total = counts * (t != -1) * (1.0 if own is None else own[t])
        return (counts * costs).sum() / (total.sum() if total.sum() > 0 else 1.0)

    return Draw(layer, (x, t, rows), there)


def of_numbers(make: Callable[[Rng], Any], cost: Callable[[Any, Any, Any, Any], Any], summed: bool) -> Any:
    """Draw a loss of numbers, a sum or a mean over each row; `cost` takes functions of torch, outputs, targets, layer."""

    def draw(rng: Rng) -> Draw:
        layer, x = make(rng), batch(rng, 0)
        shares = isinstance(layer, L.SigmoidWithLoss)
        t = rng.random(x.shape) if shares else np.asarray(rng.integers(-3, 4, x.shape))
        t = np.round(t) if shares and rng.integers(2) else t

        def there(torch: Any, inputs: list[Any], params: dict[str, Any]) -> Any:
            x, t, rows = inputs
            costs = cost(torch.nn.functional, x, t.double(), layer).reshape(len(x), -1)
            return _mean(costs.sum(1) if summed else costs.mean(1), rows)

        return Draw(layer, (x, t, _weights_of(rng, len(x))), there)

    return draw


def hinge(rng: Rng) -> Draw:
    x = rng.standard_normal((int(rng.integers(1, 5)), int(rng.integers(2, 6))))
    labels, layer = rng.integers(0, x.shape[1], len(x)), L.Hinge(0.5 + rng.random())
    t = [labels, labels[:, None], np.eye(x.shape[1])[labels]][int(rng.integers(3))]

    def there(torch: Any, inputs: list[Any], params: dict[str, Any]) -> Any:
        x, _, rows = inputs
        options = {"margin": layer.margin, "reduction": "none"}
        return _mean(x.shape[1] * torch.nn.functional.multi_margin_loss(x, torch.tensor(labels), **options), rows)

    return Draw(layer, (x, t, _weights_of(rng, len(x))), there)


def negative_sampling(rng: Rng) -> Draw:
    x = rng.standard_normal((int(rng.integers(1, 5)), int(rng.integers(2, 6))))
    labels = rng.integers(0, x.shape[1], len(x))
    t = [labels, labels[:, None], np.eye(x.shape[1])[labels]][int(rng.integers(3))]

    def there(torch: Any, inputs: list[Any], params: dict[str, Any]) -> Any:
        x, _, rows = inputs
        signs = 2.0 * torch.nn.functional.one_hot(torch.tensor(labels), x.shape[1]) - 1.0
        return _mean(-torch.nn.functional.logsigmoid(signs * x).sum(1), rows)

    return Draw(L.NegativeSampling(), (x, t, _weights_of(rng, len(x))), there)


def gaussian_kl(rng: Rng) -> Draw:
    x = rng.standard_normal((int(rng.integers(1, 5)), 2 * int(rng.integers(1, 4))))
    t = rng.standard_normal(x.shape) if rng.integers(2) else None

    def there(torch: Any, inputs: list[Any], params: dict[str, Any]) -> Any:
        x, t, rows = inputs
        other = _normal(torch, torch.zeros_like(x) if t is None else t)
        return _mean(torch.distributions.kl_divergence(_normal(torch, x), other).sum(1), rows)

    return Draw(L.GaussianKL(), (x, t, _weights_of(rng, len(x))), there)


def _normal(torch: Any, x: Any) -> Any:
    mean, log_var = x.chunk(2, dim=1)
    return torch.distributions.Normal(mean, torch.exp(0.5 * log_var))


PEERS: dict[str, Callable[[Rng], Draw]] = {
    "SoftmaxWithLoss": softmax_with_loss,
    "SigmoidWithLoss": of_numbers(
        lambda rng: L.SigmoidWithLoss(),
        lambda F, x, t, layer: F.binary_cross_entropy_with_logits(x, t, reduction="none"),
        summed=True,
    ),
    "IdentityWithLoss": of_numbers(
        lambda rng: L.IdentityWithLoss(), lambda F, x, t, layer: 0.5 * F.mse_loss(x, t, reduction="none"), summed=True
    ),
    "MeanSquaredError": of_numbers(
        lambda rng: L.MeanSquaredError(), lambda F, x, t, layer: F.mse_loss(x, t, reduction="none"), summed=False
    ),
    "MeanAbsoluteError": of_numbers(
        lambda rng: L.MeanAbsoluteError(), lambda F, x, t, layer: F.l1_loss(x, t, reduction="none"), summed=False
    ),
    "Huber": of_numbers(
        lambda rng: L.Huber(0.2 + rng.random()),
        lambda F, x, t, layer: F.huber_loss(x, t, delta=layer.delta, reduction="none"),
        summed=False,
    ),
    "Hinge": hinge,
    "GaussianKL": gaussian_kl,
    "NegativeSampling": negative_sampling,
}
