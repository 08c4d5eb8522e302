"""Values of each transform against loops over the pixels, and the distribution of its choices."""

import itertools
import math

import numpy as np
import pytest

from tests.harness import nonempty
from xpdl.backends.random import Stream
from xpdl.data.augment import Brightness, Crop, Cutout, Elastic, Flip, Noise, Rotate, Scale, Shift, geometry

STREAM = Stream(0, "values")


def images(n=4, c=2, h=6, w=8):
    return np.random.default_rng(n).uniform(0.1, 1.0, (n, c, h, w))


def ramps(n, h, w):
    """Images whose two channels tell the row and the column of each pixel, so that one sees where it came from."""
    rows, columns = np.meshgrid(np.arange(h), np.arange(w), indexing="ij")
    return np.broadcast_to(np.stack([rows, columns]) + 100.0, (n, 2, h, w)).copy()


def pixel(image, row, column):
    """All channels at whole coordinates, 0 outside."""
    inside = 0 <= row < image.shape[1] and 0 <= column < image.shape[2]
    return image[:, row, column] if inside else np.zeros(len(image))


def blended(image, row, column):
    """All channels between four pixels."""
    top, left = math.floor(row), math.floor(column)
    value = np.zeros(len(image))
    for i, j in itertools.product((top, top + 1), (left, left + 1)):
        value += (1 - abs(row - i)) * (1 - abs(column - j)) * pixel(image, i, j)
    return value


def read(image, size, place, look=blended):
    """An image of `size` whose pixel (i, j) shows what `image` has at ``place(i, j)``."""
    result = np.empty((len(image), *size))
    for i, j in np.ndindex(size):
        result[:, i, j] = look(image, *place(i, j))
    return result


def the_one(found, candidates):
    """The parameters, of those that could be, by which the image came to look so."""
    fitting = [parameters for parameters, image in candidates.items() if np.array_equal(image, found)]
    assert len(fitting) == 1
    return fitting[0]


def equally_often(seen, possible):
    """Each of the possible outcomes among what was seen, and nothing else, as often as chance may have it."""
    counts = {outcome: seen.count(outcome) for outcome in possible}
    assert sum(counts.values()) == len(seen)
    share = 1 / len(counts)
    allowed = 5 * math.sqrt(len(seen) * share * (1 - share))
    assert all(abs(count - len(seen) * share) < allowed for count in counts.values()), counts


class TestFlip:
    @pytest.mark.parametrize("horizontal, vertical", [(1, 0), (0, 1), (1, 1)])
    def test_mirrors(self, horizontal, vertical):
        x = images()
        for image, found in nonempty(zip(x, Flip(horizontal, vertical)(x, STREAM), strict=True)):
            mirrored = read(image, (6, 8), lambda i, j: (5 - i if vertical else i, 7 - j if horizontal else j), pixel)
            np.testing.assert_array_equal(found, mirrored)

    def test_as_often_as_asked_and_each_way_by_itself(self):
        x = np.repeat(images(1, 1, 2, 2), 4000, axis=0)
        found = Flip(0.25, 0.5)(x, STREAM)
        mirrored = {(v, h): x[0, :, :: 1 - 2 * v, :: 1 - 2 * h] for v in (0, 1) for h in (0, 1)}
        seen = [the_one(image, mirrored) for image in found]
        for outcome, share in {(0, 0): 0.375, (1, 0): 0.375, (0, 1): 0.125, (1, 1): 0.125}.items():
            assert abs(seen.count(outcome) / 4000 - share) < 5 * math.sqrt(share * (1 - share) / 4000)


