"""Every pair stands in one table; a new layer is a new row."""

import doctest
import inspect
import itertools
import re

import hypothesis.strategies as st
import numpy as np
import pytest
import scipy.signal
import scipy.special
from handgrad import layers as L
from handgrad.engine.parts import Parts, joined
from handgrad.gradient_check import check_layer, check_loss, eval_numerical_gradient_array
from hypothesis import given


def images(N=3, C=2, H=6, W=5):
    return (N, C, H, W)


# id, forward, backward, shapes of the array arguments, settings
ROWS = [
    ("affine", L.affine_forward, L.affine_backward, [(4, 2, 3), (6, 5), (5,)], []),
    ("affine-one-output", L.affine_forward, L.affine_backward, [(3, 6), (6, 1), (1,)], []),
    ("relu", L.relu_forward, L.relu_backward, [(4, 3, 2)], []),
    ("leaky_relu", L.leaky_relu_forward, L.leaky_relu_backward, [(4, 7)], [0.2]),
    ("leaky_relu-default", L.leaky_relu_forward, L.leaky_relu_backward, [(4, 7)], []),
    ("sigmoid", L.sigmoid_forward, L.sigmoid_backward, [(4, 7)], []),
    ("tanh", L.tanh_forward, L.tanh_backward, [(4, 7)], []),
    (
        "dropout-train",
        L.dropout_forward,
        L.dropout_backward,
        [(5, 8)],
        [{"p": 0.4, "mode": "train", "seed": 3}],
    ),
    ("dropout-test", L.dropout_forward, L.dropout_backward, [(5, 8)], [{"p": 0.4, "mode": "test"}]),
    (
        "batchnorm-train",
        L.batchnorm_forward,
        L.batchnorm_backward,
        [(6, 4), (4,), (4,)],
        [{"mode": "train"}],
    ),
    (
        "batchnorm-test",
        L.batchnorm_forward,
        L.batchnorm_backward,
        [(6, 4), (4,), (4,)],
        [{"mode": "test", "running_mean": np.arange(4.0), "running_var": np.arange(1.0, 5)}],
    ),
    ("layernorm", L.layernorm_forward, L.layernorm_backward, [(3, 5), (5,), (5,)], [{}]),
    ("layernorm-steps", L.layernorm_forward, L.layernorm_backward, [(3, 4, 5), (5,), (5,)], [{}]),
    (
        "spatial_batchnorm-train",
        L.spatial_batchnorm_forward,
        L.spatial_batchnorm_backward,
        [images(), (2,), (2,)],
        [{"mode": "train", "eps": 1e-3}],
    ),
    (
        "spatial_batchnorm-test",
        L.spatial_batchnorm_forward,
        L.spatial_batchnorm_backward,
        [images(), (2,), (2,)],
        [{"mode": "test", "running_mean": np.ones(2), "running_var": np.full(2, 2.0)}],
    ),
    (
        "spatial_groupnorm",
        L.spatial_groupnorm_forward,
        L.spatial_groupnorm_backward,
        [images(2, 6, 3, 4), (1, 6, 1, 1), (1, 6, 1, 1)],
        [3, {}],
    ),
    (
        "spatial_groupnorm-flat",
        L.spatial_groupnorm_forward,
        L.spatial_groupnorm_backward,
        [images(2, 6, 3, 4), (6,), (6,)],
        [2, {}],
    ),
    (
        "conv-pad-0",
        L.conv_forward,
        L.conv_backward,
        [images(), (4, 2, 3, 3), (4,)],
        [{"stride": 1, "pad": 0}],
    ),
    (
        "conv-not-square",
        L.conv_forward,
        L.conv_backward,
        [images(), (4, 2, 2, 3), (4,)],
        [{"stride": (2, 1), "pad": (1, 2)}],
    ),
    (
        "conv-many-channels",
        L.conv_forward,
        L.conv_backward,
        [images(2, 17, 5, 4), (3, 17, 3, 2), (3,)],
        [{"pad": (1, 0)}],
    ),
    (
        "conv-windows-drop-pixels",
        L.conv_forward,
        L.conv_backward,
        [images(H=8), (1, 2, 3, 2), (1,)],
        [{"stride": 3}],
    ),
    (
        "conv_naive",
        L.conv_forward_naive,
        L.conv_backward_naive,
        [images(2, 2, 4, 5), (3, 2, 3, 2), (3,)],
        [{"stride": 2, "pad": 1}],
    ),
    (
        "max_pool",
        L.max_pool_forward,
        L.max_pool_backward,
        [images()],
        [{"pool_height": 2, "pool_width": 2, "stride": 2}],
    ),
    (
        "max_pool-overlap-pad",
        L.max_pool_forward,
        L.max_pool_backward,
        [images(H=7)],
        [{"pool_height": 3, "pool_width": 2, "stride": (2, 1), "pad": 1}],
    ),
    (
        "max_pool-of-one",
        L.max_pool_forward,
        L.max_pool_backward,
        [images()],
        [{"pool_height": 1, "pool_width": 1, "stride": 1}],
    ),
    (
        "max_pool_naive",
        L.max_pool_forward_naive,
        L.max_pool_backward_naive,
        [images(2, 2, 4, 4)],
        [{"pool_height": 2, "pool_width": 3, "stride": 1}],
    ),
    (
        "avg_pool",
        L.avg_pool_forward,
        L.avg_pool_backward,
        [images()],
        [{"pool_height": 2, "pool_width": 2, "stride": 2}],
    ),
    (
        "avg_pool-overlap-pad",
        L.avg_pool_forward,
        L.avg_pool_backward,
        [images(H=7)],
        [{"pool_height": 3, "pool_width": 2, "stride": (2, 1), "pad": 1}],
    ),
]
PAIRS = [pytest.param(*row[1:], id=row[0]) for row in ROWS]
FAST = [pytest.param(*row[1:], id=row[0]) for row in ROWS if "naive" not in row[0]]
LOSSES = [L.svm_loss, L.softmax_loss, L.mse_loss]

