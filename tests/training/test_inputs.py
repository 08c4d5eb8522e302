"""Inputs of a trainer: refused with the reason, or moved to the network's device."""

from contextlib import nullcontext as does_not_raise
from types import SimpleNamespace

import numpy as np
import pytest

import xpdl
from tests.harness import nonempty
from xpdl import (
    Affine,
    Convolution,
    IdentityWithLoss,
    LabelError,
    Sequential,
    ShapeError,
    SigmoidWithLoss,
    SoftmaxWithLoss,
)
from xpdl.backends import device_memory, get_backend
from xpdl.layers.losses import LossLayer
from xpdl.training import inputs

X, T = np.arange(24.0).reshape(12, 2), np.arange(12) % 3


def net(loss=SoftmaxWithLoss):
    network = Sequential(Affine(units=3), loss=loss, seed=0)
    network.build((2,))
    return network


class TestNetwork:
    def test_params_and_gradient_are_enough(self):
        with does_not_raise():
            inputs.check_network(SimpleNamespace(params={}, gradient=None), "sgd", {})
            inputs.check_network(net(), "sgd", {"lr": 0.1})

    @pytest.mark.parametrize(
        "wrong", [Sequential, SimpleNamespace(params={}), SimpleNamespace(gradient=None), None, "net"]
    )
    def test_others_are_refused(self, wrong):
        with pytest.raises(
            TypeError, match=r"Trainer: network must have params, gradient\(x, t\) and loss\(x, t\), got"
        ):
            inputs.check_network(wrong, "sgd", {})

    @pytest.mark.parametrize("wrong", [0.01, ["lr"]])
    def test_arguments_of_the_optimizer_have_names(self, wrong):
        with pytest.raises(TypeError, match=r"optimizer_param must be a dict such as \{'lr': 0.01\}, got"):
            inputs.check_network(net(), "sgd", wrong)


class TestRows:
    def test_one_is_enough(self):
        with does_not_raise():
            inputs.check_rows("train", X[:1], T[:1])
            inputs.check_rows("train", X[:, 0], T)

    @pytest.mark.parametrize(
        ("x", "t"), [(X, T[:-1]), (X[:-1], T), (X[:0], T[:0]), (X[0, 0], T), (X, T[0]), (X[0, 0], np.asarray(1))]
    )
    def test_as_many_of_both_and_at_least_one(self, x, t):
        with pytest.raises(ShapeError) as said:
            inputs.check_rows("test", np.asarray(x), np.asarray(t))
        assert str(said.value) == (
            "Trainer: x_test and t_test must have the same number of rows, at least one, "
            f"got shapes {np.shape(x)} and {np.shape(t)}"
        )


class TestEntered:
    @pytest.mark.backends("values")
    @pytest.mark.backends("plain")
    def test_is_where_the_network_is_and_in_its_dtype(self, backend):
        with backend.use("float32") as made:
            x, t = inputs.entered(X, T, net(), made, "train")
        backend.check(x, X.astype(np.float32))
        np.testing.assert_array_equal(xpdl.asnumpy(t), T)

    def test_labels_that_the_network_does_not_know_are_named(self):
        for wrong in (3, -1):
            with pytest.raises(
                LabelError, match=f"Trainer: t_test: label {wrong} of row 2 is not one of the 3 classes 0 to 2"
            ):
                inputs.entered(X, np.where(T == 2, wrong, T), net(), get_backend(), "test")

    def test_targets_of_another_loss_are_no_labels(self):
        targets = np.full((12, 3), 7.5)
        assert (inputs.entered(X, targets, net(IdentityWithLoss), get_backend(), "test")[1] == 7.5).all()
        images, network = np.ones((2, 1, 4, 4)), Sequential(Convolution(filters=3, size=3), loss=IdentityWithLoss)
        network.build((1, 4, 4))
        _, t = inputs.entered(images, np.ones((2, 3, 2, 2)), network, get_backend(), "test")
        assert t.shape == (2, 3, 2, 2)

    def test_rows_that_do_not_fit_the_network_are_refused_and_those_of_another_network_are_its_own_matter(self):
        with pytest.raises(ShapeError, match="Affine1"):
            inputs.entered(X[:, :1], T, net(), get_backend(), "train")
        assert inputs.entered(X[:, :1], T + 90, SimpleNamespace(), get_backend(), "train")[0].shape == (12, 1)

    def test_a_mapped_file_stays_on_the_disk(self, tmp_path):
        np.save(tmp_path / "x.npy", X)
        mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
        assert inputs.entered(mapped, T, net(), get_backend(), "train")[0] is mapped

    def test_rows_that_a_device_has_no_room_for_stay_where_they_are(self, monkeypatch):
        monkeypatch.setattr(device_memory, "fits", lambda backend, x: False)
        x, t = inputs.entered(X, T, net(), get_backend(), "train")
        assert x is X and t.tolist() == T.tolist()


