"""Pictures of digits come out as MNIST images, whatever their size, colour and ground."""

import importlib
import tracemalloc

import numpy as np
import pytest

from xpdl import load_mini_mnist
from xpdl.data.images import load_digit

image = pytest.importorskip("PIL.Image")


@pytest.fixture
def digit():
    return np.asarray(load_mini_mnist(normalize=False, flatten=False)[1][0][3, 0])


@pytest.fixture
def path(tmp_path):
    return tmp_path / "digit.png"


def centre(grey):
    return [np.average(np.arange(28), weights=grey.sum(axis=axis)) for axis in (1, 0)]


def test_mnist_image_is_taken_as_it_is(digit, path):
    image.fromarray(digit).save(path)
    found = load_digit(path)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, digit.astype(np.float32) / 255)


def test_dark_on_light_is_inverted(digit, path):
    image.fromarray(255 - digit).save(path)
    np.testing.assert_allclose(load_digit(path), digit / 255, atol=1e-6)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "1"])
@pytest.mark.parametrize("dark", [True, False])
def test_large_picture_is_cut_scaled_and_centred(digit, path, mode, dark):
    picture = image.new("L", (400, 300), 255 if dark else 0)
    large = image.fromarray(255 - digit if dark else digit).resize((112, 112))
    picture.paste(large, (250, 30))
    picture.convert(mode).save(path)
    found = load_digit(path)
    assert found.shape == (28, 28) and found.min() == 0 and found.max() > 0.8
    np.testing.assert_allclose(centre(found), [13.5, 13.5], atol=1.0)
    ink = np.argwhere(found > 0.2)
    assert max(np.ptp(ink, axis=0)) + 1 in (19, 20, 21)
    correlation = np.corrcoef(found.ravel(), digit.ravel())[0, 1]
    assert correlation > 0.7


def test_transparent_ground_counts_as_white(digit, path):
    rgba = np.zeros((60, 60, 4), np.uint8)
    rgba[16:44, 16:44, 3] = digit
    image.fromarray(rgba).save(path)
    assert load_digit(path).max() > 0.8


@pytest.mark.parametrize("paper, ink", [(204, 64), (255, 0), (12, 250)])
def test_sixteen_bits_give_the_same_digit_as_eight(digit, tmp_path, paper, ink):
    grey = np.round(paper + (ink - paper) * np.pad(np.kron(digit / 255, np.ones((8, 8))), 40)).astype(np.uint8)
    image.fromarray(grey).save(tmp_path / "8.png")
    wide = grey.astype(np.uint16) * 257
    image.fromarray(wide).save(tmp_path / "16.png")
    (tmp_path / "16.pgm").write_bytes(b"P5 %d %d 65535\n" % grey.shape[::-1] + wide.astype(">u2").tobytes())
    for name in ("16.png", "16.pgm"):
        np.testing.assert_allclose(load_digit(tmp_path / name), load_digit(tmp_path / "8.png"), atol=0.03)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_the_camera_is_undone(digit, tmp_path, orientation):
    picture = image.fromarray(np.pad(np.kron(digit, np.ones((8, 8), np.uint8)), 40))
    picture.save(tmp_path / "upright.jpg", quality=95)
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # transpositions of Pillow whose inverse the tag asks for
    stored = picture.transpose(image.Transpose(undo[orientation])) if orientation > 1 else picture
    exif = image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "stored.jpg", quality=95, exif=exif)
    np.testing.assert_allclose(load_digit(tmp_path / "stored.jpg"), load_digit(tmp_path / "upright.jpg"), atol=0.1)


def test_inks_of_printers_are_read(digit, tmp_path):
    picture = image.fromarray(255 - np.pad(np.kron(digit, np.ones((8, 8), np.uint8)), 40))
    picture.save(tmp_path / "grey.jpg", quality=95)
    picture.convert("CMYK").save(tmp_path / "cmyk.jpg", quality=95)
    np.testing.assert_allclose(load_digit(tmp_path / "cmyk.jpg"), load_digit(tmp_path / "grey.jpg"), atol=0.05)


def test_coloured_ink_as_light_as_its_paper_is_seen(digit, path):
    ink = np.pad(np.kron(digit / 255, np.ones((8, 8))), 40)[..., None]
    red, grey = np.array([220, 76, 76]), np.array([119, 119, 119])  # both have luma 119
    image.fromarray(np.round(grey + (red - grey) * ink).astype(np.uint8)).save(path)
    found = load_digit(path)
    large = image.fromarray((ink[..., 0] * 255).astype(np.uint8))
    large.save(path)
    np.testing.assert_allclose(found, load_digit(path), atol=0.1)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_light_ink_on_a_transparent_ground_is_seen(digit, path, mode):
    rgba = np.full((60, 60, 4), 255, np.uint8)
    rgba[..., 3] = np.pad(digit, 16)
    image.fromarray(rgba).convert(mode).save(path)
    assert load_digit(path).max() > 0.8