ORDERS = {
    "C": np.ascontiguousarray,
    "Fortran": np.asfortranarray,
    "batch-innermost": lambda a: np.ascontiguousarray(np.moveaxis(a, 0, -1)).transpose(
        a.ndim - 1, *range(a.ndim - 1)
    ),
    "every-other": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
    "backwards": lambda a: a[::-1].copy()[::-1],
}


def drawn(shapes, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


def run(forward, backward, arrays, settings, seed=1):
    """out, and the gradients for a random dout, which is returned too."""
    out, cache = forward(*arrays, *[dict(s) if isinstance(s, dict) else s for s in settings])
    dout = np.random.default_rng(seed).standard_normal(out.shape).astype(out.real.dtype)
    return out, as_tuple(backward(dout, cache)), dout


def as_tuple(grads):
    return grads if isinstance(grads, tuple) else (grads,)


def test_every_public_pair_and_loss_has_a_row():
    """And every forward has its backward; the course's second names count as the layer itself."""
    functions = {name: f for name, f in inspect.getmembers(L, inspect.isfunction) if name[0] != "_"}
    own = {name for name, f in functions.items() if f.__module__ == L.__name__}
    assert own == set(L.__all__)
    assert {functions[name] for name in own} == {f for row in ROWS for f in row[1:3]} | set(LOSSES)
    assert all(functions[name].__doc__ for name in own)


def test_a_star_import_brings_layers_only():
    names = {}
    exec("from handgrad.layers import *", names)
    assert set(names) - {"__builtins__"} == set(L.__all__)


def test_the_example_at_the_top():
    result = doctest.testmod(L)
    assert result.attempted == 6
    assert result.failed == 0


@pytest.mark.parametrize(("forward", "backward", "shapes", "settings"), PAIRS)
class TestContract:
    def test_gradient_by_complex_step(self, forward, backward, shapes, settings):
        if forward is L.max_pool_forward_naive:
            pytest.skip("np.max of complex numbers compares imaginary parts; see the next test")
        report = check_layer(forward, backward, *drawn(shapes), *settings)
        assert {row.method for row in report.rows} == {"complex step"}
        report.require()
        assert report.error < 1e-11  # an entry 1e-4 of the largest is right to 1e-15 of it

    def test_gradient_by_central_differences(self, forward, backward, shapes, settings):
        arrays = drawn(shapes, seed=4)
        _, grads, dout = run(forward, backward, arrays, settings)
        for array, grad in zip(arrays, grads, strict=True):
            numeric = eval_numerical_gradient_array(
                lambda _: run(forward, backward, arrays, settings)[0], array, dout
            )
            np.testing.assert_allclose(grad, numeric, rtol=1e-6, atol=1e-8)

    @pytest.mark.parametrize("dtype", [np.float32, np.float64, np.longdouble])
    def test_shapes_and_dtype_are_kept(self, forward, backward, shapes, settings, dtype):
        arrays = drawn(shapes, dtype)
        out, grads, _ = run(forward, backward, arrays, settings)
        assert out.dtype == dtype
        assert [(g.shape, g.dtype) for g in grads] == [(a.shape, a.dtype) for a in arrays]

    def test_a_gradient_has_its_arguments_dtype_whatever_dout_has(
        self, forward, backward, shapes, settings
    ):
        arrays = drawn(shapes, np.float32)
        out, cache = forward(*arrays, *settings)
        grads = as_tuple(backward(np.ones(out.shape), cache))
        assert [g.dtype for g in grads] == [a.dtype for a in arrays]

    def test_nothing_is_written_to_and_backward_works_twice(self, forward, backward, shapes, settings):
        arrays = drawn(shapes)
        for array in arrays:
            array.flags.writeable = False
        out, cache = forward(*arrays, *settings)
        dout = np.random.default_rng(1).standard_normal(out.shape)
        dout.flags.writeable = False
        first, second = as_tuple(backward(dout, cache)), as_tuple(backward(dout, cache))
        for a, b in zip(first, second, strict=True):
            np.testing.assert_array_equal(a, b)
        assert not any(np.shares_memory(dout, g) for g in first)
        assert not any(np.shares_memory(out, a) for a in arrays)

    @pytest.mark.parametrize("order", ORDERS)
    def test_any_memory_order(self, forward, backward, shapes, settings, order):
        arrays = drawn(shapes)
        out, grads, dout = run(forward, backward, arrays, settings)
        lain = [ORDERS[order](a) for a in arrays]
        out2, cache = forward(*lain, *settings)
        np.testing.assert_allclose(out2, out, rtol=1e-12, atol=1e-13)
        for g, h in zip(as_tuple(backward(ORDERS[order](dout), cache)), grads, strict=True):
            np.testing.assert_allclose(g, h, rtol=1e-12, atol=1e-13)

    def test_empty_batch(self, forward, backward, shapes, settings):
        shapes = [(0, *shapes[0][1:]), *shapes[1:]]
        arrays = drawn(shapes)
        out, grads, _ = run(forward, backward, arrays, settings)
        assert len(out) == 0
        assert [g.shape for g in grads] == shapes
        assert all(np.all(g == 0) for g in grads[1:])

    def test_a_batch_equals_its_parts(self, forward, backward, shapes, settings):
        together = any(isinstance(s, dict) and s.get("mode") == "train" for s in settings)
        if together:
            pytest.skip("in training the examples of a batch share statistics, or one mask")
        arrays = drawn(shapes)
        out, grads, dout = run(forward, backward, arrays, settings)
        parts, sums = [], [0.0] * (len(arrays) - 1)
        for n in range(len(arrays[0])):
            one = slice(n, n + 1)
            part, cache = forward(arrays[0][one], *arrays[1:], *settings)
            dx, *rest = as_tuple(backward(dout[one], cache))
            np.testing.assert_allclose(dx, grads[0][one], rtol=1e-10, atol=1e-12)
            parts.append(part)
            sums = [s + g for s, g in zip(sums, rest, strict=True)]
        np.testing.assert_allclose(np.concatenate(parts), out, rtol=1e-10, atol=1e-12)
        for s, g in zip(sums, grads[1:], strict=True):
            np.testing.assert_allclose(s, g, rtol=1e-10, atol=1e-12)

    def test_dout_of_a_wrong_shape_is_refused(self, forward, backward, shapes, settings):
        out, cache = forward(*drawn(shapes), *settings)
        with pytest.raises(ValueError, match=rf"{backward.__name__}: dout has shape"):
            backward(np.ones((1, *out.shape)), cache)


# ---------------------------------------------------------------------------- kinds of numbers


def whole(shapes, dtype):
    """Small numbers that every dtype holds, 0 and 1 for bool."""
    high = 2 if dtype is bool else 5
    rng = np.random.default_rng(6)
    return [rng.integers(high, size=shape).astype(dtype) for shape in shapes]


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, bool])
@pytest.mark.parametrize(("forward", "backward", "shapes", "settings"), PAIRS)
def test_whole_numbers_are_computed_as_floats(forward, backward, shapes, settings, dtype):
    arrays = whole(shapes, dtype)
    out, grads, _ = run(forward, backward, arrays, settings)
    expected, wanted, _ = run(forward, backward, [a.astype(float) for a in arrays], settings)
    for a, b in zip((out, *grads), (expected, *wanted), strict=True):
        assert a.dtype == np.float64
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, bool])
@pytest.mark.parametrize(("forward", "backward", "shapes", "settings"), FAST)
def test_a_dout_of_whole_numbers_is_computed_as_floats(forward, backward, shapes, settings, dtype):
    out, cache = forward(*drawn([(9, *shapes[0][1:]), *shapes[1:]]), *settings)
    dout = np.random.default_rng(7).integers(100, 250, out.shape).astype(dtype)  # sums exceed uint8
    wanted = as_tuple(backward(dout.astype(float), cache))
    for g, h in zip(as_tuple(backward(dout, cache)), wanted, strict=True):
        np.testing.assert_array_equal(g, h)


