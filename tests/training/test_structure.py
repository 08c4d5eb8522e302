"""Tuples and dicts of inputs and targets, for networks that take several."""

import collections

import numpy as np
import pytest

import xpdl
from tests.harness import nonempty
from xpdl.data import Batches, Prefetch, shuffle_dataset
from xpdl.data.structure import arrays_of, first_array
from xpdl.layers import Affine, IdentityWithLoss, SoftmaxWithLoss
from xpdl.training import Trainer

RNG = np.random.default_rng(0)
LEFT, RIGHT = RNG.normal(size=(50, 3)), RNG.normal(size=(50, 2, 2))
LABELS, HEIGHTS = (LEFT[:, 0] > 0).astype(int), RIGHT[:, 0, :1] + LEFT[:, 1:2]


class TwoInputs:
    """A layer on each input, the sum of both goes to two losses; the arrays come in the order of `leaves`."""

    def __init__(self):
        rng = np.random.default_rng(1)
        self.params = {
            "A": rng.normal(size=(3, 3)),
            "a": np.zeros(3),
            "B": rng.normal(size=(4, 3)),
            "b": np.zeros(3),
        }
        self.seen = []

    def _layers(self):
        p = self.params
        return Affine(p["A"], p["a"]), Affine(p["B"], p["b"]), SoftmaxWithLoss(), IdentityWithLoss()

    def _scores(self, x):
        left, right = leaves(x)
        one, other, *_ = self._layers()
        return one.forward(left) + other.forward(right.reshape(-1, 4))

    def predict(self, x):
        return self._scores(x)[:, :2]

    def accuracy(self, x, t):
        return float((self.predict(x).argmax(axis=1) == leaves(t)[0]).mean())

    def loss(self, x, t):
        scores = self._scores(x)
        labels, heights = leaves(t)
        _, _, kind, height = self._layers()
        return kind.forward(scores[:, :2], labels) + height.forward(scores[:, 2:], heights)

    def gradient(self, x, t):
        self.seen.append((x, t))
        (left, right), (labels, heights) = leaves(x), leaves(t)
        one, other, kind, height = self._layers()
        scores = one.forward(left) + other.forward(right.reshape(-1, 4))
        kind.forward(scores[:, :2], labels)
        height.forward(scores[:, 2:], heights)
        dy = np.concatenate([kind.backward(), height.backward()], axis=1)
        one.backward(dy)
        other.backward(dy)
        return {"A": one.dW, "a": one.db, "B": other.dW, "b": other.db}


def leaves(value):
    return [array for _, array in arrays_of(value)]


FORMS = {
    "tuples": (lambda left, right: (left, right), lambda labels, heights: (labels, heights)),
    "dicts": (
        lambda left, right: {"left": left, "right": right},
        lambda labels, heights: {"kind": labels, "height": heights},
    ),
    "nested": (
        lambda left, right: {"all": (left, {"last": right})},
        lambda labels, heights: (labels, {"height": heights}),
    ),
}

OPTIONS = {
    "plain": {},
    "accumulated": {"accumulate_grad_batches": 2},
    "drop_last": {"drop_last": True},
    "validation_split": {"validation_split": 0.2},
    "sample of rows": {"evaluate_sample_num_per_epoch": 7},
}


def run(form="tuples", rows=slice(0, 50), network=None, **options):
    of_x, of_t = FORMS[form]
    options = {"epochs": 2, "mini_batch_size": 15, "seed": 0, "verbose": False, **options}
    data = of_x(LEFT[rows], RIGHT[rows]), of_t(LABELS[rows], HEIGHTS[rows])
    return Trainer(network or TwoInputs(), *data, *data, **options)


def by_hand(**options):
    """The same batches, taken by their numbers from a trainer of one input."""

    class Numbers:
        def __init__(self):
            self.inner = TwoInputs()
            self.params = self.inner.params

        def _data(self, x):
            rows = x[:, 0].astype(int)
            return (LEFT[rows], RIGHT[rows]), (LABELS[rows], HEIGHTS[rows])

        def gradient(self, x, t):
            return self.inner.gradient(*self._data(x))

        def loss(self, x, t):
            return self.inner.loss(*self._data(x))

        def accuracy(self, x, t):
            return self.inner.accuracy(*self._data(x))

    x = np.arange(50.0)[:, None]
    options = {"epochs": 2, "mini_batch_size": 15, "seed": 0, "verbose": False, **options}
    return Trainer(Numbers(), x, LABELS, x, LABELS, **options)


def same(one, other):
    for name in nonempty(one.network.params):
        np.testing.assert_array_equal(one.network.params[name], other.network.params[name])
    assert one.history.lists() | {"seconds": 0} == other.history.lists() | {"seconds": 0}


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("form", FORMS)
def test_rows_of_all_arrays_stay_together(form, option):
    one, other = run(form, **OPTIONS[option]), by_hand(**OPTIONS[option])
    one.train()
    other.train()
    same(other, one)
    x, t = one.network.seen[0]
    of_x, of_t = FORMS[form]
    assert [name for name, _ in arrays_of(x)] == [name for name, _ in arrays_of(of_x(0, 0))]
    assert [name for name, _ in arrays_of(t)] == [name for name, _ in arrays_of(of_t(0, 0))]


@pytest.mark.parametrize("form", FORMS)
def test_checkpoint_goes_on(form, tmp_path):
    whole = run(form, epochs=4)
    whole.train()
    run(form, epochs=2, checkpoint=tmp_path / "run").train()
    resumed = run(form, epochs=4, checkpoint=tmp_path / "run")
    resumed.train()
    same(whole, resumed)


