"""Rows by their numbers, of every dtype of every library."""

import numpy as np
import pytest

import xpdl
from tests.harness import nonempty
from xpdl import Batches
from xpdl.backends import asnumpy, use
from xpdl.backends.rows import rows_at

DTYPES = ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float32")
LIBRARIES = [
    name if name == "numpy" else pytest.param(name, marks=pytest.mark.needs(name)) for name in ("numpy", "torch", "jax")
]
X = np.random.default_rng(0).standard_normal((30, 4)).astype("float32")


def made(values, dtype):
    return xpdl.asarray(values.astype(dtype))


@pytest.mark.filterwarnings("ignore:Explicitly requested dtype")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("library", LIBRARIES)
class TestEveryDtype:
    @pytest.mark.parametrize("shape", [(6,), (6, 2), (6, 1, 3)])
    def test_rows_keep_their_dtype(self, library, dtype, shape):
        values = np.arange(np.prod(shape)).reshape(shape) % 5
        with use(library):
            a, numbers = made(values, dtype), xpdl.asarray(np.array([5, 0, 0, 3]))
            rows = rows_at(a, numbers)
            assert rows.dtype == a.dtype
            np.testing.assert_array_equal(asnumpy(rows), values.astype(dtype)[[5, 0, 0, 3]])

    def test_labels_of_batches(self, library, dtype):
        values = np.arange(30) % 2
        with use(library):
            t = made(values, dtype)
            batches = list(Batches(xpdl.asarray(X), t, 7, seed=0))
            found = np.concatenate([asnumpy(labels) for _, labels in nonempty(batches)])
            np.testing.assert_array_equal(np.sort(found), np.sort(values.astype(dtype)))


@pytest.mark.parametrize("dtype", [one for one in DTYPES if "int" in one])
@pytest.mark.parametrize("library", LIBRARIES)
class TestLabels:
    def test_train_as_int64(self, library, dtype):
        def losses(t):
            with use(library):
                net = xpdl.Sequential(xpdl.Affine(units=3), loss=xpdl.SoftmaxWithLoss, seed=0)
                options = {"validation_split": 0.2, "epochs": 2, "seed": 0, "verbose": False}
                history = xpdl.Trainer(net, X, t, X, t, **options).train()
            return history.train_loss_list + history.val_loss_list + history.test_acc_list

        values = np.arange(30) % 3
        np.testing.assert_allclose(losses(values.astype(dtype)), losses(values), rtol=1e-6)

    @pytest.mark.needs("sklearn")
    def test_come_back_from_a_classifier(self, library, dtype):
        values = np.arange(30) % 3
        with use(library):
            x, y = xpdl.asarray(X), made(values, dtype)
            model = xpdl.XpdlClassifier(epochs=1, random_state=0).fit(x, y)
            assert set(asnumpy(model.predict(x)).tolist()) <= {0, 1, 2}