def test_whole_numbers_in_parts():
    parts = whole([(3, 2, 4, 4), (2, 2, 4, 4)], np.uint8)
    x, gamma, beta = np.concatenate(parts).astype(float), np.ones(2), np.zeros(2)
    outs, cache = L.spatial_batchnorm_forward(Parts(parts), gamma, beta, {"mode": "train"})
    expected, _ = L.spatial_batchnorm_forward(x, gamma, beta, {"mode": "train"})
    np.testing.assert_allclose(joined(outs), expected, rtol=1e-12, atol=1e-14)
    douts = Parts([np.full(a.shape, 200, np.uint8) for a in parts])
    dbeta = L.spatial_batchnorm_backward(douts, cache)[2]
    np.testing.assert_array_equal(dbeta, 200 * 5 * 16)


def test_lists_are_read_as_arrays():
    out, cache = L.affine_forward([[1, 2]], [[3, 5], [4, 6]], [0, 1])
    np.testing.assert_array_equal(out, [[11, 18]])
    np.testing.assert_array_equal(L.affine_backward([[1, 10]], cache)[0], [[53, 64]])


@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
@pytest.mark.parametrize("loss", LOSSES)
def test_losses_of_whole_numbers(loss, dtype):
    x, y = np.array([[200, 1, 3], [0, 7, 2]]).astype(dtype), np.array([0, 2])
    value, dx = loss(x, y)
    expected, wanted = loss(x.astype(float), y)
    assert value == expected
    np.testing.assert_array_equal(dx, wanted)
    assert L.svm_loss(np.array([[200, 1]], np.uint8), np.array([0]))[0] == 0


@pytest.mark.parametrize(("forward", "backward", "shapes", "settings"), FAST)
def test_half_precision_is_kept_and_close_to_float32(forward, backward, shapes, settings):
    arrays = drawn(shapes, np.float16)
    out, grads, _ = run(forward, backward, arrays, settings)
    wide = [a.astype(np.float32) for a in arrays]
    expected, wanted, _ = run(forward, backward, wide, settings)
    for a, b in zip((out, *grads), (expected, *wanted), strict=True):
        assert a.dtype == np.float16
        np.testing.assert_allclose(a, b, rtol=0.02, atol=0.02)


HALF = [  # forward, backward, shapes, settings: sums that float16 cannot hold, or loses terms of
    (
        L.batchnorm_forward,
        L.batchnorm_backward,
        [(70000, 2), (2,), (2,)],
        [{"mode": "train", "momentum": 0}],
    ),
    (
        L.spatial_batchnorm_forward,
        L.spatial_batchnorm_backward,
        [(64, 2, 32, 32), (2,), (2,)],
        [{"mode": "train"}],
    ),
    (L.layernorm_forward, L.layernorm_backward, [(2, 40000), (40000,), (40000,)], [{}]),
    (
        L.spatial_groupnorm_forward,
        L.spatial_groupnorm_backward,
        [(16, 4, 64, 64), (4,), (4,)],
        [2, {}],
    ),
    (
        L.avg_pool_forward,
        L.avg_pool_backward,
        [(2, 2, 256, 256)],
        [{"pool_height": 256, "pool_width": 256}],
    ),
    (L.affine_forward, L.affine_backward, [(70000, 1), (1, 2), (2,)], []),
    (L.conv_forward, L.conv_backward, [(1, 1, 5000, 1), (2, 1, 1, 1), (2,)], [{}]),  # 1024 + 0.5 = 1024
    (L.conv_forward_naive, L.conv_backward_naive, [(1, 1, 5000, 1), (2, 1, 1, 1), (2,)], [{}]),
]


