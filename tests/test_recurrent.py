"""Recurrent layers against loops, the course's numbers, and what they refuse."""

import math
import re

import numpy as np
import pytest
import scipy.special
from handgrad import recurrent as R
from handgrad.gradient_check import check_loss


def even(low, high, *shape):
    """Evenly spaced numbers in a shape, as the course's notebooks make them."""
    return np.linspace(low, high, num=math.prod(shape)).reshape(shape)


# ---------------------------------------------------------------------------- the course's numbers


def test_rnn_step_gives_the_courses_numbers():
    N, D, H = 3, 10, 4
    x, prev_h, b = even(-0.4, 0.7, N, D), even(-0.2, 0.5, N, H), even(-0.2, 0.4, H)
    next_h, _ = R.rnn_step_forward(x, prev_h, even(-0.1, 0.9, D, H), even(-0.3, 0.7, H, H), b)
    expected = [
        [-0.58172089, -0.50182032, -0.41232771, -0.31410098],
        [0.66854692, 0.79562378, 0.87755553, 0.92795967],
        [0.97934501, 0.99144213, 0.99646691, 0.99854353],
    ]
    np.testing.assert_allclose(next_h, expected, atol=5e-9)


def test_rnn_gives_the_courses_numbers():
    N, T, D, H = 2, 3, 4, 5
    x, h0, b = even(-0.1, 0.3, N, T, D), even(-0.3, 0.1, N, H), even(-0.7, 0.1, H)
    h, _ = R.rnn_forward(x, h0, even(-0.2, 0.4, D, H), even(-0.4, 0.1, H, H), b)
    expected = [
        [
            [-0.42070749, -0.27279261, -0.11074945, 0.05740409, 0.22236251],
            [-0.39525808, -0.22554661, -0.0409454, 0.14649412, 0.32397316],
            [-0.42305111, -0.24223728, -0.04287027, 0.15997045, 0.35014525],
        ],
        [
            [-0.55857474, -0.39065825, -0.19198182, 0.02378408, 0.23735671],
            [-0.27150199, -0.07088804, 0.13562939, 0.33099728, 0.50158768],
            [-0.51014825, -0.30524429, -0.06755202, 0.17806392, 0.40333043],
        ],
    ]
    np.testing.assert_allclose(h, expected, atol=5e-9)


def test_lstm_step_gives_the_courses_numbers():
    N, D, H = 3, 4, 5
    x, prev_h, prev_c = even(-0.4, 1.2, N, D), even(-0.3, 0.7, N, H), even(-0.4, 0.9, N, H)
    Wx, Wh, b = even(-2.1, 1.3, D, 4 * H), even(-0.7, 2.2, H, 4 * H), even(0.3, 0.7, 4 * H)
    next_h, next_c, _ = R.lstm_step_forward(x, prev_h, prev_c, Wx, Wh, b)
    expected_h = [
        [0.24635157, 0.28610883, 0.32240467, 0.35525807, 0.38474904],
        [0.49223563, 0.55611431, 0.61507696, 0.66844003, 0.7159181],
        [0.56735664, 0.66310127, 0.74419266, 0.80889665, 0.858299],
    ]
    expected_c = [
        [0.32986176, 0.39145139, 0.451556, 0.51014116, 0.56717407],
        [0.66382255, 0.76674007, 0.87195994, 0.97902709, 1.08751345],
        [0.74192008, 0.90592151, 1.07717006, 1.25120233, 1.42395676],
    ]
    np.testing.assert_allclose(next_h, expected_h, atol=5e-9)
    np.testing.assert_allclose(next_c, expected_c, atol=1e-8)


def test_lstm_gives_the_courses_numbers():
    N, D, H, T = 2, 5, 4, 3
    x, h0, b = even(-0.4, 0.6, N, T, D), even(-0.4, 0.8, N, H), even(0.2, 0.7, 4 * H)
    h, _ = R.lstm_forward(x, h0, even(-0.2, 0.9, D, 4 * H), even(-0.3, 0.6, H, 4 * H), b)
    expected = [
        [
            [0.01764008, 0.01823233, 0.01882671, 0.0194232],
            [0.11287491, 0.12146228, 0.13018446, 0.13902939],
            [0.31358768, 0.33338627, 0.35304453, 0.37250975],
        ],
        [
            [0.45767879, 0.4761092, 0.4936887, 0.51041945],
            [0.6704845, 0.69350089, 0.71486014, 0.7346449],
            [0.81733511, 0.83677871, 0.85403753, 0.86935314],
        ],
    ]
    np.testing.assert_allclose(h, expected, atol=5e-9)


