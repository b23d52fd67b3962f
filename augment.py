"""Augmentation: functions that change the images of a batch at random.

    X = rotate(X, rng, degrees=10)

X is (N, C, H, W), an array of bytes, float32 or float64; the result is a new array of the same shape
and dtype. Each image gets its own draw from the generator rng. To use a function as the Solver's
`augment`, bind its settings: functools.partial(rotate, degrees=10). `compose` makes one function of
several. Moves by a part of a pixel interpolate bilinearly. Pixels that come in from outside the image
are zero.
"""

import functools

import numpy as np

from .engine.errors import check_range
from .engine.workers import run

__all__ = [
    "compose",
    "crop",
    "distort",
    "elastic",
    "flip",
    "resize",
    "rotate",
    "shift",
    "stretch",
    "views",
]


def compose(*steps):
    """A function of (X, rng) that applies the given functions in order."""
    for step in steps:
        if not callable(step):
            raise TypeError(f"compose: {step!r} came, expected functions of (X, rng).")
    return functools.partial(_composed, steps=steps)


def _composed(X, rng, *, steps):
    for step in steps:
        X = step(X, rng)
    return X


# ---------------------------------------------------------------------------- whole pixels


def flip(X, rng, p=0.5):
    """Mirror each image left to right with probability p."""
    check_range("flip", "p", p, 0, 1)
    out = _images("flip", X, rng).copy()
    chosen = rng.random(len(X)) < p
    out[chosen] = out[chosen, :, :, ::-1]
    return out


def crop(X, rng, pad=4):
    """Put each image into a frame of `pad` zeros and cut out a window of its size at a random place."""
    check_range("crop", "pad", pad, 0, float("inf"))
    N, _, H, W = _images("crop", X, rng).shape
    framed = np.pad(X, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    windows = np.lib.stride_tricks.sliding_window_view(framed, (H, W), axis=(2, 3))
    top, left = rng.integers(2 * pad + 1, size=(2, N))
    return windows[np.arange(N), :, top, left]


def views(pixels=0, mirrored=True):
    """A list of functions X -> X for the Solver's `views`, which adds up the scores of all views.

    The views are the images as they are, and moved by `pixels` up, down, left and right; if `mirrored`,
    also the mirror images of all these.
    """
    check_range("views", "pixels", pixels, 0, float("inf"))
    if not isinstance(pixels, int | np.integer):
        raise ValueError(f"views: pixels = {pixels!r}, expected a whole number.")
    moves = [(0, 0)]
    if pixels:
        moves += [(-pixels, 0), (pixels, 0), (0, -pixels), (0, pixels)]
    return [
        functools.partial(_view, move=move, mirrored=mirror)
        for mirror in ((False, True) if mirrored else (False,))
        for move in moves
    ]


def _view(X, *, move, mirrored):
    """Images, mirrored or not, moved by whole pixels (down, to the right)."""
    _, _, H, W = _images("views", X).shape
    out = np.zeros_like(X)
    (into_rows, rows), (into_columns, columns) = (
        _kept(d, n) for d, n in zip(move, (H, W), strict=True)
    )
    seen = X[:, :, :, ::-1] if mirrored else X
    out[:, :, into_rows, into_columns] = seen[:, :, rows, columns]
    return out


def _kept(move, size):
    """The slices of one axis that a move fills, and that they are filled from."""
    move = max(-size, min(size, move))
    return slice(max(0, move), size + min(0, move)), slice(max(0, -move), size - max(0, move))


# ---------------------------------------------------------------------------- interpolated


def shift(X, rng, pixels=2.0):
    """Move by up to `pixels` along each axis."""
    return distort(X, rng, pixels=pixels)


def rotate(X, rng, degrees=10.0):
    """Turn about the centre by up to `degrees` in either direction."""
    return distort(X, rng, degrees=degrees)


def resize(X, rng, low=0.8, high=1.2):
    """Scale about the centre by a factor from low to high, the same along both axes."""
    return distort(X, rng, resize=(low, high))


def stretch(X, rng, low=0.8, high=1.2):
    """Scale about the centre by a factor from low to high, drawn for each axis."""
    return distort(X, rng, stretch=(low, high))


def elastic(X, rng, strength=34.0, smoothness=4.0):
    """Bend by a smooth random field (Simard, Steinkraus & Platt 2003); see `distort`.

    The defaults are those of the paper for digits of 28x28: pixels move by about 1.7 along each axis.
    """
    return distort(X, rng, strength=strength, smoothness=smoothness)


def distort(
    X,
    rng,
    *,
    pixels=0.0,
    degrees=0.0,
    resize=(1.0, 1.0),
    stretch=(1.0, 1.0),
    strength=0.0,
    smoothness=4.0,
):
    """Scale, turn, bend and move each image, with a single interpolation.

    pixels, degrees, resize, stretch: as in the functions above.  strength: the bending field, in
    pixels. Each pixel's displacement along each axis is uniform in +-1, blurred by a Gaussian with
    deviation `smoothness` pixels, and multiplied by `strength`.
    """
    from scipy import ndimage  # imported when needed: it takes time

    N, C, H, W = _images("distort", X, rng).shape
    for name, pair in (("resize", resize), ("stretch", stretch)):
        check_range("distort", name, pair[0], 0, pair[1], open_low=True)
    angle = np.deg2rad(rng.uniform(-degrees, degrees, N))
    factors = rng.uniform(*resize, (N, 1)) * rng.uniform(*stretch, (N, 2))
    moves = rng.uniform(-pixels, pixels, (N, 2))
    fields = np.zeros((N, 2, 1, 1))
    if strength:
        rough = rng.uniform(-1, 1, (N, 2, H, W))
        fields = strength * ndimage.gaussian_filter(rough, (0, 0, smoothness, smoothness))
    center = np.array([(H - 1) / 2, (W - 1) / 2])[:, None, None]
    grid = np.indices((H, W)) - center
    out = np.empty_like(X)

    def one(n):
        c, s = np.cos(angle[n]), np.sin(angle[n])
        back = np.array([[c, s], [-s, c]]) / factors[n][:, None]  # from a pixel of out to X
        source = np.tensordot(back, grid - moves[n][:, None, None], axes=1) + center + fields[n]
        for channel in range(C):
            ndimage.map_coordinates(X[n, channel], source, out[n, channel], order=1)

    run(one, range(N))
    return out


def _images(who, X, rng=None):
    if isinstance(rng, int | np.integer):  # a seed
        raise TypeError(f"{who}: rng = {rng!r}, expected a generator: np.random.default_rng(0).")
    if X.ndim != 4:
        raise ValueError(f"{who}: X has shape {X.shape}, expected images (N, C, H, W).")
    return X