@pytest.mark.parametrize(("forward", "backward", "shapes", "settings"), HALF)
def test_sums_of_half_precision_are_those_of_float32(forward, backward, shapes, settings):
    """To the precision of float16."""
    x, *others = drawn(shapes, np.float16)
    if forward not in (
        L.affine_forward,
        L.conv_forward,
        L.conv_forward_naive,
    ):  # whose dw would overflow
        x = np.float16(100) + np.float16(20) * x
    arrays = [x, *others]
    out, cache = forward(*arrays, *settings)
    wide, wide_cache = forward(*(a.astype(np.float32) for a in arrays), *settings)
    dout = (0.5 + drawn([out.shape], np.float16)[0] / 64).astype(np.float16)
    grads = as_tuple(backward(dout, cache))
    wanted = as_tuple(backward(dout.astype(np.float32), wide_cache))
    for a, b in zip((out, *grads), (wide, *wanted), strict=True):
        assert a.dtype == np.float16
        steps = 1e-7 + 0.01 * np.abs(b).max()  # float16 ends at 6e-8
        np.testing.assert_allclose(a, b, rtol=0.01, atol=steps)
    if len(grads) > 1:  # dbeta or db, a plain sum: rounded once, at the end
        np.testing.assert_allclose(grads[-1], wanted[-1], rtol=1e-3)


def test_losses_of_many_in_half_precision():
    scores = np.full((70000, 2), 2, np.float16)
    for loss in LOSSES:
        value, dscores = loss(scores, np.zeros(70000, int))
        assert np.isfinite(value)
        assert value.dtype == dscores.dtype == np.float16


def test_running_statistics_of_half_precision_are_float32():
    """A variance of float16 numbers may be beyond float16."""
    bn_param = {"mode": "train", "momentum": 0.0}
    x = np.array([[-600.0], [600.0]], np.float16)
    L.batchnorm_forward(x, np.ones(1, np.float16), np.zeros(1, np.float16), bn_param)
    assert bn_param["running_var"].dtype == np.float32
    np.testing.assert_array_equal(bn_param["running_var"], 360000)


@pytest.mark.parametrize("wrong", [np.array(["a"]), np.array([None]), "text", [1, [2, 3]]])
@pytest.mark.parametrize("forward", [L.relu_forward, L.sigmoid_forward, L.tanh_forward])
def test_what_is_no_number_is_refused(forward, wrong):
    with pytest.raises(ValueError, match=rf"{forward.__name__}: .* expected an array of numbers"):
        forward(wrong)
    backward = getattr(L, forward.__name__.replace("forward", "backward"))
    _, cache = forward(np.ones(1))
    with pytest.raises(ValueError, match=rf"{backward.__name__}: dout .* expected an array of numbers"):
        backward(wrong, cache)


# ---------------------------------------------------------------------------- values


def test_affine_known_value():
    x = np.linspace(-0.1, 0.5, num=2 * 4 * 5 * 6).reshape(2, 4, 5, 6)
    w = np.linspace(-0.2, 0.3, num=120 * 3).reshape(120, 3)
    out, _ = L.affine_forward(x, w, np.linspace(-0.3, 0.1, num=3))
    expected = [[1.49834967, 1.70660132, 1.91485297], [3.25553199, 3.5141327, 3.77273342]]
    np.testing.assert_allclose(out, expected, atol=5e-9)


def test_at_the_kink():
    x = np.array([-1.0, 0.0, 2.0])
    _, cache = L.relu_forward(x)
    np.testing.assert_array_equal(L.relu_backward(np.full(3, 5.0), cache), [0, 0, 5])
    _, cache = L.leaky_relu_forward(x, 0.1)
    np.testing.assert_array_equal(L.leaky_relu_backward(np.full(3, 5.0), cache), [0.5, 0.5, 5])
    assert L.relu_forward(np.array([1j * 1e-30]))[0].imag == 0


@pytest.mark.parametrize(
    ("forward", "oracle"),
    [(L.sigmoid_forward, scipy.special.expit), (L.tanh_forward, np.tanh)],
)
def test_squashing_far_out(forward, oracle):
    x = np.array([-np.inf, -1000.0, -40.0, -1.0, 0.0, 1.0, 40.0, 1000.0, np.inf])
    np.testing.assert_allclose(forward(x)[0], oracle(x), rtol=1e-15)


@pytest.mark.parametrize("forward", [L.relu_forward, L.leaky_relu_forward])
def test_rectifiers_of_infinity(forward):
    assert forward(np.array([np.inf]))[0] == np.inf


@pytest.mark.parametrize(
    ("forward", "backward"),
    [
        (L.relu_forward, L.relu_backward),
        (L.leaky_relu_forward, L.leaky_relu_backward),
        (L.sigmoid_forward, L.sigmoid_backward),
        (L.tanh_forward, L.tanh_backward),
    ],
)
def test_max_pooling_and_a_function_that_never_falls_change_places(forward, backward):
    """What the models rely on; with overlapping windows, values and gradients alike."""
    x = drawn([(2, 3, 7, 7)])[0]
    param = {"pool_height": 3, "pool_width": 3, "stride": 2}
    a, a_cache = forward(x)
    after, pool_cache = L.max_pool_forward(a, param)
    pooled, first_cache = L.max_pool_forward(x, param)
    before, act_cache = forward(pooled)
    np.testing.assert_array_equal(before, after)
    dout = drawn([after.shape], seed=1)[0]
    one = backward(L.max_pool_backward(dout, pool_cache), a_cache)
    two = L.max_pool_backward(backward(dout, act_cache), first_cache)
    np.testing.assert_allclose(one, two, rtol=1e-12, atol=1e-15)


def test_nan_is_not_swallowed():
    x = np.array([[[[np.nan, 1.0], [2.0, 3.0]]]])
    assert np.isnan(L.relu_forward(x)[0]).any()
    assert np.isnan(L.max_pool_forward(x, {"pool_height": 2, "pool_width": 2})[0]).all()


def test_conv_is_scipys_correlation():
    x, w, b = drawn([(1, 3, 7, 8), (2, 3, 3, 4), (2,)])
    out, _ = L.conv_forward(x, w, b, {})
    for f in range(2):
        expected = scipy.signal.correlate(x[0], w[f], mode="valid")[0] + b[f]
        np.testing.assert_allclose(out[0, f], expected, rtol=1e-12)


