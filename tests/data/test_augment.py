"""Every transform of images, on every backend: what all of them promise."""

import inspect

import numpy as np
import pytest

import xpdl
from tests.harness import nonempty
from xpdl import Batches, DTypeError, ShapeError, augment
from xpdl.backends.random import Stream
from xpdl.data.augment import Brightness, Compose, Crop, Cutout, Elastic, Flip, Noise, Rotate, Scale, Shift
from xpdl.data.augment.base import Transform

# seen as users call them: each changes the images below
TRANSFORMS = {
    "flip": Flip(0.5, 0.5),
    "shift": Shift(2),
    "shift by parts": Shift((1.5, 2.5), whole=False),
    "crop": Crop((5, 4), pad=1),
    "rotate": Rotate(40),
    "scale": Scale(0.7, 1.6),
    "brightness": Brightness(0.5, 1.5),
    "cutout": Cutout((3, 4)),
    "noise": Noise(0.1),
    "elastic": Elastic(12.0, 2.0),
    "composed": Compose(Flip(), Shift(1), Rotate(20), Noise(0.1)),
}
IDENTITIES = {
    "flip": Flip(0.0, 0.0),
    "shift": Shift(0),
    "shift by parts": Shift(0.0, whole=False),
    "crop": Crop(),
    "rotate": Rotate(0),
    "scale": Scale(1, 1),
    "brightness": Brightness(1, 1),
    "cutout": Cutout(0),
    "noise": Noise(0.0),
    "elastic": Elastic(0.0),
    "composed": Compose(),
}
CARRYING = {name: TRANSFORMS[name] for name in ("flip", "shift", "crop", "cutout")}
COMPUTING = {name: TRANSFORMS[name] for name in TRANSFORMS if name not in (*CARRYING, "composed")}


def each(transforms):
    return pytest.mark.parametrize("transform", transforms.values(), ids=transforms)


def images(n=5, c=3, h=7, w=9):
    return np.random.default_rng(n + c).uniform(0.1, 1.0, (n, c, h, w))


def called(backend, transform, x):
    return backend.call(transform, x, stream=Stream(0, "test"))


def test_every_transform_is_on_trial():
    made = {type(transform).__name__ for transform in TRANSFORMS.values()}
    assert made | {"Transform"} == set(augment.__all__)
    assert TRANSFORMS.keys() == IDENTITIES.keys()
    assert xpdl.augment is xpdl.data.augment is augment


@each(TRANSFORMS)
@pytest.mark.backends("precompiled", "jit")
def test_same_images_on_every_backend(backend, transform):
    x = images()
    before = x.copy()
    expected = transform(x, Stream(0, "test"))
    np.testing.assert_array_equal(x, before)
    assert not np.array_equal(expected, x)
    given = backend.asarray(x)
    backend.check(called(backend, transform, given), expected, rtol=1e-4 if backend.float == "float32" else 1e-11)
    backend.check(given, x)


@each(TRANSFORMS)
@pytest.mark.backends("precompiled")
def test_one_image_alone(backend, transform):
    x = images(1, 1, 9, 6)
    stream = Stream(2)  # one that leaves no transform at a shift by 0, say: nothing would be seen of it
    expected = transform(x, stream)
    assert not np.array_equal(expected, x)
    found = backend.call(transform, backend.asarray(x), stream=stream)
    backend.check(found, expected, rtol=1e-4 if backend.float == "float32" else 1e-11)


@pytest.mark.backends("values")
@pytest.mark.skip_backend("jit", reason="iteration is not traced")
def test_batches_take_several(backend):
    x, t = images(), np.arange(5)
    several = [Flip(), lambda x: x + 1.0]
    expected = list(Batches(x, t, 3, seed=0, transform=Compose(*several)))
    with backend.rules():
        found = list(Batches(backend.asarray(x), backend.asarray(t), 3, seed=0, transform=several))
    for (x, t), (expected_x, expected_t) in nonempty(zip(found, expected, strict=True)):
        backend.check(x, expected_x)
        backend.check(t, expected_t)


@each(IDENTITIES)
@pytest.mark.backends("precompiled")
def test_parameters_of_no_effect_give_the_input_back(backend, transform):
    x = images().astype("float32")
    backend.check(called(backend, transform, backend.asarray(x)), x, rtol=0.0, atol=0.0)


