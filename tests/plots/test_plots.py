"""Content of figures, accepted arguments, and matplotlib's global state."""

from __future__ import annotations

import importlib
import io
import subprocess
import sys

import numpy as np
import pytest

import xpdl
from xpdl import plots
from xpdl.errors import ShapeError

WITHOUT = "import sys; sys.modules['matplotlib'] = None; import xpdl; "


@pytest.mark.exhaustive
def test_without_matplotlib_the_package_loads_and_the_error_says_what_to_do():
    program = WITHOUT + "xpdl.plots.curves({'a': [1.0, 2.0]})"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert run.stderr.splitlines()[-1].startswith("ImportError: xpdl.plots needs matplotlib: pip install 'xpdl[plot]'")


@pytest.mark.needs("matplotlib")
def test_every_function_has_a_golden_image():
    from tests.plots.figures import CASES

    drawn = [name for name in plots.__all__ if name != "LiveCurves"]  # which draws learning_curves
    assert [name for name in drawn if not any(case.startswith(name) for case in CASES)] == []


@pytest.fixture
def mpl():
    return importlib.import_module("matplotlib")


@pytest.mark.needs("matplotlib")
def test_nothing_global_changes_and_pyplot_stays_out():
    program = (
        "import sys, matplotlib; before = repr(matplotlib.rcParams.copy())\n"
        "from tests.plots.figures import CASES\n"
        "for draw in CASES.values(): draw()\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
        "assert repr(matplotlib.rcParams.copy()) == before"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


@pytest.mark.needs("matplotlib")
def test_a_dark_style_changes_neither_paper_nor_ink(mpl):
    """White text on white paper is what a figure drawn half by settings would show."""
    from PIL import Image as image

    from tests.plots.figures import CASES, pinned_settings

    white = {"text.color": "white", "axes.labelcolor": "white", "xtick.color": "white", "ytick.color": "white"}
    white |= {"axes.edgecolor": "white", "axes.facecolor": "black", "figure.facecolor": "black"}
    shown = []
    for settings in ({}, white):
        with pinned_settings(), mpl.rc_context(settings):
            file = io.BytesIO()
            CASES["learning_curves"]().savefig(file, dpi=40)
            shown.append(np.asarray(image.open(file)))
    assert np.array_equal(*shown)


def pieces(figure):
    """Words and numbers of lines of a figure, to compare what was drawn."""
    return [
        (axes.get_title(), [np.asarray(line.get_data(), dtype=float).round(5).tolist() for line in axes.lines])
        for axes in figure.axes
    ]


@pytest.mark.skip_backend("meta", reason="has no values to draw")
def test_arrays_of_any_library(backend, mpl):
    x, t = backend.asarray(np.arange(8.0).reshape(4, 2)), [0, 1, 1, 0]
    shown = plots.curves({"a": x[:, 0], "b": [1.0, 2.0, 3.0, 4.0]})
    assert pieces(shown) == pieces(plots.curves({"a": [0.0, 2.0, 4.0, 6.0], "b": [1, 2, 3, 4]}))
    plots.activation_histograms({"layer": x})
    plots.optimizer_paths(lambda x, y: x * x + y * y, {"path": x})
    scores = backend.asarray([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    assert plots.confusion_matrix(t, scores).axes[0].get_title() == "accuracy 0.5000"
    plots.filters(backend.asarray(np.ones((2, 1, 3, 3))))
    plots.feature_maps(backend.asarray(np.ones((1, 2, 3, 3))))
    assert len(plots.images(backend.asarray(np.ones((3, 4)))).axes) == 3


def test_decision_boundary_asks_in_the_kind_of_the_points(mpl):
    net = xpdl.Sequential(xpdl.Affine(np.eye(2), np.zeros(2)))
    asked = []

    def predict(points):
        asked.append(points)
        return net.predict(points)

    x = np.array([[0.0, 1.0], [1.0, 0.0]], dtype=np.float32)
    plots.decision_boundary(predict, x, [1, 0], resolution=10)
    assert asked[0].dtype == np.float32 and asked[0].shape == (100, 2)


def test_misclassified_counts_and_names(mpl):
    figure = plots.misclassified(np.zeros((3, 1, 4, 4)), np.array([3, 4, 9]), np.array([3, 9, 4]))
    assert figure.get_suptitle() == "2 of 3 wrong"
    assert [axes.get_title() for axes in figure.axes] == ["4 seen as 9", "9 seen as 4"]
    assert plots.misclassified(np.zeros((1, 1, 4, 4)), [1], [1]).get_suptitle() == "0 of 1 wrong"
    named = plots.misclassified(np.zeros((2, 4, 4)), [0, 1], [1, 1], classes=["cat", "dog"])
    assert [axes.get_title() for axes in named.axes if axes.get_title()] == ["cat seen as dog"]


def test_augmented_shows_what_the_trainer_trains_on(mpl):
    x = np.arange(2 * 16, dtype="float32").reshape(2, 1, 4, 4)
    figure = plots.augmented(x, [lambda x: x + 1, lambda x, stream: x * 2], copies=2)
    shown = [np.asarray(axes.images[0].get_array()) for axes in figure.axes]
    assert len(shown) == 6 and [axes.get_title() for axes in figure.axes][:2] == ["original", ""]
    for row in range(2):
        np.testing.assert_array_equal(shown[3 * row], x[row, 0])
        for copy in shown[3 * row + 1 : 3 * row + 3]:
            np.testing.assert_array_equal(copy, 2 * (x[row, 0] + 1))


def test_augmented_draws_anew_for_each_copy_and_by_the_seed(mpl):
    from xpdl.data.augment import Crop, Noise

    def shown(augment, **options):
        figure = plots.augmented(np.ones((3, 3, 8, 8), "float32") / 2, augment, **{"copies": 2, "limit": 1, **options})
        return [np.asarray(axes.images[0].get_array()) for axes in figure.axes]

    original, first, second = shown(Noise(0.1))
    assert np.all(original == 0.5) and np.any(first != second) and np.any(first != original)
    np.testing.assert_array_equal(shown(Noise(0.1))[1:], [first, second])
    assert np.any(shown(Noise(0.1), seed=1)[1] != first)
    assert [picture.shape for picture in shown(Crop(5))] == [(8, 8, 3), (5, 5, 3), (5, 5, 3)]


def test_filters_of_three_channels_are_in_colour(mpl):
    W = np.zeros((2, 3, 4, 4))
    W[0, 0], W[1, 2] = 2.0, -1.0
    first, second = (axes.images[0].get_array() for axes in plots.filters(W).axes)
    np.testing.assert_allclose(first[0, 0], [1.0, 0.5, 0.5])
    np.testing.assert_allclose(second[0, 0], [0.5, 0.5, 0.25])


def test_feature_maps_share_one_scale(mpl):
    figure = plots.feature_maps({"a": np.full((1, 2, 2), -1.0), "b": np.full((2, 2, 2), 3.0)})
    drawn = [axes.images[0] for axes in figure.axes if axes.images]
    assert len(drawn) == 3 and {(image.norm.vmin, image.norm.vmax) for image in drawn} == {(-1.0, 3.0)}


def test_search_results_are_in_order_of_their_rank(mpl):
    from tests.plots.figures import search

    figure = plots.search_results(search(), limit=3)
    assert [axes.get_title().split("\n")[0] for axes in figure.axes] == ["1: 0.600", "2: 0.500", "3: 0.400"]


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: plots.curves({"a": [1.0, 2.0]}, x=[1.0]),
        lambda: plots.decision_boundary(lambda x: x, np.ones((3, 3)), np.ones(3)),
        lambda: plots.decision_boundary(lambda x: x[:2], np.eye(2), np.array([0, 1])),
        lambda: plots.optimizer_paths(lambda x, y: x * y, {"a": np.ones(3)}),
        lambda: plots.confusion_matrix([0, 1], [0]),
        lambda: plots.confusion_matrix([0, 1], [0, 1], classes=["only"]),
        lambda: plots.confusion_matrix(np.ones((1, 1, 1)), [0]),
        lambda: plots.misclassified(np.ones((2, 4)), [0], [0]),
        lambda: plots.images(np.ones((2, 5))),
        lambda: plots.augmented(np.ones((2, 16), "float32"), lambda x: x),
        lambda: plots.augmented(np.ones((2, 1, 4, 4), "float32"), lambda x: x[:, 0, 0]),
        lambda: plots.augmented(np.ones((2, 1, 4, 4), "float32"), lambda x: x[:1]),
        lambda: plots.augmented(np.ones((2, 1, 4, 4), "float32"), lambda x: x, copies=0),
        lambda: plots.filters(np.ones((2, 5))),
        lambda: plots.misclassified(np.ones((1, 4, 4)), [0], [1], classes=["cat"]),
        lambda: plots.feature_maps(np.ones((2, 1, 5, 5))),
    ],
)
def test_what_does_not_fit_is_named(wrong, mpl):
    with pytest.raises(ShapeError, match=r"expected|has shape|got|gave|names for|must have"):
        wrong()


def test_nothing_to_show_is_said(mpl):
    with pytest.raises(ValueError, match="give at least one of dead_relu"):
        plots.diagnostics()
    with pytest.raises(ValueError, match="no trial has a history"):
        plots.search_results([])


@pytest.mark.parametrize(
    ("parameters", "lines"),
    [
        (["W1", "b1"], ["W1", "b1"]),
        ([f"{kind}{k}" for k in range(4) for kind in "Wb"], ["W0", "W1", "W2", "W3"]),
        ([f"Affine{k}.{kind}" for k in range(4) for kind in "Wb"], [f"Affine{k}.W" for k in range(4)]),
        ([f"gamma{k}" for k in range(7)], [f"gamma{k}" for k in range(7)]),
    ],
)
def test_weights_alone_stand_for_many_parameters(parameters, lines, mpl):
    figure = plots.diagnostics(update_ratio={name: [1e-2, 1e-3] for name in parameters})
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == lines


def test_layers_of_the_books_nets_have_short_names(mpl):
    figure = plots.diagnostics(dead_relu={f"Activation_function{k}": [0.1, 0.2] for k in (1, 2)})
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["activation 1", "activation 2"]


def test_many_names_stand_beside_the_panel(mpl):
    for count, beside in ((6, False), (10, True)):
        figure = plots.diagnostics(update_ratio={f"W{k}": [1e-2, 1e-3] for k in range(count)})
        figure.savefig(io.BytesIO(), dpi=50)  # drawing lays it out
        (axes,) = figure.axes
        names = axes.get_legend().get_window_extent()
        assert (names.x0 >= axes.get_window_extent().x1) == beside and names.x1 <= figure.bbox.x1


@pytest.mark.parametrize(
    ("size", "pictures", "side"), [((3,), 8, (1, 3)), ((2, 3), 8, (2, 3)), ((2, 3, 4), 16, (3, 4))], ids=str
)
def test_filters_of_a_model_of_signals_images_and_volumes(size, pictures, side, mpl):
    layers = [xpdl.Convolution(filters=4, size=size, pad=((1, 2), *[0] * (len(size) - 1))), xpdl.Affine(units=2)]
    net = xpdl.Sequential(*layers, seed=0)
    net.build((2, *[5] * len(size)))
    drawn = [axes.images[0].get_array() for axes in plots.filters(net).axes]
    assert len(drawn) == pictures and {picture.shape for picture in drawn} == {side}
    flat = np.concatenate([np.asarray(picture).ravel() for picture in drawn])
    np.testing.assert_array_equal(flat, net.params["Convolution1.W"].ravel())
    with pytest.raises(ShapeError, match=r"got a model without such parameters; pass the weights of a convolution"):
        plots.filters(xpdl.Affine(units=2))


def test_diagnostics_are_drawn_of_the_callback(mpl):
    x, t = xpdl.data.moons(40, seed=0)
    measured = xpdl.Diagnostics(x)
    net = xpdl.Sequential(xpdl.Affine(units=4), xpdl.Relu(), xpdl.Affine(units=2), loss=xpdl.SoftmaxWithLoss, seed=0)
    xpdl.Trainer(net, x, t, epochs=3, callbacks=[measured], verbose=False, seed=0).train()
    panels = [axes.get_title() for axes in plots.diagnostics(measured).axes]
    assert panels == [axes.get_title() for axes in plots.diagnostics(**measured.history).axes]
    assert panels == ["dead ReLU units", "update / weight"]


def test_more_lines_than_can_be_told_apart_are_summed_up(mpl):
    lines = {f"W{k}": [float(k), 1.0] for k in range(13)}
    (axes,) = plots.diagnostics(dead_relu=lines).axes
    drawn = {line.get_label(): line.get_ydata().tolist() for line in axes.lines}
    assert drawn == {"largest of 13": [12.0, 1.0], "median": [6.0, 1.0], "least": [0.0, 1.0]}
    lines.pop("W12")
    assert len(plots.diagnostics(dead_relu=lines).axes[0].lines) == 12