class TestShift:
    def test_moves_by_whole_pixels_equally_often(self):
        image = images(1, 2, 4, 5)[0]
        moved = {
            (down, right): read(image, (4, 5), lambda i, j, d=down, r=right: (i - d, j - r), pixel)
            for down in (-1, 0, 1)
            for right in (-2, -1, 0, 1, 2)
        }
        found = Shift((1, 2))(np.repeat(image[np.newaxis], 3000, axis=0), STREAM)
        equally_often([the_one(one, moved) for one in found], moved)

    def test_moves_by_parts_of_pixels(self):
        n, h, w = 200, 9, 11
        x = np.concatenate([ramps(n, h, w), images(n, 1, h, w)], axis=1)
        found = Shift((1.5, 2.5), whole=False)(x, STREAM)
        moves = [4, 5] - (found[:, :2, 4, 5] - 100.0)
        for image, one, (down, right) in zip(x[:10], found, moves[:10], strict=False):
            moved = read(image, (h, w), lambda i, j, d=down, r=right: (i - d, j - r))
            np.testing.assert_allclose(one, moved, rtol=1e-9, atol=1e-9)
        # uniform: in the limits, and reaching close to them
        assert (np.abs(moves) <= [1.5, 2.5]).all()
        np.testing.assert_allclose(np.abs(moves).max(axis=0), [1.5, 2.5], rtol=0.05)
        np.testing.assert_allclose(moves.std(axis=0), np.array([1.5, 2.5]) / math.sqrt(3), rtol=0.15)

    def test_further_than_the_image_leaves_nothing(self):
        found = Shift((10**12, 0))(images(20), STREAM)
        assert not found.any()


class TestCrop:
    def test_cuts_each_window_equally_often(self):
        image = images(1, 2, 3, 4)[0]
        windows = {
            (top, left): read(image, (4, 3), lambda i, j, t=top, le=left: (i + t, j + le), pixel)
            for top in (-1, 0)  # 3 rows and one above and below: 5, for a window of 4
            for left in (-1, 0, 1, 2)  # likewise 6, for one of 3
        }
        found = Crop((4, 3), pad=1)(np.repeat(image[np.newaxis], 3000, axis=0), STREAM)
        equally_often([the_one(one, windows) for one in found], windows)


class TestCutout:
    @pytest.mark.parametrize("size", [(3, 2), (1, 4)])
    def test_erases_around_each_pixel_equally_often(self, size):
        image = images(1, 2, 4, 5)[0]
        erased = {}
        for row, column in np.ndindex(4, 5):
            hole = image.copy()
            for i, j in np.ndindex(4, 5):
                if (
                    row - size[0] // 2 <= i < row - size[0] // 2 + size[0]
                    and column - size[1] // 2 <= j < column - size[1] // 2 + size[1]
                ):
                    hole[:, i, j] = 0.0
            erased[row, column] = hole
        found = Cutout(size)(np.repeat(image[np.newaxis], 3000, axis=0), STREAM)
        equally_often([the_one(one, erased) for one in found], erased)


class TestRotate:
    @pytest.mark.parametrize("degrees", [30.0, -75.0, 200.0])
    def test_turns_counter_clockwise_around_the_centre(self, degrees):
        x = images()
        sin, cos = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))

        def place(i, j):
            """Seen as a drawing, to the right and up from its centre, and turned back."""
            right, up = j - 3.5, 2.5 - i
            return 2.5 - (up * cos - right * sin), 3.5 + (right * cos + up * sin)

        for image, found in nonempty(zip(x, Rotate((degrees, degrees))(x, STREAM), strict=True)):
            np.testing.assert_allclose(found, read(image, (6, 8), place), rtol=1e-9, atol=1e-12)

    def test_by_a_quarter_is_that_of_numpy(self):
        x = images(h=7, w=7)
        np.testing.assert_allclose(Rotate((90, 90))(x, STREAM), np.rot90(x, axes=(2, 3)), atol=1e-12)

    def test_every_angle_is_equally_likely(self):
        found = Rotate(20.0)(ramps(500, 9, 9), STREAM) - 100.0
        # one step to the right of the centre lies that much further down before turning
        angles = np.degrees(np.arctan2(found[:, 0, 4, 5] - 4, found[:, 1, 4, 5] - 4))
        assert np.abs(angles).max() <= 20.0 + 1e-9
        counts, _ = np.histogram(angles, bins=5, range=(-20.0, 20.0))
        assert (np.abs(counts - 100) < 5 * math.sqrt(500 * 0.2 * 0.8)).all()


