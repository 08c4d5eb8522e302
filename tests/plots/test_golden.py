"""Every figure against its golden image, which was looked at."""

from __future__ import annotations

import io

import numpy as np
import pytest

matplotlib = pytest.importorskip("matplotlib")
image = pytest.importorskip("PIL.Image")

from tests.plots.figures import CASES, DPI, GOLDEN, pinned_settings  # noqa: E402

# root of the mean squared difference of values 0 to 255: another smoothing of a line gives less than 1, a line that is
# missing or has moved gives more than 3
TOLERANCE = 2.0


def minor(version: str) -> tuple[str, ...]:
    return tuple(version.split(".")[:2])


def pixels(content) -> np.ndarray:
    with image.open(content) as picture:
        return np.asarray(picture.convert("RGB"), dtype=np.float64)


def drawn(name: str) -> np.ndarray:
    file = io.BytesIO()
    with pinned_settings():
        CASES[name]().savefig(file, dpi=DPI)
    return pixels(file)


def made_by(path) -> str:
    """The version of matplotlib that drew an image: others draw text in another way."""
    with image.open(path) as picture:
        return picture.info["Software"].split("version")[1].split(",")[0]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.applies(lambda name: minor(made_by(GOLDEN / f"{name}.png")) == minor(matplotlib.__version__))
def test_figure_is_as_it_was(name):
    path = GOLDEN / f"{name}.png"
    expected, got = pixels(path), drawn(name)
    assert got.shape == expected.shape
    difference = float(np.sqrt(np.mean((got - expected) ** 2)))
    assert difference < TOLERANCE, f"{name}: {difference:.2f}; look at it, and at python -m tests.plots.figures"


def test_every_golden_image_has_its_figure():
    assert {path.stem for path in GOLDEN.glob("*.png")} == set(CASES)


def test_another_figure_is_seen():
    """The comparison would be worth nothing if it took any two curves for the same."""
    one, two = (pixels(GOLDEN / f"{name}.png") for name in ("curves", "curves_log"))
    assert one.shape == two.shape
    assert np.sqrt(np.mean((one - two) ** 2)) > 2 * TOLERANCE
