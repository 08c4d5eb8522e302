"""Rows and targets as people have them: float64, sparse, DataFrames, pictures, arrays of other libraries."""

import tracemalloc

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="estimators of scikit-learn")

from scipy.sparse import csr_array, csr_matrix
from scipy.sparse import random as sparse_random
from sklearn.base import clone

import xpdl
from xpdl.backends.namespaces import array_namespace, device, dtype_name
from xpdl.integrations.scikit_learn import XpdlClassifier, XpdlRegressor

_rng = np.random.default_rng(2)
X = _rng.standard_normal((60, 4))
LABELS = (X[:, 0] + X[:, 1] > 0).astype(int)
NUMBERS = 3 * X[:, 0] - X[:, 2] + 10
QUICK = {"epochs": 30, "learning_rate": 0.02, "random_state": 0}
ESTIMATORS = [(XpdlClassifier, LABELS), (XpdlRegressor, NUMBERS)]
each = pytest.mark.parametrize(("estimator", "y"), ESTIMATORS)


def outputs(model, x):
    return model.predict_proba(x) if isinstance(model, XpdlClassifier) else model.predict(x)


class TestDtypes:
    @each
    @pytest.mark.parametrize(
        ("dtype", "trained"),
        [("float64", "float64"), ("float32", "float32"), ("int64", "float32"), ("bool", "float32")],
    )
    def test_float64_is_trained_in_float64_and_all_else_in_float32(self, estimator, y, dtype, trained):
        model = estimator(**QUICK).fit((4 * X).astype(dtype), y)
        assert {p.dtype.name for p in model.net_.params.values()} == {trained}
        assert {a.dtype.name for a in model.optimizer_.m.values()} == {trained}
        assert outputs(model, (4 * X).astype(dtype)).dtype == trained

    def test_a_net_that_build_has_built_already_is_moved(self):
        def build(features, classes):
            net = xpdl.Sequential(xpdl.Affine(units=classes), loss=xpdl.SoftmaxWithLoss)
            net.build((features,))
            return net

        assert XpdlClassifier(build, **QUICK).fit(X, LABELS).net_.params["Affine1.W"].dtype == "float64"

    @pytest.mark.needs("torch")
    def test_numpy_rows_are_trained_on_the_backend_in_use_and_answered_in_numpy(self):
        with xpdl.use("torch"):
            model = XpdlClassifier(**QUICK).fit(X, LABELS)
        assert type(model.net_.params["Affine1.W"]).__module__ == "torch"
        assert type(model.predict(X)) is np.ndarray and model.score(X, LABELS) > 0.9


class TestSparse:
    @each
    @pytest.mark.parametrize("kind", [csr_matrix, csr_array])
    def test_is_as_its_dense_rows(self, estimator, y, kind):
        x = np.where(np.abs(X) > 0.5, X, 0)
        dense, sparse = estimator(**QUICK).fit(x, y), estimator(**QUICK).fit(kind(x), y)
        np.testing.assert_array_equal(outputs(sparse, kind(x)), outputs(dense, x))
        many = np.tile(x, (40, 1))  # more than one pass
        np.testing.assert_allclose(outputs(sparse, kind(many)), outputs(dense, many), rtol=1e-12)

    @each
    @pytest.mark.parametrize(
        "options",
        [
            {"drop_last": True, "batch_size": 16},
            {"early_stopping": True, "validation_fraction": 0.25, "batch_size": 7},
            {"warm_start": True},
        ],
        ids=lambda options: next(iter(options)),
    )
    def test_is_as_its_dense_rows_with_options(self, estimator, y, options):
        x, weights = np.where(np.abs(X) > 0.5, X, 0), _rng.integers(0, 3, len(X)).astype(float)
        dense, sparse = (estimator(**QUICK, **options) for _ in range(2))
        for _ in range(2):
            dense.fit(x, y, sample_weight=weights)
            sparse.fit(csr_array(x), y, sample_weight=weights)
        np.testing.assert_array_equal(outputs(sparse, csr_array(x)), outputs(dense, x))
        assert sparse.history_.epoch_loss_list == dense.history_.epoch_loss_list
        assert sparse.history_.val_loss_list == dense.history_.val_loss_list
        for model, rows in ((dense, x), (sparse, csr_array(x))):
            model.partial_fit(rows, y)
        np.testing.assert_array_equal(outputs(sparse, csr_array(x)), outputs(dense, x))

    def test_pictures_may_be_sparse(self):
        def build(features, classes):
            return xpdl.Sequential(
                xpdl.Convolution(filters=2, size=2), xpdl.Affine(units=classes), loss=xpdl.SoftmaxWithLoss
            )

        x = np.where(np.abs(X) > 0.5, X, 0)
        options = {"input_shape": (1, 2, 2), **QUICK, "epochs": 3}
        dense, sparse = (XpdlClassifier(build, **options).fit(rows, LABELS) for rows in (x, csr_array(x)))
        np.testing.assert_array_equal(sparse.predict_proba(csr_array(x)), dense.predict_proba(x))

    @each
    def test_memory_is_that_of_a_batch(self, estimator, y):
        features, rows = 20_000, 600
        x = sparse_random(rows, features, density=1e-4, format="csr", dtype="float32", random_state=0)
        model = estimator(
            epochs=1, batch_size=20, hidden_layer_sizes=(2,), optimizer="sgd", learning_rate=1e-6, random_state=0
        )
        tracemalloc.start()
        try:
            model.fit(x, np.resize(y, rows))
            outputs(model, x)
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert most < rows * features * 4 / 3  # of all rows, dense

    def test_labels_may_be_sparse(self):
        y = np.stack([LABELS, X[:, 2] > 0], axis=1).astype(int)
        model = XpdlClassifier(**QUICK)
        np.testing.assert_array_equal(model.fit(X, csr_matrix(y)).predict(X), model.fit(X, y).predict(X))


