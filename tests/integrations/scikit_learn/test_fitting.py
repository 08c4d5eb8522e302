"""Fits: rows to validate with, weights, several fits of one net, the tools of scikit-learn around them."""

import pickle
import threading
import time
from collections import Counter

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="estimators of scikit-learn")

from sklearn.base import clone
from sklearn.datasets import load_digits, make_classification
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import xpdl
from xpdl.integrations.scikit_learn import XpdlClassifier, XpdlRegressor

_rng = np.random.default_rng(3)
X = _rng.standard_normal((80, 4))
LABELS = (X[:, 0] + X[:, 1] > 0).astype(int)
NUMBERS = 300 * X[:, 0] - 100 * X[:, 2] + 5000
QUICK = {"epochs": 20, "learning_rate": 0.02, "random_state": 0}
each = pytest.mark.parametrize(("estimator", "y"), [(XpdlClassifier, LABELS), (XpdlRegressor, NUMBERS)])


class Rows(xpdl.Callback):
    """Keeps what a training has."""

    def on_train_begin(self, trainer):
        self.trainer = trainer


class Stop(xpdl.Callback):
    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch_end(self, trainer, epoch):
        trainer.stop_training = epoch == self.epoch


def outputs(model, x):
    return model.predict_proba(x) if isinstance(model, XpdlClassifier) else model.predict(x)


class TestEarlyStopping:
    @each
    def test_rows_to_validate_with_are_not_trained_with(self, estimator, y):
        rows = Rows()
        model = estimator(early_stopping=True, validation_fraction=0.25, callbacks=[rows], **QUICK).fit(X, y)
        trained, held = (set(map(tuple, a)) for a in (rows.trainer.x_train, rows.trainer.x_val))
        assert len(trained) == 60 and len(held) == 20 and trained | held == set(map(tuple, X))
        assert len(model.history_.val_loss_list) == model.n_iter_
        assert model.history_.test_loss_list == []

    def test_validation_accuracy_is_that_of_the_rows_that_are_kept_from_training(self):
        # labels by chance: learnt by heart, and not known of others
        y = _rng.integers(0, 2, 80)
        options = {"early_stopping": True, "n_iter_no_change": 100, "validation_fraction": 0.25}
        model = XpdlClassifier(wide, epochs=100, random_state=0, learning_rate=0.02, **options).fit(X, y)
        assert model.history_.train_acc_list[-1] > 0.95 and model.history_.val_acc_list[-1] < 0.8

    @each
    def test_stops_after_so_many_epochs_without_a_better_loss_and_takes_the_best(self, estimator, y):
        options = {**QUICK, "epochs": 300, "learning_rate": 0.05}
        y = np.random.default_rng(0).permutation(y)
        model = estimator(early_stopping=True, n_iter_no_change=4, **options).fit(X, y)
        losses = model.history_.val_loss_list
        assert len(losses) < 300 and len(losses) - 1 - int(np.argmin(losses)) == 4
        # the weights are those of the best epoch, and the loss of its last one is another
        stopped = estimator(early_stopping=True, n_iter_no_change=300, **options)
        stopped.set_params(epochs=300, callbacks=[Stop(int(np.argmin(losses)) + 1)]).fit(X, y)
        np.testing.assert_array_equal(outputs(model, X), outputs(stopped, X))

    def test_classes_keep_their_shares_where_they_can(self):
        rows = Rows()
        y = np.repeat([0, 1, 2], [60, 15, 5])
        XpdlClassifier(early_stopping=True, validation_fraction=0.2, callbacks=[rows], **QUICK).fit(X, y)
        assert Counter(rows.trainer.t_val.tolist()) == {0: 12, 1: 3, 2: 1}
        y[-4:] = 1  # one row of class 2
        XpdlClassifier(early_stopping=True, validation_fraction=0.2, callbacks=[rows], **QUICK).fit(X, y)
        assert len(rows.trainer.t_val) == 16

    def test_weighted_rows_count_by_their_weights(self):
        rows, weights = Rows(), np.linspace(0.1, 2, 80)
        model = XpdlClassifier(early_stopping=True, callbacks=[rows], **{**QUICK, "epochs": 1}).fit(X, LABELS, weights)
        (stopping,) = [one for one in rows.trainer.callbacks.callbacks if isinstance(one, xpdl.EarlyStopping)]
        x, t = rows.trainer.x_val, rows.trainer.t_val
        mine = [weights[np.flatnonzero((row == X).all(axis=1))[0]] for row in x]
        p = model.predict_proba(x)[np.arange(len(t)), t]
        assert stopping.best == pytest.approx(np.average(-np.log(p), weights=mine), rel=1e-9)

    def test_partial_fit_keeps_no_rows_from_training(self):
        model = XpdlClassifier(early_stopping=True, random_state=0).partial_fit(X, LABELS, classes=[0, 1])
        assert model.history_.val_loss_list == [] and model.n_iter_ == 1