def test_checkpoint_of_other_targets_is_refused(tmp_path):
    run(epochs=1, checkpoint=tmp_path / "run").train()
    other = Trainer(
        TwoInputs(), (LEFT, RIGHT), (LABELS, HEIGHTS + 1), seed=0, checkpoint=tmp_path / "run", verbose=False
    )
    with pytest.raises(ValueError, match="checksum of the targets"):
        other.train()


def test_mapped_files_are_read_by_batches(tmp_path):
    np.save(tmp_path / "right.npy", RIGHT)
    mapped = np.load(tmp_path / "right.npy", mmap_mode="r")
    options = {"epochs": 2, "mini_batch_size": 15, "seed": 0, "verbose": False}
    made = Trainer(TwoInputs(), (LEFT, mapped), (LABELS, HEIGHTS), (LEFT, mapped), (LABELS, HEIGHTS), **options)
    assert made.x_train[1] is mapped and isinstance(made.batches, Prefetch)
    made.train()
    whole = run()
    whole.train()
    same(whole, made)


def test_augment_gets_all_inputs():
    seen = []

    def swap(x):
        seen.append([a.shape for a in leaves(x)])
        return x

    made = run(epochs=1, augment=swap)
    made.train()
    assert seen[0] == [(15, 3), (15, 2, 2)]


def test_lists_and_tables_within():
    made = Trainer(TwoInputs(), (LEFT.tolist(), list(RIGHT)), (LABELS.tolist(), HEIGHTS.tolist()), seed=0, epochs=1)
    assert [a.shape for a in leaves(made.x_train)] == [(50, 3), (50, 2, 2)]


def test_named_tuples_are_tuples():
    pair = collections.namedtuple("Pair", "left right")
    made = Trainer(TwoInputs(), pair(LEFT, RIGHT), (LABELS, HEIGHTS), seed=0, epochs=1, verbose=False)
    made.train()
    assert made.current_epoch == 1


WRONG = {
    "lengths": (
        {"left": LEFT, "right": RIGHT[:-1]},
        (LABELS, HEIGHTS),
        xpdl.ShapeError,
        r"x_train\['left'\] and x_train\['right'\] and t_train\[0\] and t_train\[1\] must have the same number of rows.*"
        r"got shapes \(50, 3\) and \(49, 2, 2\) and \(50,\)",
    ),
    "targets": ((LEFT, RIGHT), (LABELS, HEIGHTS[:3]), xpdl.ShapeError, r"t_train\[1\] must have"),
    "no input": ((), (LABELS,), TypeError, "x_train is an empty tuple"),
    "no target": ((LEFT, RIGHT), {}, TypeError, "t_train is an empty dict"),
    "NaN": ((LEFT, RIGHT * np.nan), (LABELS, HEIGHTS), ValueError, r"x_train\[1\].*row 0"),
    "NaN among targets": ((LEFT, RIGHT), (LABELS, HEIGHTS * np.nan), ValueError, r"t_train\[1\].*row 0"),
    "names": ((LEFT, RIGHT), (["a"] * 50, HEIGHTS), TypeError, r"t_train\[0\] must be numbers, got object"),
    "words": (({"a": ["a"] * 50}), LABELS, TypeError, r"x_train\['a'\] must be numbers"),
    "something else": ((LEFT, {1, 2}), LABELS, TypeError, r"x_train\[1\] must be an array of rows, a list, or a table"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_fit_is_named(case):
    x, t, error, says = WRONG[case]
    with pytest.raises(error, match=says):
        Trainer(TwoInputs(), x, t)


@pytest.mark.parametrize(
    "option, says",
    [
        ({"precision": "float16"}, "TwoInputs"),
        ({"compile": True}, "compile"),
        ({"sample_weight": np.ones(50)}, "TwoInputs"),
    ],
)
def test_options_that_need_a_model_say_so(option, says):
    with pytest.raises((TypeError, xpdl.BackendError), match=says):
        run(**option)


def test_nan_in_the_training_names_the_input():
    class Spoils:
        def on_batch_begin(self, trainer, step):
            if step == 3:
                trainer.network.params["A"][...] = np.nan

    with pytest.raises(FloatingPointError, match="step 3: of the parameters, A holds NaN"):
        run(callbacks=[Spoils()]).train()


class TestBatches:
    @pytest.mark.parametrize("shuffle", [True, False])
    def test_slice_each_array_alike(self, shuffle):
        numbers = np.arange(10)
        batches = Batches({"a": numbers, "b": (numbers * 2.0,)}, (numbers,), 4, shuffle=shuffle, seed=0)
        seen = [(x, t) for x, t in batches]
        assert [len(t[0]) for _, t in seen] == [4, 4, 2]
        for x, (t,) in seen:
            np.testing.assert_array_equal(x["a"], t)
            np.testing.assert_array_equal(x["b"][0], 2.0 * t)
        assert sorted(np.concatenate([t for _, (t,) in seen])) == list(range(10))

    def test_are_those_of_one_array(self):
        (x, t), *_ = Batches((LEFT,), LABELS, 7, seed=3)
        (expected, labels), *_ = Batches(LEFT, LABELS, 7, seed=3)
        np.testing.assert_array_equal(first_array(x), expected)
        np.testing.assert_array_equal(t, labels)

    def test_shuffle_dataset_too(self):
        (left, right), labels = shuffle_dataset((LEFT, RIGHT), LABELS, seed=2)
        expected, other = shuffle_dataset(LEFT, LABELS, seed=2)
        np.testing.assert_array_equal(left, expected)
        np.testing.assert_array_equal(labels, other)
        assert {tuple(row.ravel()) for row in right} == {tuple(row.ravel()) for row in RIGHT}