class TestDataFrames:
    @pytest.mark.needs("pandas")
    @each
    def test_columns_have_names_and_keep_their_order(self, estimator, y):
        import pandas as pd

        frame = pd.DataFrame(X, columns=["a", "b", "c", "d"])
        model = estimator(**QUICK).fit(frame, pd.Series(y))
        assert model.feature_names_in_.tolist() == ["a", "b", "c", "d"] and model.n_features_in_ == 4
        np.testing.assert_array_equal(outputs(model, frame), outputs(estimator(**QUICK).fit(X, y), X))
        with pytest.raises(ValueError, match="feature names should match"):
            model.predict(frame[["b", "a", "c", "d"]])

    @pytest.mark.needs("pandas")
    @pytest.mark.parametrize("dtype", ["object", "str", "category", "bool", "Int64"])
    def test_classes_are_those_of_a_series(self, dtype):
        import pandas as pd

        names = LABELS if dtype in ("bool", "Int64") else np.array(["no", "yes"])[LABELS]
        y = pd.Series(names, name="answer").astype(dtype)
        model = XpdlClassifier(**QUICK).fit(pd.DataFrame(X, columns=list("abcd")), y)
        assert set(model.predict(pd.DataFrame(X, columns=list("abcd")))) == set(names)
        assert model.score(pd.DataFrame(X, columns=list("abcd")), y) > 0.9

    @pytest.mark.needs("pandas")
    def test_columns_of_text_are_refused(self):
        import pandas as pd

        with pytest.raises(ValueError, match=r"the columns .a. .* of X hold no numbers"):
            XpdlClassifier(**QUICK).fit(pd.DataFrame({"a": ["x", "y"], "b": [1, 2]}), [0, 1])


class TestPictures:
    @staticmethod
    def build(features, outputs):
        loss = xpdl.SoftmaxWithLoss if outputs == 2 else xpdl.IdentityWithLoss
        layers = [xpdl.Convolution(filters=4, size=3), xpdl.Relu(), xpdl.Affine(units=outputs)]
        return xpdl.Sequential(*layers, loss=loss)

    @pytest.mark.parametrize("estimator", [XpdlClassifier, XpdlRegressor])
    def test_rows_become_pictures_and_pictures_are_taken(self, estimator):
        x = _rng.standard_normal((40, 1, 6, 6)).astype("float32")
        y = (x[:, 0, 2:4, 2:4].sum(axis=(1, 2)) > 0).astype(int)
        model = estimator(self.build, input_shape=(1, 6, 6), **QUICK).fit(x.reshape(40, 36), y)
        assert model.net_.input_shape == (1, 6, 6) and model.n_features_in_ == 36
        again = estimator(self.build, input_shape=(1, 6, 6), **QUICK).fit(x, y)
        np.testing.assert_array_equal(outputs(again, x), outputs(model, x.reshape(40, 36)))
        assert model.score(x, y) > 0.5

    def test_other_shapes_are_refused(self):
        with pytest.raises(ValueError, match=r"input_shape=\(1, 6, 6\) has 36 values, but rows of X have 4 features"):
            XpdlClassifier(self.build, input_shape=(1, 6, 6)).fit(X, LABELS)
        with pytest.raises(ValueError, match="dim 4"):
            XpdlClassifier(self.build, input_shape=(1, 6, 6)).fit(np.zeros((4, 6, 6, 1)), LABELS[:4])


