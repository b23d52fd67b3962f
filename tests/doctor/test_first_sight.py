"""Faults by someone who had not seen the doctor. Of 96 it named 86 at first sight; these are mended."""

import numpy as np
import pytest
from handgrad.gradient_check import check_layer


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


# ---------------------------------------------------------------------------- other places


def affine(x, w):
    return x.reshape(len(x), -1) @ w, (x, w)


def reshaped_in_fortran_order(dout, cache):
    x, w = cache
    return (dout @ w.T).reshape(x.shape, order="F"), x.reshape(len(x), -1).T @ dout


def mean_of_four(x):
    N, C, H, W = x.shape
    return x.reshape(N, C, H // 2, 2, W // 2, 2).mean(axis=(3, 5)), None


def tiled(dout, _):
    return np.tile(dout, (1, 1, 2, 2)) / 4


def mean_of_all(x):
    return x.mean(axis=(2, 3)), x.shape


def first_pixel_only(dout, shape):
    dx = np.zeros(shape)
    dx[:, :, 0, 0] = dout / np.prod(shape[2:])
    return dx


# ---------------------------------------------------------------------------- sequences


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def lstm_step(x, h, c, wx, wh, b):
    i, f, o, g = np.split(x @ wx + h @ wh + b, 4, axis=1)
    i, f, o, g = sigmoid(i), sigmoid(f), sigmoid(o), np.tanh(g)
    t = np.tanh(f * c + i * g)
    return o * t, (x, h, c, wx, wh, i, f, o, g, t)


def gates_swapped(dout, cache):
    x, h, c, wx, wh, i, f, o, g, t = cache
    dc = dout * o * (1 - t * t)
    di, df, do, dg = (
        dc * g * i * (1 - i),
        dc * c * f * (1 - f),
        dout * t * o * (1 - o),
        dc * i * (1 - g * g),
    )
    da = np.hstack([di, do, df, dg])  # wrong: df comes before do
    return da @ wx.T, da @ wh.T, dc * f, x.T @ da, h.T @ da, da.sum(axis=0)


def rnn(x, h0, wx, wh):
    h = [h0]
    for x_t in x.transpose(1, 0, 2):
        h.append(np.tanh(x_t @ wx + h[-1] @ wh))
    return np.stack(h[1:], axis=1), (x, h, wx, wh)


def not_carried(dout, cache):
    x, h, wx, wh = cache
    dx, dwx, dwh = np.zeros_like(x), np.zeros_like(wx), np.zeros_like(wh)
    for t in reversed(range(x.shape[1])):
        da = dout[:, t] * (1 - h[t + 1] ** 2)  # wrong: without what comes back from the next step
        dx[:, t], dh0 = da @ wx.T, da @ wh.T
        dwx += x[:, t].T @ da
        dwh += h[t].T @ da
    return dx, dh0, dwx, dwh


# ---------------------------------------------------------------------------- inside a block


def two_layers(x, w1, b1, w2):
    a = x @ w1 + b1
    h = np.maximum(a, 0)
    return h @ w2, (x, w1, h, w2)


def without_the_mask(dout, cache):
    x, w1, h, w2 = cache
    da = dout @ w2.T
    return da @ w1.T, x.T @ da, da.sum(axis=0), h.T @ dout


def mask_of_dout(dout, cache):
    x, w1, h, w2 = cache
    da = dout @ w2.T
    da = da * (da > 0)
    return da @ w1.T, x.T @ da, da.sum(axis=0), h.T @ dout


def attention(q, k, v):
    p = np.exp(q @ k.T)
    p /= p.sum(axis=1, keepdims=True)
    return p @ v, (q, k, v, p)


def v_without_a_transpose(dout, cache):
    q, k, v, p = cache
    dp = dout @ v.T
    ds = p * (dp - (dp * p).sum(axis=1, keepdims=True))
    return ds @ k, ds.T @ q, p @ dout


# ---------------------------------------------------------------------------- norms


def unit_length(x):
    return x / np.sqrt((x * x).sum(axis=1, keepdims=True)), x


def length_constant(dout, x):
    return dout / np.sqrt((x * x).sum(axis=1, keepdims=True))


def rms_norm(x, gamma):
    s = 1 / np.sqrt((x * x).mean(axis=-1, keepdims=True) + 1e-6)
    return gamma * x * s, (x, gamma, s)


def mean_square_constant(dout, cache):
    x, gamma, s = cache
    return gamma * dout * s, (dout * x * s).sum(axis=0)


STEP = (normal(3, 4), normal(3, 5, seed=1), normal(3, 5, seed=2))
STEP += (0.4 * normal(4, 20, seed=3), 0.4 * normal(5, 20, seed=4), normal(20, seed=5))
SEQUENCE = (normal(2, 4, 3), normal(2, 5, seed=1), normal(3, 5, seed=2) / 2, normal(5, 5, seed=3) / 2)
X = normal(4, 3, seed=8) / 2
BLOCK = (normal(5, 4), normal(4, 6, seed=1), normal(6, seed=2), normal(6, 3, seed=3))
ROWS = [
    ("transposed", affine, reshaped_in_fortran_order, (normal(5, 2, 3), normal(6, 4, seed=1))),
    ("transposed", mean_of_four, tiled, (normal(2, 2, 4, 6),)),
    ("transposed", lstm_step, gates_swapped, STEP),
    ("transposed", attention, v_without_a_transpose, (X, 2 * X[::-1], X + 1)),
    ("mask", two_layers, without_the_mask, BLOCK),
    ("mask", two_layers, mask_of_dout, BLOCK),
    ("detached", mean_of_all, first_pixel_only, (normal(2, 3, 4, 4),)),
    ("detached", rnn, not_carried, SEQUENCE),
    ("statistics", unit_length, length_constant, (normal(4, 5),)),
    ("statistics", rms_norm, mean_square_constant, (normal(4, 5), normal(5, seed=1))),
]


@pytest.mark.parametrize(("cause", "forward", "backward", "args"), ROWS)
def test_the_cause_is_named(cause, forward, backward, args):
    report = check_layer(forward, backward, *args)
    assert not report
    assert {d.cause for d in report.diagnoses} == {cause}, str(report)


def test_what_a_fault_inside_spoils_points_to_the_array_that_shows_it():
    report = check_layer(lstm_step, gates_swapped, *STEP)
    assert {d.array: d.advice for d in report.diagnoses}["x"] == "Mend wx first, see there."


def test_a_forgotten_derivative_at_the_end_is_found_by_its_outputs():
    def tanh_of_product(x, w):
        return np.tanh(x @ w), (x, w)

    def without_tanh(dout, cache):
        x, w = cache
        return dout @ w.T, x.T @ dout

    x, w = normal(4, 3), normal(3, 2, seed=1)
    c = 1 / (1 - np.tanh(x @ w) ** 2)
    report = check_layer(tanh_of_product, without_tanh, x, w)
    words = f"derivative times a number, from {c.min():.4g} to {c.max():.4g}"
    assert [words in d.evidence for d in report.diagnoses] == [True, True]


# ---------------------------------------------------------------------------- no fault


def test_arrays_have_the_names_of_the_arguments():
    def forward(x, *others):
        return x * others[0], (x, others[0])

    args = (normal(2), normal(2, seed=1))
    report = check_layer(forward, lambda d, c: (d * c[1], d * c[0]), *args).require()
    assert [row.name for row in report.rows] == ["x", "argument 1"]


def test_nameless_arguments_are_counted():
    report = check_layer(lambda *a: (2 * a[0], 0), lambda d, c: 2 * d, normal(2)).require()
    assert report.rows[0].name == "argument 0"


def test_one_number_is_an_array_too():
    def scaled(x, s):
        return x * s, (x, s)

    args = (normal(2, 3), np.array(1.7))
    check_layer(scaled, lambda d, c: (d * c[1], np.sum(d * c[0])), *args).require()


def test_gradients_may_come_in_a_list():
    args = normal(4, 3), normal(3, 2, seed=1)
    check_layer(affine, lambda d, c: [d @ c[1].T, c[0].T @ d], *args).require()