def wide():
    return xpdl.Sequential(xpdl.Affine(units=300), xpdl.Relu(), xpdl.Affine(units=2), loss=xpdl.SoftmaxWithLoss)


class TestGoingOn:
    @each
    def test_partial_fits_are_the_epochs_of_a_fit(self, estimator, y):
        """But for the order of rows, which does not count where they are one batch."""
        options = {"batch_size": 80, "learning_rate": 0.02, "random_state": 0, "schedule": "constant"}
        whole = estimator(epochs=5, **options).fit(X, y)
        parts = estimator(**options)
        for _ in range(5):
            parts.partial_fit(X, y)
        np.testing.assert_allclose(outputs(parts, X), outputs(whole, X), rtol=1e-9)
        np.testing.assert_allclose(parts.history_.train_loss_list, whole.history_.train_loss_list, rtol=1e-9)
        assert parts.n_iter_ == 5 and parts.optimizer_.iter == 5

    @each
    def test_goes_on_after_a_file(self, estimator, y):
        model = estimator(**QUICK).partial_fit(X, y)
        again = pickle.loads(pickle.dumps(model))
        np.testing.assert_array_equal(outputs(again.partial_fit(X, y), X), outputs(model.partial_fit(X, y), X))

    def test_classes_of_the_first_call_are_all_there_will_be(self):
        model = XpdlClassifier(**QUICK).partial_fit(X[:5], ["b"] * 5, classes=["c", "a", "b"])
        assert model.classes_.tolist() == ["a", "b", "c"] and model.predict_proba(X).shape == (80, 3)
        model.partial_fit(X[5:7], ["a", "c"], classes=["a", "b", "c"])
        with pytest.raises(ValueError, match="previously unseen labels"):
            model.partial_fit(X[:2], ["a", "d"])
        with pytest.raises(ValueError, match=r"XpdlClassifier: classes=\['a' 'b'\] are others than in the first call"):
            model.partial_fit(X[:2], ["a", "b"], classes=["a", "b"])

    def test_balanced_classes_need_all_rows(self):
        with pytest.raises(ValueError, match="class_weight='balanced' needs all rows"):
            XpdlClassifier(class_weight="balanced").partial_fit(X, LABELS)

    @each
    def test_warm_start_goes_on_with_the_net(self, estimator, y):
        options = {**QUICK, "epochs": 3, "batch_size": 80}
        cold, warm = estimator(**options), estimator(warm_start=True, **options)
        first, net = cold.fit(X, y).history_.train_loss_list, warm.fit(X, y).net_
        assert warm.fit(X, y).net_ is net and warm.n_iter_ == 6
        assert cold.fit(X, y).history_.train_loss_list == first and cold.net_ is not net
        assert warm.history_.train_loss_list[:3] == first and warm.history_.train_loss_list[3] < first[2]

    def test_targets_of_another_kind_are_refused(self):
        model = XpdlClassifier(warm_start=True, **QUICK).fit(X, LABELS)
        with pytest.raises(
            ValueError, match=r"y of shape \(80, 2\) is not of the kind that the net was first fitted to"
        ):
            model.fit(X, np.stack([LABELS, 1 - LABELS], axis=1))
        model = XpdlRegressor(warm_start=True, **QUICK).fit(X, NUMBERS)
        with pytest.raises(ValueError, match=r"y must have rows of shape \(\), as in the first fit, got \(80, 2\)"):
            model.fit(X, np.stack([NUMBERS, NUMBERS], axis=1))


