"""Labels and ids out of range: an error wherever reading them waits for no device, on every library."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import xpdl
from tests.harness import Backend, nonempty
from xpdl import Affine, Embedding, Hinge, LabelError, Sequential, SoftmaxWithLoss, metrics
from xpdl.functional import cross_entropy_error, softmax_cross_entropy
from xpdl.layers import NegativeSampling

# arrays whose values lie on the host
pytestmark = [
    pytest.mark.exhaustive,
    pytest.mark.backends("numpy", "torch", "jax"),
    pytest.mark.skip_backend("meta", reason="has no values"),
    pytest.mark.skip_backend("jit", reason="traced arrays have no values"),
    pytest.mark.skip_backend("gpu", reason="the host would wait for the values"),
]

K = 3
X = np.random.default_rng(0).standard_normal((4, K))
WRONG = {"below": -1, "above": K, "far above": 127}


def squares(y: Any, t: Any) -> tuple[Any, Any]:
    """A loss that looks at no label."""
    return (y * y).sum() / y.shape[0], 2.0 * y / y.shape[0]


squares.classifies = True  # type: ignore[attr-defined]

LOSSES: dict[str, Any] = {
    "softmax": SoftmaxWithLoss,
    "smoothed softmax": lambda: SoftmaxWithLoss(label_smoothing=0.1),
    "weighted softmax": lambda: SoftmaxWithLoss(class_weights=[1.0, 2.0, 3.0]),
    "softmax without padding": lambda: SoftmaxWithLoss(ignore_label=-2),
    "hinge": Hinge,
    "negative sampling": NegativeSampling,
    "function": lambda: Sequential(loss=squares).last_layer,
}
FUNCTIONS = {
    "cross_entropy_error": cross_entropy_error,
    "softmax_cross_entropy": softmax_cross_entropy,
    "weighted softmax_cross_entropy": lambda x, t: softmax_cross_entropy(x, t, class_weights=[1.0, 2.0, 3.0]),
    **{name: getattr(metrics, name) for name in ("accuracy", "perplexity", "top_k_accuracy", "roc_auc")},
    "macro f1": lambda y, t: metrics.f1(y, t, average="macro"),
}


def labels(wrong: int | None = None, dtype: str = "int32") -> Any:
    t = np.array([0, 2, 1, 1], dtype)
    if wrong is not None:
        t[2] = wrong
    return t


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("kind", LOSSES)
class TestLosses:
    def test_refuse_labels(self, backend: Backend, kind: str, wrong: int) -> None:
        loss, x = LOSSES[kind](), backend.asarray(X, "float32")
        assert tuple(loss.forward(x, backend.asarray(labels())).shape) == ()
        with pytest.raises(LabelError, match=f"label {wrong} of row 2 is not one of the 3 classes"):
            loss.forward(x, backend.asarray(labels(wrong, "int8")))

    def test_refuse_labels_in_an_accuracy(self, backend: Backend, kind: str, wrong: int) -> None:
        loss, x = LOSSES[kind](), backend.asarray(X, "float32")
        assert tuple(loss.correct(x, backend.asarray(labels())).shape) == (4,)
        with pytest.raises(LabelError, match=f"label {wrong} of row 2"):
            loss.correct(x, backend.asarray(labels(wrong)))


@pytest.mark.parametrize("kind", ["softmax", "softmax without padding", "negative sampling"])
def test_losses_refuse_labels_of_sequences(backend: Backend, kind: str) -> None:
    loss, x = LOSSES[kind](), backend.asarray(X.reshape(2, 2, K), "float32")
    assert tuple(loss.forward(x, backend.asarray(labels().reshape(2, 2))).shape) == ()
    with pytest.raises(LabelError, match="label 3 of row 2"):
        loss.forward(x, backend.asarray(labels(3).reshape(2, 2)))


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_refuse_labels(backend: Backend, name: str, wrong: int) -> None:
    y = backend.asarray(np.exp(X) / np.exp(X).sum(axis=1, keepdims=True), "float32")
    assert np.isfinite(float(FUNCTIONS[name](y, backend.asarray(labels()))))
    with pytest.raises(LabelError, match=f"label {wrong} of row 2"):
        FUNCTIONS[name](y, backend.asarray(labels(wrong)))


@pytest.mark.parametrize("dtype", ["int8", "int32", "int64"])
@pytest.mark.parametrize("wrong", [-1, 5, 100])
def test_embedding_refuses_ids(backend: Backend, dtype: str, wrong: int) -> None:
    layer = Embedding(W=backend.asarray(np.arange(10.0).reshape(5, 2), "float32"))
    ids = np.array([[0, 4], [wrong, 1]], dtype)
    assert tuple(layer.forward(backend.asarray(ids[:1])).shape) == (1, 2, 2)
    with pytest.raises(LabelError, match=f"id {wrong} is not a row of the table of 5, whose ids are 0 to 4"):
        layer.forward(backend.asarray(ids))


def of_ids() -> Any:
    return Sequential(Embedding(5, 4), Affine(units=K), loss=SoftmaxWithLoss, seed=0)


def of_rows() -> Any:
    return Sequential(Affine(units=K), loss=SoftmaxWithLoss, seed=0)


IDS = np.array([[0, 4], [3, 3], [1, 2], [0, 1]])
BATCHES: dict[str, Any] = {
    "a label": (of_rows, X.astype("float32"), labels(), X.astype("float32"), labels(3), "label 3 of row 2"),
    "a label of ids": (of_ids, IDS, labels(), IDS, labels(-1), "label -1 of row 2"),
    "an id": (of_ids, IDS, labels(), IDS + 1, labels(), "id 5 is not a row"),
}


@pytest.mark.parametrize("kind", BATCHES)
class TestModels:
    def test_refuse_batches_of_a_loop(self, backend: Backend, kind: str) -> None:
        make, *arrays, message = BATCHES[kind]
        with backend.use("float32"):
            net = make()
            x, t, wrong_x, wrong_t = map(backend.asarray, arrays)
            net.gradient(x, t)
            for call in (net.loss, net.gradient, net.accuracy):
                with pytest.raises(LabelError, match=message):
                    call(wrong_x, wrong_t)

    @pytest.mark.parametrize("on_device", [True, False], ids=["arrays of the library", "NumPy"])
    @pytest.mark.parametrize("wrong_batch", [1, 2])
    def test_refuse_batches_of_a_training(self, backend: Backend, kind: str, wrong_batch: int, on_device: bool) -> None:
        make, *arrays, message = BATCHES[kind]
        compiled = backend.spec.library == "jax"
        x, t, wrong_x, wrong_t = map(backend.asarray, arrays) if on_device else arrays
        batches = [(x, t), (x, t), (x, t)]
        batches[wrong_batch - 1] = wrong_x, wrong_t
        with backend.use("float32"):
            trainer = xpdl.Trainer(make(), batches, epochs=1, verbose=False, compile=compiled)
            with pytest.raises(LabelError, match=rf"Trainer: x_train, batch {wrong_batch}: [xt]: {message}"):
                trainer.train()
        assert trainer.current_iter == wrong_batch - 1

    @pytest.mark.skip_backend("numpy", reason="compiles no steps")
    @pytest.mark.skip_backend("torch", reason="compiles no steps")
    def test_refuse_batches_of_compiled_steps(self, backend: Backend, kind: str) -> None:
        make, *arrays, message = BATCHES[kind]
        with backend.use("float32"):
            net = make()
            x, t, wrong_x, wrong_t = map(backend.asarray, arrays)
            step = net.compiled_step(xpdl.SGD(lr=0.1))
            for _ in range(2):
                step(x, t)
                before = {name: np.array(value) for name, value in net.params.items()}
                with pytest.raises(LabelError, match=rf"compiled_step: [xt]: {message}"):
                    step(wrong_x, wrong_t)
                for name, value in nonempty(net.params.items()):
                    np.testing.assert_array_equal(np.asarray(value), before[name])


def test_graphs_name_the_target() -> None:
    x = xpdl.Input((2,))
    graph = xpdl.Graph(
        x,
        {"kind": Affine(units=K)(x), "size": Affine(units=1)(x)},
        loss={"kind": SoftmaxWithLoss, "size": xpdl.IdentityWithLoss},
        seed=0,
    )
    rows = X[:, :2].astype("float32")
    targets = {"kind": labels(3), "size": X[:, :1].astype("float32")}
    good = {**targets, "kind": labels()}
    trainer = xpdl.Trainer(graph, [(rows, good), (rows, targets)], epochs=1, verbose=False)
    with pytest.raises(LabelError, match=r"x_train, batch 2: t\['kind'\]: label 3 of row 2"):
        trainer.train()