def test_avg_pool_by_hand():
    x = np.arange(1.0, 10).reshape(1, 1, 3, 3)
    out, _ = L.avg_pool_forward(x, {"pool_height": 2, "pool_width": 2, "stride": 1})
    np.testing.assert_array_equal(out[0, 0], [[3, 4], [6, 7]])
    out, _ = L.avg_pool_forward(x, {"pool_height": 2, "pool_width": 2, "stride": 2, "pad": 1})
    np.testing.assert_array_equal(out[0, 0], [[0.25, 1.25], [2.75, 7]])


@pytest.mark.parametrize(
    ("forward", "x_shape", "axes", "extra"),
    [
        (L.batchnorm_forward, (50, 4), 0, ({"mode": "train", "eps": 0},)),
        (L.layernorm_forward, (6, 40), 1, ({"eps": 0},)),
        (L.spatial_batchnorm_forward, (5, 4, 3, 6), (0, 2, 3), ({"mode": "train", "eps": 0},)),
    ],
)
def test_normalisation_gives_mean_beta_and_deviation_gamma(forward, x_shape, axes, extra):
    x = 5 + 3 * drawn([x_shape])[0]
    features = x_shape[1]
    out, _ = forward(x, np.ones(features), np.zeros(features), *extra)
    np.testing.assert_allclose(out.mean(axis=axes), 0, atol=1e-12)
    np.testing.assert_allclose(out.std(axis=axes), 1, rtol=1e-12)


def test_groupnorm_groups():
    x = 5 + 3 * drawn([(2, 6, 3, 4)])[0]
    out, _ = L.spatial_groupnorm_forward(x, np.ones(6), np.zeros(6), 3, {"eps": 0})
    np.testing.assert_allclose(out.reshape(2, 3, -1).mean(axis=2), 0, atol=1e-12)
    np.testing.assert_allclose(out.reshape(2, 3, -1).std(axis=2), 1, rtol=1e-12)


def test_running_statistics_by_hand():
    x = np.array([[1.0, 10.0], [3.0, 30.0]])  # means 2 and 20, biased variances 1 and 100
    bn_param = {"mode": "train", "momentum": 0.75, "running_mean": np.array([4.0, 0.0])}
    L.batchnorm_forward(x, np.ones(2), np.zeros(2), bn_param)
    np.testing.assert_allclose(bn_param["running_mean"], [3.5, 5])
    np.testing.assert_allclose(bn_param["running_var"], [0.25, 25])
    bn_param["mode"] = "test"
    out, _ = L.batchnorm_forward(np.array([[4.0, 5.0]]), np.full(2, 2.0), np.ones(2), bn_param)
    np.testing.assert_allclose(out, [[1 + 2 * 0.5 / np.sqrt(0.25 + 1e-5), 1]])


@pytest.mark.parametrize("mode", ["train", "test"])
@pytest.mark.parametrize(
    ("forward", "backward", "shape"),
    [
        (L.batchnorm_forward, L.batchnorm_backward, (12, 3)),
        (L.spatial_batchnorm_forward, L.spatial_batchnorm_backward, (12, 3, 4, 5)),
    ],
)
def test_batchnorm_in_parts(forward, backward, shape, mode):
    """A batch in parts is normalised as one: statistics, values and gradients."""
    x, gamma, beta, dout = drawn([shape, (3,), (3,), shape])
    start = {"mode": mode, "running_mean": np.ones(3), "running_var": np.full(3, 2.0)}
    whole, parts = dict(start), dict(start)
    out, cache = forward(x, gamma, beta, whole)
    outs, parts_cache = forward(Parts([x[:5], x[5:5], x[5:]]), gamma, beta, parts)
    np.testing.assert_allclose(joined(outs), out, rtol=1e-12, atol=1e-14)
    for key in ("running_mean", "running_var"):
        np.testing.assert_allclose(parts[key], whole[key], rtol=1e-13)
    dxs, dgamma, dbeta = backward(Parts([dout[:5], dout[5:5], dout[5:]]), parts_cache)
    for g, h in zip((joined(dxs), dgamma, dbeta), backward(dout, cache), strict=True):
        np.testing.assert_allclose(g, h, rtol=1e-11, atol=1e-14)


def test_an_empty_batch_leaves_the_running_statistics():
    bn_param = {"mode": "train", "running_mean": np.ones(3), "running_var": np.ones(3)}
    L.batchnorm_forward(np.empty((0, 3)), np.ones(3), np.zeros(3), bn_param)
    np.testing.assert_array_equal(bn_param["running_mean"], 1)


# ---------------------------------------------------------------------------- dropout


def test_dropout_drops_p_and_keeps_the_mean():
    x = np.full((400, 500), 3.0, np.float32)
    out, _ = L.dropout_forward(x, {"p": 0.3, "mode": "train", "seed": 1})
    assert np.all((out == 0) | np.isclose(out, x / 0.7))
    assert (out == 0).mean() == pytest.approx(0.3, abs=0.005)
    assert out.mean() == pytest.approx(3, abs=0.03)


def test_dropout_masks_follow_the_seed_and_leave_numpys_generator_alone():
    x = np.ones((20, 30))
    np.random.seed(5)  # noqa: NPY002
    expected = np.random.random(3)  # noqa: NPY002
    np.random.seed(5)  # noqa: NPY002

    def draw(**param):
        return L.dropout_forward(x, {"p": 0.5, "mode": "train", **param})[0]

    np.testing.assert_array_equal(draw(seed=1), draw(seed=1))
    assert np.any(draw(seed=1) != draw(seed=2))
    assert np.any(draw() != draw())
    np.testing.assert_array_equal(np.random.random(3), expected)  # noqa: NPY002


def test_dropout_has_the_same_mask_in_every_dtype():
    param = {"p": 0.5, "mode": "train", "seed": 1}
    wide = L.dropout_forward(np.ones((9, 9)), param)[0]
    np.testing.assert_array_equal(L.dropout_forward(np.ones((9, 9), np.float32), param)[0], wide)


# ---------------------------------------------------------------------------- fast against loops


