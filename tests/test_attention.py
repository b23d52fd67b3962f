"""Attention and what stands beside it, against loops and scipy; masks; what they refuse."""

import re

import numpy as np
import pytest
import scipy.special
import scipy.stats
from handgrad import attention as A

attend = A.scaled_dot_product_attention_forward
attend_backward = A.scaled_dot_product_attention_backward


@pytest.mark.parametrize(("approximate", "tolerance"), [(False, 1e-14), (True, 5e-4)])
def test_gelu_is_x_times_the_normal_distribution_function(approximate, tolerance):
    x = np.linspace(-6, 6, 101)
    out, cache = A.gelu_forward(x, approximate)
    np.testing.assert_allclose(out, x * scipy.stats.norm.cdf(x), atol=tolerance)
    slope = scipy.stats.norm.cdf(x) + x * scipy.stats.norm.pdf(x)
    np.testing.assert_allclose(A.gelu_backward(np.ones(101), cache), slope, atol=2 * tolerance)


def test_gelu_by_tanh_at_one():
    """0.5 * (1 + tanh(0.7978845608 * 1.044715)), worked out with a pocket calculator."""
    assert A.gelu_forward(np.array([1.0]))[0][0] == pytest.approx(0.8411919906, abs=1e-10)


@pytest.mark.parametrize("approximate", [False, True])
def test_gelu_of_far_numbers(approximate):
    x = np.array([-1e4, 1e4, -np.inf, np.inf]) if not approximate else np.array([-1e4, 1e4])
    with np.errstate(all="raise", under="ignore"):
        out, cache = A.gelu_forward(x[:2], approximate)
        dx = A.gelu_backward(np.ones(2), cache)
    assert out.tolist() == [0, 1e4]
    assert dx.tolist() == [0, 1]


def test_softmax_against_scipy_and_its_jacobian(rng):
    x, dout = 5 * rng.standard_normal((3, 4, 5)), rng.standard_normal((3, 4, 5))
    out, cache = A.softmax_forward(x)
    np.testing.assert_allclose(out, scipy.special.softmax(x, axis=-1), rtol=1e-13)
    dx = A.softmax_backward(dout, cache)
    for where in np.ndindex(3, 4):
        p = out[where]
        jacobian = np.diag(p) - np.outer(p, p)
        np.testing.assert_allclose(dx[where], jacobian @ dout[where], rtol=1e-10, atol=1e-15)


def test_softmax_of_far_scores():
    out, _ = A.softmax_forward(np.array([[0.0, -2000, 2000], [-np.inf, 0, 0]]))
    assert out.tolist() == [[0, 0, 1], [0, 0.5, 0.5]]


def test_rmsnorm_makes_the_root_of_the_mean_square_gamma(rng):
    x = 1e3 * rng.standard_normal((4, 3, 50))
    out, _ = A.rmsnorm_forward(x, np.full(50, 2.5), {})
    np.testing.assert_allclose(np.sqrt(np.mean(out**2, axis=-1)), 2.5, rtol=1e-9)
    np.testing.assert_allclose(out / x, (out / x)[..., :1] * np.ones(50), rtol=1e-12)


# ---------------------------------------------------------------------------- attention


def attention_by_hand(q, k, v, seen):
    """The weighted mean, query by query. seen: (T, S)."""
    out = np.zeros((len(q), q.shape[1], v.shape[2]))
    for n, t in np.ndindex(out.shape[:2]):
        keys = np.flatnonzero(seen[t])
        scores = [q[n, t] @ k[n, s] / q.shape[2] ** 0.5 for s in keys]
        weights = scipy.special.softmax(scores)
        out[n, t] = sum(w * v[n, s] for w, s in zip(weights, keys, strict=True))
    return out


def some_arrays(rng, T=4, S=6):
    return (
        rng.standard_normal((2, T, 3)),
        rng.standard_normal((2, S, 3)),
        rng.standard_normal((2, S, 5)),
    )


MASKS = {  # mask, causal, what a query sees: row t, column s
    "all": (None, False, np.ones((4, 6), bool)),
    "causal": (None, True, [[1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 0], [1] * 6]),
    "keys": (np.array([1, 0, 1, 1, 0, 1]) > 0, False, [[1, 0, 1, 1, 0, 1]] * 4),
    "both": (
        np.array([1, 0, 1, 1, 0, 1]) > 0,
        True,
        [[1, 0, 1, 0, 0, 0], [1, 0, 1, 1, 0, 0], [1, 0, 1, 1, 0, 0], [1, 0, 1, 1, 0, 1]],
    ),
}