class TestWeights:
    def test_class_weights_are_weights_of_rows(self):
        by_class = XpdlClassifier(class_weight={0: 1, 1: 3}, **QUICK).fit(X, LABELS)
        by_row = XpdlClassifier(**QUICK).fit(X, LABELS, sample_weight=np.where(LABELS, 3, 1))
        np.testing.assert_array_equal(by_class.predict_proba(X), by_row.predict_proba(X))
        both = XpdlClassifier(class_weight={0: 1, 1: 3}, **QUICK).fit(X, LABELS, sample_weight=X[:, 0] ** 2)
        rows = XpdlClassifier(**QUICK).fit(X, LABELS, sample_weight=np.where(LABELS, 3, 1) * X[:, 0] ** 2)
        np.testing.assert_allclose(both.predict_proba(X), rows.predict_proba(X), rtol=1e-9)

    def test_balanced_classes_weigh_alike_with_the_weights_of_their_rows(self):
        rare = np.arange(80) % 8 == 0
        balanced = XpdlClassifier(class_weight="balanced", **QUICK).fit(X, rare.astype(int))
        by_row = XpdlClassifier(**QUICK).fit(X, rare.astype(int), sample_weight=np.where(rare, 4, 4 / 7))
        np.testing.assert_allclose(balanced.predict_proba(X), by_row.predict_proba(X), rtol=1e-9)
        weights = np.where(rare, 7.0, 1.0)  # which makes them alike already
        weighted = XpdlClassifier(class_weight="balanced", **QUICK).fit(X, rare.astype(int), sample_weight=weights)
        np.testing.assert_allclose(weighted.predict_proba(X), by_row.predict_proba(X), rtol=1e-9)

    def test_several_labels_have_a_dict_each(self):
        y = np.stack([LABELS, X[:, 2] > 1], axis=1).astype(int)
        found = XpdlClassifier(class_weight=[{0: 1, 1: 2}, {0: 1, 1: 5}], **QUICK).fit(X, y)
        weights = np.where(y[:, 0], 2, 1) * np.where(y[:, 1], 5, 1)
        np.testing.assert_allclose(
            found.predict_proba(X), XpdlClassifier(**QUICK).fit(X, y, weights).predict_proba(X), rtol=1e-9
        )

    def test_regression_counts_rows_by_their_weights(self):
        """The mean and the spread of the targets too: a weight of 3 is a row that is there three times."""
        counts = _rng.integers(0, 4, 30)
        options = {**QUICK, "batch_size": 200, "activation": "tanh"}
        weighted = XpdlRegressor(**options).fit(X[:30], NUMBERS[:30], sample_weight=counts)
        repeated = XpdlRegressor(**options).fit(X[:30].repeat(counts, axis=0), NUMBERS[:30].repeat(counts))
        assert weighted.target_mean_ == pytest.approx(np.average(NUMBERS[:30], weights=counts), rel=1e-12)
        np.testing.assert_allclose(weighted.predict(X), repeated.predict(X), rtol=1e-7)


class TestTools:
    @each
    def test_in_a_pipeline_a_grid_search_and_a_cross_validation_in_processes(self, estimator, y):
        pipeline = make_pipeline(StandardScaler(), estimator(epochs=20, learning_rate=0.02, random_state=0))
        name = estimator.__name__.lower()
        grid = {f"{name}__hidden_layer_sizes": [(8,), (16, 16)], f"{name}__weight_decay": [0.0, 0.01]}
        search = GridSearchCV(pipeline, grid, cv=2, n_jobs=2).fit(X, y)
        again = GridSearchCV(pipeline, grid, cv=2).fit(X, y)
        np.testing.assert_allclose(
            search.cv_results_["mean_test_score"], again.cv_results_["mean_test_score"], rtol=1e-9
        )
        scores = cross_val_score(pipeline, X, y, cv=3, n_jobs=2)
        np.testing.assert_allclose(scores, cross_val_score(pipeline, X, y, cv=3), rtol=1e-9)

    def test_fits_in_threads_are_those_one_after_the_other(self):
        def build(features, classes):
            time.sleep(0.01)  # other threads would get this far, too
            return wide()

        def models():
            return [XpdlClassifier(build, epochs=2, random_state=seed) for seed in range(4)]

        expected = [model.fit(X, LABELS).predict_proba(X) for model in models()]
        together = models()
        threads = [threading.Thread(target=model.fit, args=(X, LABELS)) for model in together]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        np.testing.assert_array_equal([model.predict_proba(X) for model in together], expected)

    @each
    def test_a_pickle_predicts_and_a_clone_is_not_fitted(self, estimator, y):
        model = estimator(early_stopping=True, callbacks=[xpdl.StepLR(5)], **QUICK).fit(X, y)
        again = pickle.loads(pickle.dumps(model))
        np.testing.assert_array_equal(outputs(again, X), outputs(model, X))
        assert again.history_ == model.history_ and not hasattr(clone(model), "net_")
        np.testing.assert_array_equal(outputs(clone(model).fit(X, y), X), outputs(model, X))

    @each
    def test_a_pickle_holds_no_rows(self, estimator, y):
        def size(times):
            model = estimator(batch_size=100, epochs=2, random_state=0, early_stopping=True, validation_fraction=0.5)
            rows = np.tile(X, (times, 1)), np.tile(y, (times, *(1,) * (np.ndim(y) - 1)))
            return len(pickle.dumps(model.fit(*rows)))

        assert size(1) == size(2)

    def test_random_state_of_scikit_learn_goes_on(self):
        state = np.random.RandomState(0)
        first, second = (XpdlClassifier(epochs=1, random_state=state).fit(X, LABELS).predict_proba(X) for _ in range(2))
        assert not np.array_equal(first, second)
        again = XpdlClassifier(epochs=1, random_state=np.random.RandomState(0)).fit(X, LABELS).predict_proba(X)
        np.testing.assert_array_equal(again, first)

    def test_fits_leave_the_seed_of_xpdl_alone(self):
        def drawn(fit):
            xpdl.seed(3)
            xpdl.Sequential(xpdl.Affine(units=2)).build((2,))
            if fit:
                XpdlClassifier(random_state=0, epochs=1, early_stopping=True).fit(X, LABELS)
            net = xpdl.Sequential(xpdl.Affine(units=2))
            net.build((2,))
            return net.params["Affine1.W"]

        np.testing.assert_array_equal(drawn(True), drawn(False))


