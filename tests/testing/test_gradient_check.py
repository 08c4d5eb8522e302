"""The checker itself: it must find every planted bug, name the gradient that is wrong, and pass what is right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.harness import Backend
from tests.planted_bugs import (
    BUGS,
    IMAGES,
    LABELS,
    ROWS,
    MissingRow,
    StaleInput,
    TransposedGradient,
    WrongBias,
    WrongScale,
    ZeroBatchNormalization,
)
from xpdl.data import load_mini_mnist
from xpdl.errors import DTypeError, GradientCheckError
from xpdl.layers import (
    Affine,
    BatchNormalization,
    Convolution,
    Dropout,
    Flatten,
    IdentityWithLoss,
    Pooling,
    Relu,
    Residual,
    Sigmoid,
    SigmoidWithLoss,
    Softmax,
    SoftmaxWithLoss,
    Tanh,
)
from xpdl.models import Sequential
from xpdl.testing import check_gradients


def net() -> Sequential:
    return Sequential(Affine(units=6), BatchNormalization(), Tanh(), Affine(units=4), loss=SoftmaxWithLoss, seed=0)


RIGHT: dict[str, tuple[Callable[[], Any], Any, Any]] = {
    "affine": (lambda: Affine(units=3), ROWS, None),
    "affine of images": (lambda: Affine(units=3), IMAGES, None),
    "relu": (Relu, ROWS, None),
    "sigmoid": (Sigmoid, ROWS, None),
    "softmax": (Softmax, ROWS, None),
    "batch normalization": (BatchNormalization, ROWS, None),
    "batch normalization of images": (BatchNormalization, IMAGES, None),
    "convolution": (lambda: Convolution(filters=2, size=3, pad=1), IMAGES, None),
    "pooling": (lambda: Pooling(2, 2), IMAGES, None),
    "dropout": (lambda: Dropout(0.4), ROWS, None),
    "residual": (lambda: Residual(Affine(units=4), Tanh()), ROWS, None),
    "softmax loss": (SoftmaxWithLoss, ROWS, LABELS),
    "softmax loss, one-hot": (SoftmaxWithLoss, ROWS, np.eye(4)[LABELS]),
    "sigmoid loss": (SigmoidWithLoss, ROWS, np.eye(4)[LABELS]),
    "identity loss": (IdentityWithLoss, ROWS, ROWS[::-1].copy()),
    "model": (net, ROWS, LABELS),
    "model of images": (
        lambda: Sequential(Convolution(filters=2, size=2), Tanh(), Flatten(), Affine(units=3), loss=SoftmaxWithLoss),
        IMAGES,
        np.array([0, 2]),
    ),
}


@pytest.mark.parametrize("name", RIGHT)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_right_gradients_pass(name: str, seed: int) -> None:
    make, x, t = RIGHT[name]
    report = check_gradients(make(), x, t, seed=seed)
    assert max(report.errors.values()) <= report.tolerance == 1e-5
    assert next(iter(report.errors)) == "x"


@pytest.mark.parametrize("name", ["affine", "softmax", "batch normalization", "model"])
@pytest.mark.backends("values")
@pytest.mark.backends("eager")
@pytest.mark.skip_backend("strict:nosync", reason="in float64 every device of array_api_strict computes alike")
def test_right_gradients_pass_on_any_library(backend: Backend, name: str) -> None:
    make, x, t = RIGHT[name]
    with backend.use():
        report = check_gradients(make(), backend.asarray(x), None if t is None else backend.asarray(t))
    assert report.tolerance == (1e-5 if backend.spec.float64 else 2e-2)


each_bug = pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.__name__)


class TestPlantedBugs:
    @each_bug
    @pytest.mark.parametrize("seed", [0, 1, 2])
    def test_is_found_and_named(self, bug: type, seed: int) -> None:
        make, x, t, wrong = BUGS[bug]
        with pytest.raises(GradientCheckError, match=f"the gradient of {wrong} is off by") as caught:
            check_gradients(make(), x, t, seed=seed)
        assert "relative error (tolerance 1e-05)" in str(caught.value), "the whole table follows"

    @each_bug
    def test_the_class_it_was_planted_in_is_right(self, bug: type) -> None:
        make, x, t, _ = BUGS[bug]
        broken = make()
        broken.__class__ = bug.__mro__[1]
        check_gradients(broken, x, t)

    @pytest.mark.parametrize("bug", [MissingRow, WrongBias, TransposedGradient, StaleInput])
    def test_is_named_by_its_path_in_a_model(self, bug: type) -> None:
        wrong = BUGS[bug][3]
        model = Sequential(Affine(units=4), Tanh(), ("bad", bug(units=4)), loss=SoftmaxWithLoss, seed=0)
        with pytest.raises(GradientCheckError, match=rf"the gradient of bad\.{wrong} is off by"):
            check_gradients(model, ROWS, LABELS)

    def test_a_wrong_dx_spoils_what_lies_before_it_and_nothing_after(self) -> None:
        model = Sequential(Affine(units=4), WrongScale(), Affine(units=4), loss=SoftmaxWithLoss, seed=0)
        with pytest.raises(GradientCheckError) as caught:
            check_gradients(model, ROWS, LABELS)
        rows = [line.split() for line in str(caught.value).splitlines()[2:]]
        found = {name for name, error in rows if float(error) > 1e-5}
        assert found == {"x", "Affine1.W", "Affine1.b"}

    def test_in_float32_too(self) -> None:
        import array_api_strict as strict

        class Scaled(Affine):
            def backward(self, dout: Any) -> Any:
                dx = super().backward(dout)
                self.grads["W"] = self.grads["W"] * 1.1
                return dx

        x = strict.asarray(ROWS, dtype=strict.float32, device=strict.Device("no_float64"))
        with pytest.raises(GradientCheckError, match="the gradient of W is off by"):
            check_gradients(Scaled(units=3), x)
        check_gradients(Affine(units=3), x)


def digits() -> tuple[Any, Any]:
    (x, t), _ = load_mini_mnist(flatten=False)
    return x[:5].astype("float64"), t[:5]


class WrongFilters(Convolution):
    """A gradient that is one percent too large."""

    def backward(self, dout: Any) -> Any:
        dx = super().backward(dout)
        self.grads["W"] = self.grads["W"] * 1.01
        return dx


class EvenTies(Pooling):
    """A gradient that goes to the wrong element of each window, ties or not."""

    def backward(self, dout: Any) -> Any:
        return super().backward(dout)[..., ::-1]


class TestKinks:
    """Black borders of digits: relu at 0 where biases are 0, and windows whose values are all alike."""

    def net(self, convolution: type = Convolution, pooling: type = Pooling) -> Sequential:
        layers = [convolution(filters=4, size=5), Relu(), pooling(2, 2), Affine(units=10)]
        return Sequential(*layers, loss=SoftmaxWithLoss, seed=0)

    @pytest.mark.parametrize("seed", range(5))
    def test_right_gradients_pass_and_the_report_says_that_it_measured_beside_them(self, seed: int) -> None:
        report = check_gradients(self.net(), *digits(), seed=seed)
        assert report.kinks and report.passed
        assert "lies on kinks: zeros of relu or ties of max pooling" in str(report)

    @pytest.mark.parametrize("seed", range(5))
    @pytest.mark.parametrize(
        "options, wrong",
        [({"convolution": WrongFilters}, "WrongFilters1.W"), ({"pooling": EvenTies}, r"(x|Convolution1.\w)")],
    )
    def test_faults_are_found_there_too(self, seed: int, options: Any, wrong: str) -> None:
        with pytest.raises(GradientCheckError, match=f"the gradient of {wrong} is off by") as caught:
            check_gradients(self.net(**options), *digits(), seed=seed)
        assert "lies on kinks" in str(caught.value)

    @pytest.mark.parametrize("x", [np.zeros((3, 4)), np.array([[0.0, 1.0, -1.0, 0.0]])], ids=["zeros", "some zeros"])
    def test_relu_at_zero(self, x: Any) -> None:
        assert check_gradients(Relu(), x).kinks

    def test_ties_of_max_pooling(self) -> None:
        assert check_gradients(Pooling(2, 2), np.ones((1, 2, 4, 4))).kinks

    def test_a_smooth_point_has_none(self) -> None:
        assert not check_gradients(net(), ROWS, LABELS).kinks


class TestWhatIsChecked:
    def test_a_copy_so_that_the_model_stays_as_it_was(self) -> None:
        model = net().eval()
        model.build((4,))
        before = {name: value.copy() for name, value in (*model.params.items(), *model.buffers.items())}
        check_gradients(model, ROWS, LABELS)
        after = dict((*model.params.items(), *model.buffers.items()))
        assert before.keys() == after.keys()
        for name, value in before.items():
            np.testing.assert_array_equal(after[name], value)
            assert after[name].dtype == value.dtype
        assert not any(layer.training for layer in model.layers.values())
        assert not dict(model.grads)

    def test_training_mode_whatever_the_layer_is_in(self) -> None:
        with pytest.raises(GradientCheckError):
            check_gradients(ZeroBatchNormalization().eval(), ROWS)

    def test_float32_input_is_checked_in_float64(self) -> None:
        assert check_gradients(Affine(units=2), ROWS.astype(np.float32)).tolerance == 1e-5

    def test_one_seed_gives_the_same_report_and_another_differs(self) -> None:
        model = net()
        model.build((4,))
        reports = [check_gradients(model, ROWS, LABELS, seed=seed) for seed in (0, 0, 1)]
        assert reports[0] == reports[1]
        # in float64 the errors can all be 0; that of a planted bug shows which directions were taken
        messages = []
        for seed in (0, 0, 1):
            with pytest.raises(GradientCheckError) as caught:
                check_gradients(MissingRow(np.eye(4), np.zeros(4)), ROWS, seed=seed)
            messages.append(str(caught.value))
        assert messages[0] == messages[1] != messages[2]

    def test_report_reads_as_a_table(self) -> None:
        report = check_gradients(Affine(units=2), ROWS)
        lines = str(report).splitlines()
        assert lines[0] == "gradient  relative error (tolerance 1e-05)"
        assert [line.split()[0] for line in lines[1:]] == ["x", "W", "b"]
        assert report.worst in report.errors

    def test_rounding_is_shown_as_the_number_that_it_is(self) -> None:
        report = check_gradients(Sequential(Affine(units=3), BatchNormalization()), ROWS)
        assert all(0 < error < report.tolerance for error in report.errors.values()) and len(report.errors) == 5

    def test_does_not_modify_its_input(self) -> None:
        x, t = ROWS.copy(), LABELS.copy()
        check_gradients(net(), x, t)
        np.testing.assert_array_equal(x, ROWS)
        np.testing.assert_array_equal(t, LABELS)

    def test_integers_are_an_error(self) -> None:
        with pytest.raises(DTypeError, match="check_gradients: expected a floating array, got int64"):
            check_gradients(Affine(units=2), np.ones((2, 3), int))


@pytest.mark.parametrize("what", [3, Relu, np.ones(2)], ids=["number", "class", "array"])
def test_what_is_no_layer_is_refused(what: Any) -> None:
    with pytest.raises(TypeError, match="check_gradients: expected a layer or a model, got"):
        check_gradients(what, ROWS)
