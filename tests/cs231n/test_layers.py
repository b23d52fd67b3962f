"""Caches as the course lays them out, and windows as columns."""

import numpy as np
import pytest
from handgrad.cs231n import layers, pictures, windows


def arrays(*shapes):
    rng = np.random.default_rng(4)
    return [rng.standard_normal(shape) for shape in shapes]


def each(grads):
    return grads if isinstance(grads, tuple) else (grads,)


CONV_PARAM = {"stride": 2, "pad": 1}
POOL_PARAM = {"pool_height": 2, "pool_width": 3, "stride": 2}
ROWS = {
    "affine": (layers.PAIRS["affine"], arrays((3, 2, 2), (4, 5), (5,))),
    "conv": (layers.PAIRS["conv"], [*arrays((2, 3, 5, 7), (4, 3, 3, 3), (4,)), CONV_PARAM]),
    "conv_naive": (layers.NAIVE["conv"], [*arrays((2, 3, 5, 7), (4, 3, 3, 3), (4,)), CONV_PARAM]),
    "max_pool": (layers.PAIRS["max_pool"], [*arrays((2, 3, 6, 7)), POOL_PARAM]),
    "max_pool_naive": (layers.NAIVE["max_pool"], [*arrays((2, 3, 6, 7)), POOL_PARAM]),
}


