"""Write one file of each kind, with the version of xpdl that is on the path, and what it made of them.

``git worktree add --detach OLD COMMIT``, then ``PYTHONPATH=OLD python tests/files_of_earlier_versions/write.py``: it fills
the folder that is named after that version, such as ``0.1``. Files of a released version never change; the folder must not
exist. Those of 0.1 are by commit 3f3bc55.
"""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path

import numpy as np
import runs

import xpdl


def write_runs(folder: Path, scratch: Path) -> dict[str, np.ndarray]:
    """Write checkpoints, logs and histories of interrupted runs; return the weights of the same runs uninterrupted."""
    weights = {}
    for name, (make, step) in runs.RUNS.items():
        with contextlib.suppress(KeyboardInterrupt):
            make(folder, step).train()
        whole = make(scratch, None)
        whole.train().save(folder / f"{name}.history.json")
        weights.update({f"run {name} {key}": xpdl.asnumpy(value) for key, value in whole.network.params.items()})
    return weights


def write_models(folder: Path) -> dict[str, np.ndarray]:
    """Write models with running statistics that a pass has changed; return their scores."""
    scores = {}
    for name, (make, x) in runs.MODELS.items():
        model = make()
        model.gradient(x, runs.LABELS)
        model.save_params(folder / f"{name}.safetensors")
        scores[f"model {name}"] = xpdl.asnumpy(model.predict(x))
    return scores


def write_optimizers(folder: Path) -> dict[str, np.ndarray]:
    """Write states after some steps, with the parameters; return the parameters after all steps."""
    updated = {}
    for name, optimizer in runs.OPTIMIZERS.items():
        params = {key: p.copy() for key, p in runs.START.items()}
        for number, grads in enumerate(runs.GRADIENTS, 1):
            optimizer.update(params, grads)
            if number == runs.WRITTEN_AFTER:
                state = optimizer.state_dict()
                arrays = {
                    f"{kind} {key}": a for kind, of in state.items() if isinstance(of, dict) for key, a in of.items()
                }
                arrays.update({f"params {key}": p.copy() for key, p in params.items()})
                numbers = json.dumps({key: value for key, value in state.items() if not isinstance(value, dict)})
                np.savez_compressed(folder / f"{name}.npz", numbers=np.asarray(numbers), **arrays)
        updated.update({f"optimizer {name} {key}": p for key, p in params.items()})
    return updated


def write_searches(folder: Path) -> dict[str, list[float]]:
    """Write the logs of two searches; return the scores of their trials."""
    options = {"n_trials": 2, "seed": 6, "verbose": False}
    result = xpdl.random_search(runs.searched, runs.SPACE, log=folder / "random_search.jsonl", **options)
    halved = {**options, "n_trials": 3, "min_epochs": 1, "max_epochs": 3}
    other = xpdl.successive_halving(runs.searched, runs.SPACE, log=folder / "successive_halving.jsonl", **halved)
    return {
        "random_search": [trial.score for trial in result.trials],
        "successive_halving": [trial.score for trial in other.trials],
    }


def main() -> None:
    folder = Path(__file__).parent / ".".join(xpdl.__version__.split(".")[:2])
    scratch = folder / "scratch"
    scratch.mkdir(parents=True)
    arrays = {**write_runs(folder, scratch), **write_models(folder), **write_optimizers(folder)}
    np.savez_compressed(folder / "expected.npz", **arrays)
    (folder / "expected_scores.json").write_text(json.dumps(write_searches(folder), indent=1) + "\n")
    for path in [*scratch.iterdir(), *folder.glob(".*.lock"), *folder.glob("*.checkpoint.*")]:
        path.unlink()
    scratch.rmdir()


if __name__ == "__main__":
    sys.exit(main())
