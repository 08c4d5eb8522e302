"""Pictures of one's own, a folder for each class: rows, labels, splits, and files that are damaged."""

import random

import numpy as np
import pytest

import xpdl
from tests.harness import nonempty
from xpdl.data.pictures import load_picture, prepared

image = pytest.importorskip("PIL.Image")

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def draw(path, colour, size=(12, 8), mode="RGB", **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.new("RGB", size, colour).convert(mode).save(path, **options)


@pytest.fixture
def pets(tmp_path):
    folder = tmp_path / "pets"
    for number in range(6):
        draw(folder / "cats" / f"{number}.png", RED, size=(8 + number, 20))
    for number, suffix in enumerate(("jpg", "webp", "bmp", "gif")):
        draw(folder / "dogs" / "more" / f"{number}.{suffix}", BLUE, size=(20, 8 + number))
    return folder


def test_each_folder_is_a_class(pets):
    pictures = xpdl.load_folder(pets, size=(4, 6))
    assert pictures.class_names == ["cats", "dogs"]
    assert tuple(pictures.x.shape) == (10, 3, 4, 6) and len(pictures) == 10
    assert pictures.x.dtype == np.float32
    np.testing.assert_array_equal(pictures.t, [0] * 6 + [1] * 4)
    expected = np.where(np.asarray(pictures.t)[:, None] == 0, np.divide(RED, 255), np.divide(BLUE, 255))
    np.testing.assert_allclose(pictures.x.mean(axis=(2, 3)), expected, atol=0.02)
    assert [file.name for file in pictures.files[:2]] == ["0.png", "1.png"]
    assert repr(pictures) == "Pictures(10 of 4x6, classes cats, dogs)"


def test_files_that_are_no_pictures_are_ignored(pets):
    (pets / "cats" / "notes.txt").write_text("of cats")
    (pets / "cats" / ".hidden.png").write_text("")
    (pets / ".cache").mkdir()
    assert len(xpdl.load_folder(pets)) == 10


def test_hidden_folders_are_ignored_at_any_depth(pets):
    for folder in ("cats/.ipynb_checkpoints", "dogs/more/.thumbnails", "dogs/.a/b", ".git/cats"):
        draw(pets / folder / "1-checkpoint.png", GREEN)
    pictures = xpdl.load_folder(pets)
    assert len(pictures) == 10 and pictures.class_names == ["cats", "dogs"]


def test_folder_that_is_hidden_itself_is_read(pets):
    hidden = pets.rename(pets.with_name(".pets"))
    assert len(xpdl.load_folder(hidden)) == 10


def test_pictures_in_the_folder_of_no_class_are_a_warning(pets):
    for name in ("new.png", "older.jpg"):
        (pets / name).write_bytes(b"")
    with pytest.warns(
        UserWarning, match=r"2 pictures in .*pets are in the folder of no class, and ignored, such as new"
    ):
        assert len(xpdl.load_folder(pets)) == 10


def test_damaged_files_are_skipped_and_named(pets):
    whole = (pets / "cats" / "0.png").read_bytes()
    (pets / "cats" / "cut.png").write_bytes(whole[: len(whole) // 2])
    (pets / "dogs" / "empty.jpg").write_bytes(b"")
    with pytest.warns(UserWarning, match=r"load_folder: skipped 2 files: .*cut\.png: .*empty\.jpg: ") as caught:
        pictures = xpdl.load_folder(pets)
    assert len(pictures) == 10
    assert caught[0].filename == __file__


def test_class_without_a_picture_is_an_error(pets):
    (pets / "birds").mkdir()
    with pytest.raises(ValueError, match=r"birds has no readable picture; add some, or remove the folder"):
        xpdl.load_folder(pets)
    (pets / "birds" / "a.png").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"birds has no readable picture \(.*a\.png: is not a readable picture"):
        xpdl.load_folder(pets)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], r"has no folders; put the pictures of each class into a folder of its name"),
        (["train", "Test"], r"holds Test, train and no classes; load each alone"),
    ],
)
def test_folder_of_another_form_is_explained(names, message, tmp_path):
    for name in names:
        draw(tmp_path / name / "1.png", RED)
    with pytest.raises(ValueError, match=message):
        xpdl.load_folder(tmp_path)


def test_missing_folder_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        xpdl.load_folder(tmp_path / "nowhere")


