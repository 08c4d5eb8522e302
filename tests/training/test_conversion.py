"""Data as people have them: lists, DataFrames and Series, and labels that are names."""

import warnings

import numpy as np
import pytest

import xpdl
from tests.training.runs import T, X, net, weights
from xpdl.layers import Affine, IdentityWithLoss, SigmoidWithLoss, SoftmaxWithLoss
from xpdl.models import Sequential
from xpdl.training import Trainer

WORDS = np.array(["no", "yes"])[T]
OPTIONS = {"epochs": 2, "mini_batch_size": 20, "verbose": False, "seed": 0}


def run(x, t, x_test=None, t_test=None, network=None, **options):
    return Trainer(network or net(), x, t, x_test, t_test, **{**OPTIONS, **options})


def same(one, other):
    a, b = weights(one.network), weights(other.network)
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])
    assert one.history.lists() | {"seconds": 0} == other.history.lists() | {"seconds": 0}


def trained(*args, **options):
    made = run(*args, **options)
    made.train()
    return made


def cut(a, rows):
    return a.iloc[rows] if hasattr(a, "iloc") else a[rows]


FORMS = {
    "lists": lambda pd: (X.tolist(), T.tolist()),
    "list of arrays": lambda pd: (list(X), list(T)),
    "DataFrame and Series": lambda pd: (pd.DataFrame(X), pd.Series(T)),
    "columns with names, an index": lambda pd: (
        pd.DataFrame(X, columns=["width", "height"], index=range(5, 95)),
        pd.Series(T, index=range(5, 95)),
    ),
    "columns of several dtypes": lambda pd: (
        pd.DataFrame({"a": X[:, 0], "b": X[:, 1].astype("float64")}),
        pd.Series(T),
    ),
    "nullable columns": lambda pd: (pd.DataFrame(X).convert_dtypes(), pd.Series(T).astype("Int64")),
    "nullable columns of one name": lambda pd: (
        pd.DataFrame(X, columns=["a"] * X.shape[1]).convert_dtypes(),
        pd.Series(T),
    ),
    "nullable columns whose names look alike": lambda pd: (
        pd.DataFrame(X, columns=[1, "1", *range(2, X.shape[1])]).convert_dtypes(),
        pd.Series(T),
    ),
    "array and Series": lambda pd: (X, pd.Series(T)),
    "arrays of objects": lambda pd: (X.astype(object), T.astype(object)),
    "columns and Series of objects": lambda pd: (pd.DataFrame(X, dtype=object), pd.Series(T, dtype=object)),
}


@pytest.mark.needs("pandas")
@pytest.mark.parametrize("form", FORMS)
def test_forms_of_data_make_the_run_of_their_arrays(form):
    import pandas as pd

    x, t = FORMS[form](pd)
    train, test = slice(0, 60), slice(60, 90)
    other = trained(cut(x, train), cut(t, train), cut(x, test), cut(t, test), metrics=["f1"])
    same(trained(X[:60], T[:60], X[60:], T[60:], metrics=["f1"]), other)
    same(
        trained(X[:60], T[:60], validation_data=(X[60:], T[60:])),
        trained(cut(x, train), cut(t, train), validation_data=(cut(x, test), cut(t, test))),
    )


LABELS = {
    "strings": lambda pd: WORDS,
    "list of strings": lambda pd: WORDS.tolist(),
    "objects": lambda pd: WORDS.astype(object),
    "bytes": lambda pd: WORDS.astype("S"),
    "Series": lambda pd: pd.Series(WORDS),
    "Series of objects": lambda pd: pd.Series(WORDS, dtype=object),
    "categories": lambda pd: pd.Series(WORDS, dtype="category"),
    "column": lambda pd: WORDS[:, None],
    "DataFrame of one column": lambda pd: pd.DataFrame({"bought": WORDS}),
}