def answers(outputs):
    """A net of yes or no to each class, or to the second of two."""

    def build(features, classes):
        return xpdl.Sequential(xpdl.Affine(units=outputs), loss=xpdl.SigmoidWithLoss)

    return build


def check_everything_follows(backend, model, y):
    x = X.astype("float32")
    here, there = backend.asarray(x, "float32"), backend.asarray(y, "int32" if y.dtype == int else "float32")
    weights = np.linspace(0, 1, len(x))
    reference, model = (clone(model).set_params(epochs=3, random_state=0) for _ in range(2))
    reference.fit(x, y, weights)
    model.fit(here, there, backend.asarray(weights, "float32"))
    p = model.net_.params["Affine1.W"]
    assert array_namespace(p) is array_namespace(here) and device(p) == device(here)
    for method in ("predict", "predict_proba")[: 1 + isinstance(model, XpdlClassifier)]:
        found = getattr(model, method)(here)
        assert array_namespace(found) is array_namespace(here) and device(found) == device(here)
    np.testing.assert_allclose(xpdl.asnumpy(outputs(model, here)), outputs(reference, x), rtol=2e-3, atol=2e-4)
    assert model.score(here, there) == pytest.approx(reference.score(x, y), abs=0.04)
    # rows of another library are answered in theirs
    np.testing.assert_allclose(outputs(model, x), xpdl.asnumpy(outputs(model, here)), rtol=1e-4, atol=1e-6)