@pytest.mark.parametrize("share", [0.2, 0.5, 0.01, 0.99])
def test_split_takes_the_same_share_of_each_class(pets, share):
    pictures = xpdl.load_folder(pets, size=5)
    (x, t), (x_test, t_test) = pictures.split(share, seed=1)
    counts = [min(max(1, round(share * n)), n - 1) for n in (6, 4)]
    np.testing.assert_array_equal(np.bincount(np.asarray(t_test)), counts)
    np.testing.assert_array_equal(np.bincount(np.asarray(t)), [6 - counts[0], 4 - counts[1]])
    rows = sorted(map(bytes, np.concatenate([x, x_test])))
    assert rows == sorted(map(bytes, np.asarray(pictures.x)))
    # labels stay with their rows
    for part, labels in ((x, t), (x_test, t_test)):
        np.testing.assert_array_equal(np.asarray(part)[:, 2].mean(axis=(1, 2)) > 0.5, np.asarray(labels) == 1)


def test_split_follows_its_seed(pets):
    pictures = xpdl.load_folder(pets, size=5)
    orders = [np.asarray(pictures.split(0.5, seed=seed)[0][0]) for seed in (0, 0, 1, 2)]
    np.testing.assert_array_equal(orders[0], orders[1])
    assert not all(np.array_equal(orders[0], other) for other in orders[2:])


def test_split_of_a_class_with_one_picture_is_refused(pets):
    draw(pets / "birds" / "1.png", GREEN)
    with pytest.raises(ValueError, match="class 'birds' has a single picture; add some, or remove its folder"):
        xpdl.load_folder(pets).split()


@pytest.mark.parametrize("share", [0, 1, -0.5, "half", None, True, float("nan")])
def test_split_of_another_share_is_refused(pets, share):
    with pytest.raises(ValueError, match=r"split: test must be a finite number in \(0, 1\)"):
        xpdl.load_folder(pets, size=2).split(share)


def test_rows_are_on_the_backend_in_use(pets):
    import array_api_strict as strict

    with xpdl.use("array_api_strict"):
        pictures = xpdl.load_folder(pets, size=3)
        (x, t), _ = pictures.split(seed=0)
    assert {type(a) for a in (pictures.x, pictures.t, x, t)} == {type(strict.asarray(0))}


# one picture