@pytest.mark.needs("pandas")
@pytest.mark.parametrize("form", LABELS)
def test_names_of_classes_are_kept(form, tmp_path):
    import pandas as pd

    t = LABELS[form](pd)
    made = trained(X[:60], cut(t, slice(0, 60)), X[60:], cut(t, slice(60, 90)))
    assert made.network.class_names == made.class_names == ["no", "yes"]
    same(trained(X[:60], T[:60], X[60:], T[60:]), made)
    made.network.save(tmp_path / "net")
    again = xpdl.load_model(tmp_path / "net")
    assert again.class_names == ["no", "yes"]
    assert again.accuracy(X[60:], cut(t, slice(60, 90))) == made.test_acc_list[-1]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["no", "no"], r"a class is named twice, class_names=\['no', 'no'\]"),
        ([0, 1], r"'.*' in row 0 is none of the classes 0, 1"),
    ],
)
def test_names_that_are_none_are_told(names, message):
    network = net()
    network.class_names = names
    with pytest.raises(xpdl.LabelError, match=message):
        Trainer(network, X[:60], WORDS[:60], verbose=False)


MISSING = {
    "object": lambda pd: (WORDS.astype(object), None),
    "string": lambda pd: (WORDS, pd.NA),
    "str": lambda pd: (WORDS, np.nan),
    "category": lambda pd: (WORDS, np.nan),
}


@pytest.mark.needs("pandas")
@pytest.mark.parametrize("dtype", MISSING)
def test_missing_label_is_named_by_its_row(dtype):
    import pandas as pd

    words, missing = MISSING[dtype](pd)
    t = pd.Series(words).astype(dtype)
    t[5] = missing
    with pytest.raises(xpdl.LabelError, match=r"Trainer: t_train: row 5, .*, has no label"):
        trained(X[:60], t[:60])


BOOLEANS = {
    "array": lambda pd: T == 1,
    "list": lambda pd: (T == 1).tolist(),
    "Series": lambda pd: pd.Series(T == 1),
    "nullable": lambda pd: pd.Series(T == 1).astype("boolean"),
}


@pytest.mark.needs("pandas")
@pytest.mark.parametrize("form", BOOLEANS)
def test_booleans_are_two_classes(form):
    import pandas as pd

    made = trained(X, BOOLEANS[form](pd))
    assert made.network.class_names == ["False", "True"]
    same(trained(X, T), made)


@pytest.mark.parametrize("loss", [SigmoidWithLoss, IdentityWithLoss])
def test_booleans_are_numbers_where_no_classes_are_told_apart(loss):
    def network():
        return Sequential(Affine(units=1), loss=loss, seed=0)

    made, numbers = (trained(X, t, network=network()) for t in ((T == 1)[:, None], T[:, None].astype(float)))
    assert made.class_names is None
    same(numbers, made)


@pytest.mark.needs("torch")
def test_booleans_of_another_library():
    import torch

    same(trained(X, T), trained(X, torch.asarray(T == 1)))


@pytest.mark.needs("pandas")
def test_categories_keep_their_order_and_those_without_rows():
    import pandas as pd

    t = pd.Series(pd.Categorical(WORDS, categories=["yes", "perhaps", "no"]))
    made = trained(X, t, network=Sequential(Affine(units=3), loss=SoftmaxWithLoss, seed=0))
    assert made.network.class_names == ["yes", "perhaps", "no"]
    same(trained(X, np.array([2, 0])[T], network=Sequential(Affine(units=3), loss=SoftmaxWithLoss, seed=0)), made)


def test_a_network_with_names_keeps_them():
    network = net()
    network.class_names = ["yes", "no"]
    made = trained(X, WORDS, network=network)
    assert network.class_names == ["yes", "no"] and made.t_train[0] == 1 - T[0]


