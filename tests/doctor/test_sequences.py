"""Faults in layers for sequences, as students write them, written before the doctor saw them.

Of 34 it named 17 at first sight; in 1 it gave another name that fits, in 2 a wrong one, and in 14 none.
Now it names 24 of them; `a_transpose_too_many` came later.
"""

# ruff: noqa: RUF059

import numpy as np
import pytest
from handgrad.gradient_check import check_layer, check_loss

RNG = np.random.default_rng(8)
LAYERS, LOSSES = [], []


def normal(*shape):
    return RNG.standard_normal(shape)


def faulty(causes, forward, *args):
    """Enter a backward pass; causes: what each array gets: 'Wx: sum, b: sum'."""

    def enter(backward):
        LAYERS.append(pytest.param(causes, forward, backward, args, id=backward.__name__))
        return backward

    return enter


def faulty_loss(cause, *args):
    def enter(loss):
        LOSSES.append(pytest.param(cause, loss, args, id=loss.__name__))
        return loss

    return enter


# ---------------------------------------------------------------------------- one step of a recurrence


def step_forward(x, h, Wx, Wh, b):
    out = np.tanh(x @ Wx + h @ Wh + b)
    return out, (x, h, Wx, Wh, out)


def step_backward(dout, cache):
    x, h, Wx, Wh, out = cache
    da = dout * (1 - out * out)
    return da @ Wx.T, da @ Wh.T, x.T @ da, h.T @ da, da.sum(axis=0)


STEP = (step_forward, normal(3, 4), normal(3, 5), normal(4, 5), normal(5, 5), normal(5))


@faulty("x h Wx Wh b: unknown", *STEP)
def tanh_is_left_out(dout, cache):
    x, h, Wx, Wh, out = cache
    return dout @ Wx.T, dout @ Wh.T, x.T @ dout, h.T @ dout, dout.sum(axis=0)


@faulty("h: transposed", *STEP)
def wh_without_transpose(dout, cache):
    x, h, Wx, Wh, out = cache
    da = dout * (1 - out * out)
    return da @ Wx.T, da @ Wh, x.T @ da, h.T @ da, da.sum(axis=0)


@faulty("h: transposed", lambda h, W: (np.tanh(h @ W.T), (h, W)), normal(3, 5), normal(5, 5))
def a_transpose_too_many(dout, cache):
    h, W = cache
    da = dout * (1 - np.tanh(h @ W.T) ** 2)
    return da @ W.T, da.T @ h


@faulty("b: sum", *STEP)
def step_bias_mean(dout, cache):
    dx, dh, dWx, dWh, _ = step_backward(dout, cache)
    x, h, Wx, Wh, out = cache
    return dx, dh, dWx, dWh, (dout * (1 - out * out)).sum(axis=1)[:1] * np.ones(5)


@faulty("Wh: unknown", *STEP)
def wh_with_the_new_state(dout, cache):
    dx, dh, dWx, _, db = step_backward(dout, cache)
    x, h, Wx, Wh, out = cache
    return dx, dh, dWx, out.T @ (dout * (1 - out * out)), db


# ---------------------------------------------------------------------------- the whole recurrence


def rnn_forward(x, h0, Wx, Wh, b):
    h, hs = h0, []
    for t in range(x.shape[1]):
        h = np.tanh(x[:, t] @ Wx + h @ Wh + b)
        hs.append(h)
    return np.stack(hs, axis=1), (x, h0, Wx, Wh, hs)


def rnn(dout, cache, carry="right", start=0, add=True, last_first=True):
    x, h0, Wx, Wh, hs = cache
    N, T, H = dout.shape
    dx, dWx, dWh, db = np.zeros_like(x), np.zeros_like(Wx), np.zeros_like(Wh), np.zeros(H)
    dh = np.zeros((N, H))
    for t in range(T - 1, start - 1, -1) if last_first else range(T):
        dh = {"right": dout[:, t] + dh, "none": dout[:, t], "lost": dh if t < T - 1 else dout[:, t]}[
            carry
        ]
        da = dh * (1 - hs[t] ** 2)
        prev = hs[t - 1] if t else h0
        dx[:, t] = da @ Wx.T
        terms = x[:, t].T @ da, prev.T @ da, da.sum(axis=0)
        dWx, dWh, db = (a + b if add else b for a, b in zip((dWx, dWh, db), terms, strict=True))
        dh = da @ Wh.T
    return dx, dh, dWx, dWh, db