@pytest.mark.parametrize("name", ROWS)
def test_a_cache_is_the_tuple_of_forwards_arguments(name):
    (forward, backward), args = ROWS[name]
    out, cache = forward(*args)
    assert isinstance(cache, tuple)
    assert [id(part) for part in cache] == [id(arg) for arg in args]
    (dout,) = arrays(out.shape)
    from_own, from_plain = backward(dout, cache), backward(dout, tuple(args))
    for one, other in zip(each(from_own), each(from_plain), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("kind", ["conv", "max_pool"])
def test_fast_and_naive_take_each_others_cache(kind):
    _, args = ROWS[kind]
    out, slow_cache = layers.NAIVE[kind][0](*args)
    _, fast_cache = layers.PAIRS[kind][0](*args)
    (dout,) = arrays(out.shape)
    expected = layers.NAIVE[kind][1](dout, slow_cache)
    for backward, cache in ((layers.NAIVE[kind][1], fast_cache), (layers.PAIRS[kind][1], slow_cache)):
        for one, other in zip(each(backward(dout, cache)), each(expected), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-12)


def test_keywords_and_lists_are_taken():
    forward, backward = layers.PAIRS["affine"]
    out, cache = forward(b=[1.0], w=[[2.0], [3.0]], x=[[1.0, 1.0]])
    assert (out.tolist(), [g.tolist() for g in backward(np.ones((1, 1)), cache)]) == (
        [[6.0]], [[[2.0, 3.0]], [[1.0], [1.0]], [1.0]],
    )  # fmt: skip


def test_relus_cache_is_x():
    """One that a student's `x >= 0` needs: out is nowhere below 0."""
    x = np.array([-1.0, 0.0, 2.0])
    forward, backward = layers.PAIRS["relu"]
    assert backward(np.ones(2), forward([-1, 1])[1]).tolist() == [0, 1]
    out, cache = forward(x)
    assert out.tolist() == [0, 0, 2]
    assert cache is x
    assert backward(np.ones(3), cache).tolist() == [0, 0, 1]


@pytest.mark.parametrize("p_keeps", [False, True])
@pytest.mark.parametrize("mode", ["train", "test"])
def test_dropouts_cache(p_keeps, mode):
    forward, backward = layers.DROPOUT[p_keeps]
    param = {"mode": mode, "p": 0.25, "seed": 1}
    out, cache = forward(np.ones((50, 40)), param)
    given, mask = cache
    assert given is param
    dout = np.full((50, 40), 3.0)
    np.testing.assert_array_equal(backward(dout, cache), 3 * out)
    np.testing.assert_array_equal(backward(dout, (param, mask)), 3 * out)  # a student's forward
    if mode == "test":
        np.testing.assert_array_equal(backward(dout, (param, np.zeros_like(dout))), dout)
    zeros = 0 if mode == "test" else 0.75 if p_keeps else 0.25
    assert (out == 0).mean() == pytest.approx(zeros, abs=0.03)
    assert param == {"mode": mode, "p": 0.25, "seed": 1}


def test_dropout_that_keeps_nothing():
    with pytest.raises(ValueError, match="p = 0, expected a number in \\(0, 1\\].*keeping"):
        layers.DROPOUT[True][0](np.ones(3), {"mode": "train", "p": 0})
    with pytest.raises(ValueError, match="p = None"):
        layers.DROPOUT[True][0](np.ones(3), {"mode": "train"})


CACHES = {name: pair[0](*args)[1] for name, (pair, args) in ROWS.items()} | {
    "relu": layers.PAIRS["relu"][0](np.ones(3))[1],
    "dropout": layers.DROPOUT[True][0](np.ones(3), {"mode": "train", "p": 0.5})[1],
    "two": (np.ones(3), np.ones(3)),
}
BACKWARDS = {name: pair[1] for name, pair in layers.PAIRS.items()} | {
    "dropout": layers.DROPOUT[True][1]
}


@pytest.mark.parametrize(
    ("backward", "cache", "said"),
    [
        ("affine", "relu", "with a ndarray came, expected that of affine_forward, x, w, b"),
        ("affine", "conv", "of conv_forward came, expected that of affine_forward, x, w, b"),
        ("affine", "two", "with 2 parts came, expected that of affine_forward, x, w, b"),
        ("relu", "affine", "of affine_forward came, expected that of relu_forward, x"),
        ("relu", "two", "with 2 parts came, expected that of relu_forward, x"),
        (
            "conv",
            "max_pool_naive",
            "of max_pool_forward_naive came, expected that of conv_forward, x, w",
        ),
        (
            "max_pool",
            "dropout",
            "of dropout_forward came, expected that of max_pool_forward, x, pool_p",
        ),
        (
            "dropout",
            "max_pool",
            "of max_pool_forward came, expected that of dropout_forward, dropout_p",
        ),
        (
            "dropout",
            "relu",
            "with a ndarray came, expected that of dropout_forward, dropout_param, mask",
        ),
    ],
)
def test_a_cache_of_another_layer(backward, cache, said):
    with pytest.raises(ValueError, match=f"^{backward}_backward: the cache {said}.*\\.$"):
        BACKWARDS[backward](np.ones(3), CACHES[cache])


# ---------------------------------------------------------------------------- windows, pictures


@pytest.mark.parametrize(
    ("shape", "size", "padding", "stride"), [((2, 3, 5, 6), (3, 2), 1, 1), ((1, 2, 6, 7), (2, 3), 0, 2)]
)
def test_windows_as_columns(shape, size, padding, stride):
    """By loops over what a column is, and the adjoint by its definition, <cols, c> = <x, x(c)>."""
    (x,) = arrays(shape)
    cols = windows.im2col_indices(x, *size, padding=padding, stride=stride)
    framed = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    OH = (shape[2] + 2 * padding - size[0]) // stride + 1
    OW = (shape[3] + 2 * padding - size[1]) // stride + 1
    expected = [
        framed[n, :, i * stride : i * stride + size[0], j * stride : j * stride + size[1]].ravel()
        for i in range(OH) for j in range(OW) for n in range(shape[0])
    ]  # fmt: skip
    np.testing.assert_array_equal(cols, np.transpose(expected))
    (c,) = arrays(cols.shape)
    back = windows.col2im_indices(c, shape, *size, padding=padding, stride=stride)
    assert back.shape == shape
    assert np.sum(cols * c) == pytest.approx(np.sum(x * back))
    k, i, j = windows.get_im2col_indices(shape, *size, padding, stride)
    picked = framed[:, k, i, j].transpose(1, 2, 0).reshape(cols.shape)
    np.testing.assert_array_equal(picked, cols)


def test_grids_of_images():
    images = np.arange(3 * 2 * 2 * 1, dtype=float).reshape(3, 2, 2, 1)
    grid = pictures.vis_grid(images)
    assert grid.shape == (6, 6, 1)
    np.testing.assert_allclose(grid[:2, 3:5, 0], np.array([[4, 5], [6, 7]]) / 11)
    np.testing.assert_allclose(grid[3:5, :2, 0], np.array([[8, 9], [10, 11]]) / 11)
    assert grid[2].max() == grid[:, 5].max() == grid[3:, 3:].max() == 0
    rows = pictures.vis_nn([list(images[:2]), list(images[1:])])
    assert rows.shape == (6, 6, 1)
    np.testing.assert_allclose(rows[3:5, 3:5, 0], np.array([[8, 9], [10, 11]]) / 11)
    assert not pictures.vis_grid(np.ones((1, 2, 2, 3))).any()