@pytest.mark.parametrize("name", MASKS)
class TestMasks:
    def test_attention_against_loops(self, rng, name):
        mask, causal, seen = MASKS[name]
        arrays = some_arrays(rng)
        out, _ = attend(*arrays, mask, causal)
        np.testing.assert_allclose(out, attention_by_hand(*arrays, np.array(seen)), rtol=1e-12)

    def test_what_is_masked_has_no_weight_and_no_gradient(self, rng, name):
        """One query at a time: the keys it does not see get exactly 0, the others do not."""
        mask, causal, seen = MASKS[name]
        arrays = some_arrays(rng)
        out, cache = attend(*arrays, mask, causal)
        for t in range(4):
            dout = np.zeros_like(out)
            dout[:, t] = rng.standard_normal((2, 5))
            _, dk, dv = attend_backward(dout, cache)
            for gradient in (dk, dv):
                np.testing.assert_array_equal(np.any(gradient != 0, axis=(0, 2)), np.array(seen[t]) > 0)
        spoilt = [a.copy() for a in arrays]
        for t in range(4):
            hidden = np.flatnonzero(np.array(seen[t]) == 0)
            for a, b in zip(spoilt[1:], arrays[1:], strict=True):
                a[...] = b
                a[:, hidden] = 1e6
            np.testing.assert_array_equal(attend(*spoilt, mask, causal)[0][:, t], out[:, t])


def test_attention_with_equal_keys_is_the_mean(rng):
    q, k, v = some_arrays(rng)
    out, _ = attend(q, np.ones_like(k), v)
    np.testing.assert_allclose(out, np.repeat(v.mean(axis=1, keepdims=True), 4, axis=1), rtol=1e-12)


def test_far_scores_do_not_overflow(rng):
    q, k, v = (1e3 * a.astype(np.float32) for a in some_arrays(rng))
    with np.errstate(all="raise", under="ignore"):
        out, cache = attend(q, k, v, causal=True)
        grads = attend_backward(np.ones_like(out), cache)
    assert all(np.all(np.isfinite(a)) for a in (out, *grads))


def multi_head_by_hand(x, W, b, Wo, bo, heads, seen):
    """Each head by itself, with its columns of W."""
    D = x.shape[2]
    columns = np.split(np.arange(D), heads)
    (Wq, Wk, Wv), (bq, bk, bv) = np.split(W, 3, axis=1), np.split(b, 3)
    z = [
        attention_by_hand(x @ Wq[:, h] + bq[h], x @ Wk[:, h] + bk[h], x @ Wv[:, h] + bv[h], seen)
        for h in columns
    ]
    return np.concatenate(z, axis=2) @ Wo + bo