def test_numbers_that_are_not_finite_are_refused(path):
    values = np.full((30, 30), np.nan, "<f4")
    path.write_bytes(b"Pf 30 30 -1.0\n" + values.tobytes())
    with pytest.raises(ValueError, match="values that are not finite"):
        load_digit(path)


def test_thin_and_flat_digits_stay_inside(path):
    for shape in ((200, 3), (3, 200)):
        grey = np.zeros((300, 300), np.uint8)
        grey[40 : 40 + shape[0], 60 : 60 + shape[1]] = 255
        image.fromarray(grey).save(path)
        assert load_digit(path).sum() > 10


def test_wholly_transparent_picture_is_an_empty_one(path):
    image.new("RGBA", (50, 60), (255, 0, 0, 0)).save(path)
    with pytest.raises(ValueError, match=r"digit\.png: shows no digit"):
        load_digit(path)


@pytest.mark.parametrize("value", [0, 128, 255])
def test_empty_picture_is_an_error(path, value):
    image.new("L", (50, 60), value).save(path)
    with pytest.raises(ValueError, match=r"digit\.png: shows no digit"):
        load_digit(path)


def test_what_is_no_picture_is_an_error(digit, path):
    image.fromarray(digit).save(path)
    whole = path.read_bytes()
    for content in (b"", b"text", whole[:60], whole[:-40]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"digit\.png: is not a readable picture"):
            load_digit(path)


def test_enormous_picture_is_refused(path):
    image.new("1", (9000, 9000)).save(path)
    with pytest.raises(ValueError, match="9000x9000 pixels are too many"):
        load_digit(path)


def test_picture_that_pillow_warns_of_is_refused_without_a_warning(path):
    image.new("1", (10_000, 9_000)).save(path)
    with pytest.raises(ValueError, match="10000x9000 pixels are too many"):
        load_digit(path)


def test_small_file_does_not_unpack_to_a_large_picture(path):
    """The size is read before anything is unpacked."""
    image.new("1", (9000, 9000)).save(path)
    assert path.stat().st_size < 10**5
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="too many"):
            load_digit(path)
        assert tracemalloc.get_traced_memory()[1] < 10**6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", ["EPS", "ICO", "TIFF", "PDF"])
def test_formats_whose_readers_do_more_than_read_are_refused(digit, path, kind):
    image.fromarray(digit).save(path, kind)
    with pytest.raises(ValueError, match=r"digit\.png: is not a readable picture"):
        load_digit(path)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "GIF", "WEBP", "PPM"])
def test_formats_that_are_read(digit, path, kind):
    image.fromarray(digit).save(path, kind)
    np.testing.assert_allclose(load_digit(path), digit / 255, atol=0.2)


def test_missing_file_is_an_oserror(path):
    with pytest.raises(FileNotFoundError):
        load_digit(path)


def test_without_pillow_says_what_to_install(digit, path, monkeypatch):
    image.fromarray(digit).save(path)

    def missing(name, *args):
        raise ImportError(f"No module named {name}")

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ImportError, match=r"xpdl\[images\]"):
        load_digit(path)


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_cameras_of_fewer_than_16_bits_are_as_light(tmp_path, bits):
    from PIL import Image as pillow

    page = np.full((90, 90), 0.9)
    page[20:70, 40:48] = 0.2
    pillow.fromarray((page * (2**bits - 1)).astype(np.uint16)).save(tmp_path / "page.png")
    pillow.fromarray((page * 65535).astype(np.uint16)).save(tmp_path / "of_16_bits.png")
    np.testing.assert_allclose(load_digit(tmp_path / "page.png"), load_digit(tmp_path / "of_16_bits.png"), atol=0.02)


@pytest.mark.parametrize("unit", [np.uint8(1), np.uint16(257)])
def test_paper_that_is_named_as_transparent_counts_as_white(digit, tmp_path, unit):
    ink = np.kron(digit > 128, np.ones((4, 4), bool))
    for name, paper, options in (("a", 3, {"transparency": int(3 * unit)}), ("b", 255, {})):
        image.fromarray(np.where(ink, 100, paper).astype(unit.dtype) * unit).save(tmp_path / f"{name}.png", **options)
    np.testing.assert_array_equal(load_digit(tmp_path / "a.png"), load_digit(tmp_path / "b.png"))
