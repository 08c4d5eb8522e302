"""The digit in a photograph is found whatever the light, the ground and the dirt."""

import itertools

import numpy as np
import pytest

from tests.data import photographs
from xpdl import Adam, SimpleConvNet, Trainer, asnumpy, load_mini_mnist
from xpdl.data import digits, masks
from xpdl.data.images import load_digit

pytest.importorskip("PIL.Image")


@pytest.fixture(scope="module")
def mini():
    return [tuple(map(asnumpy, rows)) for rows in load_mini_mnist(flatten=False)]


def clean(digit):
    """The picture of a digit alone, large enough to be cut out and scaled like a photograph of it."""
    return np.pad(np.kron(digit, np.ones((8, 8), np.float32)), 40)


@pytest.mark.parametrize("name", photographs.KINDS)
@pytest.mark.quick(lambda name: name in [*photographs.KINDS][::4])
def test_a_photograph_gives_the_digit_that_was_written(mini, tmp_path, name):
    _, (x, _) = mini
    alike = []
    for i in range(3):
        rng = np.random.default_rng([i, len(name)])
        digit = x[rng.integers(len(x)), 0]
        photographs.save(photographs.photograph(digit, rng, photographs.KINDS[name]), tmp_path / "digit.jpg", rng)
        found, wanted = load_digit(tmp_path / "digit.jpg"), written(digit, tmp_path)
        alike.append(np.corrcoef(found.ravel(), wanted.ravel())[0, 1])
    # a digit of another class correlates by 0.4 on average, nothing but a line by 0.2
    assert np.median(alike) > 0.85 and min(alike) > 0.6, alike


def written(digit, folder):
    from PIL import Image

    Image.fromarray((clean(digit) * 255).astype(np.uint8)).save(folder / "clean.png")
    return load_digit(folder / "clean.png")


@pytest.mark.slow
def test_nine_of_ten_photographs_are_recognised(mini, tmp_path):
    """1,000 photographs of test digits, and a small net that recognises 0.96 of the digits themselves."""
    train, (x, t) = mini
    net = SimpleConvNet(seed=0)
    Trainer(net, *train, x, t, 4, 50, Adam(0.002), verbose=False, seed=0).train()
    right = []
    for i, kinds in zip(range(1000), itertools.cycle(photographs.KINDS.values()), strict=False):
        rng = np.random.default_rng(i)
        k = rng.integers(len(x))
        photographs.save(photographs.photograph(x[k, 0], rng, kinds), tmp_path / "digit.jpg", rng)
        right.append(net.predict(load_digit(tmp_path / "digit.jpg")[None, None]).argmax() == t[k])
    assert np.mean(right) >= 0.9


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 3), (7, 700), (700, 7), (1000, 1)])
def test_pictures_of_any_shape_end_in_a_digit_or_none(shape):
    rng = np.random.default_rng(0)
    for grey in (np.zeros(shape), rng.random(shape), (rng.random(shape) < 0.5).astype(float)):
        found = digits.find_digit(grey.astype(np.float32))
        assert found is None or (found.ndim == 2 and found.min() >= 0 and 0.5 < found.max() <= 1)


def test_a_digit_that_touches_the_border_is_found():
    grey = np.zeros((60, 60), np.float32)
    grey[:, 25:35] = 1
    assert digits.find_digit(grey).shape == (60, 10)


def test_a_sheet_on_a_dark_table_is_searched_for_its_digit(mini):
    _, (x, _) = mini
    grey = np.full((400, 400), 0.1, np.float32)
    sheet = 0.9 - 0.7 * np.kron(x[3, 0], np.ones((5, 5)))
    grey[120:260, 150:290] = sheet
    found = digits.find_digit(grey)
    ink = np.argwhere(np.kron(x[3, 0], np.ones((5, 5))) > 0.4)
    np.testing.assert_allclose(found.shape, np.ptp(ink, axis=0) + 1, atol=8)


def components(mask):
    """Connected components by a search from each pixel, an oracle for `label`."""
    left, found = set(map(tuple, np.argwhere(mask))), []
    while left:
        queue = [left.pop()]
        found.append(set(queue))
        while queue:
            y, x = queue.pop()
            near = left & {(y + i, x + j) for i in (-1, 0, 1) for j in (-1, 0, 1)}
            left -= near
            found[-1] |= near
            queue += near
    return {frozenset(part) for part in found}


@pytest.mark.parametrize("density", [0.0, 0.2, 0.4, 0.6, 1.0])
@pytest.mark.parametrize("shape", [(1, 1), (1, 12), (12, 1), (15, 17)])
def test_labels_are_the_connected_components(shape, density):
    mask = np.random.default_rng(0).random(shape) < density
    labels, count = masks.label(mask)
    assert {frozenset(map(tuple, np.argwhere(labels == k))) for k in range(1, count + 1)} == components(mask)


@pytest.mark.parametrize("side", [1, 2, 3, 5])
def test_erosion_keeps_the_centres_of_squares_in_the_mask(side):
    mask = np.random.default_rng(0).random((9, 11)) < 0.8
    before = side // 2
    padded = np.pad(mask, (before, side - 1 - before), mode="edge")
    wanted = [[padded[y : y + side, x : x + side].all() for x in range(11)] for y in range(9)]
    np.testing.assert_array_equal(masks.eroded(mask, side), wanted)