RNN = (rnn_forward, normal(2, 4, 3), normal(2, 5), normal(3, 5), 0.6 * normal(5, 5), normal(5))


@faulty("x Wx Wh b h0: detached", *RNN)
def next_steps_gradient_is_not_added(dout, cache):
    return rnn(dout, cache, carry="none")


@faulty("x Wx Wh b h0: overwritten", *RNN)  # the gradient of the state takes dout's place
def only_the_last_step_gets_dout(dout, cache):
    return rnn(dout, cache, carry="lost")


@faulty("x Wx Wh b h0: detached", *RNN)
def the_first_step_is_not_reached(dout, cache):
    return rnn(dout, cache, start=1)


@faulty("Wx Wh b: overwritten", *RNN)
def weights_are_assigned_at_each_step(dout, cache):
    return rnn(dout, cache, add=False)


@faulty("x Wx Wh b h0: unknown", *RNN)
def the_loop_runs_forward(dout, cache):
    return rnn(dout, cache, last_first=False)


@faulty("h0: detached", *RNN)
def first_state_gets_none(dout, cache):
    dx, dh0, *others = rnn(dout, cache)
    return dx, np.zeros_like(dh0), *others


@faulty("Wx Wh b: factor", *RNN)
def mean_over_steps(dout, cache):
    dx, dh0, *others = rnn(dout, cache)
    return dx, dh0, *(g / 4 for g in others)


# ---------------------------------------------------------------------------- lstm


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def lstm_step_forward(x, h, c, Wx, Wh, b):
    H = h.shape[1]
    a = x @ Wx + h @ Wh + b
    i, f, o = (sigmoid(a[:, k * H : (k + 1) * H]) for k in range(3))
    g = np.tanh(a[:, 3 * H :])
    new_c = f * c + i * g
    return o * np.tanh(new_c), (x, h, c, Wx, Wh, i, f, o, g, new_c)


def lstm_step(dout, cache, wrong=""):
    x, h, c, Wx, Wh, i, f, o, g, new_c = cache
    tc = np.tanh(new_c)
    dc = dout * o * (1 if wrong == "tanh c" else 1 - tc * tc)
    di, df, do, dg = dc * g, dc * c, dout * tc, dc * i
    da = [di * i * (1 - i), df * f * (1 - f), do * o * (1 - o), dg * (1 - g * g)]
    if wrong == "g by sigmoid":
        da[3] = dg * g * (1 - g)
    if wrong == "gates exchanged":
        da[0], da[1] = da[1], da[0]
    if wrong == "forget by new c":
        da[1] = dc * new_c * f * (1 - f)
    da = np.concatenate(da, axis=1)
    dc_prev = dc * (i if wrong == "c by i" else f)
    return da @ Wx.T, da @ Wh.T, dc_prev, x.T @ da, h.T @ da, da.sum(axis=0)


LSTM = (
    lstm_step_forward,
    normal(3, 4),
    normal(3, 2),
    normal(3, 2),
    normal(4, 8),
    normal(2, 8),
    normal(8),
)


@faulty("x h c Wx Wh b: unknown", *LSTM)
def cell_without_tanhs_derivative(dout, cache):
    return lstm_step(dout, cache, "tanh c")


@faulty("x h Wx Wh b: unknown", *LSTM)
def candidate_by_sigmoids_derivative(dout, cache):
    return lstm_step(dout, cache, "g by sigmoid")


@faulty("x h Wx Wh b: transposed", *LSTM)
def input_and_forget_gate_exchanged(dout, cache):
    return lstm_step(dout, cache, "gates exchanged")


@faulty("c: unknown", *LSTM)
def cell_goes_back_by_the_input_gate(dout, cache):
    return lstm_step(dout, cache, "c by i")


@faulty("c: detached", *LSTM)
def cell_gets_none(dout, cache):
    dx, dh, dc, *others = lstm_step(dout, cache)
    return dx, dh, np.zeros_like(dc), *others


# ---------------------------------------------------------------------------- gru


