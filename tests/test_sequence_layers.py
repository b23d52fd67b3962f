"""The pairs of recurrent.py and attention.py: every pair stands in one table, a new pair is a new row.

They keep the contract of layers.py, which test_layers.py states for those layers.
"""

import inspect

import numpy as np
import pytest
from handgrad import attention as A
from handgrad import recurrent as R
from handgrad.gradient_check import check_layer, eval_numerical_gradient_array

N, T, D, H = 3, 5, 4, 2
WORDS = np.array([[1, 4, 0, 4, 2], [4, 4, 3, 0, 1], [0, 1, 1, 4, 2]])


def lstm_step_forward(x, prev_h, prev_c, Wx, Wh, b):
    """The LSTM's two states side by side, as one output."""
    next_h, next_c, cache = R.lstm_step_forward(x, prev_h, prev_c, Wx, Wh, b)
    return np.concatenate([next_h, next_c], axis=1), cache


def lstm_step_backward(dout, cache):
    return R.lstm_step_backward(dout[:, :H], dout[:, H:], cache)


def lstm_forward(x, h0, c0, Wx, Wh, b):
    """The LSTM with both of its first states, the arguments that are a batch in front."""
    return R.lstm_forward(x, h0, Wx, Wh, b, c0)


def lstm_backward(dh, cache):
    dx, dh0, dWx, dWh, db, dc0 = R.lstm_backward(dh, cache)
    return dx, dh0, dc0, dWx, dWh, db


def word_embedding_forward(W):
    return R.word_embedding_forward(WORDS, W)


def word_affine_forward(W, Wx, b):
    return R.word_affine_forward(WORDS, W, Wx, b)


def weights(blocks):
    return [(D, blocks * H), (H, blocks * H), (blocks * H,)]


ATTENTION = (A.scaled_dot_product_attention_forward, A.scaled_dot_product_attention_backward)
MULTI_HEAD = (A.multi_head_attention_forward, A.multi_head_attention_backward)
SOME_KEYS = np.arange(T * 6).reshape(1, 1, T, 6) % 3 != 1
NOT_THE_FIFTH = np.arange(T) != 4

