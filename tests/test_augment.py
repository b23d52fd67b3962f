"""Each augmentation does what it says where that can be counted, and nothing else."""

import functools
import inspect

import numpy as np
import pytest
from handgrad import augment
from handgrad.augment import (
    compose,
    crop,
    distort,
    elastic,
    flip,
    resize,
    rotate,
    shift,
    stretch,
    views,
)
from handgrad.engine.workers import workers

FUNCTIONS = [
    flip,
    crop,
    shift,
    rotate,
    resize,
    stretch,
    elastic,
    functools.partial(distort, pixels=1, degrees=9),
]


def batch(N=6, C=2, H=12, W=10, dtype=np.uint8):
    return np.random.default_rng(0).integers(1, 256, size=(N, C, H, W)).astype(dtype)


def test_every_function_is_tested():
    own = {f for name, f in inspect.getmembers(augment, inspect.isfunction) if not name.startswith("_")}
    own = {f for f in own if f.__module__ == augment.__name__}
    assert own == {getattr(f, "func", f) for f in FUNCTIONS} | {compose, views}


@pytest.mark.parametrize("function", FUNCTIONS)
class TestEach:
    @pytest.mark.parametrize("dtype", [np.uint8, np.float32])
    def test_shape_dtype_and_purity(self, function, dtype):
        X = batch(dtype=dtype)
        before = X.copy()
        X.flags.writeable = False
        out = function(X, np.random.default_rng(0))
        assert (out.shape, out.dtype) == (X.shape, X.dtype)
        assert not np.shares_memory(out, X)
        np.testing.assert_array_equal(X, before)
        assert np.any(out != X)

    def test_a_generator_repeats_and_images_differ(self, function):
        X = np.repeat(batch(1), 8, axis=0)
        draw = lambda seed: function(X, np.random.default_rng(seed))  # noqa: E731
        np.testing.assert_array_equal(draw(1), draw(1))
        assert len(np.unique(draw(1).reshape(8, -1), axis=0)) > 1

    def test_threads_change_nothing(self, function):
        X = batch(9)
        expected = function(X, np.random.default_rng(3))
        with workers(3):
            np.testing.assert_array_equal(function(X, np.random.default_rng(3)), expected)

    def test_empty_batch_and_wrong_shape(self, function):
        assert function(batch(0), np.random.default_rng(0)).shape == (0, 2, 12, 10)
        with pytest.raises(ValueError, match="expected images"):
            function(np.zeros((3, 4)), np.random.default_rng(0))


def test_flip_mirrors_some_and_only_mirrors():
    X = batch(200)
    out = flip(X, np.random.default_rng(0))
    mirrored = np.array([np.array_equal(a, b[..., ::-1]) for a, b in zip(out, X, strict=True)])
    same = np.array([np.array_equal(a, b) for a, b in zip(out, X, strict=True)])
    assert np.all(mirrored ^ same)
    assert 70 < mirrored.sum() < 130
    np.testing.assert_array_equal(flip(X, np.random.default_rng(0), p=1), X[..., ::-1])
    np.testing.assert_array_equal(flip(X, np.random.default_rng(0), p=0), X)


def test_crop_is_a_window_of_the_framed_image():
    X = batch(40)
    out = crop(X, np.random.default_rng(0), pad=2)
    framed = np.pad(X, ((0, 0), (0, 0), (2, 2), (2, 2)))
    for image, frame in zip(out, framed, strict=True):
        places = [
            (i, j)
            for i in range(5)
            for j in range(5)
            if np.array_equal(frame[:, i : i + 12, j : j + 10], image)
        ]
        assert places
    assert np.array_equal(crop(X, np.random.default_rng(0), pad=0), X)


def test_nothing_asked_nothing_done():
    X = batch(dtype=np.float64)
    np.testing.assert_allclose(distort(X, np.random.default_rng(0)), X, rtol=1e-12)


class Always:
    """A generator whose uniform draws are all at the upper end."""

    def uniform(self, low, high, size):
        return np.full(size, float(high))


def test_a_shift_by_whole_pixels_is_exact():
    X = batch(dtype=np.float64)
    out = shift(X, Always(), pixels=2)
    np.testing.assert_allclose(out[:, :, 2:, 2:], X[:, :, :-2, :-2])
    assert np.all(out[:, :, :2] == 0)
    assert np.all(out[:, :, :, :2] == 0)


