"""The fast way gives what the obvious way gives."""

import numpy as np
import pytest
import scipy.special
from handgrad.engine.arrays import (
    as_float,
    as_floats,
    bits,
    cast,
    feature_products,
    feature_sums,
    kept_where,
    logistic,
    plus,
    positive_part,
    row_products,
    row_sums,
    spread,
    times_mask,
    widened,
)
from handgrad.engine.parts import Parts

FLOATS = [np.float16, np.float32, np.float64, np.longdouble, np.complex64, np.complex128]
ORDERS = {
    "rows": lambda x: x,
    "batch innermost": lambda x: np.ascontiguousarray(x.transpose(2, 1, 3, 0)).transpose(3, 1, 0, 2),
    "every other": lambda x: np.repeat(x, 2, axis=0)[::2],
}


def drawn(dtype=np.float64, order="rows", seed=0):
    """Small multiples of 1/4: every order of additions gives the same."""
    x = np.random.default_rng(seed).integers(-20, 20, (5, 3, 4, 2)) / 4
    return ORDERS[order](x.astype(dtype))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dtype", FLOATS)
def test_what_a_mask_keeps_and_what_is_left(dtype, order):
    a, mask = drawn(dtype, order), drawn(order="rows", seed=1) > 0
    before = a.copy()
    kept = kept_where(mask, a)
    np.testing.assert_array_equal(kept, np.where(mask, a, 0))
    whole = bits(a)
    rest = (whole - times_mask(whole, mask)).view(dtype)
    np.testing.assert_array_equal(rest, np.where(mask, 0, a))
    np.testing.assert_array_equal(a, before)
    assert kept.dtype == rest.dtype == dtype


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_mask_keeps_every_bit(dtype):
    """Infinity, NaN, the smallest and the largest number, and minus zero."""
    info = np.finfo(dtype)
    a = np.array([np.inf, -np.inf, np.nan, info.smallest_subnormal, info.max, -0.0, -1.5], dtype)
    every, none = np.ones(7, bool), np.zeros(7, bool)
    assert kept_where(every, a).tobytes() == a.tobytes()
    assert kept_where(none, a).tobytes() == bytes(a.nbytes)
    assert (bits(a) - times_mask(bits(a), none)).tobytes() == a.tobytes()
    assert (bits(a) - times_mask(bits(a), every)).tobytes() == bytes(a.nbytes)


@pytest.mark.parametrize("dtype", FLOATS)
def test_the_positive_part_looks_at_the_real_part(dtype):
    x = np.array([-2.0, 0, 3]).astype(dtype)
    if x.dtype.kind == "c":
        x += dtype(1j)
    np.testing.assert_array_equal(positive_part(x), [0, 0, x[2]])
    assert positive_part(x).dtype == dtype


@pytest.mark.parametrize("order", ORDERS)
def test_one_number_for_each_feature(order):
    x, p = drawn(order=order), np.array([1.0, 2, 3])
    expected = x * p[None, :, None, None]
    np.testing.assert_array_equal(x * spread(p, x), expected)
    np.testing.assert_array_equal(x * spread(p.reshape(1, 3, 1, 1), x), expected)
    rows = x[:, :, 0, 0]
    np.testing.assert_array_equal(rows * spread(p, rows), rows * p)
    written_out = order == "batch innermost"  # so that passes run over whole rows
    assert spread(p, x).shape == ((5, 3, 1, 2) if written_out else (1, 3, 1, 1))


@pytest.mark.parametrize("order", ORDERS)
def test_sums_for_each_feature(order):
    a, b = drawn(order=order), drawn(order=order, seed=1)
    np.testing.assert_array_equal(feature_sums(a), a.sum(axis=(0, 2, 3)))
    np.testing.assert_array_equal(feature_products(a, b), (a * b).sum(axis=(0, 2, 3)))
    np.testing.assert_array_equal(feature_sums(a[:, :, 0, 0]), a[:, :, 0, 0].sum(axis=0))


@pytest.mark.parametrize("shape", [(3, 5), (2, 3, 4), (3, 0), (0, 4)])
@pytest.mark.parametrize("dtype", FLOATS[1:])
def test_sums_for_each_row(dtype, shape):
    rng, unit = np.random.default_rng(0), 1 + 2j if np.dtype(dtype).kind == "c" else 1
    a, b = ((rng.integers(-9, 9, shape) * unit).astype(dtype) for _ in range(2))
    for x, y in ((a, b), (np.asfortranarray(a), b[..., ::-1])):
        np.testing.assert_array_equal(row_sums(x), x.sum(axis=-1, keepdims=True), strict=True)
        expected = (x * y).sum(axis=-1, keepdims=True)  # no conjugates
        np.testing.assert_array_equal(row_products(x, y), expected, strict=True)


def test_floats_stay_as_they_are():
    arrays = {np.dtype(dtype).name: np.ones(3, dtype) for dtype in FLOATS}
    assert all(a is b for a, b in zip(as_floats("who", **arrays), arrays.values(), strict=True))
    for dtype in (np.uint8, np.int64, bool):
        assert as_float("who", "x", np.ones(3, dtype)).dtype == np.float64
    assert as_float("who", "x", [1, 2]).tolist() == [1.0, 2.0]
    assert as_float("who", "x", np.float32(2)).dtype == np.float32
    assert as_float("who", "x", Parts([np.ones(3, np.uint8)])).arrays[0].dtype == np.float64


def test_only_float16_is_widened():
    for dtype in FLOATS:
        a = np.ones(3, dtype)
        assert widened(a).dtype == (np.float32 if dtype is np.float16 else dtype)
        assert widened(a) is a or dtype is np.float16


def test_a_gradient_in_the_dtype_of_its_argument():
    wide = np.ones(3)
    assert cast(wide, np.dtype(np.float32)).dtype == np.float32
    assert cast(wide, np.dtype(np.float64)) is wide
    step = wide + 1e-200j  # a complex step must not be lost
    assert cast(step, np.dtype(np.float64)) is step
    assert cast(step, np.dtype(np.complex64)).dtype == np.complex64


def test_a_sum_in_the_memory_of_the_first():
    a, b = np.ones(3, np.float32), np.ones(3, np.float32)
    assert plus(a, b) is a
    np.testing.assert_array_equal(a, 2)
    wide = plus(a, np.ones(3))
    assert wide.dtype == np.float64
    np.testing.assert_array_equal(a, 2)


@pytest.mark.parametrize("dtype", FLOATS)
def test_the_logistic_function_is_written_into_its_argument(dtype):
    x = np.array([0, 1, -1, 3.5, -2e4, 2e4], dtype)
    expected, eps = scipy.special.expit(x.real.astype(float)), np.finfo(dtype).eps
    with np.errstate(all="raise", under="ignore"):
        assert logistic(x) is x
    np.testing.assert_allclose(x.real.astype(float), expected, rtol=4 * eps, atol=eps)
    assert np.all(x[-2:] == [0, 1])


def test_the_logistic_function_by_complex_step():
    x = np.array([0.3, -2.0, 800.0, -800.0])
    slope = scipy.special.expit(x) * scipy.special.expit(-x)
    np.testing.assert_allclose(logistic(x + 1e-30j).imag / 1e-30, slope, rtol=1e-12, atol=1e-16)


def test_the_logistic_function_of_small_probabilities_keeps_all_digits():
    x = np.array([-30.0, -80.0], np.float32)
    np.testing.assert_allclose(logistic(x.copy()), scipy.special.expit(x), rtol=1e-6)