class TestChecksumOfLabels:
    @pytest.mark.backends("values")
    @pytest.mark.backends("plain")
    def test_is_the_same_on_any_backend_and_in_every_version_of_this_library(self, backend):
        """Or a run that goes on would be refused."""
        for dtype in ("int64", "uint8"):
            assert inputs.labels_checksum(backend.asarray(T, dtype)) == "e169dc199ac099b0"

    def test_is_that_of_these_labels_in_this_order(self):
        assert len({inputs.labels_checksum(labels) for labels in (T, T[::-1], np.where(T == 2, 1, T), T[:-1])}) == 4

    def test_other_targets_have_none(self):
        assert inputs.labels_checksum(np.eye(3)[T]) is None and inputs.labels_checksum(T > 0) is None


class TestTargetsChecksum:
    T = np.random.default_rng(0).normal(size=(9000, 2))

    @pytest.mark.backends("values")
    @pytest.mark.backends("plain")
    def test_does_not_depend_on_the_library_or_a_wider_dtype_than_the_networks(self, backend):
        found = inputs.targets_checksum(self.T.astype(np.float32), "float32")
        assert inputs.targets_checksum(self.T, "float32") == found
        assert inputs.targets_checksum(self.T[:, ::-1][:, ::-1], "float32") == found
        with backend.use("float32") as here:
            assert inputs.targets_checksum(here.asarray(self.T), "float32") == found

    def test_differs_where_one_number_or_the_shape_differs(self):
        first, middle, last = (self.T.copy() for _ in range(3))
        first[0, 0] += 1e-6
        middle[4096, 1] += 1e-6
        last[-1, -1] += 1e-6
        others = (self.T, first, middle, last, self.T.reshape(-1, 1), self.T[::-1], self.T > 0, self.T[:-1])
        assert len({inputs.targets_checksum(targets, "float32") for targets in others}) == len(others)

    def test_of_a_wide_network_sees_more_digits(self):
        near = self.T + 1e-12
        assert inputs.targets_checksum(near, "float64") != inputs.targets_checksum(self.T, "float64")
        assert inputs.targets_checksum(near[:1], "float32") == inputs.targets_checksum(self.T[:1], "float32")

    def test_there_is_none_of_labels(self):
        assert inputs.targets_checksum(T, "float32") is None


class TestSplit:
    def split(self, share, seed=0):
        return inputs.split(X, T, share, seed)

    def test_keeps_a_share_and_every_row_with_its_target(self):
        x, t, x_val, t_val = self.split(0.25)
        assert [len(part) for part in (x, t, x_val, t_val)] == [9, 9, 3, 3]
        rows, targets = np.concatenate([x, x_val]), np.concatenate([t, t_val])
        order = (rows[:, 0] / 2).astype(int)
        assert sorted(order) == list(range(12)) and order.tolist() != list(range(12))
        np.testing.assert_array_equal(rows, X[order])
        np.testing.assert_array_equal(targets, T[order])

    def test_depends_on_the_seed(self):
        one, same, other = (self.split(0.5, seed)[2].tolist() for seed in (0, 0, 1))
        assert one == same != other

    def test_is_the_same_in_every_version_of_this_library(self):
        """Or a run that goes on would be trained with rows that it was validated with."""
        assert (self.split(0.25)[2][:, 0] / 2).tolist() == [9, 4, 3]

    @pytest.mark.parametrize(("share", "rows"), [(1 / 12, 1), (11 / 12, 11), (0.2, 2), (0.3, 4)])
    def test_is_rounded_to_whole_rows(self, share, rows):
        assert len(self.split(share)[2]) == rows

    @pytest.mark.parametrize("share", [0.01, 0.99])
    def test_leaves_rows_on_both_sides(self, share):
        with pytest.raises(
            ShapeError,
            match=f"Trainer: validation_split {share} of 12 rows leaves none to train or none to validate with",
        ):
            self.split(share)

    def test_of_a_mapped_file_is_refused(self, tmp_path):
        np.save(tmp_path / "x.npy", X)
        with pytest.raises(TypeError, match="validation_split would read a mapped file whole; split it into two files"):
            inputs.split(np.load(tmp_path / "x.npy", mmap_mode="r"), T, 0.25, 0)