@pytest.mark.parametrize("heads", [1, 2, 3, 6])
@pytest.mark.parametrize("causal", [False, True])
def test_multi_head_attention_is_its_heads_side_by_side(rng, heads, causal):
    arrays = [rng.standard_normal(shape) for shape in [(2, 5, 6), (6, 18), (18,), (6, 6), (6,)]]
    out, _ = A.multi_head_attention_forward(*arrays, {"heads": heads, "causal": causal})
    seen = np.tri(5) if causal else np.ones((5, 5))
    np.testing.assert_allclose(out, multi_head_by_hand(*arrays, heads, seen), rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("causal", [False, True])
def test_multi_head_attention_weights(rng, causal):
    """Each head by itself; where the values are rows of the identity, its output is the weights."""
    arrays = [rng.standard_normal(shape) for shape in [(2, 5, 6), (6, 18), (18,), (6, 6), (6,)]]
    (x, W, b, *_), seen = arrays, np.tri(5) if causal else np.ones((5, 5))
    _, cache = A.multi_head_attention_forward(*arrays, {"heads": 2, "causal": causal})
    weights = A.multi_head_attention_weights(cache)
    assert weights.shape == (2, 2, 5, 5)
    for h in range(2):
        columns = np.arange(3) + 3 * h
        q, k = x @ W[:, columns] + b[columns], x @ W[:, 6 + columns] + b[6 + columns]
        expected = attention_by_hand(q, k, np.stack([np.eye(5)] * 2), seen)
        np.testing.assert_allclose(weights[:, h], expected, rtol=1e-10, atol=1e-13)


def with_dropout(arrays, heads=2, **param):
    return A.multi_head_attention_forward(*arrays, {"heads": heads}, {"p": 0.3, **param})


def test_dropout_drops_weights_and_keeps_their_mean():
    """Zero queries weigh all steps alike, so one head with values of the identity shows the mask."""
    T = 200
    W = np.concatenate([np.zeros((T, 2 * T)), np.eye(T)], axis=1)
    arrays = [np.eye(T)[None], W, np.zeros(3 * T), np.eye(T), np.zeros(T)]
    out, cache = with_dropout(arrays, heads=1, mode="train", seed=0)
    assert np.all((out == 0) | np.isclose(out, 1 / 0.7 / T))
    assert (out == 0).mean() == pytest.approx(0.3, abs=0.01)
    np.testing.assert_allclose(A.multi_head_attention_weights(cache), 1 / T, rtol=1e-12)


def test_dropout_of_weights_follows_the_seed_and_is_for_training(rng):
    arrays = [rng.standard_normal(shape) for shape in [(2, 5, 6), (6, 18), (18,), (6, 6), (6,)]]
    plain, _ = A.multi_head_attention_forward(*arrays, {"heads": 2})
    first, _ = with_dropout(arrays, mode="train", seed=0)
    np.testing.assert_array_equal(with_dropout(arrays, mode="train", seed=0)[0], first)
    assert np.all(with_dropout(arrays, mode="train", seed=1)[0] != first)
    np.testing.assert_array_equal(with_dropout(arrays, mode="test")[0], plain)


def test_attention_without_order_sees_a_set(rng):
    """Steps in another order give the results in that order; a causal mask tells them apart."""
    arrays = [rng.standard_normal(shape) for shape in [(2, 5, 6), (6, 18), (18,), (6, 6), (6,)]]
    order = rng.permutation(5)
    for causal in (False, True):
        param = {"heads": 2, "causal": causal}
        out, _ = A.multi_head_attention_forward(*arrays, param)
        moved, _ = A.multi_head_attention_forward(arrays[0][:, order], *arrays[1:], param)
        assert np.allclose(moved, out[:, order]) != causal


# ---------------------------------------------------------------------------- positions, conv1d


def test_sinusoidal_positions_by_hand():
    P = A.sinusoidal_positions(3, 4)
    assert P[0].tolist() == [0, 1, 0, 1]
    np.testing.assert_allclose(P[2], [np.sin(2), np.cos(2), np.sin(0.02), np.cos(0.02)], rtol=1e-14)
    assert A.sinusoidal_positions(5, 3).shape == (5, 3)


def test_a_step_of_sinusoidal_positions_is_a_rotation():
    """Row t + 7 is row t turned by angles that do not depend on t."""
    P = A.sinusoidal_positions(40, 8).reshape(40, 4, 2)
    as_numbers = P[..., 1] + 1j * P[..., 0]
    turns = as_numbers[7:] / as_numbers[:-7]
    np.testing.assert_allclose(turns, turns[:1] * np.ones((33, 1)), rtol=1e-10)


def test_rows_of_positions_that_are_not_used_get_no_gradient(rng):
    x, W = rng.standard_normal((2, 3, 4)), rng.standard_normal((5, 4))
    out, cache = A.position_embedding_forward(x, W)
    np.testing.assert_array_equal(out[1, 2], x[1, 2] + W[2])
    dout = rng.standard_normal(out.shape)
    dx, dW = A.position_embedding_backward(dout, cache)
    np.testing.assert_array_equal(dx, dout)
    np.testing.assert_allclose(dW, [*dout.sum(axis=0), [0] * 4, [0] * 4])


@pytest.mark.parametrize(("stride", "pad"), [(1, 0), (2, 1), (3, 4)])
def test_conv1d_against_loops(rng, stride, pad):
    x, w, b = rng.standard_normal((2, 9, 3)), rng.standard_normal((4, 3, 5)), rng.standard_normal(4)
    out, _ = A.conv1d_forward(x, w, b, {"stride": stride, "pad": pad})
    framed = np.pad(x, [(0, 0), (pad, pad), (0, 0)])
    for n, t, f in np.ndindex(out.shape):
        steps = framed[n, t * stride : t * stride + 5]
        assert out[n, t, f] == pytest.approx(np.sum(steps * w[f].T) + b[f], rel=1e-10)
    assert out.shape[1] == 1 + (9 + 2 * pad - 5) // stride


# ---------------------------------------------------------------------------- errors

q, k, v = np.zeros((2, 4, 3)), np.zeros((2, 6, 3)), np.zeros((2, 6, 5))
x, W, b, Wo, bo = np.zeros((2, 4, 6)), np.zeros((6, 18)), np.zeros(18), np.zeros((6, 6)), np.zeros(6)
multi = A.multi_head_attention_forward
ERRORS = [
    (attend, (q, k[..., :2], v), "q has shape (2, 4, 3), k (2, 6, 2) and v (2, 6, 5), expected"),
    (attend, (q, k, v[:, :5]), "expected (N, ..., T, E), (N, ..., S, E) and (N, ..., S, D)"),
    (attend, (q[0], k[0], v[0]), "expected (N, ..., T, E)"),
    (attend, (k, q, q, None, True), "with causal=True expected T up to S"),
    (attend, (q, k, v, np.ones((4, 5), bool)), "mask has shape (4, 5) and dtype bool, expected bools"),
    (attend, (q, k, v, np.ones((3, 2, 4, 6), bool)), "that broadcast to (2, 4, 6)"),
    (attend, (q, k, v, np.ones((4, 6))), "dtype float64, expected bools"),
    (attend, (q, k, v, np.arange(4)[:, None] + np.zeros(6) != 2), "leaves query (2,) no key"),
    (attend, (q, k, v, np.arange(6) > 2, True), "leaves query (0,) no key to attend to"),
    (multi, (x, W, b, Wo, bo, {"heads": 4}), "heads = 4, expected a divisor of D = 6"),
    (multi, (x, W, b, Wo, bo, {"heads": 0}), "heads = 0, expected a divisor of D = 6"),
    (multi, (x, W, b, Wo, bo, {"head": 2}), "Did you mean 'heads'?"),
    (multi, (x, W, b, Wo, bo, {}), "attention_param lacks 'heads'"),
    (multi, (x, W, b, Wo, bo, {"heads": 2}, {"p": 1, "mode": "train"}), "p = 1, expected a number in"),
    (multi, (x, W, b, Wo, bo, {"heads": 2}, {"p": 0.5}), "unknown mode None"),
    (multi, (x[0], W, b, Wo, bo, {"heads": 2}), "x has shape (4, 6), expected (N, T, D)"),
    (multi, (x, W.T, b, Wo, bo, {"heads": 2}), "so W should be (6, 18), not (18, 6)"),
    (multi, (x, W, b, Wo, bo[1:], {"heads": 2}), "so bo should be (6,), not (5,)"),
    (multi, (x, W, b, Wo, bo, {"heads": 2, "mask": np.zeros(4, bool)}), "no key to attend to"),
    (A.rmsnorm_forward, (x, bo[1:], {}), "x has shape (2, 4, 6) and gamma (5,), expected (N, ..., D)"),
    (A.rmsnorm_forward, (x, bo, {"epsilon": 1}), "Did you mean 'eps'?"),
    (
        A.position_embedding_forward,
        (x, np.zeros((3, 6))),
        "T = 4 steps, but W (3, 6) has positions for 3",
    ),
    (A.position_embedding_forward, (x, W), "expected (N, T, D) and (P, D)"),
    (A.conv1d_forward, (x, np.zeros((2, 5, 3)), np.zeros(2), {}), "expected (N, T, D), (F, D, K)"),
    (
        A.conv1d_forward,
        (x, np.zeros((2, 6, 9)), np.zeros(2), {}),
        "K = 9 steps does not fit into T = 4",
    ),
    (A.conv1d_forward, (x, np.zeros((2, 6, 3)), np.zeros(2), {"stride": 0}), "stride = 0, expected"),
    (A.conv1d_forward, (x, np.zeros((2, 6, 3)), np.zeros(2), {"padd": 1}), "Did you mean 'pad'?"),
]


@pytest.mark.parametrize(("function", "args", "message"), ERRORS)
def test_errors_say_who_what_came_and_what_was_expected(function, args, message):
    with pytest.raises(ValueError, match=rf"{function.__name__}: .*{re.escape(message)}"):
        function(*args)