def test_a_quarter_turn_is_exact():
    X = batch(H=9, W=9, dtype=np.float64)
    out = rotate(X, Always(), degrees=90)
    turned = np.rot90(X, axes=(2, 3))
    np.testing.assert_allclose(out[..., 1:-1, 1:-1], turned[..., 1:-1, 1:-1], atol=1e-9)


def test_resize_and_stretch_about_the_centre():
    X = np.zeros((1, 1, 17, 17))
    X[0, 0, 8, :] = X[0, 0, :, 8] = X[0, 0, 4, 4] = 1.0
    out = resize(X, Always(), low=0.5, high=0.5)
    np.testing.assert_allclose(out[0, 0, 8, 5:12], 1)
    assert out[0, 0, 6, 6] == pytest.approx(1)
    assert out[0, 0, 2].sum() == pytest.approx(0)
    assert resize(X, Always(), low=2, high=2)[0, 0, 0, 0] == pytest.approx(1)


def test_bilinear_by_hand():
    X = np.zeros((1, 1, 3, 3))
    X[0, 0, 1, 1] = 1
    out = shift(X, Always(), pixels=0.25)
    expected = np.outer([0, 0.75, 0.25], [0, 0.75, 0.25])
    np.testing.assert_allclose(out[0, 0], expected, atol=1e-12)


def test_elastic_bends_smoothly():
    X = np.tile(np.arange(28.0), (1, 1, 28, 1))
    out = elastic(X, np.random.default_rng(0), strength=8)
    moved = (out - X)[0, 0, 4:-4, 4:-4]
    assert 0.05 < np.abs(moved).max() < 8
    assert np.abs(np.diff(moved, axis=0)).max() < 0.5


def test_compose_goes_in_order():
    X = batch(dtype=np.float64)
    both = compose(functools.partial(flip, p=1), functools.partial(crop, pad=0))
    np.testing.assert_array_equal(both(X, np.random.default_rng(0)), X[..., ::-1])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda X, rng: flip(X, rng, p=1.5), "p = 1.5"),
        (lambda X, rng: crop(X, rng, pad=-1), "pad = -1"),
        (lambda X, rng: resize(X, rng, low=0), "resize = 0"),
        (lambda X, rng: stretch(X, rng, low=1.5, high=1), "stretch = 1.5"),
    ],
)
def test_wrong_settings(call, message):
    with pytest.raises(ValueError, match=message):
        call(batch(), np.random.default_rng(0))


def test_views_are_the_image_its_shifts_and_their_mirror_images():
    X = batch()
    assert len(views()) == 2
    assert len(views(mirrored=False)) == 1
    np.testing.assert_array_equal(views()[0](X), X)
    np.testing.assert_array_equal(views()[1](X), X[..., ::-1])
    _, up, down, left, right, mirrored, *_ = (view(X) for view in views(pixels=2))
    assert len(views(pixels=2)) == 10
    np.testing.assert_array_equal(up[:, :, :-2], X[:, :, 2:])
    np.testing.assert_array_equal(down[:, :, 2:], X[:, :, :-2])
    np.testing.assert_array_equal(left[..., :-2], X[..., 2:])
    np.testing.assert_array_equal(right[..., 2:], X[..., :-2])
    np.testing.assert_array_equal(mirrored, X[..., ::-1])
    for moved, frame in ((up, np.s_[:, :, -2:]), (down, np.s_[:, :, :2])):
        assert not moved[frame].any()
    for moved, frame in ((left, np.s_[..., -2:]), (right, np.s_[..., :2])):
        assert not moved[frame].any()
    for pixels in (12, 13, 18, 40):  # moved out of sight; X is 12 x 10
        for moved in views(pixels)[1:5]:
            assert not moved(X).any()


def test_views_refuse_what_they_can_not_show():
    with pytest.raises(ValueError, match="views: pixels = -1"):
        views(pixels=-1)
    with pytest.raises(ValueError, match="views: pixels = 1.5, expected a whole number"):
        views(pixels=1.5)
    with pytest.raises(ValueError, match=r"views: X has shape \(6, 12\)"):
        views()[0](np.zeros((6, 12)))
