"""Models whose first layer takes ids: integers go through building, prediction and training as they are."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

import xpdl
from tests.harness import Backend
from xpdl import Affine, Embedding, LabelError, Relu, Sequential, SoftmaxWithLoss

IDS = np.random.default_rng(0).integers(0, 7, (40, 4))
T = IDS[:, 0] % 3
OPTIONS: Any = {"optimizer": "Adam", "optimizer_param": {"lr": 0.03}, "verbose": False, "seed": 0, "mini_batch_size": 8}


def net() -> Any:
    layers = [Embedding(7, 5, init=0.5), Affine(units=6, axis=-1), Relu(), Affine(units=3)]
    return Sequential(*layers, loss=SoftmaxWithLoss, seed=0)


@pytest.mark.exhaustive
@pytest.mark.backends("eager")
@pytest.mark.skip_backend("meta", reason="has no values")
@pytest.mark.skip_backend("nosync", reason="training reads its losses")
def test_trains_on_every_backend(backend: Backend) -> None:
    with backend.use("float32"):
        model = net()
        x, t = backend.asarray(IDS.astype(np.int32)), backend.asarray(T)
        trainer = xpdl.Trainer(model, x, t, x, t, epochs=15, **OPTIONS)
        history = trainer.train()
    assert history.test_acc_list[-1] == 1.0
    backend.check(model.predict(x[:2, ...]), model.predict(IDS[:2]).astype(np.float32), rtol=1e-5)


def test_parameters_have_the_dtype_in_use() -> None:
    with xpdl.use("numpy", dtype="float64"):
        model = net()
        assert model.predict(IDS).dtype == np.float64


def test_lists_of_ids_stay_integers() -> None:
    model = net()
    np.testing.assert_array_equal(model.predict(IDS.tolist()), model.predict(IDS))
    assert model.accuracy(IDS.tolist(), T.tolist()) == model.accuracy(IDS, T)
    history = xpdl.Trainer(model, IDS.tolist(), T.tolist(), epochs=15, **OPTIONS).train()
    assert history.train_acc_list[-1] == 1.0


@pytest.mark.parametrize("wrong", [-1, 7])
def test_unknown_ids_are_refused_where_they_enter(wrong: int) -> None:
    model, x = net(), np.array(IDS)
    x[3, 2] = wrong
    message = rf": id {wrong} is not a row of the table of 7, whose ids are 0 to 6"
    with pytest.raises(LabelError, match=r"Sequential\.predict: x" + message):
        model.predict(x)
    with pytest.raises(LabelError, match="Trainer: x_train" + message):
        xpdl.Trainer(model, x, T, verbose=False)
    with pytest.raises(LabelError, match="Trainer: x_test" + message):
        xpdl.Trainer(model, IDS, T, x, T, verbose=False)


@pytest.mark.needs("torch")
def test_predictions_of_ids_come_in_the_library_of_the_ids() -> None:
    model = net()
    here = model.predict(IDS)
    there = model.to("torch").predict(IDS)
    assert type(there) is np.ndarray and there.dtype == here.dtype
    np.testing.assert_allclose(there, here, rtol=1e-5, atol=1e-6)


def test_gradients_are_those_of_differences() -> None:
    model = net()
    report = xpdl.check_gradients(model, IDS[:5], T[:5])
    assert report.passed and "x" not in report.errors and "Embedding1.W" in report.errors


def test_a_layer_of_ones_own_may_begin_with_ids() -> None:
    class Mean(xpdl.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.out = Embedding(7, 5), Affine(units=3)

        def forward(self, x: Any) -> Any:
            return self.out.forward(self.words.forward(x).mean(axis=1))

    model = Sequential(Mean(), loss=SoftmaxWithLoss, seed=0)
    assert model.build((4,)) == (3,) and model.takes_ids
    assert model.predict(IDS).shape == (40, 3)


def test_equal_ids_have_one_gradient_bit_by_bit() -> None:
    rng = np.random.default_rng(3)
    ids, dout = rng.integers(0, 50, (100, 7)), rng.standard_normal((100, 7, 6)).astype(np.float32)
    found = []
    for _ in range(3):
        layer = Embedding(W=np.zeros((50, 6), np.float32))
        layer.forward(ids)
        layer.backward(dout)
        found.append(layer.dW.tobytes())
    assert len(set(found)) == 1


def test_mixed_precision_takes_ids() -> None:
    model = net()
    trainer = xpdl.Trainer(
        model,
        IDS,
        T,
        IDS,
        T,
        epochs=20,
        optimizer="Adam",
        verbose=False,
        seed=0,
        mini_batch_size=8,
        precision="float16",
    )
    assert trainer.train().test_acc_list[-1] > 0.9


class TestGraphs:
    """Ids as the input of a graph, alone or beside an input of floats."""

    more = np.random.default_rng(1).integers(-9, 9, (40, 2))

    def graph(self) -> Any:
        x = xpdl.Input((4,))
        h = Relu()(Affine(units=6, axis=-1)(Embedding(7, 5, init=0.5)(x)))
        return xpdl.Graph(x, Affine(units=3)(h), loss=SoftmaxWithLoss, seed=0)

    def of_two(self) -> Any:
        words, more = xpdl.Input((4,), "words"), xpdl.Input((2,), "more")
        h = xpdl.Concatenate()(xpdl.layers.Flatten()(Embedding(7, 5, init=0.5)(words)), more)
        return xpdl.Graph([more, words], Affine(units=3)(h), loss=SoftmaxWithLoss, seed=0)

    def given(self, form: str) -> Any:
        more = self.more.astype(np.float32)
        return {"words": IDS, "more": more} if form == "dict" else (more, IDS)

    def test_computes_what_a_row_of_layers_does(self) -> None:
        model, row = self.graph(), net()
        assert model.takes_ids
        for one in (model, row):
            one.gradient(IDS, T)
        np.testing.assert_array_equal(model.predict(IDS), row.predict(IDS))
        assert sorted(model.grads) == sorted(row.grads)
        for name, grad in row.grads.items():
            np.testing.assert_array_equal(model.grads[name], grad, err_msg=name)

    def test_trains(self) -> None:
        model = self.graph()
        history = xpdl.Trainer(model, IDS.tolist(), T, IDS, T, epochs=15, **OPTIONS).train()
        assert history.test_acc_list[-1] == 1.0
        assert model.input_gradient(IDS, T) is None

    @pytest.mark.parametrize("form", ["dict", "tuple"])
    def test_ids_beside_floats(self, form: str) -> None:
        model, x = self.of_two(), self.given(form)
        report = xpdl.check_gradients(model, x, T)
        key = "x['more']" if form == "dict" else "x[0]"
        assert sorted(report.errors) == ["Affine1.W", "Affine1.b", "Embedding1.W", key]
        # whole numbers of lists are floats, but for ids
        lists = {"words": IDS.tolist(), "more": self.more.tolist()}
        lists = lists if form == "dict" else (lists["more"], lists["words"])
        np.testing.assert_array_equal(model.predict(lists), model.predict(x))
        history = xpdl.Trainer(model, lists, T, x, T, epochs=15, **OPTIONS).train()
        assert history.test_acc_list[-1] == model.accuracy(lists, T) > 0.9
        d_more = model.input_gradient(x, T)
        d_more, d_words = (d_more["more"], d_more["words"]) if form == "dict" else d_more
        assert d_words is None and d_more.shape == (40, 2)

    @pytest.mark.parametrize(("form", "named"), [("dict", r"\['words'\]"), ("tuple", r"\[1\]")])
    def test_unknown_ids_are_refused_where_they_enter(self, form: str, named: str) -> None:
        model, x = self.of_two(), copy.deepcopy(self.given(form))
        (x["words"] if form == "dict" else x[1])[3, 2] = 7
        with pytest.raises(LabelError, match=rf"Graph\.predict: x{named}: id 7 is not a row of the table of 7"):
            model.predict(x)
        with pytest.raises(LabelError, match=rf"Trainer: x_train{named}: id 7 is not a row of the table of 7"):
            xpdl.Trainer(model, x, T, verbose=False)

    def test_backends_are_compared(self) -> None:
        rows = xpdl.compare_backends(self.graph(), IDS, T, ["numpy", "numpy"])
        found = [row.what for row in rows if row.layer == "Embedding1"]
        assert found == ["output", "dW"]  # and no dx
        assert all(not any(row.differences.values()) for row in rows)

    @pytest.mark.needs("torch")
    def test_answers_come_in_the_library_of_the_input(self) -> None:
        for model, x in ((self.graph(), IDS), (self.of_two(), self.given("tuple"))):
            here = model.predict(x)
            there = model.to("torch").predict(x)
            assert type(there) is np.ndarray and there.dtype == here.dtype
            np.testing.assert_allclose(there, here, rtol=1e-5, atol=1e-6)

    def test_files_and_summaries(self, tmp_path: Any, capsys: Any) -> None:
        model = self.of_two()
        model.build()
        model.save(tmp_path / "net.safetensors")
        again = xpdl.load_model(tmp_path / "net.safetensors")
        np.testing.assert_array_equal(again.predict(self.given("dict")), model.predict(self.given("dict")))
        model.summary()
        assert "Embedding1" in capsys.readouterr().out


class TestSequences:
    """One label for each position, some of which are padding."""

    labels = np.where(IDS > 4, -1, IDS % 3)

    def tagger(self) -> Any:
        return Sequential(
            Embedding(7, 8, init=0.5), Affine(units=3, axis=-1), loss=SoftmaxWithLoss(ignore_label=-1), seed=0
        )

    def test_padding_counts_for_nothing(self) -> None:
        model = self.tagger()
        trainer = xpdl.Trainer(
            model,
            IDS,
            self.labels,
            IDS,
            self.labels,
            epochs=30,
            optimizer="Adam",
            verbose=False,
            seed=0,
            mini_batch_size=8,
        )
        history = trainer.train()
        scores = model.predict(IDS)
        counts = self.labels >= 0
        assert 0 < counts.sum() < counts.size
        share = (scores.argmax(-1) == self.labels)[counts].mean()
        assert model.accuracy(IDS, self.labels) == history.test_acc_list[-1] == pytest.approx(share) == 1.0
        np.testing.assert_array_equal(model.grads["Embedding1.W"][5:], 0.0)

    def test_a_padding_label_may_be_a_class(self) -> None:
        model = Sequential(Embedding(7, 3, init=0.5), loss=SoftmaxWithLoss(ignore_label=0), seed=0)
        labels = np.where(np.arange(4) < 2, 0, IDS % 3)
        scores = model.predict(IDS)
        counts = labels != 0
        assert model.accuracy(IDS, labels) == pytest.approx((scores.argmax(-1) == labels)[counts].mean())

    def test_one_hot_rows_have_no_padding(self) -> None:
        model = Sequential(Embedding(7, 3, init=0.5), loss=SoftmaxWithLoss(ignore_label=1), seed=0)
        labels = model.predict(IDS).argmax(-1)
        assert model.accuracy(IDS, np.eye(3)[labels]) == 1.0

    def test_labels_are_checked_where_they_enter(self) -> None:
        labels = np.array(self.labels)
        labels[2, 1] = 3
        with pytest.raises(LabelError, match="t_train: label 3"):
            xpdl.Trainer(self.tagger(), IDS, labels, verbose=False)
        with pytest.raises(xpdl.ShapeError, match=r"labels \(N, 4\) or rows \(N, 4, 3\), one for each position"):
            xpdl.Trainer(self.tagger(), IDS, labels[:, :2], verbose=False)

    def test_masks_are_weights_of_positions(self) -> None:
        rng = np.random.default_rng(5)
        x, t, mask = rng.standard_normal((3, 4, 5)), rng.integers(0, 5, (3, 4)), rng.integers(0, 2, (3, 4))
        by_mask, by_label = SoftmaxWithLoss(), SoftmaxWithLoss(ignore_label=9)
        loss = by_mask.forward(x, t, mask.astype(float))
        assert loss == pytest.approx(by_label.forward(x, np.where(mask == 1, t, 9)))
        np.testing.assert_allclose(by_mask.backward(), by_label.backward(), rtol=1e-12)
        with pytest.raises(xpdl.ShapeError, match=r"one for each row \(3,\) or position"):
            by_mask.forward(x, t, mask[:, :2].astype(float))