#: mode in which a file is saved -> what a colour comes out as
MODES = {
    "L": np.full(3, 76 / 255),
    "RGB": np.divide(RED, 255),
    "P": np.divide(RED, 255),
    "RGBA": np.divide(RED, 255),
    "CMYK": np.divide(RED, 255),
    "1": np.full(3, 0.3),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_mode_is_read(mode, channels, tmp_path):
    path = tmp_path / f"one.{'jpg' if mode == 'CMYK' else 'png'}"
    draw(path, RED, size=(40, 40), mode=mode)
    found = load_picture(path, 8, channels=channels)
    assert found.shape == (channels, 8, 8) and found.dtype == np.float32
    expected = MODES[mode] if channels == 3 else np.asarray([MODES[mode] @ (0.299, 0.587, 0.114)])
    np.testing.assert_allclose(found.mean(axis=(1, 2)), expected, atol=0.06)


@pytest.mark.parametrize(("value", "eighth"), [(0, 0), (32768, 128), (65000, 253), (65535, 255)])
def test_16_bits_are_scaled(tmp_path, value, eighth):
    image.fromarray(np.full((4, 4), value, np.uint16)).save(tmp_path / "deep.png")
    found = load_picture(tmp_path / "deep.png", 4, channels=1)
    np.testing.assert_allclose(found, eighth / 255, rtol=1e-6)


def test_transparent_pixels_are_white(tmp_path):
    image.new("RGBA", (4, 4), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    np.testing.assert_array_equal(load_picture(tmp_path / "clear.png", 4), np.ones((3, 4, 4)))


def halves(path, size):
    """The left half red, the right blue."""
    picture = image.new("RGB", size, RED)
    picture.paste(BLUE, (size[0] // 2, 0, *size))
    picture.save(path)


def test_crop_keeps_the_middle(tmp_path):
    halves(tmp_path / "wide.png", (80, 20))
    found = load_picture(tmp_path / "wide.png", 20)
    np.testing.assert_allclose(found[:, :, :8].mean(axis=(1, 2)), np.divide(RED, 255), atol=0.01)
    np.testing.assert_allclose(found[:, :, 12:].mean(axis=(1, 2)), np.divide(BLUE, 255), atol=0.01)


def test_letterbox_keeps_all_between_black_bars(tmp_path):
    halves(tmp_path / "wide.png", (80, 20))
    found = load_picture(tmp_path / "wide.png", 40, fit="letterbox")
    assert (found[:, :14] == 0).all() and (found[:, 26:] == 0).all()
    np.testing.assert_allclose(found[:, 18:22, :18].mean(axis=(1, 2)), np.divide(RED, 255), atol=0.02)


def test_exif_rotation_is_honoured(tmp_path):
    halves(tmp_path / "plain.png", (40, 40))
    picture = image.open(tmp_path / "plain.png")
    exif = picture.getexif()
    exif[0x0112] = 6  # to be rotated a quarter clockwise
    picture.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    found = load_picture(tmp_path / "turned.jpg", 40)
    np.testing.assert_allclose(found[:, :15].mean(axis=(1, 2)), np.divide(RED, 255), atol=0.05)
    np.testing.assert_allclose(found[:, 25:].mean(axis=(1, 2)), np.divide(BLUE, 255), atol=0.05)


def test_preparation_repeats_what_the_folder_did(pets):
    pictures = xpdl.load_folder(pets, size=(5, 7), channels=1, fit="letterbox")
    for row, file in enumerate(nonempty(pictures.files)):
        np.testing.assert_array_equal(prepared(file, pictures.preparation, "test"), pictures.x[row])


@pytest.mark.parametrize(
    "preparation",
    [
        None,
        {},
        {"size": [4, 4], "channels": 3},
        {"size": 4, "channels": 3, "fit": "crop"},
        {"size": [4, 4], "channels": 5, "fit": "crop"},
        {"size": [-4, 4], "channels": 3, "fit": "crop"},
        {"size": [4, 4], "channels": 3, "fit": "stretch"},
        {"size": [4, 4], "channels": [3], "fit": "crop"},
    ],
)
def test_damaged_preparation_is_an_error(preparation, pets):
    with pytest.raises(ValueError, match=r"preparation|channels|fit"):
        prepared(pets / "cats" / "0.png", preparation, "test")


def test_damaged_pictures_are_errors(tmp_path):
    draw(tmp_path / "one.png", RED, size=(30, 30))
    whole, rng = (tmp_path / "one.png").read_bytes(), random.Random(0)
    for _ in range(200):
        bad = bytearray(whole)
        for _ in range(rng.randint(1, 6)):
            bad[rng.randrange(len(bad))] = rng.randrange(256)
        (tmp_path / "bad.png").write_bytes(bytes(bad[: rng.randint(1, len(bad))]))
        try:
            assert load_picture(tmp_path / "bad.png", 8).shape == (3, 8, 8)
        except ValueError as error:
            assert "is not a readable picture" in str(error)


def test_training_on_ones_own_pictures(pets):
    pictures = xpdl.load_folder(pets, size=8)
    (x, t), test = pictures.split(0.3, seed=0)
    net = xpdl.Sequential(
        xpdl.Convolution(filters=4, size=3), xpdl.Relu(), xpdl.Affine(units=2), loss=xpdl.SoftmaxWithLoss, seed=0
    )
    xpdl.Trainer(net, x, t, *test, epochs=10, optimizer=xpdl.Adam(0.02), seed=0, verbose=False).train()
    assert net.accuracy(*test) == 1.0


@pytest.mark.parametrize(("largest", "header"), [(1.0, b"Pf"), (0.5, b"Pf"), (255.0, b"Pf")])
@pytest.mark.parametrize("order", ["<", ">"])
def test_floating_point_numbers_of_pfm_are_as_light_as_they_are_meant(tmp_path, largest, header, order):
    values = np.zeros((4, 6), np.float32)
    values[:2] = largest
    scale = b"-1.0" if order == "<" else b"1.0"
    # lines from the bottom up
    (tmp_path / "a.pfm").write_bytes(header + b"\n6 4\n" + scale + b"\n" + values[::-1].astype(order + "f4").tobytes())
    picture = load_picture(tmp_path / "a.pfm", size=(4, 6))
    np.testing.assert_allclose(picture, np.broadcast_to(values / max(1.0, largest), (3, 4, 6)), atol=0.01)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_floating_point_numbers_that_are_not_finite_are_refused(tmp_path, value):
    values = np.zeros((4, 6), "<f4")
    values[1, 1] = value
    (tmp_path / "a.pfm").write_bytes(b"Pf\n6 4\n-1.0\n" + values.tobytes())
    with pytest.raises(ValueError, match="not finite"):
        load_picture(tmp_path / "a.pfm")


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("channels", [1, 3])
def test_grey_that_is_named_as_transparent_is_white(tmp_path, bits, channels):
    dtype, half = (np.uint8, 128) if bits == 8 else (np.uint16, 32896)
    values = np.full((4, 6), half, dtype)
    values[:2] = 7
    image.fromarray(values).save(tmp_path / "a.png", transparency=7)
    picture = load_picture(tmp_path / "a.png", size=(4, 6), channels=channels)
    np.testing.assert_allclose(picture[:, :2], 1, atol=0.01)
    np.testing.assert_allclose(picture[:, 2:], 0.5, atol=0.01)