class TestParameters:
    @pytest.mark.parametrize(
        "build",
        [lambda: wide(), lambda features: wide(), lambda features, classes: wide(), lambda *sizes: wide()],
    )
    def test_build_takes_as_many_sizes_as_it_likes(self, build):
        assert XpdlClassifier(build, epochs=1).fit(X, LABELS).net_.params["Affine1.W"].shape == (4, 300)

    @pytest.mark.parametrize(
        ("parameters", "layers"),
        [
            ({}, ["Affine", "Relu", "Affine"]),
            ({"hidden_layer_sizes": 7}, ["Affine", "Relu", "Affine"]),
            ({"hidden_layer_sizes": ()}, ["Affine"]),
            ({"hidden_layer_sizes": [5, 6], "activation": "tanh"}, ["Affine", "Tanh", "Affine", "Tanh", "Affine"]),
            ({"hidden_layer_sizes": np.array([5]), "activation": "logistic"}, ["Affine", "Sigmoid", "Affine"]),
        ],
    )
    @each
    def test_hidden_layers_are_those_that_the_sizes_say(self, estimator, y, parameters, layers):
        net = estimator(epochs=1, **parameters).fit(X, y).net_
        assert [type(layer).__name__ for layer in net.layers.values()] == layers
        sizes = np.atleast_1d(parameters.get("hidden_layer_sizes", 100)).tolist()
        assert [p.shape[0] for name, p in net.params.items() if name.endswith(".b")][:-1] == sizes

    @pytest.mark.parametrize(
        ("parameters", "error", "message"),
        [
            ({"activation": "gelu"}, ValueError, "activation must be one of relu, tanh, .*, identity, got 'gelu'"),
            ({"hidden_layer_sizes": (0,)}, ValueError, "hidden_layer_sizes must be an int of at least 1, got 0"),
            ({"epochs": 0}, ValueError, "epochs must be an int of at least 1, got 0"),
            ({"batch_size": "auto"}, ValueError, "batch_size must be an int of at least 1, got 'auto'"),
            ({"schedule": "step"}, ValueError, "schedule must be one of cosine, constant, got 'step'; others"),
            ({"weight_decay": -1}, ValueError, "weight_decay must be a finite number at least 0, got -1"),
            ({"build": lambda: 3}, TypeError, "build must return a Sequential with a loss, got 3"),
        ],
    )
    @each
    def test_wrong_ones_are_refused_at_fit(self, estimator, y, parameters, error, message):
        with pytest.raises(error, match=f"^{estimator.__name__}: {message}"):
            estimator(**parameters).fit(X, y)

    @pytest.mark.parametrize(
        ("parameters", "l2", "own"),
        [
            ({}, 0.001, 0),
            ({"weight_decay": 0.1, "optimizer": "momentum"}, 0.1, 0),
            ({"weight_decay": 0}, 0, 0),
            ({"optimizer": "AdamW"}, 0, 0.01),
            ({"optimizer": xpdl.AdamW, "weight_decay": 0.1}, 0, 0.1),
        ],
    )
    def test_weight_decay_spares_biases_and_suits_the_rule(self, parameters, l2, own):
        optimizer = XpdlClassifier(epochs=1, **parameters).fit(X, LABELS).optimizer_
        assert (optimizer.l2, getattr(optimizer, "weight_decay", 0)) == (l2, own)
        assert optimizer.decay == ("weights" if l2 or own else None)

    @pytest.mark.parametrize(
        ("parameters", "rate"),
        [({}, 0.01), ({"learning_rate": 0.2}, 0.2), ({"optimizer": "sgd", "learning_rate": 0.3}, 0.3)],
    )
    def test_learning_rate_falls_to_0_unless_it_is_constant(self, parameters, rate):
        options = {"epochs": 40, "batch_size": 80, **parameters}
        assert 0 < XpdlClassifier(**options).fit(X, LABELS).optimizer_.lr < 0.01 * rate
        assert XpdlClassifier(schedule="constant", **options).fit(X, LABELS).optimizer_.lr == rate


