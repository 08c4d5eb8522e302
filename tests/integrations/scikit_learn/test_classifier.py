"""The classifier of scikit-learn, where scikit-learn is installed."""

import numpy as np
import pytest


@pytest.mark.needs("sklearn")
class TestClassifier:
    @pytest.fixture
    def classifier(self):
        from xpdl.integrations.scikit_learn import XpdlClassifier

        return XpdlClassifier

    def test_in_a_pipeline_and_a_search(self, classifier):
        from sklearn.datasets import load_iris
        from sklearn.model_selection import RandomizedSearchCV
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        x, t = load_iris(return_X_y=True)
        names = np.array(["setosa", "versicolor", "virginica"])[t]
        pipeline = make_pipeline(StandardScaler(), classifier(epochs=20, random_state=0))
        search = RandomizedSearchCV(
            pipeline, {"xpdlclassifier__learning_rate": [0.01, 0.1]}, n_iter=2, cv=3, random_state=0
        )
        assert search.fit(x, names).best_score_ > 0.9
        assert set(search.predict(x)) == set(names)
        np.testing.assert_allclose(search.predict_proba(x).sum(axis=1), 1, rtol=1e-5)

    def test_net_is_that_of_build_and_the_run_that_of_random_state(self, classifier):
        from xpdl import Affine, Sequential, SoftmaxWithLoss

        x, t = np.random.default_rng(0).normal(size=(40, 3)), np.arange(40) % 4
        made = []

        def build(features, classes):
            made.append((features, classes))
            return Sequential(Affine(units=classes), loss=SoftmaxWithLoss)

        one, two, other = (classifier(build, epochs=2, random_state=seed).fit(x, t) for seed in (0, 0, 1))
        assert made == [(3, 4)] * 3 and [*one.net_.params] == ["Affine1.W", "Affine1.b"]
        assert one.history_.train_loss_list == two.history_.train_loss_list != other.history_.train_loss_list

    @pytest.mark.parametrize("units", [1, 2])
    def test_two_classes_may_be_one_score_or_two_answers(self, classifier, units):
        from xpdl import Affine, Relu, Sequential, SigmoidWithLoss
        from xpdl.data import moons

        x, t = moons(200, noise=0.1, seed=0)

        def build(features, classes):
            return Sequential(Affine(units=16), Relu(), Affine(units=units), loss=SigmoidWithLoss)

        names = np.array(["no", "yes"])[t]
        model = classifier(build, epochs=60, learning_rate=0.02, random_state=0).fit(x, names)
        p = model.predict_proba(x)
        assert p.shape == (200, 2) and np.all((p >= 0) & (p <= 1))
        np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-6)
        assert model.score(x, names) > 0.85 and set(model.predict(x)) == {"no", "yes"}
        assert 0.85 < model.history_.train_acc_list[-1] <= 1
        scores = model.net_.predict(x)
        yes = 1 / (1 + np.exp(-scores.astype(float)))
        want = yes[:, 0] if units == 1 else yes[:, 1] / yes.sum(axis=1)
        np.testing.assert_allclose(p[:, 1], want, rtol=1e-5, atol=1e-7)

    def test_answers_to_each_of_several_classes(self, classifier):
        from sklearn.datasets import load_iris

        from xpdl import Affine, Relu, Sequential, SigmoidWithLoss

        x, t = load_iris(return_X_y=True)

        def build(features, classes):
            return Sequential(Affine(units=16), Relu(), Affine(units=classes), loss=SigmoidWithLoss)

        model = classifier(build, epochs=60, random_state=0).fit((x - x.mean(axis=0)) / x.std(axis=0), t)
        p = model.predict_proba((x - x.mean(axis=0)) / x.std(axis=0))
        assert p.shape == (150, 3) and np.mean(p.argmax(axis=1) == t) > 0.9
        np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-6)

    def test_several_labels(self, classifier):
        x = np.random.default_rng(0).normal(size=(120, 4))
        y = np.stack([x[:, 0] > 0, x[:, 1] + x[:, 2] > 0, x[:, 3] > 1], axis=1).astype(int)
        model = classifier(epochs=60, random_state=0).fit(x, y)
        p, found = model.predict_proba(x), model.predict(x)
        scores = model.net_.predict(x)
        np.testing.assert_allclose(p, 1 / (1 + np.exp(-scores)), rtol=1e-6)
        np.testing.assert_array_equal(found, p > 0.5)
        assert found.dtype == int and found.shape == (120, 3) and model.multilabel_
        assert model.score(x, y) == np.mean((found == y).all(axis=1)) > 0.9
        assert model.history_.train_acc_list[-1] == pytest.approx(model.score(x, y))
        assert model.classes_.tolist() == [0, 1, 2]

    def test_several_labels_need_a_net_of_answers(self, classifier):
        from xpdl import Affine, Sequential, SoftmaxWithLoss

        def build(features, classes):
            return Sequential(Affine(units=classes), loss=SoftmaxWithLoss)

        y = np.array([[0, 1, 1], [1, 1, 0], [0, 0, 1]])
        with pytest.raises(TypeError, match="build must return a net with SigmoidWithLoss for several labels"):
            classifier(build).fit(np.eye(3), y)

    def test_several_sets_of_classes_are_for_several_classifiers(self, classifier):
        from sklearn.multioutput import MultiOutputClassifier

        x = np.random.default_rng(0).normal(size=(60, 3))
        y = np.stack([(x[:, 0] > 0) + (x[:, 0] > 1), 3 + (x[:, 1] > 0)], axis=1)
        with pytest.raises(ValueError, match=r"MultiOutputClassifier\(XpdlClassifier\(\)\)"):
            classifier().fit(x, y)
        assert MultiOutputClassifier(classifier(random_state=0)).fit(x, y).score(x, y) > 0.9

    def test_probabilities_are_those_of_the_softmax(self, classifier):
        x, t = np.random.default_rng(0).normal(size=(40, 3)), np.arange(40) % 3
        model = classifier(epochs=2, random_state=0).fit(x, t)
        scores = np.exp(model.net_.predict(x))
        np.testing.assert_allclose(model.predict_proba(x), scores / scores.sum(axis=1, keepdims=True), rtol=1e-6)
        np.testing.assert_array_equal(model.predict(x), scores.argmax(axis=1))

    @pytest.mark.parametrize(("units", "loss"), [(1, "Softmax"), (3, "Softmax"), (3, "Sigmoid"), (2, "Identity")])
    def test_a_net_that_does_not_fit_is_refused(self, classifier, units, loss):
        import xpdl

        def build(features, classes):
            return xpdl.Sequential(xpdl.Affine(units=units), loss=getattr(xpdl, f"{loss}WithLoss"))

        with pytest.raises(
            (ValueError, TypeError), match=r"XpdlClassifier: .*(must end in 2 scores|build must return)"
        ):
            classifier(build).fit(np.eye(4, 3), np.array([0, 1, 1, 0]))

    def test_rows_of_no_weight_do_not_count(self, classifier):
        from xpdl.data import moons

        x, t = moons(200, noise=0.1, seed=0)
        wrong = np.random.default_rng(0).random(200) < 0.5
        labels, weights = np.where(wrong, 1 - t, t), np.where(wrong, 0.0, 1.0)
        options = {"epochs": 40, "learning_rate": 0.02, "random_state": 0}
        weighted = classifier(**options).fit(x, labels, sample_weight=weights)
        assert weighted.score(x, t) > 0.9
        without = classifier(**options).fit(x[~wrong], t[~wrong])
        np.testing.assert_array_equal(weighted.predict_proba(x), without.predict_proba(x))
        with pytest.raises(ValueError, match="at least one non-zero number"):
            classifier(**options).fit(x, labels, sample_weight=0 * weights)

    def test_weights_count_as_repeated_rows(self, classifier):
        rng = np.random.default_rng(4)
        x, t, weights = rng.normal(size=(15, 4)), rng.integers(0, 3, 15), rng.integers(0, 5, 15)
        weighted = classifier(random_state=0).fit(x, t, sample_weight=weights)
        repeated = classifier(random_state=0).fit(x.repeat(weights, axis=0), t.repeat(weights))
        np.testing.assert_allclose(weighted.predict_proba(x), repeated.predict_proba(x), rtol=1e-3, atol=1e-5)
        assert weighted.score(x, t, sample_weight=weights) == 1.0

    def test_learning_rate_has_the_old_name_lr_for_a_release(self, classifier):
        with pytest.warns(DeprecationWarning, match=r"^XpdlClassifier: lr is deprecated; use learning_rate$") as caught:
            model = classifier(lr=0.5)
        assert model.learning_rate == 0.5 and caught[0].filename == __file__
        with pytest.warns(DeprecationWarning, match="lr is deprecated") as caught:
            model.set_params(lr=0.25)
        assert model.learning_rate == 0.25 and caught[0].filename == __file__
        assert "lr" not in model.get_params() and model.get_params()["learning_rate"] == 0.25
        with pytest.raises(TypeError, match="got both; pass learning_rate alone"):
            model.set_params(lr=1, learning_rate=2)

    def test_drops_a_last_batch_of_one_row_when_asked_to(self, classifier):
        from xpdl import Affine, BatchNormalization, Sequential, SoftmaxWithLoss

        def build(features, classes):
            return Sequential(Affine(units=8), BatchNormalization(), Affine(units=classes), loss=SoftmaxWithLoss)

        x, t = np.random.default_rng(0).normal(size=(21, 3)), np.arange(21) % 2
        with pytest.raises(ValueError, match="drop_last=True"):
            classifier(build, batch_size=10).fit(x, t)
        model = classifier(build, batch_size=10, epochs=3, drop_last=True).fit(x, t)
        assert len(model.history_.train_loss_list) == 6
