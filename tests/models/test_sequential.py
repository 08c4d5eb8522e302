"""The model itself: what it shows of its layers, the protocol of a trainer, and how it moves between libraries."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest

import xpdl
from tests.harness import Backend
from tests.selection import params_of
from xpdl import (
    Affine,
    BatchNormalization,
    Dropout,
    DTypeError,
    IdentityWithLoss,
    MixedArraysError,
    Relu,
    Sequential,
    ShapeError,
    SigmoidWithLoss,
    SoftmaxWithLoss,
)
from xpdl.models import base

_rng = np.random.default_rng(0)
X, T = _rng.standard_normal((7, 4)), np.array([0, 1, 2, 0, 1, 2, 0])


def net(*more: Any, loss: Any = SoftmaxWithLoss) -> Sequential:
    return Sequential(Affine(units=5), Relu(), *more, Affine(units=3), loss=loss, seed=0)


def on(backend: Backend, network: Sequential) -> Sequential:
    network.build_for(backend.asarray(X))
    return network


class TestParameters:
    def test_are_the_arrays_of_the_layers(self) -> None:
        network = net()
        network.predict(X)
        assert list(network.params) == ["Affine1.W", "Affine1.b", "Affine2.W", "Affine2.b"]
        W = network.params["Affine1.W"]
        assert network.layers["Affine1"].W is W
        network.params["Affine1.W"] -= 1.0
        assert network.layers["Affine1"].W is W
        network.params["Affine1.W"] = np.zeros((4, 5))
        assert not network.layers["Affine1"].W.any()

    @pytest.mark.parametrize(
        ("name", "value", "error"),
        [
            ("Affine1.W", np.zeros((5, 4)), ShapeError),
            ("Affine1.W", [[0.0] * 5] * 4, TypeError),
            ("Affine9.W", np.zeros((4, 5)), KeyError),
        ],
    )
    def test_are_replaced_by_what_fits_only(self, name: str, value: Any, error: Any) -> None:
        network = net()
        network.predict(X)
        with pytest.raises(error, match=name.replace(".", r"\.")):
            network.params[name] = value
        with pytest.raises(TypeError, match="cannot be deleted"):
            del network.params["Affine1.W"]


class TestGradient:
    @pytest.mark.backends("precompiled")
    @pytest.mark.backends("values")
    @pytest.mark.parametrize("more", [[], [BatchNormalization], [lambda: Dropout(0.5)]], ids=["", "norm", "dropout"])
    def test_agrees_with_differences(self, backend: Backend, more: Any) -> None:
        network = on(backend, net(*(make() for make in more)))
        x, t = backend.asarray(X), backend.asarray(T)
        # the same masks: differences first, which put the streams back
        numerical = network.numerical_gradient(x, t)
        gradient = network.gradient(x, t)
        assert list(numerical) == list(gradient) == list(network.params)
        for name, value in gradient.items():
            got, want = backend.to_numpy(value), backend.to_numpy(numerical[name])
            loose = got.dtype == np.float32
            np.testing.assert_allclose(got, want, rtol=0, atol=2e-2 if loose else 1e-6)

    @pytest.mark.backends("precompiled")
    @pytest.mark.backends("values")
    def test_keeps_the_loss_it_computed(self, backend: Backend) -> None:
        network = on(backend, net())
        x, t = backend.asarray(X), backend.asarray(T)
        network.gradient(x, t)
        backend.check(network.last_loss, backend.to_numpy(network.loss(x, t)))

    def test_refuses_what_belongs_elsewhere(self) -> None:
        import array_api_strict as strict

        network = net()
        network.predict(X)
        with pytest.raises(MixedArraysError, match="array_api_strict and numpy"):
            network.gradient(X, strict.asarray(T))
        with pytest.raises(MixedArraysError, match="array_api_strict and numpy"):
            network.gradient(strict.asarray(X), T)

    def test_needs_a_loss(self) -> None:
        with pytest.raises(TypeError, match="Sequential: has no loss"):
            Sequential(Affine(units=2)).gradient(X, T)


class TestAccuracy:
    @pytest.mark.backends("precompiled")
    @pytest.mark.backends("values")
    @pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
    def test_counts_every_row(self, backend: Backend, size: int) -> None:
        network = on(backend, net())
        found = backend.to_numpy(network.predict(backend.asarray(X))).argmax(axis=1)
        for t in (T, T[:, None], np.eye(3)[T]):
            got = network.accuracy(backend.asarray(X), backend.asarray(t), batch_size=size)
            assert got == np.mean(found == T)

    def test_is_that_of_evaluation(self) -> None:
        network = Sequential(Affine(units=4), BatchNormalization(), Affine(units=3), loss=SoftmaxWithLoss, seed=0)
        network.predict(X)
        network.buffers["BatchNormalization1.running_mean"] = np.array([3.0, -2.0, 1.0, 0.0])
        t = network.predict(X).argmax(axis=1)
        assert (network.predict(X, train_flg=True).argmax(axis=1) != t).any()
        network.buffers["BatchNormalization1.running_mean"] = mean = np.array([3.0, -2.0, 1.0, 0.0])
        network.buffers["BatchNormalization1.running_var"] = np.ones(4)
        assert network.accuracy(X, t) == 1.0
        np.testing.assert_array_equal(network.buffers["BatchNormalization1.running_mean"], mean)

    def test_of_one_output_is_that_of_the_threshold(self) -> None:
        network = Sequential(Affine(units=1), loss=SigmoidWithLoss, seed=0)
        scores = network.predict(X)[:, 0]
        t = np.array([0, 1, 1, 0, 1, 0, 0])
        assert network.accuracy(X, t) == network.accuracy(X, t[:, None]) == np.mean((scores > 0) == t)

    @pytest.mark.backends("precompiled")
    @pytest.mark.backends("values")
    @pytest.mark.parametrize("size", [1, 2, 7, 100])
    @pytest.mark.parametrize("accuracy", ["label", "row"])
    def test_of_several_yes_no_outputs_is_a_share(self, backend: Backend, size: int, accuracy: str) -> None:
        network = Sequential(Affine(units=3), loss=SigmoidWithLoss(accuracy), seed=0)
        network.build((X.shape[1],))
        yes = network.predict(X) > 0
        network = on(backend, network)
        for wrong in (0, 1, 3):
            t = yes.copy()
            t[:4, :wrong] = ~t[:4, :wrong]
            want = np.mean(yes == t) if accuracy == "label" else np.mean(np.all(yes == t, axis=1))
            got = network.accuracy(backend.asarray(X), backend.asarray(t.astype("float32")), batch_size=size)
            assert got == want

    @pytest.mark.parametrize(
        ("x", "t", "size", "error", "message"),
        [
            (X, T[:3], 100, ShapeError, "7 rows of x, but 3 of t"),
            (X[:0], T[:0], 100, ShapeError, "empty batch"),
            (X, np.asarray(1), 100, ShapeError, "empty batch"),
            (X, T, 0, ShapeError, "batch_size must be an int of at least 1, got 0"),
            ((*X,), T, 100, TypeError, "expected arrays, got tuple"),
            (X, (*T,), 100, TypeError, "expected arrays, got tuple"),
            (X, T.astype(float), 100, DTypeError, "labels must be integers"),
        ],
    )
    def test_names_what_does_not_fit(self, x: Any, t: Any, size: int, error: Any, message: str) -> None:
        with pytest.raises(error, match=message):
            net().accuracy(x, t, batch_size=size)

    def test_of_a_regression_is_refused(self) -> None:
        with pytest.raises(TypeError, match="a regression has none"):
            Sequential(Affine(units=3), loss=IdentityWithLoss).accuracy(X, np.eye(3)[T])


class TestPlaces:
    @pytest.mark.backends("array_api_strict", "torch")
    @pytest.mark.backends("values")
    def test_predict_and_accuracy_answer_in_the_kind_that_came(self, backend: Backend) -> None:
        network = net()
        want, right = network.predict(X), network.accuracy(X, T)
        x = backend.asarray(X)
        got = network.predict(x)
        backend.check(got, want)
        assert network.accuracy(x, backend.asarray(T)) == right

    @pytest.mark.parametrize(
        "library, asked, is_shared",
        params_of(("torch", "torch", True), ("torch", "numpy", False), ("jax", "numpy", False)),
    )
    def test_scores_come_back_by_dlpack_where_memory_can_be_shared(
        self, monkeypatch: pytest.MonkeyPatch, library: str, asked: str, is_shared: bool
    ) -> None:
        """Those of a NumPy net for tensors share its memory; for NumPy, whose arrays can be written to, they are copied."""
        network, found = net(), []
        network.predict(X)
        if asked == "numpy":
            network.to(library)
        forward = type(network).forward

        def noted(self: Any, *args: Any) -> Any:
            found.append(forward(self, *args))
            return found[-1]

        monkeypatch.setattr(type(network), "forward", noted)
        with xpdl.use(asked, dtype="float64"):
            scores = network.predict(xpdl.asarray(X))
        (own,) = found
        np.testing.assert_allclose(np.asarray(scores), net().predict(X))
        assert np.shares_memory(np.from_dlpack(scores), np.from_dlpack(own)) == is_shared
        if asked == "numpy":
            assert scores.flags.writeable

    @pytest.mark.needs("torch", "jax")
    def test_scores_for_arrays_of_jax_share_the_memory_of_tensors(self) -> None:
        placement = importlib.import_module("xpdl.models.placement")
        torch, jnp = importlib.import_module("torch"), importlib.import_module("jax.numpy")
        y, x, p = torch.ones(64, 64), jnp.zeros((2, 3), dtype="float32"), torch.ones(1)
        assert placement.answered(y, x, p).unsafe_buffer_pointer() == y.data_ptr()
        # in another dtype it is a copy
        wide = placement.answered(y, x.astype("float64"), p)
        assert wide.dtype == "float64" and wide.tolist() == y.tolist()

    @pytest.mark.parametrize("library", params_of("array_api_strict", "torch"))
    def test_to_another_library_and_back(self, library: str) -> None:
        network = net(BatchNormalization())
        network.gradient(X, T)
        want, kept = network.predict(X), {**network.params, **network.buffers}
        assert network.to(library) is network
        assert network.backend is not None and network.backend.name == library and network.backend.dtype == "float64"
        np.testing.assert_allclose(network.predict(X), want, rtol=1e-12)
        network.to("numpy")
        for name, value in {**network.params, **network.buffers}.items():
            assert type(value) is np.ndarray
            np.testing.assert_array_equal(value, kept[name])

    def test_to_what_use_returns_takes_its_dtype(self) -> None:
        network = net()
        network.predict(X)
        with xpdl.use("numpy", dtype="float32") as backend:
            network.to(backend)
        assert {p.dtype for p in network.params.values()} == {np.dtype("float32")}
        # floating input is cast to the model's dtype
        assert network.predict(X).dtype == np.float32
        assert network.gradient(X, T)["Affine1.W"].dtype == np.float32


class TestSummary:
    def test_shows_shapes_and_counts(self, capsys: pytest.CaptureFixture[str]) -> None:
        net(BatchNormalization()).summary((4,))
        lines = capsys.readouterr().out.splitlines()
        assert lines[0] == "Sequential, input (N, 4), loss SoftmaxWithLoss"
        assert [line.split()[0] for line in lines[3:7]] == ["Affine1", "Relu1", "BatchNormalization1", "Affine2"]
        assert lines[-1].split()[:2] == ["total", str((4 + 1) * 5 + 2 * 5 + (5 + 1) * 3)]

    def test_says_what_is_not_built(self, capsys: pytest.CaptureFixture[str]) -> None:
        net().summary()
        assert capsys.readouterr().out.count("not built") == 2


class TestPredictInBatches:
    def counted(self, network: Sequential, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        rows: list[int] = []
        forward = type(network).forward

        def counting(self: Any, x: Any, train_flg: bool | None = None) -> Any:
            rows.append(x.shape[0])
            return forward(self, x, train_flg)

        monkeypatch.setattr(type(network), "forward", counting)
        return rows

    @pytest.mark.parametrize(
        "batch_size, passes", [(None, [250] * 4), (300, [250] * 4), (999, [500, 500]), (1, [1] * 1000), (5000, [1000])]
    )
    def test_no_pass_has_more_rows(
        self, monkeypatch: pytest.MonkeyPatch, batch_size: int | None, passes: list[int]
    ) -> None:
        network, x = net(), np.tile(X, (150, 1))[:1000]
        whole = network.predict(x, batch_size=5000)
        monkeypatch.setattr(base, "_PREDICTED_ROWS", 300)
        rows = self.counted(network, monkeypatch)
        np.testing.assert_allclose(network.predict(x, batch_size=batch_size), whole, rtol=1e-12)
        assert rows == passes

    @pytest.mark.backends("array_api_strict", "torch", "jax")
    @pytest.mark.backends("values")
    @pytest.mark.backends("eager")
    def test_answers_in_the_kind_that_came(self, backend: Backend) -> None:
        network = net()
        want = network.predict(X)
        found = network.predict(backend.asarray(X), batch_size=3)
        backend.check(found, want, rtol=1e-5)

    def test_training_mode_takes_all_rows(self) -> None:
        network = net()
        with pytest.raises(
            ValueError, match=r"Sequential\.predict: training mode takes all rows in one pass, got batch_size=2"
        ):
            network.predict(X, True, batch_size=2)

    @pytest.mark.parametrize("wrong", [0, -1, 1.5, "3", True])
    def test_other_sizes_are_refused(self, wrong: Any) -> None:
        with pytest.raises((ValueError, TypeError), match=r"Sequential\.predict: batch_size"):
            net().predict(X, batch_size=wrong)


def test_train_flg_of_predict_overrules_the_mode() -> None:
    network = net(Dropout(0.5))
    evaluated = network.predict(X)
    assert np.array_equal(network.predict(X, False), evaluated)
    assert not np.array_equal(network.predict(X, True), evaluated)
    assert not np.array_equal(network.predict(X, train_flg=True), evaluated)


def test_what_cannot_be_put_together_is_refused() -> None:
    with pytest.raises(TypeError, match=r"write Relu\(\) rather than Relu"):
        Sequential(Relu)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="loss must be a loss layer"):
        Sequential(Relu(), loss=Relu())  # type: ignore[arg-type]
    layer = Affine(units=2)
    with pytest.raises(ValueError, match="the same layer stands in two places"):
        Sequential(layer, layer)
    with pytest.raises(ValueError, match="two layers are named 'a'"):
        Sequential(("a", Relu()), ("a", Relu()))