@each(TRANSFORMS)
@pytest.mark.backends("numpy", "torch")
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_dtype_is_kept(backend, transform, dtype):
    x = images().astype(dtype)
    expected = transform(x.astype(np.float64), Stream(0, "test"))
    found = called(backend, transform, backend.asarray(x))
    backend.check(found, expected, dtype=dtype, rtol={"float16": 1e-2, "float32": 1e-4}[dtype])


@each(CARRYING)
@pytest.mark.backends("precompiled", "jit")
def test_carried_pixels_may_be_of_any_dtype(backend, transform):
    x = (255 * images()).astype(np.uint8)
    expected = transform(x.astype(np.float64), Stream(0, "test"))
    backend.check(called(backend, transform, backend.asarray(x)), expected.astype(np.uint8))


@each(COMPUTING)
@pytest.mark.backends("numpy", "strict:device1", "torch")
def test_computed_values_are_floating(backend, transform):
    with pytest.raises(DTypeError, match=f"{type(transform).__name__}: expected a floating array, got uint8"):
        transform(backend.asarray(images().astype(np.uint8)), Stream(0))


@each(TRANSFORMS)
class TestDraws:
    def test_follow_the_stream_alone(self, transform):
        x = images()
        first, again, other = (transform(x, Stream(seed)) for seed in (0, 0, 1))
        np.testing.assert_array_equal(first, again)
        assert not np.array_equal(first, other)
        assert not np.array_equal(first, transform(x, Stream(0, "other")))

    def test_follow_xpdl_seed_without_a_stream(self, transform):
        x, found = images(), []
        for seed in (1, 1, 2):
            xpdl.seed(seed)
            found.append([transform(x), transform(x)])
        np.testing.assert_array_equal(found[0], found[1])
        assert not np.array_equal(found[0][0], found[0][1]) and not np.array_equal(found[0], found[2])

    def test_differ_from_image_to_image(self, transform):
        found = transform(np.repeat(images(1), 16, axis=0), Stream(0))
        assert len({image.tobytes() for image in found}) > 3

    def test_of_an_image_do_not_depend_on_those_behind_it(self, transform):
        x = images()
        np.testing.assert_array_equal(transform(x, Stream(0))[:2], transform(x[:2], Stream(0)))

    @pytest.mark.applies(lambda transform: not isinstance(transform, Noise | Compose))  # noise is not
    def test_are_the_same_for_all_channels(self, transform):
        grey = np.repeat(images(c=1), 3, axis=1)
        found = transform(grey, Stream(0))
        np.testing.assert_array_equal(found, found[:, :1].repeat(3, axis=1))


@each(TRANSFORMS)
class TestWrongCalls:
    @pytest.mark.parametrize("shape", [(4,), (4, 63), (3, 7, 9), (1, 1, 3, 7, 9)])
    def test_rank(self, transform, shape):
        with pytest.raises(
            ShapeError, match=r"expected images \(N, C, H, W\) .*flatten=False\), an array of rank 4, got shape"
        ):
            transform(np.ones(shape), Stream(0))

    @pytest.mark.parametrize("stream", [0, "0", np.random.default_rng(0)])
    def test_stream(self, transform, stream):
        with pytest.raises(TypeError, match=r"expected a Stream to draw from, got .*Stream\(seed\) is one"):
            transform(images(), stream)

    def test_no_array(self, transform):
        with pytest.raises(TypeError, match="expected arrays, got list"):
            transform(images().tolist(), Stream(0))


