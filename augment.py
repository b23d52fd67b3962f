"""Augmentation of batches of images: each function draws from a generator and gives a new batch.

    X = rotate(X, rng, degrees=10)

X is (N, C, H, W) of any dtype, which is kept; every image gets a draw of its own. With its settings
bound, functools.partial(rotate, degrees=10), a function is an `augment` for the Solver; `compose`
makes one of several. What moves pixels by less than a whole one interpolates bilinearly, and what
comes in from outside is zero.
"""

import functools

import numpy as np

from .engine.errors import check_range
from .engine.workers import run


def compose(*steps):
    """One function of (X, rng) that applies the given ones in order."""
    return functools.partial(_composed, steps=steps)


def _composed(X, rng, *, steps):
    for step in steps:
        X = step(X, rng)
    return X


# ---------------------------------------------------------------------------- whole pixels


def flip(X, rng, p=0.5):
    """Mirror images left to right, each with probability p."""
    check_range("flip", "p", p, 0, 1)
    out = _images("flip", X).copy()
    chosen = rng.random(len(X)) < p
    out[chosen] = out[chosen, :, :, ::-1]
    return out


def crop(X, rng, pad=4):
    """A window of the image's own size, at a random place of the image in a frame of `pad` zeros."""
    check_range("crop", "pad", pad, 0, float("inf"))
    N, _, H, W = _images("crop", X).shape
    framed = np.pad(X, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    windows = np.lib.stride_tricks.sliding_window_view(framed, (H, W), axis=(2, 3))
    top, left = rng.integers(2 * pad + 1, size=(2, N))
    return windows[np.arange(N), :, top, left]


def views(pixels=0, mirrored=True):
    """Functions that each show images another way, for the Solver's `views`: as they are, moved by
    `pixels` up, down, left and right, and all of these as mirror images, if `mirrored`.
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
    """Images moved by whole pixels down and to the right; zeros come in. Mirrored first."""
    _, _, H, W = _images("views", X).shape
    out = np.zeros_like(X)
    (into_rows, rows), (into_columns, columns) = (
        _kept(d, n) for d, n in zip(move, (H, W), strict=True)
    )
    seen = X[:, :, :, ::-1] if mirrored else X
    out[:, :, into_rows, into_columns] = seen[:, :, rows, columns]
    return out


def _kept(move, size):
    """Where what stays in sight goes to, and where it was."""
    return slice(max(0, move), size + min(0, move)), slice(max(0, -move), size - max(0, move))


# ---------------------------------------------------------------------------- interpolated


def shift(X, rng, pixels=2.0):
    """Move by up to `pixels` along each axis."""
    return distort(X, rng, pixels=pixels)


def rotate(X, rng, degrees=10.0):
    """Turn about the centre by up to `degrees` either way."""
    return distort(X, rng, degrees=degrees)


def resize(X, rng, low=0.8, high=1.2):
    """Scale about the centre by a factor from low to high, the same along both axes."""
    return distort(X, rng, resize=(low, high))


def stretch(X, rng, low=0.8, high=1.2):
    """Scale about the centre by a factor from low to high for each axis."""
    return distort(X, rng, stretch=(low, high))


def elastic(X, rng, strength=34.0, smoothness=4.0):
    """Bend by a smooth random field (Simard, Steinkraus & Platt 2003); see `distort`.

    The defaults are theirs for digits of 28x28: pixels move by 1.7 or so along each axis.
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
    """All of the above with one interpolation: scaled, turned, bent and moved.

    strength: the factor of the bending field in pixels, before which each pixel's displacement is
    uniform in +-1 along each axis and blurred by a Gaussian of deviation `smoothness` pixels.
    """
    from scipy import ndimage  # when first needed: it costs time at import

    N, C, H, W = _images("distort", X).shape
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
        back = np.array([[c, s], [-s, c]]) / factors[n][:, None]  # from a place in out to one in X
        source = np.tensordot(back, grid - moves[n][:, None, None], axes=1) + center + fields[n]
        for channel in range(C):
            ndimage.map_coordinates(X[n, channel], source, out[n, channel], order=1)

    run(one, range(N))
    return out


def _images(who, X):
    if X.ndim != 4:
        raise ValueError(f"{who}: X has shape {X.shape}, expected images (N, C, H, W).")
    return X
