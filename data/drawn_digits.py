"""Digits that the program draws: a data set of images that needs no download."""

import functools
from pathlib import Path

import numpy as np

from ..engine.errors import check_count
from ..engine.randomness import generator
from .transforms import standardizer

__all__ = ["FONTS", "load_digits"]

DIGITS = tuple("0123456789")  # the classes' names
MOST_IMAGES = 100_000  # of digits that are drawn one by one
FONTS = (
    *("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSans-BoldOblique"),
    *("DejaVuSansMono", "DejaVuSansMono-Bold", "DejaVuSansMono-Oblique"),
    *("DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic", "DejaVuSerif-BoldItalic"),
    *("STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "STIXGeneralBolIta"),
    *("cmr10", "cmb10", "cmss10", "cmtt10"),
)


def load_digits(num_training=6000, num_validation=1000, num_test=1000, seed=0):
    """Synthetic digits (N, 1, 28, 28) in 10 classes, which the program draws.

    Each image is a digit in one of matplotlib's fonts. It is turned by up to 15 degrees, sheared,
    stretched to 80 .. 110 %, moved by up to 2 pixels, bent (elastic distortion, Simard et al. 2003),
    blurred and covered with noise. Training, validation and test images share the fonts and differ
    in the distortions. The task is easier than handwriting: it shows that a net learns, and no more.
    At most 100,000 images are drawn in all, about a thousand a second.

    num_training, num_validation, num_test: how many of each.  seed: the same one draws the same images.
    Returns the Solver's dict: X_train, y_train, X_val, y_val, X_test, y_test, `transform`, which
    standardizes, and `class_names`. Raises ValueError for more images than that.
    """
    sizes = {"num_training": num_training, "num_validation": num_validation, "num_test": num_test}
    for name, size in sizes.items():
        check_count(name, size, low=0, who="load_digits")
    total = sum(sizes.values())
    if total > MOST_IMAGES:
        raise ValueError(
            f"load_digits: {total:,} images, expected at most {MOST_IMAGES:,}; for more variety "
            "give the Solver augment=handgrad.augment.rotate, or another of its functions."
        )
    glyphs = _glyphs()  # (fonts, 10, 40, 40)
    rng = generator(seed, "data")
    y = rng.permutation(np.arange(total) % 10)
    fonts = rng.integers(len(glyphs), size=total)
    X = np.stack([_distorted(glyphs[f, d], rng) for f, d in zip(fonts, y, strict=True)])[:, None]
    bounds = np.cumsum([num_training, num_validation])
    data = {}
    for part, images, labels in zip(
        ("train", "val", "test"), np.split(X, bounds), np.split(y, bounds), strict=True
    ):
        data[f"X_{part}"], data[f"y_{part}"] = images, labels
    return data | {"transform": standardizer(data["X_train"]), "class_names": DIGITS}


@functools.cache
def _glyphs(side=40):
    """Every digit in every font, white on black, floats from 0 to 1: (fonts, 10, side, side)."""
    import matplotlib  # heavy: imported when digits are drawn
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontProperties

    figure = Figure(figsize=(1, 1), dpi=side)
    canvas = FigureCanvasAgg(figure)
    text = figure.text(0.5, 0.5, "", ha="center", va="center")
    glyphs = np.empty((len(FONTS), 10, side, side))
    for f, font in enumerate(FONTS):
        path = Path(matplotlib.get_data_path(), "fonts", "ttf", f"{font}.ttf")
        text.set_fontproperties(FontProperties(fname=path, size=65))
        for digit in range(10):
            text.set_text(str(digit))
            canvas.draw()
            glyphs[f, digit] = 1 - np.asarray(canvas.buffer_rgba())[..., 0] / 255
    return glyphs


def _distorted(glyph, rng, side=28):
    """One image (side, side) of bytes: the glyph turned, sheared, stretched, moved, bent, noisy."""
    from scipy import ndimage

    angle, shear = np.deg2rad(rng.uniform(-15, 15)), rng.uniform(-0.2, 0.2)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    scale = len(glyph) / side / rng.uniform(0.8, 1.1, (2, 1))
    matrix = turn @ np.array([[1, 0], [shear, 1]]) * scale
    bend = ndimage.gaussian_filter(rng.uniform(-1, 1, (2, side, side)), (0, 4, 4)) * 16
    grid = np.indices((side, side)) - (side - 1) / 2 - rng.uniform(-2, 2, (2, 1, 1)) + bend
    source = np.tensordot(matrix, grid, axes=1) + (len(glyph) - 1) / 2  # where each pixel comes from
    image = ndimage.map_coordinates(glyph, source, order=1)
    image = ndimage.gaussian_filter(image, rng.uniform(0.3, 0.9))
    noisy = 255 * rng.uniform(0.6, 1) * image + rng.normal(0, 12, image.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)