def gru_step_forward(x, h, Wx, Wh):
    H = h.shape[1]
    ax, ah = x @ Wx, h @ Wh
    r, z = (sigmoid(ax[:, k * H : (k + 1) * H] + ah[:, k * H : (k + 1) * H]) for k in range(2))
    n = np.tanh(ax[:, 2 * H :] + r * ah[:, 2 * H :])
    return (1 - z) * n + z * h, (x, h, Wx, Wh, r, z, n, ah[:, 2 * H :])


def gru_step(dout, cache, wrong=""):
    x, h, Wx, Wh, r, z, n, u = cache
    dz, dn = dout * (h - n), dout * (1 - z)
    if wrong == "sign":
        dz = -dz
    dan = dn * (1 - n * n)
    dr, du = dan * u, dan * r
    dar, daz = dr * r * (1 - r), dz * z * (1 - z)
    dax = np.concatenate([dar, daz, dan], axis=1)
    dah = np.concatenate([dar, daz, dan if wrong == "no r" else du], axis=1)
    dh = dah @ Wh.T + (0 if wrong == "no skip" else dout * z)
    return dax @ Wx.T, dh, x.T @ dax, h.T @ dah


GRU = (gru_step_forward, normal(3, 4), normal(3, 2), normal(4, 6), normal(2, 6))


@faulty("x h Wx Wh: sign", *GRU)
def update_gates_sign(dout, cache):
    return gru_step(dout, cache, "sign")


@faulty("h: detached", *GRU)
def the_way_past_the_gate_is_left_out(dout, cache):
    return gru_step(dout, cache, "no skip")


@faulty("h Wh: unknown", *GRU)
def reset_gate_is_left_out(dout, cache):
    return gru_step(dout, cache, "no r")


# ---------------------------------------------------------------------------- attention


def attention_forward(q, k, v):
    s = q @ k.transpose(0, 2, 1) / np.sqrt(q.shape[2])
    e = np.exp(s - s.max(axis=2, keepdims=True))
    p = e / e.sum(axis=2, keepdims=True)
    return p @ v, (q, k, v, p)


def attention(dout, cache, wrong=""):
    q, k, v, p = cache
    dp = dout @ v.transpose(0, 2, 1)
    ds = p * (dp - (dp * p).sum(axis=1 if wrong == "axis" else 2, keepdims=True))
    if wrong == "diagonal":
        ds = p * (1 - p) * dp
    if wrong == "through":
        ds = p * dp
    if wrong != "scale":
        ds = ds / np.sqrt(q.shape[2])
    dk = ds @ q if wrong == "k" else ds.transpose(0, 2, 1) @ q
    dv = p @ dout if wrong == "v" else p.transpose(0, 2, 1) @ dout
    return ds @ k, dk, dv


ATTENTION = (attention_forward, normal(2, 4, 3), normal(2, 4, 3), normal(2, 4, 3))


@faulty("q k: factor", *ATTENTION)
def scale_is_left_out(dout, cache):
    return attention(dout, cache, "scale")


@faulty("v: transposed", *ATTENTION)
def weights_without_transpose(dout, cache):
    return attention(dout, cache, "v")


@faulty("k: unknown", *ATTENTION)
def scores_without_transpose(dout, cache):
    return attention(dout, cache, "k")


@faulty("q k: unknown", *ATTENTION)
def softmax_by_its_diagonal(dout, cache):
    return attention(dout, cache, "diagonal")


@faulty("q k: unknown", *ATTENTION)
def softmax_over_the_wrong_axis(dout, cache):
    return attention(dout, cache, "axis")


@faulty("q k: order", *ATTENTION)
def keys_for_queries(dout, cache):
    dq, dk, dv = attention(dout, cache)
    return dk, dq, dv


# ---------------------------------------------------------------------------- norm, embedding, affine


def ln_forward(x, gamma, beta):
    m, s = x.mean(axis=2, keepdims=True), np.sqrt(x.var(axis=2, keepdims=True) + 1e-5)
    return gamma * (x - m) / s + beta, (x - m, s, gamma)


def ln(dout, cache, axis=2, wrong=""):
    c, s, gamma = cache
    xhat, d = c / s, dout * gamma
    if wrong == "no gamma":
        d = dout
    dx = (d - d.mean(axis, keepdims=True) - xhat * (d * xhat).mean(axis, keepdims=True)) / s
    return dx, (dout * xhat).sum(axis=(0, 1)), dout.sum(axis=(0, 1))