# id, forward, backward, shapes of the array arguments, how many of them are a batch, settings
ROWS = [
    ("embedding", word_embedding_forward, R.word_embedding_backward, [(6, D)], 0, []),
    ("word-affine", word_affine_forward, R.word_affine_backward, [(6, D), (D, 3), (3,)], 0, []),
    ("rnn-step", R.rnn_step_forward, R.rnn_step_backward, [(N, D), (N, H), *weights(1)], 2, []),
    ("rnn", R.rnn_forward, R.rnn_backward, [(N, T, D), (N, H), *weights(1)], 2, []),
    ("rnn-one-step", R.rnn_forward, R.rnn_backward, [(N, 1, D), (N, H), *weights(1)], 2, []),
    ("lstm-step", lstm_step_forward, lstm_step_backward, [(N, D), (N, H), (N, H), *weights(4)], 3, []),
    ("lstm", R.lstm_forward, R.lstm_backward, [(N, T, D), (N, H), *weights(4)], 2, []),
    ("lstm-c0", lstm_forward, lstm_backward, [(N, T, D), (N, H), (N, H), *weights(4)], 3, []),
    (
        "gru-step",
        R.gru_step_forward,
        R.gru_step_backward,
        [(N, D), (N, H), *weights(3), (3 * H,)],
        2,
        [],
    ),
    ("gru", R.gru_forward, R.gru_backward, [(N, T, D), (N, H), *weights(3), (3 * H,)], 2, []),
    *(
        (f"{name}-recurrence", *pair, [(N, T, k * H), (N, H), (H, k * H), *more], 2, [])
        for name, pair, k, more in (
            ("rnn", (R.rnn_recurrence_forward, R.rnn_recurrence_backward), 1, []),
            ("lstm", (R.lstm_recurrence_forward, R.lstm_recurrence_backward), 4, []),
            ("gru", (R.gru_recurrence_forward, R.gru_recurrence_backward), 3, [(3 * H,)]),
        )
    ),
    (
        "temporal_affine",
        R.temporal_affine_forward,
        R.temporal_affine_backward,
        [(N, T, D), (D, 6), (6,)],
        1,
        [],
    ),
    (
        "temporal_affine-one-step",
        R.temporal_affine_forward,
        R.temporal_affine_backward,
        [(N, D), (D, 6), (6,)],
        1,
        [],
    ),
    ("word_scores", R.word_scores_forward, R.word_scores_backward, [(N, T, D), (6, D)], 1, []),
    ("last_step", R.last_step_forward, R.last_step_backward, [(N, T, D)], 1, []),
    ("gelu", A.gelu_forward, A.gelu_backward, [(N, T, D)], 1, []),
    ("gelu-exact", A.gelu_forward, A.gelu_backward, [(N, T, D)], 1, [False]),
    ("softmax", A.softmax_forward, A.softmax_backward, [(N, T, D)], 1, []),
    ("rmsnorm", A.rmsnorm_forward, A.rmsnorm_backward, [(N, T, D), (D,)], 1, [{}]),
    ("rmsnorm-eps", A.rmsnorm_forward, A.rmsnorm_backward, [(N, D), (D,)], 1, [{"eps": 0.1}]),
    ("attention", *ATTENTION, [(N, T, D), (N, 6, D), (N, 6, 3)], 3, []),
    ("attention-causal", *ATTENTION, [(N, T, D), (N, 6, D), (N, 6, 3)], 3, [None, True]),
    ("attention-masked", *ATTENTION, [(N, 2, T, D), (N, 2, 6, D), (N, 2, 6, 3)], 3, [SOME_KEYS]),
    (
        "attention-both",
        *ATTENTION,
        [(N, 2, T, D), (N, 2, T, D), (N, 2, T, D)],
        3,
        [NOT_THE_FIFTH, True],
    ),
    ("multi-head", *MULTI_HEAD, [(N, T, 6), (6, 18), (18,), (6, 6), (6,)], 1, [{"heads": 3}]),
    (
        "multi-head-causal",
        *MULTI_HEAD,
        [(N, T, 6), (6, 18), (18,), (6, 6), (6,)],
        1,
        [{"heads": 2, "causal": True}],
    ),
    (
        "multi-head-masked",
        *MULTI_HEAD,
        [(N, T, 6), (6, 18), (18,), (6, 6), (6,)],
        1,
        [{"heads": 1, "causal": True, "mask": NOT_THE_FIFTH}],
    ),
    *(
        (
            f"multi-head-dropout-{mode}",
            *MULTI_HEAD,
            [(N, T, 6), (6, 18), (18,), (6, 6), (6,)],
            1,
            [{"heads": 2, "causal": True}, {"p": 0.4, "mode": mode, "seed": 1}],
        )
        for mode in ("train", "test")
    ),
    (
        "positions",
        A.position_embedding_forward,
        A.position_embedding_backward,
        [(N, T, D), (7, D)],
        1,
        [],
    ),
    ("conv1d", A.conv1d_forward, A.conv1d_backward, [(N, T, D), (2, D, 3), (2,)], 1, [{}]),
    (
        "conv1d-stride-pad",
        A.conv1d_forward,
        A.conv1d_backward,
        [(N, T, D), (2, D, 2), (2,)],
        1,
        [{"stride": 2, "pad": 1}],
    ),
]
PAIRS = [pytest.param(*row[1:], id=row[0]) for row in ROWS]
NO_PAIRS = [
    *(R.temporal_softmax_loss, R.word_softmax_loss, R.last_cell_state),
    *(A.sinusoidal_positions, A.multi_head_attention_step, A.multi_head_attention_weights),
]
STAND_FOR = {  # a row's function: the public one that it calls
    lstm_step_forward: R.lstm_step_forward,
    lstm_step_backward: R.lstm_step_backward,
    lstm_forward: R.lstm_forward,
    lstm_backward: R.lstm_backward,
    word_affine_forward: R.word_affine_forward,
    word_embedding_forward: R.word_embedding_forward,
}