def test_a_network_of_ones_own_gets_the_names_too():
    class Own:
        def __init__(self):
            self.inner = net()
            self.inner.build((2,))
            self.params = dict(self.inner.params)

        def predict(self, x):
            return self.inner.predict(x)

        def loss(self, x, t):
            return self.inner.loss(x, t)

        def accuracy(self, x, t):
            return self.inner.accuracy(x, t)

        def gradient(self, x, t):
            return self.inner.gradient(x, t)

    made = trained(X, WORDS, network=Own())
    assert made.network.class_names == ["no", "yes"]


def test_predict_and_accuracy_take_lists_and_names():
    made = trained(X, WORDS)
    np.testing.assert_array_equal(made.network.predict(X.tolist()), made.network.predict(X))
    assert made.network.accuracy(X.tolist(), WORDS.tolist()) == made.network.accuracy(X, T)
    with pytest.raises(
        xpdl.LabelError, match=r"Sequential\.accuracy: t: 'maybe' in row 1 is none of the classes no, yes"
    ):
        made.network.accuracy(X[:2], ["no", "maybe"])


@pytest.mark.needs("pandas")
def test_predict_takes_a_dataframe():
    import pandas as pd

    made = trained(pd.DataFrame(X), pd.Series(WORDS))
    y = made.network.predict(pd.DataFrame(X))
    assert isinstance(y, np.ndarray)
    np.testing.assert_array_equal(y, made.network.predict(X))
    assert made.network.accuracy(pd.DataFrame(X), pd.Series(WORDS)) == made.network.accuracy(X, T)


def test_whole_numbers_of_a_list_are_features_and_those_of_an_array_pictures_that_are_not_scaled():
    rows = [[0, 1], [1, 0], [1, 1], [0, 0]]
    made = trained(rows, [1, 1, 0, 0], mini_batch_size=4)
    same(trained(np.array(rows, dtype=float), np.array([1, 1, 0, 0]), mini_batch_size=4), made)
    with pytest.raises(xpdl.DTypeError, match="divide by 255"):
        trained(np.array(rows, dtype="uint8"), np.array([1, 1, 0, 0]))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nothing_is_rounded_on_the_way(dtype):
    """A network in float64 sees every digit of a list."""
    with xpdl.use("numpy", dtype=dtype):
        made = run((X.astype("float64") + 1e-12).tolist(), T, network=net())
    assert made.x_train.dtype == dtype
    np.testing.assert_array_equal(made.x_train, (X.astype("float64") + 1e-12).astype(dtype))


def test_mapped_rows_are_not_copied(tmp_path):
    np.save(tmp_path / "x.npy", X)
    x = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert run(x, WORDS).x_train is x


@pytest.mark.needs("pandas")
def test_columns_of_floats_are_not_copied():
    import pandas as pd

    x = X.astype("float32")
    assert np.shares_memory(xpdl.training.conversion.features(pd.DataFrame(x, copy=False), net(), "x"), x)