@st.composite
def windows(draw):
    """Images, a window, stride and pad that fit together."""
    H, W = draw(st.integers(1, 8)), draw(st.integers(1, 8))
    pad = draw(st.integers(0, 2)), draw(st.integers(0, 2))
    HH = draw(st.integers(1, min(5, H + 2 * pad[0])))
    WW = draw(st.integers(1, min(5, W + 2 * pad[1])))
    stride = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    N, C = draw(st.integers(0, 3)), draw(st.sampled_from([1, 2, 3, 16]))
    return (N, C, H, W), (HH, WW), stride, pad, draw(st.sampled_from(sorted(ORDERS)))


def agree(forward, backward, naive, naive_backward, arrays, param, order):
    out, cache = forward(*(ORDERS[order](a) for a in arrays), param)
    expected, naive_cache = naive(*arrays, param)
    np.testing.assert_allclose(out, expected, rtol=1e-12, atol=1e-12)
    dout = np.random.default_rng(2).standard_normal(out.shape)
    grads = as_tuple(backward(ORDERS[order](dout), cache))
    for g, h in zip(grads, as_tuple(naive_backward(dout, naive_cache)), strict=True):
        np.testing.assert_allclose(g, h, rtol=1e-12, atol=1e-12)


@given(windows(), st.integers(1, 3))
def test_conv_equals_the_loops(case, F):
    x_shape, (HH, WW), stride, pad, order = case
    arrays = drawn([x_shape, (F, x_shape[1], HH, WW), (F,)])
    pairs = (L.conv_forward, L.conv_backward, L.conv_forward_naive, L.conv_backward_naive)
    agree(*pairs, arrays, {"stride": stride, "pad": pad}, order)


@pytest.mark.parametrize("C", [1, 3])
@pytest.mark.parametrize(("WW", "stride"), [(1, 1), (2, 1), (3, 2)])
def test_conv_equals_the_loops_where_rows_are_laid_apart(C, WW, stride):
    """Rows of 64 numbers, of which gaps in memory keep each other's distance."""
    W = WW + 3 * stride
    arrays = drawn([(16, C, 5, W), (2, C, 2, WW), (2,)])
    pairs = (L.conv_forward, L.conv_backward, L.conv_forward_naive, L.conv_backward_naive)
    agree(*pairs, arrays, {"stride": stride}, "C")


@pytest.mark.parametrize("shape", [(3, 1, 8, 8), (2, 4, 4, 8), (5, 2, 16, 16)])
@pytest.mark.parametrize("pad", [0, 1])
def test_conv_equals_the_loops_where_images_are_laid_apart(shape, pad):
    """Images of 64, 128 and 512 numbers, one after the other, which are read across."""
    arrays = drawn([shape, (2, shape[1], 3, 2), (2,)])
    pairs = (L.conv_forward, L.conv_backward, L.conv_forward_naive, L.conv_backward_naive)
    agree(*pairs, arrays, {"pad": pad}, "C")


@pytest.mark.parametrize("size", [1, 2])
def test_conv_equals_the_loops_where_the_frame_is_wider_than_the_filter(size):
    arrays = drawn([(2, 3, 4, 5), (2, 3, size, size), (2,)])
    pairs = (L.conv_forward, L.conv_backward, L.conv_forward_naive, L.conv_backward_naive)
    agree(*pairs, arrays, {"pad": 2}, "C")