@pytest.mark.backends("values")
@pytest.mark.skip_backend("jit", reason="a fit is no function to trace")
class TestOtherLibraries:
    """An estimator fitted on arrays of a library is trained with it, and answers in it."""

    @pytest.mark.backends("jax")
    def test_everything_follows_x_where_each_shape_is_compiled(self, backend):
        check_everything_follows(backend, XpdlClassifier(), LABELS)

    @pytest.mark.backends("precompiled")
    @pytest.mark.parametrize(
        ("model", "y"),
        [
            (XpdlClassifier(), LABELS),
            (XpdlRegressor(), NUMBERS),
            (XpdlRegressor(), np.stack([NUMBERS, NUMBERS**2], axis=1)),
            (XpdlClassifier(), np.stack([LABELS, 1 - LABELS, LABELS], axis=1)),
            (XpdlClassifier(answers(1)), LABELS),
            (XpdlClassifier(answers(2)), LABELS),
        ],
        ids=["classes", "numbers", "rows of numbers", "several labels", "one answer", "two answers"],
    )
    def test_everything_follows_x(self, backend, model, y):
        check_everything_follows(backend, model, y)

    @pytest.mark.backends("precompiled")
    @each
    @pytest.mark.parametrize("dtype", ["int32", "float32"])
    def test_all_but_float64_is_trained_in_float32(self, backend, estimator, y, dtype):
        model = estimator(epochs=1).fit(backend.asarray((4 * X).astype(dtype), dtype), y)
        assert dtype_name(model.net_.params["Affine1.W"].dtype) == "float32"

    @pytest.mark.backends("precompiled")
    @pytest.mark.backends("float64")
    @each
    def test_float64_is_trained_in_float64(self, backend, estimator, y):
        model = estimator(epochs=1).fit(backend.asarray(X, "float64"), y)
        assert dtype_name(model.net_.params["Affine1.W"].dtype) == "float64"

    @pytest.mark.backends("precompiled")
    def test_rows_to_validate_with_are_drawn_where_x_is(self, backend):
        here = backend.asarray(X.astype("float32"), "float32")
        model = XpdlClassifier(epochs=2, early_stopping=True, random_state=0).fit(here, LABELS)
        reference = XpdlClassifier(epochs=2, early_stopping=True, random_state=0).fit(X.astype("float32"), LABELS)
        np.testing.assert_allclose(model.history_.val_loss_list, reference.history_.val_loss_list, rtol=1e-4)

    @pytest.mark.backends("precompiled")
    def test_classes_that_are_names_are_answered_in_numpy(self, backend):
        names = np.array(["no", "yes"])[LABELS]
        here = backend.asarray(X.astype("float32"), "float32")
        model = XpdlClassifier(epochs=2, random_state=0).fit(here, names)
        assert type(model.predict(here)) is np.ndarray and set(model.predict(here)) <= {"no", "yes"}
        assert 0 <= model.score(here, names) <= 1

    @pytest.mark.parametrize(
        ("x", "message"),
        [
            (np.zeros((3, 2, 2)), r"XpdlClassifier: X must be rows \(N, F\), got shape \(3, 2, 2\)"),
            (np.zeros((0, 2)), r"X must have at least one row and one feature, got shape \(0, 2\)"),
            (np.array([[1.0], [np.nan], [2.0]]), "XpdlClassifier: X: row 1 holds nan"),
        ],
    )
    @pytest.mark.backends("precompiled")
    @pytest.mark.skip_backend("numpy", reason="scikit-learn checks those of NumPy")
    def test_wrong_rows_are_refused(self, backend, x, message):
        with pytest.raises(ValueError, match=message):
            XpdlClassifier(epochs=1).fit(backend.asarray(x.astype("float32"), "float32"), [0, 1, 1])

    @pytest.mark.backends("precompiled")
    def test_other_features_are_refused(self, backend):
        model = XpdlClassifier(epochs=1).fit(backend.asarray(X.astype("float32"), "float32"), LABELS)
        with pytest.raises(ValueError, match="X has 3 features, but XpdlClassifier is expecting 4"):
            model.predict(backend.asarray(X[:, :3].astype("float32"), "float32"))


@pytest.mark.needs("pandas")
class TestTables:
    @pytest.mark.parametrize("column", ["text", "category", "date"])
    @each
    def test_columns_without_numbers_are_named(self, estimator, y, column):
        import pandas as pd

        values = {
            "text": pd.Series(["Rome", "Oslo"] * 30),
            "category": pd.Series(["Rome", "Oslo"] * 30, dtype="category"),
            "date": pd.Series(pd.date_range("2020-01-01", periods=60)),
        }
        x = pd.DataFrame({"size": X[:, 0], column: values[column]})
        with pytest.raises(ValueError, match=rf"the columns '{column}' \(.*\) of X hold no numbers; encode them"):
            estimator(**QUICK).fit(x, y)
        other = pd.DataFrame({"size": X[:, 0], "weight": X[:, 1]})
        model = estimator(**QUICK).fit(other, y)
        with pytest.raises(ValueError, match="feature names should match"):
            model.predict(x)

    @each
    def test_numbers_in_objects_and_categories_are_taken(self, estimator, y):
        import pandas as pd

        plain = pd.DataFrame({"a": X[:, 0], "b": LABELS}).astype("float32")
        others = pd.DataFrame({"a": plain["a"].astype(object), "b": plain["b"].astype("category")})
        wanted = outputs(estimator(**QUICK).fit(plain, y), plain)
        np.testing.assert_array_equal(outputs(estimator(**QUICK).fit(others, y), others), wanted)


@pytest.mark.parametrize(
    ("classes", "names"),
    [(["no", "yes"], ["no", "yes"]), ([3, 7], ["3", "7"]), ([False, True], ["False", "True"]), ([0, 1], None)],
    ids=str,
)
def test_the_net_knows_the_names_of_the_classes(classes, names, tmp_path):
    model = XpdlClassifier(**QUICK).fit(X, np.asarray(classes)[LABELS])
    model.net_.save(tmp_path / "net.safetensors")
    again = xpdl.load_model(tmp_path / "net.safetensors")
    assert again.class_names == names
    np.testing.assert_array_equal(again.predict(X).argmax(axis=1), np.searchsorted(model.classes_, model.predict(X)))