WRONG = {
    "column of strings": (
        lambda pd: pd.DataFrame({"a": X[:, 0], "city": WORDS}),
        T,
        TypeError,
        r"x_train: the columns 'city' \(",
    ),
    "column of dates": (
        lambda pd: pd.DataFrame({"a": X[:, 0], "day": pd.date_range("2020-01-01", periods=90)}),
        T,
        TypeError,
        r"x_train: the columns 'day' \(datetime64.*hold no numbers",
    ),
    "missing number": (
        lambda pd: pd.DataFrame({"a": pd.array([None, *range(89)], dtype="Int64"), "b": X[:, 1]}),
        T,
        ValueError,
        r"x_train.*row 0",
    ),
    "strings": (lambda pd: WORDS, T, TypeError, r"x_train must be numbers, got <U3"),
    "rows of several lengths": (
        lambda pd: [[1.0], [1.0, 2.0]],
        T[:2],
        xpdl.ShapeError,
        "x_train: the entries of a list are its rows, of one shape, got list of shape",
    ),
    "a set": (
        lambda pd: set(),
        T,
        TypeError,
        "x_train must be an array of rows, a list, or a table such as a DataFrame, got set",
    ),
    "a tuple for a Sequential": (
        lambda pd: (X, X),
        T,
        TypeError,
        "Sequential takes one array, got a tuple of 2; several inputs",
    ),
    "other index": (
        lambda pd: pd.DataFrame(X),
        lambda pd: pd.Series(T).sort_index(ascending=False),
        xpdl.ShapeError,
        r"x_train and Trainer: t_train have the same index in another order",
    ),
    "missing label": (
        lambda pd: X,
        lambda pd: pd.Series([None, *WORDS[1:]]),
        xpdl.LabelError,
        "t_train: row 0, .* has no label",
    ),
    "label of another kind": (
        lambda pd: X,
        lambda pd: [*WORDS[1:].tolist(), 3],
        xpdl.LabelError,
        "row 89, 3, is no string as others are",
    ),
    "too many classes": (
        lambda pd: X,
        lambda pd: np.array(["a", "b", "c"])[np.arange(90) % 3],
        xpdl.ShapeError,
        r"t_train has 3 classes \(a, b, c\), but Sequential has 2 outputs; give its last layer 3 units",
    ),
    "several columns of names": (
        lambda pd: X,
        lambda pd: np.stack([WORDS, WORDS], axis=1),
        xpdl.ShapeError,
        r"t_train: names of classes must have the shape \(N,\), got \(90, 2\)",
    ),
}


@pytest.mark.needs("pandas")
@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_trained_with_is_one_error(case):
    import pandas as pd

    x, t, error, says = WRONG[case]
    with pytest.raises(error, match=says), warnings.catch_warnings():
        run(x(pd), t(pd) if callable(t) else t)


def test_test_labels_are_those_of_the_training():
    with pytest.raises(xpdl.LabelError, match="t_test: 'maybe' in row 0 is none of the classes no, yes"):
        run(X, WORDS, X[:1], ["maybe"])
    with pytest.raises(xpdl.LabelError, match="t_val: 'maybe' in row 0 is none"):
        run(X, WORDS, validation_data=(X[:1], ["maybe"]))


@pytest.mark.parametrize("loss", [SigmoidWithLoss, IdentityWithLoss])
def test_names_are_for_a_loss_of_classes(loss):
    network = Sequential(Affine(units=1), loss=loss)
    with pytest.raises(xpdl.LabelError, match=f"names of classes are for SoftmaxWithLoss, and {loss.__name__} takes"):
        run(X, WORDS, network=network)
    assert network.class_names is None


@pytest.mark.parametrize("option", ["checkpoint", "class_weights", "validation_split", "sample_weight", "augment"])
def test_options_go_with_names(option, tmp_path):
    options = {
        "checkpoint": {"checkpoint": tmp_path / "run", "epochs": 1},
        "class_weights": {},
        "validation_split": {"validation_split": 0.2},
        "sample_weight": {"sample_weight": [1.0, 2.0] * 45},
        "augment": {"augment": lambda x, stream: x + stream.generator("noise").normal(size=x.shape)},
    }[option]

    def network():
        loss = SoftmaxWithLoss(class_weights=[1.0, 3.0]) if option == "class_weights" else SoftmaxWithLoss
        return Sequential(Affine(units=2), loss=loss, seed=0)

    named = trained(X.tolist(), WORDS.tolist(), network=network(), **options)
    if option == "checkpoint":  # and goes on in two parts
        named = trained(X.tolist(), WORDS.tolist(), network=network(), **options | {"epochs": 2})
    plain = trained(X, T, network=network(), **{**options, "epochs": 2, "checkpoint": None})
    same(plain, named)


def test_a_checkpoint_of_other_names_is_refused(tmp_path):
    options = {"checkpoint": tmp_path / "run", "epochs": 1}
    trained(X, WORDS, **options)
    with pytest.raises(ValueError, match=r"class names \['no', 'yes'\] there, \['a', 'b'\] here"):
        trained(X, np.array(["a", "b"])[T], **options)