#: loss -> (targets that it takes, targets that it refuses with an error that says why)
TARGETS = {
    SoftmaxWithLoss: (
        [T, np.eye(3)[T], T[:, None]],
        [
            (T + 1, "is not one of the 3 classes"),
            (T - 1, "is not one of"),
            (np.eye(3)[T] * np.nan, "row 0 holds nan"),
        ],
    ),
    SigmoidWithLoss: (
        [np.eye(3)[T], np.eye(3)[T].astype(bool), np.full((12, 3), 0.5)],
        [
            (2 * np.eye(3)[T] - 1, r"t \+ 1\) / 2"),
            (1 + np.eye(3)[T], "t - 1"),
            ((255 * np.eye(3)[T]).astype(np.uint8), "t / 255"),
            (np.where(np.eye(3)[T] > 0, np.inf, 0), "row 0 holds"),
            (T, r"expected targets \(N, 3\)"),
        ],
    ),
    IdentityWithLoss: (
        [np.eye(3)[T], -5 * np.eye(3)[T], np.eye(3, dtype=int)[T]],
        [(np.where(np.eye(3)[T] > 0, np.nan, 1), "row 0 holds nan"), (T, r"expected targets \(N, 3\)")],
    ),
    xpdl.NegativeSampling: ([T, np.eye(3)[T], T[:, None]], [(T + 1, "is not one of the 3 classes")]),
    xpdl.Hinge: ([T, np.eye(3)[T], T[:, None]], [(T + 1, "is not one of the 3 classes")]),
}
TARGETS |= dict.fromkeys(
    (xpdl.MeanSquaredError, xpdl.MeanAbsoluteError, xpdl.Huber, xpdl.GaussianKL), TARGETS[IdentityWithLoss]
)


class TestTargets:
    """Every loss layer says what targets it takes, before the first step."""

    def test_every_loss_layer_is_here(self):
        assert {cls for cls in vars(xpdl.layers).values() if issubclass_of_loss(cls)} == TARGETS.keys()

    @pytest.mark.parametrize("which", ["train", "test"])
    @pytest.mark.parametrize("loss", TARGETS, ids=lambda loss: loss.__name__)
    def test_are_checked_when_they_enter(self, loss, which):
        right, wrong = TARGETS[loss]
        for t in right:
            inputs.entered(X, t, net(loss), get_backend(), which)
        for t, says in nonempty(wrong):
            with pytest.raises(ValueError, match=f"Trainer: t_{which}: .*{says}"):
                inputs.entered(X, t, net(loss), get_backend(), which)


def issubclass_of_loss(cls):
    return isinstance(cls, type) and issubclass(cls, LossLayer) and cls is not LossLayer


class TestFinite:
    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_rows_of_x_are_named(self, bad):
        x = X.copy()
        x[7, 1] = bad
        with pytest.raises(ValueError, match=rf"Trainer: x_train: row 7 holds {bad} \(float32\); remove such rows"):
            inputs.entered(x, T, net(), get_backend(), "train")

    @pytest.mark.parametrize("which", ["val", "test"])
    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_rows_that_are_measured_alone_end_no_training(self, bad, which):
        x = X.copy()
        x[7, 1] = bad
        with pytest.warns(
            UserWarning, match=rf"Trainer: x_{which}: row 7 holds {bad} \(float32\); remove such rows"
        ) as said:
            inputs.entered(x, T, net(), get_backend(), which)
        assert len(said) == 1

    def test_numbers_that_overflow_in_the_dtype_of_the_network_are_named(self):
        with xpdl.use("numpy", dtype="float16") as backend:
            network = net()
            with np.errstate(over="ignore"), pytest.raises(ValueError, match=r"x_train: row 8 holds inf \(float16\)"):
                inputs.entered(X * 4000, T, network, backend, "train")

    def test_a_mapped_file_is_not_read(self, tmp_path):
        x = np.memmap(tmp_path / "x", np.float32, "w+", shape=X.shape)
        x[:] = np.nan
        assert inputs.entered(x, T, net(), get_backend(), "train")[0] is x


class TestLearningRate:
    @pytest.mark.parametrize("rule", xpdl.optimizers.__all__)
    def test_is_that_of_the_rule_unless_it_is_given(self, rule):
        if rule == "Optimizer":
            rule = xpdl.SGD
        own = 0.01 if rule == "Adam" else xpdl.optimizers.get(rule).lr  # the book's trainer has 0.01
        assert xpdl.Trainer(net(), X, T, X, T, optimizer=rule, verbose=False).optimizer.lr == own
        given = xpdl.Trainer(net(), X, T, X, T, optimizer=rule, optimizer_param={"lr": 0.7}, verbose=False)
        assert given.optimizer.lr == 0.7

    def test_arguments_beside_an_instance_are_refused(self):
        with pytest.raises(TypeError, match=r"optimizer_param \{'lr': 0.1\} would not change Adam\(lr=0.001"):
            xpdl.Trainer(net(), X, T, X, T, optimizer=xpdl.Adam(), optimizer_param={"lr": 0.1})


class TestTargetsWithoutALossLayer:
    def test_targets_of_a_network_without_a_loss_layer_are_any_numbers(self):
        network = Sequential(Affine(units=3), seed=0)
        network.build((2,))
        x, t = inputs.entered(X, T + 7, network, get_backend(), "train")
        assert x.dtype == np.float32 and t.tolist() == (T + 7).tolist()

    def test_targets_of_another_network_are_finite(self):
        with pytest.raises(ValueError, match=r"^Trainer: t_train: row 1 holds nan"):
            inputs.entered(X[:2], np.array([0.0, np.nan]), SimpleNamespace(), get_backend(), "train")