@pytest.mark.parametrize(
    ("T", "kept", "low", "high"), [(1, 1, 2.2, 2.4), (10, 1, 22, 24), (10, 0.1, 2, 2.6)]
)
def test_temporal_softmax_loss_at_the_start_is_that_of_guessing(rng, T, kept, low, high):
    N, V = 2000, 10
    x, y = 1e-3 * rng.standard_normal((N, T, V)), rng.integers(V, size=(N, T))
    assert low < R.temporal_softmax_loss(x, y, rng.random((N, T)) <= kept)[0] < high


# ---------------------------------------------------------------------------- against plain loops


def sigmoid(x):
    return scipy.special.expit(x)


def gru_by_hand(x, h, Wx, Wh, bx, bh):
    """The formulas of torch.nn.GRU's documentation, one sequence and one step at a time."""
    H, out = len(h[0]), []
    (Wr, Wz, Wn), (Ur, Uz, Un) = np.split(Wx, 3, axis=1), np.split(Wh, 3, axis=1)
    (br, bz, bn), (cr, cz, cn) = np.split(bx, 3), np.split(bh, 3)
    for sequence, state in zip(x, h, strict=True):
        states = []
        for word in sequence:
            r = sigmoid(word @ Wr + br + state @ Ur + cr)
            z = sigmoid(word @ Wz + bz + state @ Uz + cz)
            n = np.tanh(word @ Wn + bn + r * (state @ Un + cn))
            state = (1 - z) * n + z * state
            states.append(state)
        out.append(states)
    return np.array(out).reshape(*x.shape[:2], H)


def test_gru_against_its_documented_formulas(rng):
    N, T, D, H = 3, 6, 4, 5
    shapes = [(N, T, D), (N, H), (D, 3 * H), (H, 3 * H), (3 * H,), (3 * H,)]
    arrays = [rng.standard_normal(shape) for shape in shapes]
    np.testing.assert_allclose(R.gru_forward(*arrays)[0], gru_by_hand(*arrays), rtol=1e-12)


LAYERS = {  # forward, backward, forward of one step, blocks, biases
    "rnn": (R.rnn_forward, R.rnn_backward, R.rnn_step_forward, 1, 1),
    "lstm": (R.lstm_forward, R.lstm_backward, R.lstm_step_forward, 4, 1),
    "gru": (R.gru_forward, R.gru_backward, R.gru_step_forward, 3, 2),
}


def arguments(rng, blocks, biases, N=3, T=6, D=4, H=5):
    shapes = [(N, T, D), (N, H), (D, blocks * H), (H, blocks * H), *[(blocks * H,)] * biases]
    return [rng.standard_normal(shape) for shape in shapes]


@pytest.mark.parametrize("name", LAYERS)
class TestLayersOverTime:
    def test_a_layer_is_its_step_at_every_step(self, rng, name):
        forward, _, step, *sizes = LAYERS[name]
        x, h, *rest = arguments(rng, *sizes)
        states, c = forward(x, h, *rest)[0], [np.zeros_like(h)] * (name == "lstm")
        for t in range(x.shape[1]):
            h, *c = step(x[:, t], h, *c, *rest)[:-1]
            np.testing.assert_allclose(states[:, t], h, rtol=1e-12, atol=1e-14)

    def test_a_step_depends_on_no_later_input(self, rng, name):
        forward, backward, _, *sizes = LAYERS[name]
        arrays = arguments(rng, *sizes)
        h, cache = forward(*arrays)
        dh = np.zeros_like(h)
        dh[:, 2] = 1
        dx = backward(dh, cache)[0]
        assert np.all(dx[:, 3:] == 0)
        assert np.all(dx[:, :3] != 0)

    def test_large_numbers_do_not_overflow(self, rng, name):
        forward, backward, _, *sizes = LAYERS[name]
        arrays = [1e4 * a for a in arguments(rng, *sizes)]
        arrays[1] = arrays[1].clip(-1, 1)
        with np.errstate(all="raise", under="ignore"):
            h, cache = forward(*arrays)
            grads = backward(np.ones_like(h), cache)
        assert all(np.all(np.isfinite(g)) for g in (h, *grads))

    def test_no_steps_give_no_states(self, rng, name):
        forward, backward, _, *sizes = LAYERS[name]
        h, cache = forward(*arguments(rng, *sizes, T=0))
        assert h.shape == (3, 0, 5)
        assert all(np.all(g == 0) for g in backward(h, cache))