def test_digits_are_learnt():
    x, t = load_digits(return_X_y=True)
    model = make_pipeline(StandardScaler(), XpdlClassifier(epochs=15, random_state=0)).fit(x[::2], t[::2])
    assert model.score(x[1::2], t[1::2]) > 0.95


def test_an_imbalanced_table_is_learnt():
    x, t = make_classification(1000, 10, n_informative=5, weights=[0.9], class_sep=0.6, random_state=0)
    fitted = (XpdlClassifier(epochs=20, random_state=0, class_weight=w).fit(x[::2], t[::2]) for w in (None, "balanced"))
    recall = [np.mean(model.predict(x[1::2])[t[1::2] == 1]) for model in fitted]
    assert recall[0] < recall[1] and recall[1] > 0.7


class Bomb(xpdl.Callback):
    """Fails once the net is made, and some steps are."""

    def on_epoch_end(self, trainer, epoch):
        raise KeyError("a callback of the user")


def no_net(features):
    raise KeyError("a net of the user")


WRONG_FITS = {
    "weights of 0": ({}, {"sample_weight": np.zeros(80)}),
    "batches of no rows": ({"batch_size": 0}, {}),
    "no epochs": ({"epochs": 0}, {}),
    "unknown optimizer": ({"optimizer": "none"}, {}),
    "unknown schedule": ({"schedule": "none"}, {}),
    "share above 1": ({"early_stopping": True, "validation_fraction": 1.5}, {}),
    "build": ({"build": no_net}, {}),
    "callback": ({"callbacks": [Bomb()]}, {}),
    "rate too large": ({"learning_rate": 1e30, "optimizer": "sgd", "weight_decay": 0.0}, {}),
}


@pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")
@pytest.mark.parametrize("cause", WRONG_FITS)
@each
class TestFitThatFails:
    def other(self, y):
        """Targets of another kind, which a fit learns before it fails."""
        return np.array(["no", "yes"])[y] if y is LABELS else np.stack([y, -y], axis=1)

    def test_leaves_the_estimator_as_it_was(self, estimator, y, cause):
        options, of_fit = WRONG_FITS[cause]
        model = estimator(**QUICK).fit(X, y)
        expected, seconds = outputs(model, X), model.history_.seconds
        with pytest.raises((ValueError, KeyError, ArithmeticError)):
            model.set_params(**options).fit(X[:, :4], self.other(y), **of_fit)
        np.testing.assert_array_equal(outputs(model, X), expected)
        assert model.score(X, y) > 0.5 and model.history_.seconds is seconds
        model.set_params(**clone(estimator(**QUICK)).get_params()).fit(X, self.other(y))

    def test_leaves_a_new_one_unfitted(self, estimator, y, cause):
        options, of_fit = WRONG_FITS[cause]
        model = estimator(**{**QUICK, **options})
        with pytest.raises((ValueError, KeyError, ArithmeticError)):
            model.fit(X, y, **of_fit)
        assert set(vars(model)) == set(model.get_params())
        with pytest.raises(NotFittedError):
            outputs(model, X)


def test_class_weights_that_are_all_0_are_named():
    with pytest.raises(ValueError, match="all rows have the weight 0"):
        XpdlClassifier(class_weight={0: 0, 1: 0}, **QUICK).fit(X, LABELS)


def test_classes_of_a_later_partial_fit_may_be_named_twice():
    model = XpdlClassifier(**QUICK).partial_fit(X, LABELS, classes=[1, 0, 0])
    model.partial_fit(X, LABELS, classes=[1, 0, 0])
    with pytest.raises(ValueError, match="are others than in the first call"):
        model.partial_fit(X, LABELS, classes=[1, 0, 2])
