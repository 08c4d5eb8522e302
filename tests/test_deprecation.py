"""Old names: each import path, option and method does what the new one does, and a warning names that."""

import importlib
import inspect
import warnings

import numpy as np
import pytest

from tests.test_doctests import marks
from tests.training.runs import T, X, net, trainer
from xpdl import Affine, BackendError, BatchNormalization, Layer, MixedPrecision, Relu, Residual
from xpdl.deprecation import moved, renamed_options
from xpdl.optimizers import SGD, Adam
from xpdl.training import Trainer

#: old module, name, full new name
MOVED = [
    *[
        ("xpdl.training", name, f"xpdl.search.{name}")
        for name in (
            *("SearchResult", "Trial", "choice", "log_uniform", "optuna_objective"),
            *("random_search", "successive_halving", "uniform"),
        )
    ],
    *[("xpdl.models", name, f"xpdl.integrations.pytorch.{name}") for name in ("load_pytorch", "save_pytorch")],
    *[("xpdl.gradient_check", name, f"xpdl.testing.{name}") for name in ("GradientReport", "check_gradients")],
    *[("xpdl.compare", name, f"xpdl.testing.{name}") for name in ("LayerDifference", "compare_backends")],
    ("xpdl.bench", "Growth", "xpdl.bench.ScalingCurve"),
    ("xpdl.bench", "growth_table", "xpdl.bench.scaling_table"),
    ("xpdl.models.flop", "flop", "xpdl.models.flops.flop"),
    ("xpdl.training.scikit_learn", "XpdlClassifier", "xpdl.integrations.scikit_learn.XpdlClassifier"),
]
each_move = pytest.mark.parametrize(
    ("module", "name", "new"), [pytest.param(*row, marks=marks(row[2].rpartition(".")[0])) for row in MOVED]
)


@each_move
def test_old_path_gives_the_object_and_warns(module, name, new):
    home, _, last = new.rpartition(".")
    old = importlib.import_module(module)
    with pytest.warns(DeprecationWarning, match=rf"^{module}\.{name} is deprecated; use {new}$") as caught:
        value = getattr(old, name)
    assert value is getattr(importlib.import_module(home), last)
    assert caught[0].filename == __file__


@each_move
def test_old_path_is_imported_from_with_a_warning_of_that_line(module, name, new):
    line = compile(f"from {module} import {name}", "<string>", "exec")
    with pytest.warns(DeprecationWarning, match=rf"^{module}\.{name} is deprecated; use {new}$") as caught:
        exec(line, {})
    assert ("<string>", 1) in [(one.filename, one.lineno) for one in caught]


def test_other_names_are_missing():
    with pytest.raises(AttributeError, match=r"module 'here' has no attribute 'other'"):
        moved("here", {"name": "xpdl.search.Trial"})("other")


#: old option of a trainer -> new one, a value other than the default, and where it is kept
OPTIONS = {
    "accumulate": ("accumulate_grad_batches", 2, lambda run: run.step.accumulator.count),
    "keep": ("max_checkpoints", 5, lambda run: run.checkpointer.files.max_checkpoints),
    "capture": ("compile", False, lambda run: type(run.step).__name__),
}
each_option = pytest.mark.parametrize(("old", "new", "value", "kept"), [(old, *rest) for old, rest in OPTIONS.items()])


class TestOptions:
    def test_all_are_in_the_table(self):
        assert Trainer.__init__.renamed == {old: new for old, (new, *_) in OPTIONS.items()}

    @each_option
    def test_old_name_does_what_the_new_one_does_and_warns(self, tmp_path, old, new, value, kept):
        def made(**options):
            return trainer(checkpoint=tmp_path / "run", **options)

        with pytest.warns(DeprecationWarning, match=rf"^Trainer: {old} is deprecated; use {new}$") as caught:
            run = Trainer(net(), X, T, verbose=False, seed=0, checkpoint=tmp_path / "run", **{old: value})
        assert [one.filename for one in caught] == [__file__]
        assert kept(run) == kept(made(**{new: value}))
        # a CUDA graph needs a GPU, see below
        assert (kept(run) == kept(made())) == (old == "capture")

    def test_capture_is_passed_on(self):
        with (
            pytest.warns(DeprecationWarning, match="^Trainer: capture is deprecated; use compile$"),
            pytest.raises(BackendError, match="leave out compile=True"),
        ):
            trainer(capture=True)

    @each_option
    def test_both_names_are_an_error(self, old, new, value, kept):
        with pytest.raises(
            TypeError, match=f"^Trainer: {old} is the deprecated name of {new}, got both; pass {new} alone$"
        ):
            trainer(**{old: value, new: value})

    def test_the_new_names_do_not_warn(self, tmp_path):
        options = {new: value for new, value, _ in OPTIONS.values()}
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            trainer(checkpoint=tmp_path / "run", **options)
        assert not warned

    def test_a_signature_has_the_new_names_alone(self):
        parameters = inspect.signature(Trainer).parameters
        assert {new for new, *_ in OPTIONS.values()} <= set(parameters) and not set(OPTIONS) & set(parameters)

    def test_what_has_neither_name_is_refused_as_ever(self):
        @renamed_options("f", old="new")
        def f(*, new=1):
            return new

        assert f() == 1
        with pytest.raises(TypeError, match="unexpected keyword argument 'other'"):
            f(other=2)