def test_an_lstm_goes_on_from_both_of_its_states(rng):
    """A sequence in two pieces gives the states of the whole; there is a gradient of c0 if it came."""
    x, h0, *weights = arguments(rng, 4, 1)
    c0, dh = rng.standard_normal(h0.shape), rng.standard_normal((3, 6, 5))
    h, cache = R.lstm_forward(x, h0, *weights, c0)
    h_1, cache_1 = R.lstm_forward(x[:, :4], h0, *weights, c0)
    c_1 = R.last_cell_state(cache_1)
    h_2, cache_2 = R.lstm_forward(x[:, 4:], h_1[:, -1], *weights, c_1)
    np.testing.assert_allclose(np.concatenate([h_1, h_2], axis=1), h, rtol=1e-12)
    np.testing.assert_allclose(R.last_cell_state(cache_2), R.last_cell_state(cache), rtol=1e-12)
    *_, dc0 = R.lstm_backward(dh, cache)
    numeric = [
        (R.lstm_forward(x, h0, *weights, c0 + 1e-30j * d)[0] * dh).sum().imag / 1e-30
        for d in np.eye(15).reshape(15, 3, 5)
    ]
    np.testing.assert_allclose(dc0.ravel(), numeric, rtol=1e-11)
    assert len(R.lstm_backward(dh, R.lstm_forward(x, h0, *weights)[1])) == 5


def test_what_an_lstm_keeps_it_keeps_for_good():
    """With the forget gate open and the input gate shut, c and its gradient pass a step unchanged."""
    H = 3
    b = np.repeat([-100.0, 100.0, 100.0, 0.0], H)
    zeros, c = np.zeros((2, H)), np.array([[0.3, -0.5, 2.0], [1.0, 0.0, -1.0]])
    weights = np.zeros((H, 4 * H)), np.zeros((H, 4 * H)), b
    _, next_c, cache = R.lstm_step_forward(zeros, zeros, c, *weights)
    np.testing.assert_allclose(next_c, c, rtol=1e-12)
    dprev_c = R.lstm_step_backward(zeros, c, cache)[2]
    np.testing.assert_allclose(dprev_c, c, rtol=1e-12)


# ---------------------------------------------------------------------------- words, scores, loss


def test_an_embedding_adds_up_what_comes_back_for_a_word():
    x = np.array([[0, 3, 3], [3, 0, 1]], np.uint8)
    out, cache = R.word_embedding_forward(x, np.arange(8.0).reshape(4, 2))
    assert out[0].tolist() == [[0, 1], [6, 7], [6, 7]]
    dout = np.arange(12.0).reshape(2, 3, 2)
    dW = R.word_embedding_backward(dout, cache)
    assert dW.tolist() == [[0 + 8, 1 + 9], [10, 11], [0, 0], [2 + 4 + 6, 3 + 5 + 7]]


@pytest.mark.parametrize("by_step", [False, True])
def test_an_embedding_of_any_shape_and_order(rng, by_step):
    x, W = rng.integers(7, size=(4, 5)), rng.standard_normal((7, 3))
    out, cache = R.word_embedding_forward(x, W)
    dout = rng.standard_normal(out.shape)
    expected = np.zeros_like(W)
    np.add.at(expected, x, dout)
    dout = np.ascontiguousarray(dout.swapaxes(0, 1)).swapaxes(0, 1) if by_step else dout
    np.testing.assert_allclose(R.word_embedding_backward(dout, cache), expected, rtol=1e-13)
    assert R.word_embedding_forward(x[0], W)[0].shape == (5, 3)
    assert R.word_embedding_forward(np.empty((0, 5), int), W)[0].shape == (0, 5, 3)