ORDERS = {
    "C": np.ascontiguousarray,
    "Fortran": np.asfortranarray,
    "step-by-step": lambda a: (
        np.ascontiguousarray(a.swapaxes(0, 1)).swapaxes(0, 1) if a.ndim > 1 else a.copy()
    ),
    "every-other": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
    "backwards": lambda a: a[::-1].copy()[::-1],
}


def drawn(shapes, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


def run(forward, backward, arrays, settings, seed=1):
    """out, and the gradients for a random dout, which is returned too."""
    out, cache = forward(*arrays, *settings)
    dout = np.random.default_rng(seed).standard_normal(out.shape).astype(out.real.dtype)
    return out, as_tuple(backward(dout, cache)), dout


def as_tuple(grads):
    return grads if isinstance(grads, tuple) else (grads,)


@pytest.mark.parametrize("module", [R, A])
def test_every_public_pair_has_a_row(module):
    own = {
        f for _, f in inspect.getmembers(module, inspect.isfunction) if f.__module__ == module.__name__
    }
    public = {f for f in own if not f.__name__.startswith("_")}
    assert {f.__name__ for f in public} == set(module.__all__)
    in_rows = {STAND_FOR.get(f, f) for row in ROWS for f in row[1:3]} | set(NO_PAIRS)
    assert public <= in_rows
    assert all(f.__doc__ for f in public)


@pytest.mark.parametrize(("forward", "backward", "shapes", "batched", "settings"), PAIRS)
class TestContract:
    def test_gradient_by_complex_step(self, forward, backward, shapes, batched, settings):
        report = check_layer(forward, backward, *drawn(shapes), *settings)
        assert {row.method for row in report.rows} == {"complex step"}
        assert report.require().error < 1e-11

    def test_gradient_by_central_differences(self, forward, backward, shapes, batched, settings):
        arrays = drawn(shapes, seed=4)
        _, grads, dout = run(forward, backward, arrays, settings)
        for array, grad in zip(arrays, grads, strict=True):
            numeric = eval_numerical_gradient_array(
                lambda _: run(forward, backward, arrays, settings)[0], array, dout
            )
            np.testing.assert_allclose(grad, numeric, rtol=1e-6, atol=1e-8)

    @pytest.mark.parametrize("dtype", [np.float32, np.float64, np.longdouble])
    def test_shapes_and_dtype_are_kept(self, forward, backward, shapes, batched, settings, dtype):
        arrays = drawn(shapes, dtype)
        out, cache = forward(*arrays, *settings)
        assert out.dtype == dtype
        for dout_dtype in (np.float32, np.float64):
            grads = as_tuple(backward(np.ones(out.shape, dout_dtype), cache))
            assert [(g.shape, g.dtype) for g in grads] == [(a.shape, a.dtype) for a in arrays]

    def test_arguments_of_several_dtypes(self, forward, backward, shapes, batched, settings):
        """Each gradient has the dtype of its argument, and float64 is not lost on the way."""
        for k in range(len(shapes)):
            arrays = drawn(shapes, np.float32)
            arrays[k] = arrays[k].astype(np.float64)
            out, grads, _ = run(forward, backward, arrays, settings)
            assert out.dtype == np.float64
            assert [g.dtype for g in grads] == [a.dtype for a in arrays]

    def test_half_precision_is_kept_and_close_to_float32(
        self, forward, backward, shapes, batched, settings
    ):
        arrays = [a / 2 for a in drawn(shapes, np.float16)]
        out, grads, _ = run(forward, backward, arrays, settings)
        wide = [a.astype(np.float32) for a in arrays]
        expected, wanted, _ = run(forward, backward, wide, settings)
        for a, b in zip((out, *grads), (expected, *wanted), strict=True):
            assert a.dtype == np.float16
            np.testing.assert_allclose(a, b, rtol=0.03, atol=0.03)

    def test_nothing_is_written_to_and_backward_works_twice(
        self, forward, backward, shapes, batched, settings
    ):
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
    def test_any_memory_order(self, forward, backward, shapes, batched, settings, order):
        arrays = drawn(shapes)
        out, grads, dout = run(forward, backward, arrays, settings)
        lain = [ORDERS[order](a) for a in arrays]
        out2, cache = forward(*lain, *settings)
        np.testing.assert_allclose(out2, out, rtol=1e-12, atol=1e-13)
        for g, h in zip(as_tuple(backward(ORDERS[order](dout), cache)), grads, strict=True):
            np.testing.assert_allclose(g, h, rtol=1e-12, atol=1e-13)

    def test_empty_batch(self, forward, backward, shapes, batched, settings):
        empty = [(0, *shape[1:]) for shape in shapes[:batched]] + shapes[batched:]
        out, grads, _ = run(forward, backward, drawn(empty), settings)
        assert len(out) == 0 or not batched
        assert [g.shape for g in grads] == empty
        assert not batched or all(np.all(g == 0) for g in grads[1:])

    def test_a_batch_equals_its_parts(self, forward, backward, shapes, batched, settings):
        arrays = drawn(shapes)
        out, grads, dout = run(forward, backward, arrays, settings)
        if not batched:
            pytest.skip("no argument is a batch")
        if any(isinstance(s, dict) and s.get("mode") == "train" for s in settings):
            pytest.skip("in training the examples of a batch share one mask")
        outs, dxs, sums = [], [], [0.0] * (len(arrays) - batched)
        for n in range(N):
            one = [a[n : n + 1] for a in arrays[:batched]]
            part, cache = forward(*one, *arrays[batched:], *settings)
            some = as_tuple(backward(dout[n : n + 1], cache))
            outs.append(part)
            dxs.append(some[:batched])
            sums = [s + g for s, g in zip(sums, some[batched:], strict=True)]
        np.testing.assert_allclose(np.concatenate(outs), out, rtol=1e-10, atol=1e-12)
        together = [np.concatenate(parts) for parts in zip(*dxs, strict=True)]
        for g, h in zip([*together, *sums], grads, strict=True):
            np.testing.assert_allclose(g, h, rtol=1e-10, atol=1e-12)

    @pytest.mark.parametrize("dtype", [np.uint8, np.int64, bool])
    def test_whole_numbers_are_computed_as_floats(
        self, forward, backward, shapes, batched, settings, dtype
    ):
        rng = np.random.default_rng(6)
        arrays = [rng.integers(2, size=shape).astype(dtype) for shape in shapes]
        out, grads, _ = run(forward, backward, arrays, settings)
        expected, wanted, _ = run(forward, backward, [a.astype(float) for a in arrays], settings)
        for a, b in zip((out, *grads), (expected, *wanted), strict=True):
            assert a.dtype == np.float64
            np.testing.assert_array_equal(a, b)

    def test_lists_are_read_as_arrays(self, forward, backward, shapes, batched, settings):
        arrays = drawn(shapes)
        out, grads, dout = run(forward, backward, arrays, settings)
        out2, cache = forward(*(a.tolist() for a in arrays), *settings)
        np.testing.assert_array_equal(out2, out)
        if backward is not lstm_step_backward:  # its row cuts dout
            for g, h in zip(as_tuple(backward(dout.tolist(), cache)), grads, strict=True):
                np.testing.assert_array_equal(g, h)

    def test_dout_of_a_wrong_shape_is_refused(self, forward, backward, shapes, batched, settings):
        out, cache = forward(*drawn(shapes), *settings)
        who = STAND_FOR.get(backward, backward).__name__
        with pytest.raises(ValueError, match=rf"{who}: d\w+ has shape .*, expected that of"):
            backward(np.ones((1, *out.shape)), cache)
