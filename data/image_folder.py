"""Images of one's own, in a folder with a folder a class. They need the extra `images`."""

import contextlib
import math
import warnings
from pathlib import Path

import numpy as np

from ..engine.extras import need
from .arrays import split
from .files import named

__all__ = ["load_image_folder"]

# Those that Pillow reads by itself; it runs another program for EPS.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
MOST_BYTES = 2**31  # of all images together
GREY = ("1", "L", "LA", "La")  # Pillow's modes of 8 bits or less without a colour
COLOUR = ("P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr")


def load_image_folder(path, size=None, **parts):
    """The Solver's dict from a folder of images, in which each class has a folder with its name.

    path   such as pets/ with pets/cat/1.jpg, pets/cat/2.png, pets/dog/7.jpg; hidden files, and files
           beside the classes' folders, are left alone
    size   (H, W), or one number for both, to which images are scaled; without it all must be alike
    parts  val, test, seed, stratify: as in `split`

    X is uint8 (N, C, H, W): grey, C = 1, if every file is; else in colour, C = 3. What is transparent
    becomes white, and photographs are turned upright. class_names are the folders' names, sorted.
    Raises ValueError, with the file's name, for what is no image of 8 bits a colour in one of FORMATS,
    or has more pixels than Pillow's limit (89 million); OSError if a file cannot be read; ImportError
    without Pillow.
    """
    need("load_image_folder", "PIL", "images")
    size = None if size is None else _checked_size(size)
    files = _files(Path(path))
    shape = (len(files), *_common_shape(files, size))
    if math.prod(shape) > MOST_BYTES:
        raise ValueError(
            f"{path}: the images as {shape} take {math.prod(shape):,} bytes, expected at most "
            f"{MOST_BYTES:,}; scale them, size=(H, W)."
        )
    X = np.empty(shape, np.uint8)
    for n, file in enumerate(files):
        X[n] = _pixels(file, shape[1:])
    return split(X, np.array([file.parent.name for file in files], object), **parts)


def _checked_size(size):
    shape = tuple(size) if np.iterable(size) else (size, size)
    whole = all(isinstance(n, int | np.integer) and not isinstance(n, bool) for n in shape)
    if len(shape) != 2 or not whole or min(shape) < 1:
        raise ValueError(f"load_image_folder: size = {size!r}, expected (H, W), or a whole number.")
    return shape


def _files(folder):
    """The images of all classes, in the order of their names."""
    classes = [p for p in _visible(folder) if p.is_dir()]
    if not classes:
        raise ValueError(f"{folder}: holds no folders, expected one with images for each class.")
    files = []
    for of_class in classes:
        images = _visible(of_class)
        deeper = next((p for p in images if p.is_dir()), None)
        if deeper is not None:
            raise ValueError(
                f"{deeper}: a folder in a class's folder, expected images; if it is a class itself, "
                f"load {of_class}."
            )
        if not images:
            raise ValueError(f"{of_class}: holds no images, expected those of the class.")
        files += images
    return files


def _visible(folder):
    return sorted(p for p in folder.iterdir() if not p.name.startswith("."))


def _common_shape(files, size):
    """(C, H, W) for all images, by their headers."""
    shapes, is_grey = {}, True
    for file in files:
        with _opened(file) as image:
            is_grey = is_grey and image.mode in GREY
            shapes.setdefault(image.size[::-1], file)
    if size is None and len(shapes) > 1:
        (one, a), (other, b) = list(shapes.items())[:2]
        raise ValueError(
            f"{b}: is {other[0]} x {other[1]} pixels, but {a} is {one[0]} x {one[1]}; expected images "
            "alike, or size=(H, W), to which all are scaled."
        )
    return (1 if is_grey else 3, *(size or next(iter(shapes))))


def _pixels(file, shape):
    """An image as bytes (C, H, W)."""
    from PIL import Image

    C, H, W = shape
    mode = "L" if C == 1 else "RGB"
    with _opened(file) as image:
        is_clear = image.has_transparency_data
        image = image.convert("RGBA" if is_clear else mode)
        if image.size != (W, H):
            image = image.resize((W, H))
        if is_clear:
            image = Image.alpha_composite(Image.new("RGBA", (W, H), "white"), image).convert(mode)
        return np.asarray(image).reshape(H, W, C).transpose(2, 0, 1)


@contextlib.contextmanager
def _opened(file):
    """The image, upright; whatever it makes Pillow stumble over becomes an error that names it."""
    from PIL import Image, ImageOps

    with named(file, "not a readable image: "), warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        if not file.is_file():
            raise ValueError("it is no plain file")
        with Image.open(file, formats=FORMATS) as image:
            if image.mode not in GREY + COLOUR:
                raise ValueError(f"its pixels are of the kind {image.mode}, expected 8 bits a colour")
            if image.format != "PNG":  # it would have to be decoded for this
                ImageOps.exif_transpose(image, in_place=True)
            yield image