class TestScale:
    @pytest.mark.parametrize("factor", [0.6, 1.7])
    def test_enlarges_around_the_centre(self, factor):
        x = images()
        for image, found in nonempty(zip(x, Scale(factor, factor)(x, STREAM), strict=True)):
            scaled = read(image, (6, 8), lambda i, j: (2.5 + (i - 2.5) / factor, 3.5 + (j - 3.5) / factor))
            np.testing.assert_allclose(found, scaled, rtol=1e-9, atol=1e-12)

    def test_factors_lie_between_both(self):
        found = Scale(0.5, 2.0)(ramps(500, 9, 9), STREAM)
        factors = 1 / (found[:, 0, 5, 4] - found[:, 0, 4, 4])
        assert factors.min() >= 0.5 - 1e-9 and factors.max() <= 2.0 + 1e-9
        counts, _ = np.histogram(factors, bins=5, range=(0.5, 2.0))
        assert (np.abs(counts - 100) < 5 * math.sqrt(500 * 0.2 * 0.8)).all()


class TestBrightness:
    def test_multiplies_by_one_number_for_an_image(self):
        x = images(500)
        factors = Brightness(0.5, 1.5)(x, STREAM) / x
        np.testing.assert_allclose(factors, np.broadcast_to(factors[:, :1, :1, :1], x.shape))
        counts, _ = np.histogram(factors[:, 0, 0, 0], bins=5, range=(0.5, 1.5))
        assert (np.abs(counts - 100) < 5 * math.sqrt(500 * 0.2 * 0.8)).all()

    def test_by_a_number(self):
        np.testing.assert_allclose(Brightness(0.7, 0.7)(images(), STREAM), 0.7 * images())


class TestNoise:
    def test_is_normal_with_that_deviation(self):
        x = images(50, 2, 30, 30)
        noise = (Noise(0.2)(x, STREAM) - x).ravel() / 0.2
        n = noise.size
        assert abs(noise.mean()) < 5 / math.sqrt(n)
        for bound in (-2.5, -1.0, -0.3, 0.0, 0.3, 1.0, 2.5):
            share = 0.5 * (1 + math.erf(bound / math.sqrt(2)))
            assert abs((noise < bound).mean() - share) < 5 * math.sqrt(share * (1 - share) / n)
        assert abs((noise[1:] * noise[:-1]).mean()) < 5 / math.sqrt(n)

    def test_is_in_the_unit_of_the_values(self):
        x = images()
        one, three = (Noise(std)(x, STREAM) - x for std in (0.1, 0.3))
        np.testing.assert_allclose(three, 3 * one, rtol=1e-9)


class TestElastic:
    def test_moves_each_pixel_by_the_smoothed_field(self, monkeypatch):
        n, h, w, alpha, sigma = 2, 6, 7, 5.0, 1.5
        fields = iter(np.random.default_rng(0).uniform(-1, 1, (2, n, h, w)))
        drawn = []
        monkeypatch.setattr(
            geometry, "uniform", lambda like, words: (drawn.append(next(fields)), (drawn[-1] + 1) / 2)[1]
        )
        x = images(n, 2, h, w)
        found = Elastic(alpha, sigma)(x, STREAM)
        # a Gaussian that sums to 1 over all whole distances in the plane
        total = sum(math.exp(-(k**2) / (2 * sigma**2)) for k in range(-50, 51)) ** 2

        def smoothed(field, i, j):
            return sum(
                math.exp(-((i - a) ** 2 + (j - b) ** 2) / (2 * sigma**2)) / total * field[a, b]
                for a, b in np.ndindex(h, w)
            )

        for number in nonempty(range(n)):
            down, right = drawn[0][number], drawn[1][number]
            bent = read(
                x[number],
                (h, w),
                lambda i, j, d=down, r=right: (i + alpha * smoothed(d, i, j), j + alpha * smoothed(r, i, j)),
            )
            np.testing.assert_allclose(found[number], bent, rtol=1e-9, atol=1e-12)

    def test_moves_as_far_as_its_words_say_and_neighbours_alike(self):
        alpha, sigma, middle = 34.0, 4.0, slice(14, 27)
        found = Elastic(alpha, sigma)(ramps(300, 41, 41), STREAM)
        moves = (found - ramps(1, 41, 41))[:, :, middle, middle]
        mean_square = (moves**2).mean()
        # about 600 independent moves: the standard error is 3 %
        assert abs(math.sqrt(mean_square) / (alpha / (6.1 * sigma)) - 1) < 0.1
        alike = (moves[:, :, 1:] * moves[:, :, :-1]).mean() / mean_square
        assert abs(alike - math.exp(-1 / (4 * sigma**2))) < 0.01
        assert abs((moves[:, 0] * moves[:, 1]).mean() / mean_square) < 0.15
