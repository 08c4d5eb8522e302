"""Compare estimators for tables, and print the table of docs/tables.md.

    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 XPDL_NUM_THREADS=1 python scripts/compare_tables.py

It takes ``pip install "xpdl[scikit-learn]" skorch torch``. For each estimator: the mean, over ten seeds, of its scores on a
quarter of the rows that it is not fitted to, and of the processor time of a fit. All have their default parameters, and a
StandardScaler before them. skorch has no net of its own: it trains the net that `xpdl.XpdlClassifier` makes, by Adam with
the same learning rate, batches and epochs.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

from sklearn.datasets import load_digits, make_classification, make_friedman1
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.metrics import average_precision_score
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import xpdl

#: of `xpdl.XpdlClassifier` and `xpdl.XpdlRegressor`
DEFAULTS = {"max_epochs": 50, "batch_size": 64, "lr": 0.01}


def digits(seed: int) -> tuple[Any, Any]:
    """1,797 pictures of 8x8 pixels, ten classes."""
    return load_digits(return_X_y=True)


def imbalanced(seed: int) -> tuple[Any, Any]:
    """4,000 rows of 20 features; one in twenty is of class 1, and one label in a hundred is wrong."""
    return make_classification(4000, 20, n_informative=8, weights=[0.95], random_state=seed)


def friedman(seed: int) -> tuple[Any, Any]:
    """2,000 rows of Friedman's first function: five of ten features count, with noise of variance 1."""
    return make_friedman1(2000, noise=1.0, random_state=seed)


def skorch_classifier(features: int, classes: int, seed: int) -> Any:
    import skorch
    import torch

    torch.manual_seed(seed)
    net = torch.nn.Sequential(torch.nn.Linear(features, 100), torch.nn.ReLU(), torch.nn.Linear(100, classes))
    return skorch.NeuralNetClassifier(net, criterion=torch.nn.CrossEntropyLoss, **skorch_options())


def skorch_regressor(features: int, targets: int, seed: int) -> Any:
    import skorch
    import torch

    torch.manual_seed(seed)
    net = torch.nn.Sequential(torch.nn.Linear(features, 100), torch.nn.ReLU(), torch.nn.Linear(100, 1))
    return skorch.NeuralNetRegressor(net, **skorch_options())


def skorch_options() -> dict[str, Any]:
    import torch

    return {
        "optimizer": torch.optim.Adam,
        "train_split": None,
        "iterator_train__shuffle": True,
        "verbose": 0,
        **DEFAULTS,
    }


#: name -> functions of (features, outputs, seed) that make the classifier and the regressor
ESTIMATORS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "xpdl": (
        lambda features, classes, seed: xpdl.XpdlClassifier(random_state=seed),
        lambda features, targets, seed: xpdl.XpdlRegressor(random_state=seed),
    ),
    "scikit-learn, MLP": (
        lambda features, classes, seed: MLPClassifier(random_state=seed),
        lambda features, targets, seed: MLPRegressor(random_state=seed),
    ),
    "scikit-learn, HistGradientBoosting": (
        lambda features, classes, seed: HistGradientBoostingClassifier(random_state=seed),
        lambda features, targets, seed: HistGradientBoostingRegressor(random_state=seed),
    ),
    "skorch": (skorch_classifier, skorch_regressor),
}


def score(name: str, table: Callable[[int], tuple[Any, Any]], seed: int) -> dict[str, float]:
    """Return accuracy and average precision, or R², and the seconds of a fit."""
    x, y = table(seed)
    classifies = table is not friedman
    if name == "skorch":
        x, y = x.astype("float32"), y if classifies else y.astype("float32")[:, None]
    x, x_test, y, y_test = train_test_split(x, y, test_size=0.25, random_state=seed, stratify=y if classifies else None)
    estimator = ESTIMATORS[name][0 if classifies else 1](x.shape[1], len(set(y.ravel().tolist())), seed)
    model = make_pipeline(StandardScaler(), estimator)
    start = time.process_time()
    model.fit(x, y)
    seconds = time.process_time() - start
    found = {"score": model.score(x_test, y_test), "seconds": seconds}
    if table is imbalanced:
        found["average precision"] = average_precision_score(y_test, model.predict_proba(x_test)[:, 1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--without", action="append", default=[], choices=ESTIMATORS, help="leave an estimator out")
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # of fits that have not converged in the epochs that there are by default
    print(
        "| | digits: accuracy | imbalanced: accuracy | average precision | Friedman: R² | processor seconds of a fit |"
    )
    print("|---|---|---|---|---|---|")
    for name in [name for name in ESTIMATORS if name not in options.without]:
        results = [
            [score(name, table, seed) for seed in range(options.seeds)] for table in (digits, imbalanced, friedman)
        ]
        means = [{key: statistics.mean(run[key] for run in runs) for key in runs[0]} for runs in results]
        scores = [f"{means[0]['score']:.4f}", f"{means[1]['score']:.4f}", f"{means[1]['average precision']:.3f}"]
        scores += [f"{means[2]['score']:.4f}", ", ".join(f"{mean['seconds']:.1f}" for mean in means)]
        print(f"| {name} | {' | '.join(scores)} |", flush=True)


if __name__ == "__main__":
    main()