@pytest.mark.parametrize(("old", "new", "value"), [("only_if", "apply_if", False), ("left_out", "skipped_steps", 1.0)])
def test_update_takes_the_old_names_and_warns(old, new, value):
    def updated(*names):
        params, optimizer = {"W": np.ones(3)}, Adam()
        optimizer.update(params, {"W": np.ones(3)})
        for name in names:
            optimizer.update(params, {"W": np.arange(3.0)}, **{name: np.asarray(value)})
        return params["W"], optimizer.iter

    with pytest.warns(DeprecationWarning, match=rf"^update: {old} is deprecated; use {new}$") as caught:
        W, count = updated(new, old)
    assert [one.filename for one in caught] == [__file__]
    expected, _ = updated(new, new)
    np.testing.assert_array_equal(W, expected)
    assert count == 3


#: object, its old method, its new one, arguments
METHODS = [
    (MixedPrecision(), "settle", "sync", (SGD(),)),
    (Relu(), "recall", "require_saved", (X,)),
    (Relu(), "place", "set_name", ("Relu1",)),
]


@pytest.mark.parametrize(("thing", "old", "new", "args"), METHODS)
def test_old_method_calls_the_new_one_and_warns(monkeypatch, thing, old, new, args):
    calls = []
    # what it does by itself is tested where it is
    monkeypatch.setattr(type(thing), new, lambda self, *args: calls.append((self, args)))
    with pytest.warns(DeprecationWarning, match=rf"^{type(thing).__name__}\.{old} is deprecated; use {new}$") as caught:
        getattr(thing, old)(*args)
    assert calls == [(thing, args)] and caught[0].filename == __file__


def test_skipped_steps_are_read_under_the_old_name_with_a_warning():
    mixed = MixedPrecision()
    mixed.loss_scale.load_state_dict({"scale": 4.0, "good_steps": 1, "steps_left_out": 3})
    with pytest.warns(DeprecationWarning, match="steps_left_out is deprecated; use skipped_steps") as caught:
        assert mixed.steps_left_out == mixed.skipped_steps == 3
    assert caught[0].filename == __file__


class TestLayers:
    @pytest.mark.parametrize(("kind", "new"), [(kind, f"named_{kind}") for kind in ("params", "grads", "state")])
    def test_slots_are_the_named_arrays_of_their_kind(self, kind, new):
        chain = Residual(Affine(units=2), BatchNormalization())
        chain.forward(X, True)
        chain.backward(X)
        with pytest.warns(DeprecationWarning, match=rf"^Residual\.slots is deprecated; use {new}$") as caught:
            slots = list(chain.slots(kind))
        named = list(getattr(chain, new)())
        assert [path for path, *_ in slots] == [path for path, *_ in named] and len(named) > 2
        assert all(one is other for (_, one, _), (_, other, _) in zip(slots, named, strict=True))
        assert caught[0].filename == __file__

    def test_a_subclass_that_sets_old_names_is_warned_and_has_the_new_ones(self):
        with pytest.warns(DeprecationWarning) as caught:

            class Own(Layer):
                has_modes = True
                keeps_dtype = True

                def place(self, name):
                    self.name = name.upper()

        assert sorted(str(one.message) for one in caught) == [
            "Own.has_modes is deprecated; use accepts_train_flg",
            "Own.keeps_dtype is deprecated; use keep_fp32_params",
            "Own.place is deprecated; use set_name",
        ]
        assert {one.filename for one in caught} == {__file__}
        assert Own.accepts_train_flg and Own.keep_fp32_params and not Layer.accepts_train_flg
        own = Own()
        own.set_name("own1")
        assert own.name == "OWN1"