@given(windows(), st.booleans())
def test_max_pool_equals_the_loops(case, ties):
    x_shape, (PH, PW), stride, pad, order = case
    pad = min(pad[0], PH // 2), min(pad[1], PW // 2)
    arrays = drawn([x_shape])
    if ties:
        arrays = [np.round(arrays[0]).clip(0)]
    param = {"pool_height": PH, "pool_width": PW, "stride": stride, "pad": pad}
    if min(x_shape[2] + 2 * pad[0] - PH, x_shape[3] + 2 * pad[1] - PW) < 0:
        with pytest.raises(ValueError, match="does not fit"):
            L.max_pool_forward(*arrays, param)
        return
    pairs = (L.max_pool_forward, L.max_pool_backward)
    agree(*pairs, L.max_pool_forward_naive, L.max_pool_backward_naive, arrays, param, order)


def test_a_tie_goes_to_one_entry():
    out, cache = L.max_pool_forward(np.zeros((1, 1, 4, 4)), {"pool_height": 2, "pool_width": 2})
    dx = L.max_pool_backward(np.ones_like(out), cache)
    assert dx.sum() == 4
    assert sorted(np.unique(dx)) == [0, 1]


def test_of_equal_entries_the_leftmost_takes_it_and_there_the_uppermost():
    x = np.array([[1.0, 2, 2, 0], [2, 2, 2, 1]]).reshape(1, 1, 2, 4)
    _, cache = L.max_pool_forward(x, {"pool_height": 2, "pool_width": 2})
    dx = L.max_pool_backward(np.array([3.0, 5.0]).reshape(1, 1, 1, 2), cache)
    assert dx.tolist() == [[[[0, 0, 5, 0], [3, 0, 0, 0]]]]


def test_relu_keeps_what_is_not_finite():
    out, _ = L.relu_forward(np.array([-np.inf, np.inf, np.nan, -0.0]))
    np.testing.assert_array_equal(out, [0, np.inf, np.nan, 0])


def test_a_gradient_that_is_infinite_does_not_pass_where_it_should_not():
    """0 times infinity would be NaN."""
    out, cache = L.relu_forward(np.array([-1.0, 2.0], np.float32))
    dx = L.relu_backward(np.array([np.inf, np.inf], np.float32), cache)
    np.testing.assert_array_equal(dx, [0, np.inf])
    x = np.array([[1.0, 4.0], [3.0, 2.0]]).reshape(1, 1, 2, 2)
    out, cache = L.max_pool_forward(x, {"pool_height": 2, "pool_width": 2})
    dx = L.max_pool_backward(np.full_like(out, np.inf), cache)
    np.testing.assert_array_equal(dx, [[[[0, np.inf], [0, 0]]]])


@pytest.mark.parametrize("pair", [L.affine_backward, L.conv_backward])
def test_need_dx_leaves_only_dx_out(pair):
    forward, shapes, settings = {
        L.affine_backward: (L.affine_forward, [(3, 4), (4, 2), (2,)], []),
        L.conv_backward: (L.conv_forward, [(2, 1, 4, 4), (2, 1, 3, 3), (2,)], [{}]),
    }[pair]
    out, cache = forward(*drawn(shapes), *settings)
    dout = drawn([out.shape])[0]
    dx, *rest = pair(dout, cache, need_dx=False)
    assert dx is None
    for g, h in zip(rest, pair(dout, cache)[1:], strict=True):
        np.testing.assert_array_equal(g, h)


# ---------------------------------------------------------------------------- losses


@pytest.mark.parametrize("loss", LOSSES)
class TestLosses:
    def test_gradient_by_complex_step(self, loss, rng):
        report = check_loss(loss, rng.standard_normal((6, 4)), rng.integers(4, size=6))
        assert {row.method for row in report.rows} == {"complex step"}
        assert report.require().error < 1e-12

    @pytest.mark.parametrize("dtype", [np.float32, np.float64, np.longdouble])
    def test_dtype_shape_and_purity(self, loss, rng, dtype):
        x, y = rng.standard_normal((6, 4)).astype(dtype), rng.integers(4, size=6).astype(np.uint8)
        before = x.copy()
        value, dx = loss(x, y)
        assert (dx.shape, dx.dtype) == (x.shape, x.dtype)
        assert np.asarray(value).dtype == dtype
        np.testing.assert_array_equal(x, before)

    def test_a_batch_is_the_mean_of_its_parts(self, loss, rng):
        x, y = rng.standard_normal((6, 4)), rng.integers(4, size=6)
        value, dx = loss(x, y)
        one = [loss(x[n : n + 1], y[n : n + 1]) for n in range(6)]
        assert value == pytest.approx(np.mean([v for v, _ in one]))
        np.testing.assert_allclose(dx, np.concatenate([d for _, d in one]) / 6, rtol=1e-12)

    def test_empty_batch(self, loss):
        value, dx = loss(np.empty((0, 4)), np.empty(0, int))
        assert (value, dx.shape) == (0, (0, 4))

    @pytest.mark.parametrize(
        ("y", "message"),
        [
            ([0, -1], "label -1, expected 0 to 2"),
            ([0, 3], "label 3, expected 0 to 2"),
            ([0.0, 1.0], "dtype float64, expected integers"),
            ([True, False], "dtype bool, expected integers"),
            ([0, 1, 2], r"y \(3,\), expected scores"),
        ],
    )
    def test_wrong_labels_are_refused(self, loss, y, message):
        with pytest.raises(ValueError, match=rf"{loss.__name__}: .*{message}"):
            loss(np.zeros((2, 3)), np.array(y))


def test_softmax_loss_against_scipy(rng):
    x, y = 5 * rng.standard_normal((8, 5)), rng.integers(5, size=8)
    log_p = scipy.special.log_softmax(x, axis=1)
    value, dx = L.softmax_loss(x, y)
    assert value == pytest.approx(-log_p[np.arange(8), y].mean(), rel=1e-14)
    np.testing.assert_allclose(dx, (np.exp(log_p) - np.eye(5)[y]) / 8, atol=1e-15)


@pytest.mark.parametrize("smoothing", [0.1, 1.0])
def test_label_smoothing_is_cross_entropy_with_softer_targets(rng, smoothing):
    x, y = rng.standard_normal((6, 4)), rng.integers(4, size=6)
    targets = (1 - smoothing) * np.eye(4)[y] + smoothing / 4
    value, dx = L.softmax_loss(x, y, smoothing)
    expected = -(targets * scipy.special.log_softmax(x, axis=1)).sum() / 6
    assert value == pytest.approx(expected, rel=1e-13)
    np.testing.assert_allclose(dx, (scipy.special.softmax(x, axis=1) - targets) / 6, atol=1e-15)
    with pytest.raises(ValueError, match="smoothing = 1.5"):
        L.softmax_loss(x, y, 1.5)


def test_losses_at_the_start_are_those_of_guessing(rng):
    x, y = 1e-3 * rng.standard_normal((50, 10)), rng.integers(10, size=50)
    assert L.svm_loss(x, y)[0] == pytest.approx(9.0, abs=5e-3)
    assert L.softmax_loss(x, y)[0] == pytest.approx(2.3026, abs=5e-3)


def test_losses_by_hand():
    x, y = np.array([[2.0, 1.5, -1.0]]), np.array([1])
    assert L.svm_loss(x, y)[0] == 1.5
    np.testing.assert_array_equal(L.svm_loss(x, y)[1], [[1, -1, 0]])
    assert L.mse_loss(x, y)[0] == pytest.approx((4 + 0.25 + 1) / 3)
    assert L.mse_loss(x, np.array([[2.0, 1.5, 2.0]]))[0] == 3
    with pytest.raises(ValueError, match="mse_loss: y has shape"):
        L.mse_loss(x, np.zeros((1, 2)))


def test_mse_loss_of_one_output_takes_a_number_for_each_example():
    x, y = np.array([[1.0], [2.0], [4.0]]), np.array([0.5, 2.0, 1.0])
    loss, dx = L.mse_loss(x, y)
    assert loss == pytest.approx((0.25 + 0 + 9) / 3)
    np.testing.assert_allclose(dx, [[1 / 3], [0], [2]])
    labels = np.zeros(3, int)  # of the only class: one-hot rows of 1
    assert L.mse_loss(x, labels)[0] == pytest.approx((0 + 1 + 9) / 3)


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "sigmoid", "tanh"])
def test_activations_of_a_number(name):
    forward, backward = getattr(L, f"{name}_forward"), getattr(L, f"{name}_backward")
    out, cache = forward(2.0)
    as_row, row_cache = forward([2.0])
    assert np.shape(out) == ()
    assert out == as_row[0]
    assert backward(3.0, cache) == backward([3.0], row_cache)[0]