@pytest.mark.parametrize("N", [0, 4])
def test_an_affine_map_of_words_is_that_of_their_rows(rng, N):
    x, W, Wx, b = rng.integers(7, size=(N, 5)), *map(rng.standard_normal, [(9, 3), (3, 4), (4,)])
    out, cache = R.word_affine_forward(x, W, Wx, b)
    np.testing.assert_allclose(out, W[x] @ Wx + b, rtol=1e-12)
    dout = rng.standard_normal(out.shape)
    dW, dWx, db = R.word_affine_backward(dout, cache)
    expected = np.zeros_like(W)
    np.add.at(expected, x, dout @ Wx.T)
    np.testing.assert_allclose(dW, expected, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(dWx, np.einsum("ntd,ntm->dm", W[x], dout), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(db, dout.sum(axis=(0, 1)), rtol=1e-12, atol=1e-14)


def masked(rng, N=4, T=5, V=6):
    x, y = rng.standard_normal((N, T, V)), rng.integers(V, size=(N, T))
    return x, y, rng.random((N, T)) < 0.6


class TestTemporalSoftmaxLoss:
    def test_gradient_by_complex_step(self, rng):
        x, y, mask = masked(rng)
        report = check_loss(lambda x, y: R.temporal_softmax_loss(x, y, mask), x, y)
        assert {row.method for row in report.rows} == {"complex step"}
        assert report.require().error < 1e-12

    @pytest.mark.parametrize("by_step", [False, True])
    def test_against_scipy(self, rng, by_step):
        x, y, mask = masked(rng)
        log_p = scipy.special.log_softmax(x, axis=2)
        lain = np.ascontiguousarray(x.swapaxes(0, 1)).swapaxes(0, 1) if by_step else x
        loss, dx = R.temporal_softmax_loss(lain, y, mask)
        assert loss == pytest.approx(-np.take_along_axis(log_p, y[..., None], 2)[mask].sum() / 4)
        expected = (np.exp(log_p) - np.eye(6)[y]) * mask[..., None] / 4
        np.testing.assert_allclose(dx, expected, atol=1e-15)
        assert np.all(dx[~mask] == 0)

    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble])
    def test_dtype_and_purity(self, rng, dtype):
        x, y, mask = masked(rng)
        x = x.astype(dtype)
        before = x.copy()
        loss, dx = R.temporal_softmax_loss(x, y, mask)
        assert (dx.shape, dx.dtype) == (x.shape, dtype)
        assert np.asarray(loss).dtype == dtype
        np.testing.assert_array_equal(x, before)

    def test_words_that_do_not_count_may_be_anything(self, rng):
        x, y, mask = masked(rng)
        expected = R.temporal_softmax_loss(x, y, mask)
        loss, dx = R.temporal_softmax_loss(x, np.where(mask, y, -1), mask)
        assert loss == expected[0]
        np.testing.assert_array_equal(dx, expected[1])

    def test_nothing_that_counts_and_an_empty_batch(self, rng):
        x, y, mask = masked(rng)
        for some in (slice(None), slice(0)):
            loss, dx = R.temporal_softmax_loss(x[some], y[some], np.zeros_like(mask[some]))
            assert loss == 0
            assert dx.shape == x[some].shape
            assert np.all(dx == 0)

    def test_far_scores_do_not_overflow(self):
        x, y = np.array([[[0.0, -2000], [0, 2000]]]), np.array([[1, 1]])
        assert R.temporal_softmax_loss(x, y, np.ones((1, 2), bool))[0] == 2000

    def test_verbose_prints_the_courses_line(self, rng, capsys):
        R.temporal_softmax_loss(*masked(rng), verbose=True)
        assert capsys.readouterr().out == "dx.shape: (4, 5, 6)\n"


# ---------------------------------------------------------------------------- errors

