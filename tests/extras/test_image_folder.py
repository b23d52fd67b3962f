"""A folder of images with a folder a class: what becomes of each kind, and what is refused by name."""

import io
import os
import struct
import sys
import zlib

import numpy as np
import pytest

pytest.importorskip("PIL")

from handgrad.data_utils import load_image_folder
from PIL import Image

WHOLE = dict(val=0, test=0)


def write(path, pixels, **options):
    """Pixels (H, W), or (H, W, 3 or 4), as an image file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path, **options)


def random_image(seed, *shape):
    return np.random.default_rng(seed).integers(256, size=shape, dtype=np.uint8)


def test_a_folder_a_class(tmp_path):
    images = {f"{name}/{k}.png": random_image(k, 4, 6, 3) for name in ("dog", "cat") for k in range(10)}
    for name, pixels in images.items():
        write(tmp_path / name, pixels)
    (tmp_path / ".git").mkdir()
    (tmp_path / "cat" / ".DS_Store").write_bytes(b"\0")
    (tmp_path / "README.txt").write_text("pets")
    data = load_image_folder(tmp_path, val=4, test=2, seed=3)
    assert data["class_names"] == ("cat", "dog")
    assert [data[f"X_{p}"].shape for p in ("train", "val", "test")] == [
        (n, 3, 4, 6) for n in (14, 4, 2)
    ]
    assert data["X_train"].dtype == np.uint8
    assert [np.bincount(data[f"y_{p}"]).tolist() for p in ("train", "val", "test")] == [
        [7, 7],
        [2, 2],
        [1, 1],
    ]
    assert abs(data["transform"](data["X_train"]).mean()) < 1e-6
    whole = load_image_folder(tmp_path, **WHOLE)
    for n, (name, k) in enumerate((name, k) for name in ("cat", "dog") for k in range(10)):
        np.testing.assert_array_equal(whole["X_train"][n], images[f"{name}/{k}.png"].transpose(2, 0, 1))
        assert whole["y_train"][n] == (name == "dog")


def test_grey_if_all_are_grey_else_colour(tmp_path):
    grey, colour = random_image(0, 3, 5), random_image(1, 3, 5, 3)
    write(tmp_path / "a" / "1.png", grey)
    write(tmp_path / "b" / "1.bmp", grey)
    data = load_image_folder(tmp_path, **WHOLE)
    assert data["X_train"].shape == (2, 1, 3, 5)
    np.testing.assert_array_equal(data["X_train"][1, 0], grey)
    write(tmp_path / "b" / "2.png", colour)
    data = load_image_folder(tmp_path, **WHOLE)
    assert data["X_train"].shape == (3, 3, 3, 5)
    np.testing.assert_array_equal(data["X_train"][0], [grey] * 3)
    np.testing.assert_array_equal(data["X_train"][2], colour.transpose(2, 0, 1))
    write(tmp_path / "b" / "3.png", grey)
    assert load_image_folder(tmp_path, **WHOLE)["X_train"].shape == (4, 3, 3, 5)


def test_what_is_transparent_becomes_white(tmp_path):
    """By hand: opaque stays, clear is 255, half of 100 over white is 100 * 128 / 255 + 127 = 177."""
    pixels = [[[10, 20, 30, 255], [0, 0, 0, 0], [100, 100, 100, 128]]]
    write(tmp_path / "a" / "1.png", pixels)
    X = load_image_folder(tmp_path, **WHOLE)["X_train"]
    np.testing.assert_array_equal(X[0], [[[10, 255, 177]], [[20, 255, 177]], [[30, 255, 177]]])
    (tmp_path / "a" / "1.png").unlink()
    (tmp_path / "g").mkdir()
    Image.fromarray(np.array([[[7, 255], [7, 0]]], np.uint8), "LA").save(tmp_path / "g" / "1.png")
    (tmp_path / "a").rmdir()
    np.testing.assert_array_equal(load_image_folder(tmp_path, **WHOLE)["X_train"], [[[[7, 255]]]])


def test_other_kinds_of_pixels(tmp_path):
    """A palette, black and white, and the inks of a printer: each as the colours it stands for."""
    (tmp_path / "a").mkdir()
    checks = Image.fromarray(np.array([[255, 0], [0, 255]], np.uint8))
    checks.convert("1").save(tmp_path / "a" / "1.png")
    checks.convert("P").save(tmp_path / "a" / "2.gif")
    checks.convert("CMYK").save(tmp_path / "a" / "3.tiff")
    X = load_image_folder(tmp_path, **WHOLE)["X_train"]
    np.testing.assert_array_equal(X, np.broadcast_to([[255, 0], [0, 255]], (3, 3, 2, 2)))


def test_photographs_are_turned_upright(tmp_path):
    pixels = random_image(0, 2, 3)
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn to the right makes it upright
    write(tmp_path / "a" / "1.webp", pixels, exif=exif, lossless=True)
    X = load_image_folder(tmp_path, **WHOLE)["X_train"]
    np.testing.assert_array_equal(X[0, 0], np.rot90(pixels, -1))


def test_sizes_must_be_alike_or_given(tmp_path):
    write(tmp_path / "a" / "1.png", np.full((4, 6), 7))
    write(tmp_path / "a" / "2.png", np.full((8, 2, 3), 9))
    expected = r"2.png: is 8 x 2 pixels, but .*1.png is 4 x 6; expected images alike, or size=\(H, W\)"
    with pytest.raises(ValueError, match=expected):
        load_image_folder(tmp_path, **WHOLE)
    for size, shape in (((5, 3), (5, 3)), (4, (4, 4)), (np.int64(2), (2, 2))):
        X = load_image_folder(tmp_path, size, **WHOLE)["X_train"]
        assert X.shape == (2, 3, *shape)
        assert np.unique(X[0]) == 7
        assert np.unique(X[1]) == 9


def test_scaling_keeps_what_is_where(tmp_path):
    """White above black, left of grey: in a wider and lower image the same."""
    pixels = np.zeros((40, 20), np.uint8)
    pixels[:20], pixels[:, 10:] = 255, 100
    write(tmp_path / "a" / "1.png", pixels)
    X = load_image_folder(tmp_path, (8, 32), **WHOLE)["X_train"][0, 0]
    assert X.shape == (8, 32)
    corners = X[:2, :8], X[-2:, :8], X[:, -8:]
    assert [np.unique(corner).tolist() for corner in corners] == [[255], [0], [100]]


@pytest.mark.parametrize("size", [0, -1, 2.5, (4,), (4, 4, 3), "small", (4, True), True])
def test_a_size_that_is_none(tmp_path, size):
    with pytest.raises(
        ValueError, match=r"load_image_folder: size = .*, expected \(H, W\), or a whole"
    ):
        load_image_folder(tmp_path, size)


def test_folders_of_another_kind(tmp_path):
    with pytest.raises(ValueError, match="holds no folders, expected one with images for each class"):
        load_image_folder(tmp_path)
    (tmp_path / "train").mkdir()
    with pytest.raises(ValueError, match="train: holds no images, expected those of the class"):
        load_image_folder(tmp_path)
    write(tmp_path / "train" / "cat" / "1.png", np.zeros((2, 2)))
    with pytest.raises(ValueError, match="cat: a folder in a class's folder, .* load .*train"):
        load_image_folder(tmp_path)
    with pytest.raises(FileNotFoundError, match="absent"):
        load_image_folder(tmp_path / "absent")
    with pytest.raises(NotADirectoryError, match=r"1\.png"):
        load_image_folder(tmp_path / "train" / "cat" / "1.png")
    write(tmp_path / "train" / "dog" / "1.png", np.zeros((2, 2)))
    with pytest.raises(ValueError, match="class 'cat' has 1 example"):
        load_image_folder(tmp_path / "train", val=0, test=1)


def png(width, height, body=b"", depth=8, colour=2):
    """A PNG file that claims a size."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(body)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(raw)) + kind + raw + struct.pack(">I", zlib.crc32(kind + raw))
        for kind, raw in chunks
    )