@pytest.mark.parametrize(("far", "expected"), [(-2000, 2000), (2000, 0)])
def test_softmax_loss_of_far_scores(far, expected):
    value, dx = L.softmax_loss(np.array([[0.0, far]]), np.array([1]))
    assert value == expected
    assert np.all(np.isfinite(dx))


# ---------------------------------------------------------------------------- errors

x4, w4, b4 = np.zeros((2, 3, 6, 6)), np.zeros((4, 3, 3, 3)), np.zeros(4)
POOL = {"pool_height": 2, "pool_width": 2}
ERRORS = [
    (
        L.affine_forward,
        (np.zeros((4, 2, 3)), np.zeros((5, 6)), np.zeros(5)),
        "w should be (6, 5), not (5, 6)",
    ),
    (
        L.affine_forward,
        (np.zeros((4, 6)), np.zeros((6, 5)), np.zeros(4)),
        "w should be (6, 4), not (6, 5)",
    ),
    (L.affine_forward, (3.0, np.zeros((1, 1)), np.zeros(1)), "x has shape () and b (1,), expected (N,"),
    (
        L.affine_forward,
        (np.zeros((4, 6)), np.zeros(6), 0.0),
        "b (), expected (N, d_1, ..., d_k) and (M,)",
    ),
    (
        L.affine_forward,
        (np.zeros((4, 6)), np.full((6, 5), None), np.zeros(5)),
        "w has dtype object, expected an array of numbers",
    ),
    (L.mse_loss, (np.zeros((1, 2)), np.array([["a", "b"]])), "y has dtype <U1, expected an array"),
    (
        L.mse_loss,
        (np.zeros((2, 3, 4)), np.zeros((2, 3))),
        "y has shape (2, 3), expected targets (2, 3, 4)",
    ),
    (
        L.conv_forward,
        (x4, np.zeros((4, 2, 3, 3)), b4, {}),
        "has C = 3, but w (4, 2, 3, 3) expects C = 2",
    ),
    (L.conv_forward, (x4, w4, np.zeros(3), {}), "b should be (4,), not (3,)"),
    (L.conv_forward, (x4[0], w4, b4, {}), "expected images (N, C, H, W)"),
    (L.conv_forward, (x4, w4, b4, {"strid": 1}), "Did you mean 'stride'?"),
    (L.conv_forward, (x4, w4, b4, {"stride": 0}), "stride = 0, expected a whole number of at least 1"),
    (L.conv_forward, (x4, w4, b4, {"pad": -1}), "pad = -1, expected a whole number of at least 0"),
    (L.conv_forward, (x4, w4, b4, {"stride": 1.5}), "stride = 1.5, expected a whole number"),
    (L.conv_forward, (x4, np.zeros((4, 3, 9, 9)), b4, {}), "a window of (9, 9) does not fit"),
    (L.max_pool_forward, (x4, {"pool_height": 2}), "pool_param lacks ['pool_width']"),
    (L.max_pool_forward, (x4[0], POOL), "x has shape (3, 6, 6), expected images (N, C, H, W)"),
    (L.max_pool_forward, (x4, {**POOL, "pad": 2}), "pad = (2, 2) is more than half of the window"),
    (L.avg_pool_forward, (x4, {**POOL, "strides": 2}), "Did you mean 'stride'?"),
    (L.dropout_forward, (x4, {"p": 1, "mode": "train"}), "p is the probability of dropping"),
    (L.dropout_forward, (x4, {"mode": "train"}), "p = None, expected a number in [0, 1)"),
    (L.dropout_forward, (x4, {"p": 0.5}), "unknown mode None"),
    (L.dropout_forward, (x4, {"p": 0.5, "mode": "Train"}), "unknown mode 'Train'"),
    (L.dropout_forward, (x4, {"p": 0.5, "mode": "trian"}), "Did you mean 'train'?"),
    (
        L.batchnorm_forward,
        (np.zeros((4, 3)), np.ones(4), np.ones(4), {"mode": "train"}),
        "has 3 features",
    ),
    (L.batchnorm_forward, (x4, np.ones(3), np.ones(3), {"mode": "train"}), "expected (N, D)"),
    (L.batchnorm_forward, (np.zeros((4, 3)), np.ones(3), np.ones(3), {}), "unknown mode None"),
    (
        L.batchnorm_forward,
        (np.zeros((4, 3)), np.ones(3), np.ones(3), {"mode": "test", "running_var": np.ones(2)}),
        "running_var has shape (2,), but x (4, 3) has 3 features",
    ),
    (
        L.spatial_batchnorm_forward,
        (np.zeros((4, 3)), np.ones(3), np.ones(3), {}),
        "expected (N, C, H, W)",
    ),
    (
        L.layernorm_forward,
        (np.zeros((4, 3)), np.ones(3), np.ones(3), {"epsilon": 1}),
        "Did you mean 'eps'?",
    ),
    (
        L.spatial_groupnorm_forward,
        (x4, np.ones(3), np.ones(3), 2, {}),
        "G = 2, expected a divisor of C = 3",
    ),
    (
        L.spatial_groupnorm_forward,
        (x4, np.ones(3), np.ones(3), True, {}),
        "G = True, expected a divisor of C = 3",
    ),
]


@pytest.mark.parametrize(("function", "args", "message"), ERRORS)
def test_errors_say_who_what_came_and_what_was_expected(function, args, message):
    with pytest.raises(ValueError, match=rf"{function.__name__}: .*{re.escape(message)}"):
        function(*args)


def test_course_names_are_the_layers():
    assert L.conv_forward_fast is L.conv_forward
    assert L.batchnorm_backward_alt is L.batchnorm_backward


@pytest.mark.parametrize(("stride", "pad"), list(itertools.product((1, 2, 3), (0, 1, 2))))
def test_promised_shape_is_the_delivered_one(stride, pad):
    param = {"stride": stride, "pad": pad}
    out, _ = L.conv_forward(np.zeros((1, 1, 9, 7)), np.zeros((1, 1, 3, 2)), np.zeros(1), param)
    expected = [1 + (9 + 2 * pad - 3) // stride, 1 + (7 + 2 * pad - 2) // stride]
    assert list(out.shape[2:]) == expected