x3, h2, W2, b1 = np.zeros((2, 5, 4)), np.zeros((2, 3)), np.zeros((4, 3)), np.zeros(3)
ERRORS = [
    (
        R.rnn_forward,
        (x3[0], h2, W2, W2, b1),
        "x has shape (5, 4) and h0 (2, 3), expected (N, T, D) and",
    ),
    (R.rnn_forward, (x3, h2[:1], W2, W2, b1), "h0 (1, 3), expected (N, T, D) and (N, H)"),
    (R.rnn_forward, (x3, h2, W2, W2, b1), "so Wh should be (3, 3), not (4, 3)"),
    (R.rnn_forward, (x3, h2, W2, W2[:3], b1[:2]), "so b should be (3,), not (2,)"),
    (R.rnn_step_forward, (x3, h2, W2, W2, b1), "prev_h (2, 3), expected (N, D) and (N, H)"),
    (
        R.lstm_forward,
        (x3, h2, W2, W2, b1),
        "has D = 4 and h0 (2, 3) has H = 3, so Wx should be (4, 12)",
    ),
    (
        R.lstm_forward,
        (x3, h2, np.zeros((4, 12)), np.zeros((3, 12)), np.zeros(12), h2[:1]),
        "so c0 should be (2, 3), not (1, 3)",
    ),
    (
        R.lstm_step_forward,
        (x3[:, 0], h2, h2[:, :2], np.zeros((4, 12)), np.zeros((3, 12)), np.zeros(12)),
        "so prev_c should be (2, 3), not (2, 2)",
    ),
    (
        R.gru_forward,
        (x3, h2, np.zeros((4, 9)), np.zeros((3, 9)), np.zeros(9), np.zeros(3)),
        "so bh should be (9,), not (3,)",
    ),
    (
        R.gru_forward,
        (x3, h2, np.zeros((4, 9)), np.zeros((3, 9)), np.zeros(3), np.zeros(9)),
        "so bx should be (9,), not (3,)",
    ),
    (R.word_embedding_forward, ([[0, 4]], W2), "x holds the word 4, expected 0 to 3"),
    (R.word_embedding_forward, ([[-1, 2]], W2), "x holds the word -1, expected 0 to 3"),
    (R.word_embedding_forward, ([[0.5]], W2), "x has dtype float64, expected words as integers"),
    (R.word_embedding_forward, ([[0]], b1), "W has shape (3,), expected (V, D)"),
    (R.word_affine_forward, ([[4]], W2, W2.T, W2[:, 0]), "x holds the word 4, expected 0 to 3"),
    (R.word_affine_forward, ([[0]], W2, W2, b1), "has D = 3 and b (3,), so Wx should be (3, 3), not"),
    (R.word_affine_forward, ([0], W2, W2.T, b1), "x has shape (1,) and b (3,), expected (N, T) and"),
    (R.rnn_recurrence_forward, (h2, h2, W2), "a has shape (2, 3) and h0 (2, 3), expected (N, T, M)"),
    (R.rnn_recurrence_forward, (x3, h2, W2), "so a should be (2, 5, 3), not (2, 5, 4)"),
    (R.lstm_recurrence_forward, (np.zeros((2, 5, 12)), h2, W2), "so Wh should be (3, 12), not (4, 3)"),
    (
        R.gru_recurrence_forward,
        (np.zeros((2, 5, 9)), h2, np.zeros((3, 9)), b1),
        "has H = 3, so bh should be (9,), not (3,)",
    ),
    (R.temporal_affine_forward, (x3, W2.T, b1), "so w should be (4, 3), not (3, 4)"),
    (R.temporal_affine_forward, (b1, W2, b1), "x has shape (3,) and b (3,), expected (N, T, D)"),
    (
        R.temporal_softmax_loss,
        (x3, np.zeros((2, 4), int), np.ones((2, 5), bool)),
        "y (2, 4), expected scores (N, T, V) and words (N, T)",
    ),
    (
        R.temporal_softmax_loss,
        (x3, np.zeros((2, 5), int), np.ones((2, 4), bool)),
        "mask has shape (2, 4) and dtype bool, expected bools (2, 5)",
    ),
    (
        R.temporal_softmax_loss,
        (x3, np.zeros((2, 5)), np.ones((2, 5), bool)),
        "y has dtype float64, expected integers",
    ),
    (
        R.temporal_softmax_loss,
        (x3, np.full((2, 5), 4), np.ones((2, 5), bool)),
        "y holds the word 4, expected 0 to 3",
    ),
]


@pytest.mark.parametrize(("function", "args", "message"), ERRORS)
def test_errors_say_who_what_came_and_what_was_expected(function, args, message):
    with pytest.raises(ValueError, match=rf"{function.__name__}: .*{re.escape(message)}"):
        function(*args)
