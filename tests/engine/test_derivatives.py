"""Derivatives of functions that are known by hand, and of functions that lose a complex number."""

import numpy as np
import pytest
from handgrad.engine.derivatives import CENTRAL, COMPLEX_STEP, Derivative

X = np.array([-1.5, 0.5, 2.0])
UNIT = np.eye(3)


def of(f, point=X):
    return Derivative(lambda values: f(values["x"]), {"x": point}, "x")


def test_a_complex_step_is_right_to_the_last_digits():
    derivative = of(np.tanh)
    assert derivative.method == COMPLEX_STEP
    for k in range(3):
        slope, may_kink = derivative.along(UNIT[k])
        np.testing.assert_allclose(slope, UNIT[k] / np.cosh(X) ** 2, rtol=1e-14)
        assert not may_kink


LOSSY = {  # f, its derivative by x_1
    "abs": (np.abs, UNIT[1]),
    "real": (lambda x: x.real**2, UNIT[1]),
    "cast": (lambda x: np.asarray(x, dtype=float) ** 3, 0.75 * UNIT[1]),
    "var": (lambda x: np.var(x), 2 / 3 * (0.5 - X.mean())),
    "buffer": (lambda x: np.stack([np.full(3, x[1])]).astype(np.float64)[0], np.ones(3)),
    "float()": (lambda x: np.array([float(v) ** 2 for v in x]), UNIT[1]),
    "conjugate": (lambda x: x * np.conj(x), UNIT[1]),
    "norm": (lambda x: np.linalg.norm(x), 0.5 / np.linalg.norm(X)),
    "value-error": (lambda x: np.clip(x, -1, None) if np.isrealobj(x) else [][0], UNIT[1]),
}


@pytest.mark.parametrize(("f", "expected"), LOSSY.values(), ids=LOSSY)
def test_what_a_complex_step_cannot_see_through(f, expected):
    derivative = of(f)
    assert derivative.method == CENTRAL
    np.testing.assert_allclose(derivative.along(UNIT[1])[0], expected, rtol=1e-8, atol=1e-9)


def test_single_precision_takes_longer_steps():
    derivative = of(lambda x: np.tanh(np.asarray(x, np.float32)))
    assert derivative.single
    np.testing.assert_allclose(derivative.along(UNIT[1])[0][1], 1 / np.cosh(0.5) ** 2, rtol=1e-3)


def test_the_two_sides_of_a_kink():
    derivative = of(lambda x: np.maximum(x, 0) * 3, np.array([-1.0, 0.0, 2.0]))
    assert derivative.along(UNIT[1])[1]
    left, right = derivative.sides(UNIT[1])
    np.testing.assert_allclose([left[1], right[1]], [0, 3], atol=1e-6)
    assert derivative.sides(UNIT[2]) is None


@pytest.mark.parametrize("sharpness", [1, 30, 1000])
def test_a_sharp_bend_is_no_kink(sharpness):
    f = of(lambda x: np.abs(np.log(np.cosh(sharpness * x))) / sharpness, np.array([0.0, 0.001, 1e-2]))
    assert f.method == CENTRAL
    assert all(f.sides(UNIT[k]) is None for k in range(3))


def test_an_array_of_its_own_dtype_is_left_alone():
    values = {"x": X.copy()}
    Derivative(lambda v: v["x"] ** 2, values, "x").along(UNIT[0])
    np.testing.assert_array_equal(values["x"], X)