class TestCompose:
    def test_takes_transforms_in_order_each_with_a_stream_of_its_own(self):
        x = images()
        both = Compose(Noise(0.1), Noise(0.1))(x, Stream(0))
        first = Noise(0.1)(x, Stream(0).child("transform 0"))
        np.testing.assert_array_equal(both, Noise(0.1)(first, Stream(0).child("transform 1")))
        assert not np.allclose(both - first, first - x)

    def test_takes_functions_without_a_stream(self):
        x = images()
        np.testing.assert_array_equal(Compose(np.negative, Compose(lambda x: x + 1))(x, Stream(0)), 1 - x)

    def test_takes_them_in_a_list_too(self):
        several = [Flip(), Noise(0.1)]
        np.testing.assert_array_equal(Compose(several)(images(), Stream(0)), Compose(*several)(images(), Stream(0)))
        assert Compose([])(images()).shape == images().shape

    @pytest.mark.parametrize("wrong, message", [(Flip, r"1: .*class; make one: Flip\(\)"), (2, "transform 1: .*got 2")])
    def test_takes_nothing_else(self, wrong, message):
        with pytest.raises(TypeError, match=message):
            Compose(Flip(), wrong)

    def test_says_what_it_is_made_of(self):
        assert repr(Compose(Flip(), Cutout(4))) == "Compose(Flip(horizontal=0.5, vertical=0.0), Cutout(size=(4, 4)))"


@pytest.mark.parametrize(
    "make, error, message",
    [
        (
            lambda: Flip(1.5),
            ValueError,
            "Flip: horizontal must be a finite number of at least 0 and of at most 1, got 1.5",
        ),
        (lambda: Flip(0.5, -0.1), ValueError, "Flip: vertical must be .*, got -0.1"),
        (lambda: Flip("x"), TypeError, "Flip: horizontal must be a number, got 'x'"),
        (lambda: Flip(True), TypeError, "Flip: horizontal must be a number, got True"),
        (lambda: Shift(-1), ShapeError, "Shift: pixels must be at least 0, got -1"),
        (lambda: Shift(1.5), ShapeError, "Shift: pixels must be an int or a pair of ints, got 1.5"),
        (lambda: Shift(-1.5, whole=False), ValueError, "Shift: pixels must be a finite number of at least 0, got -1.5"),
        (lambda: Shift((1, 2, 3), whole=False), TypeError, r"Shift: pixels must be a number, got \(1, 2, 3\)"),
        (lambda: Crop(0), ShapeError, "Crop: size must be at least 1, got 0"),
        (lambda: Crop(4, pad=-1), ShapeError, "Crop: pad must be at least 0, got -1"),
        (lambda: Rotate(-5), ValueError, "Rotate: degrees must be a finite number of at least 0, got -5"),
        (lambda: Rotate((5, -5)), ValueError, "Rotate: low must not exceed high, got low=5, high=-5"),
        (lambda: Rotate(float("nan")), ValueError, "Rotate: degrees must be a finite number of at least 0, got nan"),
        (lambda: Scale(0, 1), ValueError, "Scale: low must be positive, got 0"),
        (lambda: Scale(1.2, 1.1), ValueError, "Scale: low must not exceed high, got low=1.2, high=1.1"),
        (lambda: Scale(1, float("inf")), ValueError, "Scale: high must be a finite number, got inf"),
        (lambda: Brightness(-1), ValueError, "Brightness: low must be a finite number of at least 0, got -1"),
        (lambda: Brightness(1.1, 0.9), ValueError, "Brightness: low must not exceed high"),
        (lambda: Cutout(-1), ShapeError, "Cutout: size must be at least 0, got -1"),
        (lambda: Noise(-0.1), ValueError, "Noise: std must be a finite number of at least 0, got -0.1"),
        (lambda: Noise(None), TypeError, "Noise: std must be a number, got None"),
        (lambda: Elastic(-1), ValueError, "Elastic: alpha must be a finite number of at least 0, got -1"),
        (lambda: Elastic(1, 0), ValueError, "Elastic: sigma must be positive, got 0"),
    ],
)
def test_wrong_parameter_is_named(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_window_must_fit():
    with pytest.raises(
        ShapeError, match=r"Crop: a window of \(12, 4\) does not fit into images of \(7, 9\) with pad=\(2, 2\)"
    ):
        Crop((12, 4), pad=2)(images(), Stream(0))


def test_transform_without_apply_says_so():
    with pytest.raises(NotImplementedError, match=r"Transform has no method apply"):
        Transform()(images(), Stream(0))


@pytest.mark.parametrize("name", sorted(set(augment.__all__) - {"Transform"}))
def test_is_documented(name):
    assert "Parameters\n" in inspect.getdoc(getattr(augment, name))