def saved(form, **options):
    raw = io.BytesIO()
    Image.fromarray(random_image(0, 20, 20, 3)).save(raw, form, **options)
    return raw.getvalue()


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(x) run\n%%EOF\n"
BAD_IMAGES = {
    "nothing": (b"", "cannot identify"),
    "text": (b"hello", "cannot identify"),
    "a PNG of 90 million pixels": (png(10_000, 9_000), "decompression bomb"),
    "a PNG of 4 billion pixels": (png(65_535, 65_535), "decompression bomb"),
    "a GIF of 4 billion pixels": (b"GIF89a" + b"\xff" * 4 + bytes(30), "."),
    "a PNG without pixels": (png(20, 20), "."),
    "a PNG of no size": (png(0, 0), "."),
    "a PNG that is cut": (saved("PNG")[:-200], "."),
    "a PNG with a wrong sum": (saved("PNG")[:60] + b"\0" + saved("PNG")[61:], "."),
    "a JPEG that is cut": (saved("JPEG")[:-50], "."),
    "a WEBP that is cut": (saved("WEBP", lossless=True)[:-50], "."),
    "a TIFF that is cut": (saved("TIFF")[:-90], "."),
    "a PNG of 16 bits": (png(2, 2, bytes(10), depth=16, colour=0), "of the kind I;16, expected 8 bits"),
    "a program for a printer": (EPS, "cannot identify"),
}


@pytest.mark.filterwarnings("ignore")  # what Pillow only warns of is refused, too
@pytest.mark.parametrize(("raw", "reason"), BAD_IMAGES.values(), ids=BAD_IMAGES)
@pytest.mark.parametrize("size", [None, 8])
def test_what_is_no_image_is_named(tmp_path, raw, reason, size):
    write(tmp_path / "a" / "1.png", random_image(0, 20, 20, 3))
    (tmp_path / "a" / "2.png").write_bytes(raw)
    with pytest.raises(ValueError, match=rf"(?s)2\.png: not a readable image: .*{reason}"):
        load_image_folder(tmp_path, size, **WHOLE)


def test_files_that_are_none(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.png").symlink_to(tmp_path / "a" / "1.png")
    with pytest.raises((ValueError, OSError), match=r"1\.png"):
        load_image_folder(tmp_path)
    (tmp_path / "a" / "1.png").unlink()
    os.mkfifo(tmp_path / "a" / "2.png")
    with pytest.raises(ValueError, match=r"2\.png: .*it is no plain file"):
        load_image_folder(tmp_path)


def test_more_images_than_memory(tmp_path):
    (tmp_path / "a").mkdir()
    for k in range(30):
        (tmp_path / "a" / f"{k}.png").write_bytes(png(5000, 5000))
    with pytest.raises(
        ValueError, match=r"the images as \(30, 3, 5000, 5000\) take 2,250,000,000 bytes"
    ):
        load_image_folder(tmp_path)


def test_without_pillow_it_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(
        ImportError, match=r"load_image_folder needs PIL.*pip install 'handgrad\[images\]'"
    ):
        load_image_folder(tmp_path)