LN = (ln_forward, normal(2, 3, 5), normal(5), normal(5))


@faulty("x: factor", *LN)
def layer_norm_without_gamma(dout, cache):
    return ln(dout, cache, wrong="no gamma")


@faulty("x: sum", *LN)
def layer_norm_over_time(dout, cache):
    return ln(dout, cache, axis=1)


@faulty("gamma beta: sum", *LN)
def gamma_summed_over_the_batch_only(dout, cache):
    dx, *_ = ln(dout, cache)
    c, s, gamma = cache
    return dx, (dout * c / s).sum(axis=0), dout.sum(axis=0)


WORDS = np.array([[0, 2, 2], [4, 2, 0]])


def embedding_forward(W):
    return W[WORDS], W.shape


@faulty("W: overwritten", embedding_forward, normal(5, 3))
def embedding_assigns(dout, shape):
    dW = np.zeros(shape)
    dW[WORDS] = dout
    return dW


@faulty("W: overwritten", embedding_forward, normal(5, 3))
def embedding_adds_once(dout, shape):
    dW = np.zeros(shape)
    dW[WORDS] += dout
    return dW


def temporal_affine_forward(x, w, b):
    return x @ w + b, (x, w)


@faulty("b: sum", temporal_affine_forward, normal(2, 3, 4), normal(4, 5), normal(5))
def temporal_bias_over_the_batch_only(dout, cache):
    x, w = cache
    return dout @ w.T, np.einsum("ntd,ntm->dm", x, dout), dout.sum(axis=0)


# ---------------------------------------------------------------------------- the loss of a sequence


def temporal_softmax(x, y, mask):
    e = np.exp(x - x.max(axis=2, keepdims=True))
    p = e / e.sum(axis=2, keepdims=True)
    N, T = y.shape
    own = np.arange(N)[:, None], np.arange(T), y
    d = p.copy()
    d[own] -= 1
    return -np.sum(mask * np.log(p[own])), d, mask


SCORES, Y = normal(3, 4, 5), RNG.integers(0, 5, (3, 4))
MASK = np.array([[1, 1, 1, 0], [1, 1, 0, 0], [1, 1, 1, 1]], bool)


@faulty_loss("mask", SCORES, Y)
def padding_is_not_masked(x, y):
    loss, d, mask = temporal_softmax(x, y, MASK)
    return loss / 3, d / 3


@faulty_loss("factor", SCORES, Y)
def gradient_of_the_sum(x, y):
    loss, d, mask = temporal_softmax(x, y, MASK)
    return loss / 3, d * mask[:, :, None]


@faulty_loss("factor", SCORES, Y)
def mean_over_words_too(x, y):
    loss, d, mask = temporal_softmax(x, y, MASK)
    return loss / 3, d * mask[:, :, None] / mask.sum()


# ---------------------------------------------------------------------------- tests


def by_array(causes):
    """{array: its cause}."""
    table = {}
    for part in causes.split(", "):
        names, words = part.split(": ")
        table |= dict.fromkeys(names.split(), words)
    return table


@pytest.mark.parametrize(("causes", "forward", "backward", "args"), LAYERS)
def test_a_cause_that_fits(causes, forward, backward, args):
    report = check_layer(forward, backward, *args)
    found = {d.array: d.cause for d in report.diagnoses}
    assert found == by_array(causes), report


@pytest.mark.parametrize(("cause", "loss", "args"), LOSSES)
def test_a_loss_gets_a_cause_that_fits(cause, loss, args):
    assert [d.cause for d in check_loss(loss, *args).diagnoses] == [cause]


PAIRS = [(step_forward, step_backward, STEP[1:]), (rnn_forward, rnn, RNN[1:])]
PAIRS += [(lstm_step_forward, lstm_step, LSTM[1:]), (gru_step_forward, gru_step, GRU[1:])]
PAIRS += [(attention_forward, attention, ATTENTION[1:]), (ln_forward, ln, LN[1:])]


@pytest.mark.parametrize(("forward", "backward", "args"), PAIRS)
def test_without_the_fault_there_is_none(forward, backward, args):
    assert not check_layer(forward, backward, *args).require().diagnoses
