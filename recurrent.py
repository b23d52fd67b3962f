"""Recurrent layers: words as vectors, layers that walk along a sequence, scores and loss at each step.

Read `layers.py` first: the contract of a pair, the letters and the three rules are the same here. New
letters:
    N sequences   T steps   D inputs a step   H hidden units   V words of the vocabulary
    x (N, T, D) is a batch of sequences, x_t (N, D) its step t, h_t (N, H) the state after that step.

A recurrent layer has one set of weights, which it uses at every step:

    h_t = step(x_t, h_{t-1}, weights)        for t = 1, ..., T, from a given h_0

Backpropagation through time. Unrolled, this is a chain of T steps, and the chain rule goes through it
from the last step to the first. Two things happen on the way (copy <-> add):

    h_t is used twice, as output t and as the input of step t + 1. So its gradient is the sum of dh_t,
    which comes from the layers above, and of what step t + 1 gives back.
    The weights are used T times. So their gradients are sums over the steps.

Only what passes from step to step must wait for the step before it: the product h_{t-1} @ Wh, and on
the way back da_t @ Wh.T. All else is done for all steps at once, as one large product: x @ Wx before
the loop, and the gradients of x, Wx, Wh and b after it. So a layer is an affine map, and behind it the
recurrence alone: h_t from a_t = x_t @ Wx + b and h_{t-1} @ Wh.
"""

import numpy as np

from .engine.arrays import as_float, as_floats, cast, logistic, plus, widened
from .engine.checks import check_dout
from .engine.products import matmul
from .engine.sequence_checks import (
    check_affine_steps,
    check_last_step,
    check_recurrence,
    check_recurrent,
    check_word_affine,
    check_word_scores,
    check_words,
    checked_labels,
)
from .engine.sequences import as_rows, as_sequences, lies_by_step, steps, times

__all__ = [
    "gru_backward",
    "gru_forward",
    "gru_recurrence_backward",
    "gru_recurrence_forward",
    "gru_step_backward",
    "gru_step_forward",
    "last_cell_state",
    "last_step_backward",
    "last_step_forward",
    "lstm_backward",
    "lstm_forward",
    "lstm_recurrence_backward",
    "lstm_recurrence_forward",
    "lstm_step_backward",
    "lstm_step_forward",
    "rnn_backward",
    "rnn_forward",
    "rnn_recurrence_backward",
    "rnn_recurrence_forward",
    "rnn_step_backward",
    "rnn_step_forward",
    "temporal_affine_backward",
    "temporal_affine_forward",
    "temporal_softmax_loss",
    "word_affine_backward",
    "word_affine_forward",
    "word_embedding_backward",
    "word_embedding_forward",
    "word_scores_backward",
    "word_scores_forward",
    "word_softmax_loss",
]

# ---------------------------------------------------------------------------- words as vectors


def word_embedding_forward(x, W):
    """Each word's row of W: out = W[x].

    x: words, integers in [0, V), (N, T) or any shape.  W: (V, D).   Returns out (N, T, D) and a cache.
    """
    W = as_float("word_embedding_forward", "W", W)
    x = check_words("word_embedding_forward", x, W)
    return W[x], (x, W.shape, W.dtype)


def word_embedding_backward(dout, cache):
    """From dout (N, T, D): dW (V, D). Words have no gradient.

    Row v of W is copied to every place where the word v stands: it gets the sum over these places
    (copy <-> add). With a 1 in row v of a matrix for each of them, that is a product of this matrix
    (V, N * T), nearly all of it zeros, with the rows of dout.
    """
    x, (V, D), dtype = cache
    dout = widened(check_dout("word_embedding_backward", dout, (*x.shape, D)))
    by_step = lies_by_step(dout)
    words = (x.swapaxes(0, 1) if by_step else x).ravel()
    return cast(_sums_by_word(as_rows(dout, by_step), words, V), dtype)


def _sums_by_word(rows, words, V):
    """For each of V words the sum of the rows where it stands: (V, D)."""
    from scipy.sparse import csr_array  # imported when needed: it takes time

    where = np.argsort(words, kind="stable")  # the places of word 0, then those of word 1, ...
    bounds = np.concatenate([[0], np.cumsum(np.bincount(words, minlength=V))])
    ones = np.ones(len(words), rows.dtype)
    return csr_array((ones, where, bounds), shape=(V, len(words))) @ rows


def word_affine_forward(x, W, Wx, b):
    """An embedding and the affine map behind it: out = W[x] @ Wx + b.

    x: words (N, T), integers in [0, V).  W: (V, D).  Wx: (D, M).  b: (M,).
    Returns out (N, T, M) and a cache.

    A text has few different words. So the product is made once for each of them, and its rows are
    copied to the places of the words.
    """
    W, Wx, b = as_floats("word_affine_forward", W=W, Wx=Wx, b=b)
    x = check_words("word_affine_forward", x, W)
    check_word_affine("word_affine_forward", x, W, Wx, b)
    words, kinds = np.unique(x.T, return_inverse=True)  # x.T is words[kinds]
    kinds, rows = kinds.reshape(x.T.shape), W[words]
    out = plus(matmul(rows, Wx), b)[kinds].swapaxes(0, 1)
    return out, (words, kinds, rows, W.shape, Wx, W.dtype, b.dtype)


def word_affine_backward(dout, cache):
    """From dout (N, T, M): dW (V, D), dWx (D, M), db (M,).

    The row of a word gets the sum over its places (copy <-> add). Behind that it is an affine layer
    whose examples are the different words.
    """
    words, kinds, rows, W_shape, Wx, W_dtype, b_dtype = cache
    T, N = kinds.shape
    dout = widened(steps(check_dout("word_affine_backward", dout, (N, T, Wx.shape[1]))))
    da = _sums_by_word(dout.reshape(T * N, Wx.shape[1]), kinds.ravel(), len(words))
    drows, dWx, db = _affine_gradients(da, rows, Wx, b_dtype)
    dW = np.zeros_like(drows, shape=W_shape)
    dW[words] = drows
    return cast(dW, W_dtype), dWx, db


# ---------------------------------------------------------------------------- the simple recurrent net


def rnn_step_forward(x, prev_h, Wx, Wh, b):
    """One step of a recurrent layer (Elman 1990): next_h = tanh(x @ Wx + prev_h @ Wh + b).

    x: (N, D).  prev_h: (N, H).  Wx: (D, H).  Wh: (H, H).  b: (H,).   Returns next_h (N, H) and a cache.
    """
    arrays = as_floats("rnn_step_forward", x=x, prev_h=prev_h, Wx=Wx, Wh=Wh, b=b)
    check_recurrent("rnn_step_forward", *arrays, hidden="prev_h")
    x, prev_h, Wx, Wh, b = arrays
    next_h = np.tanh(x @ Wx + prev_h @ Wh + b)
    return next_h, (next_h, x, prev_h, Wx, Wh, b.dtype)


def rnn_step_backward(dnext_h, cache):
    """From dnext_h (N, H): dx (N, D), dprev_h (N, H), dWx (D, H), dWh (H, H), db (H,).

    With a = x @ Wx + prev_h @ Wh + b and next_h = tanh(a):
        da = dnext_h * (1 - next_h^2)                                  tanh_backward
        dx = da @ Wx.T         dWx = x.T @ da          db = sum_n da   affine_backward
        dprev_h = da @ Wh.T    dWh = prev_h.T @ da
    """
    next_h, x, prev_h, Wx, Wh, b_dtype = cache
    dnext_h = check_dout("rnn_step_backward", dnext_h, next_h.shape)
    da = dnext_h * (1 - next_h * next_h)
    dx, dWx, db = _affine_gradients(da, x, Wx, b_dtype)
    dprev_h, dWh, _ = _affine_gradients(da, prev_h, Wh, b_dtype)
    return dx, dprev_h, dWx, dWh, db


def rnn_forward(x, h0, Wx, Wh, b):
    """`rnn_step_forward` at each step, from the state h0.

    x: (N, T, D).  h0: (N, H).  Wx: (D, H).  Wh: (H, H).  b: (H,).
    Returns h (N, T, H), the states after each step, and a cache.
    """
    arrays = as_floats("rnn_forward", x=x, h0=h0, Wx=Wx, Wh=Wh, b=b)
    check_recurrent("rnn_forward", *arrays)
    x, h0, Wx, Wh, b = arrays
    a, affine = _affine_over_time(x, Wx, b)
    h, recurrence = rnn_recurrence_forward(a, h0, Wh)
    return h, (*recurrence, affine)


def rnn_backward(dh, cache):
    """From dh (N, T, H): dx (N, T, D), dh0 (N, H), dWx (D, H), dWh (H, H), db (H,)."""
    *recurrence, affine = cache
    dh = _checked_dh("rnn_backward", dh, recurrence)
    da, dh0, dWh = rnn_recurrence_backward(dh, recurrence)
    dx, dWx, db = _gradients_over_time(da, affine)
    return dx, dh0, dWx, dWh, db


def rnn_recurrence_forward(a, h0, Wh):
    """h_t = tanh(a_t + h_{t-1} @ Wh), from the state h0.

    a: (N, T, H).  h0: (N, H).  Wh: (H, H).   Returns h (N, T, H) and a cache.
    """
    a, h0, Wh = arrays = as_floats("rnn_recurrence_forward", a=a, h0=h0, Wh=Wh)
    check_recurrence("rnn_recurrence_forward", *arrays)
    states = _states(h0, a, np.result_type(*arrays))
    for a_t, prev_h, h in zip(steps(a), states[:-1], states[1:], strict=True):
        np.matmul(prev_h, Wh, out=h)
        h += a_t
        np.tanh(h, out=h)
    return states[1:].swapaxes(0, 1), (states, Wh, a.dtype, h0.dtype)


def rnn_recurrence_backward(dh, cache):
    """From dh (N, T, H): da (N, T, H), dh0 (N, H), dWh (H, H).

    From the last step to the first, with the formulas of `rnn_step_backward`:
        da_t = (dh_t + dnext_t) * (1 - h_t^2)      dnext_t: what step t + 1 gives back, 0 at the end
        dnext_{t-1} = da_t @ Wh.T
    What is left of dnext before the first step is dh0. The sums over the steps come after the loop.
    """
    states, Wh, a_dtype, h0_dtype = cache
    h = states[1:]
    dh = _steps_of("rnn_recurrence_backward", dh, h)
    da, dnext = np.empty_like(dh), np.zeros_like(dh, shape=states[0].shape)
    for t in reversed(range(len(h))):
        da[t] = (dh[t] + dnext) * (1 - h[t] * h[t])
        dnext = da[t] @ Wh.T
    dWh = _weight_gradient(da, states[:-1], Wh)
    return cast(da, a_dtype).swapaxes(0, 1), cast(dnext, h0_dtype), dWh


# ---------------------------------------------------------------------------- long short-term memory
# Through many steps of a simple recurrent net a gradient passes as many products with Wh and slopes of
# tanh: it fades, or grows without bound. An LSTM carries a second state c, which is added to at each
# step, so that a gradient can pass it unchanged. Three gates between 0 and 1 say what is written (i),
# what is kept (f) and what is shown (o). With a = x @ Wx + prev_h @ Wh + b, cut into four blocks of H:
#     i = sigmoid(a_i)      f = sigmoid(a_f)      o = sigmoid(a_o)      g = tanh(a_g)
#     next_c = f * prev_c + i * g                 next_h = o * tanh(next_c)
# Backward, product by product. next_c is used twice, in next_h and as what is carried on:
#     do = dnext_h * tanh(next_c)                 dc = dnext_c + dnext_h * o * (1 - tanh(next_c)^2)
#     df = dc * prev_c     dprev_c = dc * f       di = dc * g           dg = dc * i
# and through the sigmoids and the tanh:
#     da_i = di * i * (1 - i)    da_f = df * f * (1 - f)    da_o = do * o * (1 - o)
#     da_g = dg * (1 - g^2)
# From da to x, prev_h, Wx, Wh and b it goes as in the simple recurrent net.


def lstm_step_forward(x, prev_h, prev_c, Wx, Wh, b):
    """One step of an LSTM (Hochreiter & Schmidhuber 1997; the forget gate: Gers et al. 2000).

    x: (N, D).  prev_h, prev_c: (N, H).  Wx: (D, 4H).  Wh: (H, 4H).  b: (4H,), the gates in the order
    i, f, o, g.   Returns next_h (N, H), next_c (N, H) and a cache.
    """
    who = "lstm_step_forward"
    arrays = as_floats(who, x=x, prev_h=prev_h, prev_c=prev_c, Wx=Wx, Wh=Wh, b=b)
    x, prev_h, prev_c, Wx, Wh, b = arrays
    check_recurrent(who, x, prev_h, Wx, Wh, b, blocks=4, hidden="prev_h", prev_c=prev_c)
    gates = (x @ Wx + prev_h @ Wh + b).astype(np.result_type(*arrays), copy=False)
    next_h, next_c, tanh_c = _lstm_cell(gates, prev_c)
    return next_h, next_c, (gates, prev_c, tanh_c, x, prev_h, Wx, Wh, b.dtype)


def lstm_step_backward(dnext_h, dnext_c, cache):
    """From dnext_h and dnext_c (N, H): dx, dprev_h, dprev_c, dWx, dWh, db, shaped as the arguments."""
    gates, prev_c, tanh_c, x, prev_h, Wx, Wh, b_dtype = cache
    dnext_h = check_dout("lstm_step_backward", dnext_h, tanh_c.shape)
    dnext_c = check_dout("lstm_step_backward", dnext_c, tanh_c.shape, "dnext_c")
    da = np.empty_like(gates, dtype=np.result_type(gates, dnext_h, dnext_c))
    dprev_c = _lstm_cell_backward(dnext_h, dnext_c, gates, prev_c, tanh_c, da)
    dx, dWx, db = _affine_gradients(da, x, Wx, b_dtype)
    dprev_h, dWh, _ = _affine_gradients(da, prev_h, Wh, b_dtype)
    return dx, dprev_h, cast(dprev_c, prev_c.dtype), dWx, dWh, db


def lstm_forward(x, h0, Wx, Wh, b, c0=None):
    """`lstm_step_forward` at each step, from the states h0 and c0.

    x: (N, T, D).  h0: (N, H).  Wx: (D, 4H).  Wh: (H, 4H).  b: (4H,).  c0: (N, H), or None for 0.
    Returns h (N, T, H) and a cache; `last_cell_state(cache)` is c after the last step.
    """
    given = {} if c0 is None else {"c0": c0}
    arrays = as_floats("lstm_forward", x=x, h0=h0, Wx=Wx, Wh=Wh, b=b, **given)
    x, h0, Wx, Wh, b, *c0 = arrays
    check_recurrent("lstm_forward", x, h0, Wx, Wh, b, blocks=4, **dict(zip(given, c0, strict=True)))
    a, affine = _affine_over_time(x, Wx, b)
    h, recurrence = lstm_recurrence_forward(a, h0, Wh, *c0)
    return h, (*recurrence, affine)


def lstm_backward(dh, cache):
    """From dh (N, T, H): dx (N, T, D), dh0 (N, H), dWx (D, 4H), dWh (H, 4H), db (4H,), and dc0 (N, H)
    if forward got a c0.
    """
    *recurrence, affine = cache
    dh = _checked_dh("lstm_backward", dh, recurrence)
    da, dh0, dWh, *dc0 = lstm_recurrence_backward(dh, recurrence)
    dx, dWx, db = _gradients_over_time(da, affine)
    return dx, dh0, dWx, dWh, db, *dc0


def lstm_recurrence_forward(a, h0, Wh, c0=None):
    """The LSTM whose x @ Wx + b is known: a (N, T, 4H).

    h0: (N, H).  Wh: (H, 4H).  c0: (N, H), or None for 0.   Returns h (N, T, H) and a cache.
    """
    given = {} if c0 is None else {"c0": c0}
    a, h0, Wh, *c0 = arrays = as_floats("lstm_recurrence_forward", a=a, h0=h0, Wh=Wh, **given)
    more = dict(zip(given, c0, strict=True))
    check_recurrence("lstm_recurrence_forward", a, h0, Wh, blocks=4, **more)
    states = _states(h0, a, np.result_type(*arrays))
    a = steps(a)
    gates = np.empty_like(a, states.dtype)  # (T, N, 4H)
    c, tanh_c = np.empty_like(states), np.empty_like(states[1:])
    c[0] = c0[0] if c0 else 0
    for t, a_t in enumerate(a):
        np.matmul(states[t], Wh, out=gates[t])
        gates[t] += a_t
        states[t + 1], c[t + 1], tanh_c[t] = _lstm_cell(gates[t], c[t])
    dtypes = a.dtype, h0.dtype, c0[0].dtype if c0 else None
    return states[1:].swapaxes(0, 1), (states, c, gates, tanh_c, Wh, dtypes)


def lstm_recurrence_backward(dh, cache):
    """From dh (N, T, H): da (N, T, 4H), dh0 (N, H), dWh (H, 4H), and dc0 (N, H) if forward got a c0."""
    states, c, gates, tanh_c, Wh, (a_dtype, h0_dtype, c0_dtype) = cache
    dh = _steps_of("lstm_recurrence_backward", dh, tanh_c)
    da = np.empty_like(gates, dtype=dh.dtype)
    dnext_h = dnext_c = np.zeros_like(dh, shape=states[0].shape)
    for t in reversed(range(len(dh))):
        dnext_c = _lstm_cell_backward(dh[t] + dnext_h, dnext_c, gates[t], c[t], tanh_c[t], da[t])
        dnext_h = da[t] @ Wh.T
    dWh = _weight_gradient(da, states[:-1], Wh)
    dc0 = [] if c0_dtype is None else [cast(dnext_c, c0_dtype)]
    return cast(da, a_dtype).swapaxes(0, 1), cast(dnext_h, h0_dtype), dWh, *dc0


def last_cell_state(cache):
    """c (N, H) after the last step, from the cache of `lstm_forward` or `lstm_recurrence_forward`; h
    after it is h[:, -1].
    """
    return cache[1][-1]


def _lstm_cell(a, prev_c):
    """next_h, next_c and tanh(next_c); the gates i, f, o, g take the place of a (N, 4H)."""
    i, f, o, g = _blocks(a, 4)
    logistic(a[:, : 3 * prev_c.shape[1]])
    np.tanh(g, out=g)
    next_c = f * prev_c + i * g
    tanh_c = np.tanh(next_c)
    return o * tanh_c, next_c, tanh_c


def _lstm_cell_backward(dnext_h, dnext_c, gates, prev_c, tanh_c, da):
    """dprev_c; da (N, 4H) is written into."""
    i, f, o, g = _blocks(gates, 4)
    da_i, da_f, da_o, da_g = _blocks(da, 4)
    dc = dnext_c + dnext_h * o * (1 - tanh_c * tanh_c)
    da_i[...] = dc * g * i * (1 - i)
    da_f[...] = dc * prev_c * f * (1 - f)
    da_o[...] = dnext_h * tanh_c * o * (1 - o)
    da_g[...] = dc * i * (1 - g * g)
    return dc * f


# ---------------------------------------------------------------------------- gated recurrent unit
# A GRU has one state, and two gates: z says what of it is kept, r what of it enters the candidate n.
# With a = x @ Wx + bx and u = prev_h @ Wh + bh, each cut into three blocks of H:
#     r = sigmoid(a_r + u_r)     z = sigmoid(a_z + u_z)     n = tanh(a_n + r * u_n)
#     next_h = (1 - z) * n + z * prev_h
# There are two variants. This is the one of cuDNN and PyTorch: r is applied after the product with Wh.
# (Cho et al. 2014 applies it before, tanh(a_n + (r * prev_h) @ Wh_n); then the three products with
# prev_h cannot be one.) It has two biases, since bh_n is multiplied by r.
# Backward, product by product:
#     dn = dnext_h * (1 - z)     dz = dnext_h * (prev_h - n)     dprev_h = dnext_h * z + du @ Wh.T
# and through the tanh and the sigmoids, where da_n also reaches r and u_n, the factors of a product:
#     da_n = dn * (1 - n^2)      dr = da_n * u_n                 du_n = da_n * r
#     da_r = dr * r * (1 - r)    da_z = dz * z * (1 - z)         du_r = da_r      du_z = da_z
# From da to x, Wx and bx, and from du to prev_h, Wh and bh, it goes as in any affine layer.


def gru_step_forward(x, prev_h, Wx, Wh, bx, bh):
    """One step of a gated recurrent unit (Cho et al. 2014), the variant of cuDNN and PyTorch.

    x: (N, D).  prev_h: (N, H).  Wx: (D, 3H).  Wh: (H, 3H).  bx, bh: (3H,), the blocks in the order
    r, z, n.   Returns next_h (N, H) and a cache.
    """
    arrays = as_floats("gru_step_forward", x=x, prev_h=prev_h, Wx=Wx, Wh=Wh, bx=bx, bh=bh)
    x, prev_h, Wx, Wh, bx, bh = arrays
    check_recurrent("gru_step_forward", x, prev_h, Wx, Wh, bx, blocks=3, hidden="prev_h", bh=bh)
    gates = (x @ Wx + bx).astype(np.result_type(*arrays), copy=False)
    u = prev_h @ Wh + bh
    next_h = _gru_cell(gates, u, prev_h)
    return next_h, (gates, u, x, prev_h, Wx, Wh, bx.dtype, bh.dtype)


def gru_step_backward(dnext_h, cache):
    """From dnext_h (N, H): dx, dprev_h, dWx, dWh, dbx, dbh, shaped as the arguments."""
    gates, u, x, prev_h, Wx, Wh, bx_dtype, bh_dtype = cache
    dnext_h = check_dout("gru_step_backward", dnext_h, prev_h.shape)
    da = np.empty_like(gates, dtype=np.result_type(gates, dnext_h))
    du = np.empty_like(da)
    kept = _gru_cell_backward(dnext_h, gates, u, prev_h, da, du)
    dx, dWx, dbx = _affine_gradients(da, x, Wx, bx_dtype)
    through_u, dWh, dbh = _affine_gradients(du, prev_h, Wh, bh_dtype)
    return dx, cast(kept + through_u, prev_h.dtype), dWx, dWh, dbx, dbh


def gru_forward(x, h0, Wx, Wh, bx, bh):
    """`gru_step_forward` at each step, from the state h0.

    x: (N, T, D).  h0: (N, H).  Wx: (D, 3H).  Wh: (H, 3H).  bx, bh: (3H,).
    Returns h (N, T, H) and a cache.
    """
    arrays = as_floats("gru_forward", x=x, h0=h0, Wx=Wx, Wh=Wh, bx=bx, bh=bh)
    x, h0, Wx, Wh, bx, bh = arrays
    check_recurrent("gru_forward", x, h0, Wx, Wh, bx, blocks=3, bh=bh)
    a, affine = _affine_over_time(x, Wx, bx)
    h, recurrence = gru_recurrence_forward(a, h0, Wh, bh)
    return h, (*recurrence, affine)


def gru_backward(dh, cache):
    """From dh (N, T, H): dx (N, T, D), dh0 (N, H), dWx (D, 3H), dWh (H, 3H), dbx, dbh (3H,)."""
    *recurrence, affine = cache
    dh = _checked_dh("gru_backward", dh, recurrence)
    da, dh0, dWh, dbh = gru_recurrence_backward(dh, recurrence)
    dx, dWx, dbx = _gradients_over_time(da, affine)
    return dx, dh0, dWx, dWh, dbx, dbh


def gru_recurrence_forward(a, h0, Wh, bh):
    """The GRU whose x @ Wx + bx is known: a (N, T, 3H).

    h0: (N, H).  Wh: (H, 3H).  bh: (3H,).   Returns h (N, T, H) and a cache.
    """
    a, h0, Wh, bh = arrays = as_floats("gru_recurrence_forward", a=a, h0=h0, Wh=Wh, bh=bh)
    check_recurrence("gru_recurrence_forward", a, h0, Wh, blocks=3, bh=bh)
    states = _states(h0, a, np.result_type(*arrays))
    gates = np.array(steps(a), states.dtype)  # (T, N, 3H), without u so far
    u = np.empty_like(gates)
    for t, a_t in enumerate(gates):
        np.matmul(states[t], Wh, out=u[t])
        u[t] += bh
        states[t + 1] = _gru_cell(a_t, u[t], states[t])
    return states[1:].swapaxes(0, 1), (states, gates, u, Wh, a.dtype, h0.dtype, bh.dtype)


def gru_recurrence_backward(dh, cache):
    """From dh (N, T, H): da (N, T, 3H), dh0 (N, H), dWh (H, 3H), dbh (3H,)."""
    states, gates, u, Wh, a_dtype, h0_dtype, bh_dtype = cache
    dh = _steps_of("gru_recurrence_backward", dh, states[1:])
    da = np.empty_like(gates, dtype=dh.dtype)
    du, dnext = np.empty_like(da), np.zeros_like(dh, shape=states[0].shape)
    for t in reversed(range(len(dh))):
        kept = _gru_cell_backward(dh[t] + dnext, gates[t], u[t], states[t], da[t], du[t])
        dnext = kept + du[t] @ Wh.T
    dWh, dbh = _weight_gradient(du, states[:-1], Wh), _bias_gradient(du, bh_dtype)
    return cast(da, a_dtype).swapaxes(0, 1), cast(dnext, h0_dtype), dWh, dbh


def _gru_cell(a, u, prev_h):
    """next_h; r, z and n take the place of a (N, 3H)."""
    H = prev_h.shape[1]
    sigmoids = a[:, : 2 * H]
    sigmoids += u[:, : 2 * H]
    logistic(sigmoids)
    r, z, n = _blocks(a, 3)
    n += r * u[:, 2 * H :]
    np.tanh(n, out=n)
    return n + z * (prev_h - n)


def _gru_cell_backward(dnext_h, gates, u, prev_h, da, du):
    """The part of dprev_h that does not pass u; da and du (N, 3H) are written into."""
    H = prev_h.shape[1]
    r, z, n = _blocks(gates, 3)
    da_r, da_z, da_n = _blocks(da, 3)
    da_n[...] = dnext_h * (1 - z) * (1 - n * n)
    da_r[...] = da_n * u[:, 2 * H :] * r * (1 - r)
    da_z[...] = dnext_h * (prev_h - n) * z * (1 - z)
    du[:, : 2 * H] = da[:, : 2 * H]
    du[:, 2 * H :] = da_n * r
    return dnext_h * z


# ---------------------------------------------------------------------------- what the three share


def _blocks(a, count):
    """Views of the blocks of columns of a (N, count * H)."""
    H = a.shape[1] // count
    return [a[:, k * H : (k + 1) * H] for k in range(count)]


def _states(h0, a, dtype):
    """Room for h_0, h_1, ..., h_T, (T + 1, N, H), with h0 at its beginning."""
    states = np.empty((a.shape[1] + 1, *h0.shape), dtype)
    states[0] = h0
    return states


def _checked_dh(who, dh, recurrence):
    """dh, shaped as the h that the recurrence with this cache gave."""
    T, N, H = recurrence[0][1:].shape
    return check_dout(who, dh, (N, T, H), "dh")


def _steps_of(who, dh, h):
    """dh (N, T, H) step by step, (T, N, H), in the precision of h (T, N, H)."""
    T, N, H = h.shape
    return cast(steps(check_dout(who, dh, (N, T, H), "dh")), h.dtype)


def _affine_gradients(da, x, W, b_dtype):
    """dx, dW and db of a = x @ W + b, as in `affine_backward`."""
    return cast(da @ W.T, x.dtype), cast(x.T @ da, W.dtype), _bias_gradient(da, b_dtype)


def _affine_over_time(x, W, b):
    """x @ W + b for all steps at once, (N, T, M), and a cache."""
    x = steps(x)
    return plus(times(x, W), b).swapaxes(0, 1), (x, W, b.dtype)


def _gradients_over_time(da, cache):
    """The same for da (N, T, M): sums over steps and sequences; dx (N, T, D)."""
    x, W, b_dtype = cache
    da = steps(da)
    dx = cast(times(da, W.T), x.dtype).swapaxes(0, 1)
    return dx, _weight_gradient(da, x, W), _bias_gradient(da, b_dtype)


def _weight_gradient(da, x, W):
    (T, N), (D, M) = da.shape[:2], W.shape
    return cast(matmul(x.reshape(T * N, D).T, da.reshape(T * N, M)), W.dtype)


def _bias_gradient(da, dtype):
    return cast(widened(da).sum(axis=tuple(range(da.ndim - 1))), dtype)


# ---------------------------------------------------------------------------- scores and loss


def temporal_affine_forward(x, w, b):
    """An affine map at every step: out = x @ w + b.

    x: (N, T, D), or any (N, ..., D).  w: (D, M).  b: (M,).   Returns out (N, T, M) and a cache.
    """
    x, w, b = as_floats("temporal_affine_forward", x=x, w=w, b=b)
    check_affine_steps("temporal_affine_forward", x, w, b)
    by_step = lies_by_step(x)
    rows = as_rows(x, by_step)  # (N * T, D)
    out = plus(matmul(rows, w), b)
    out = as_sequences(out, (*x.shape[:-1], len(b)), by_step)
    return out, (rows, by_step, w, b.dtype, out.shape)


def temporal_affine_backward(dout, cache):
    """From dout (N, T, M): dx (N, T, D), dw (D, M), db (M,): `affine_backward` of N * T rows."""
    rows, by_step, w, b_dtype, out_shape = cache
    drows = as_rows(check_dout("temporal_affine_backward", dout, out_shape), by_step)
    dx = cast(matmul(drows, w.T), rows.dtype)
    dw, db = cast(matmul(rows.T, drows), w.dtype), _bias_gradient(drows, b_dtype)
    return as_sequences(dx, (*out_shape[:-1], len(w)), by_step), dw, db


def word_scores_forward(x, W):
    """A score for each word by the embedding's own matrix (Press & Wolf 2017): out = x @ W.T.

    x: (N, T, D).  W: (V, D), whose row v stands for the word v.   Returns out (N, T, V) and a cache.
    """
    x, W = as_floats("word_scores_forward", x=x, W=W)
    check_word_scores("word_scores_forward", x, W)
    by_step = lies_by_step(x)
    rows = as_rows(x, by_step)  # (N * T, D)
    out = as_sequences(matmul(rows, W.T), (*x.shape[:-1], len(W)), by_step)
    return out, (rows, by_step, W, out.shape)


def word_scores_backward(dout, cache):
    """From dout (N, T, V): dx (N, T, D) = dout @ W, dW (V, D) = dout.T @ x (product <-> transpose).

    Where W is the embedding, too, it gets the sum of this dW and of the embedding's (copy <-> add).
    """
    rows, by_step, W, out_shape = cache
    drows = as_rows(check_dout("word_scores_backward", dout, out_shape), by_step)
    dx = as_sequences(matmul(drows, W), (*out_shape[:-1], W.shape[1]), by_step)
    return cast(dx, rows.dtype), cast(matmul(drows.T, rows), W.dtype)


def last_step_forward(x):
    """Of each sequence the last step: out = x[:, -1], for one answer a sequence.

    x: (N, T, D), T at least 1.   Returns out (N, D) and a cache.
    """
    x = as_float("last_step_forward", "x", x)
    check_last_step("last_step_forward", x)
    return x[:, -1].copy(), (x.shape, x.dtype)


def last_step_backward(dout, cache):
    """dx (N, T, D): dout (N, D) at the last step, else 0."""
    (N, T, D), dtype = cache
    dout = check_dout("last_step_backward", dout, (N, D))
    dx = np.zeros((T, N, D), dout.dtype)  # in the order of memory that recurrent layers have
    dx[-1] = dout
    return cast(dx, dtype).swapaxes(0, 1)


def temporal_softmax_loss(x, y, mask, verbose=False):
    """Softmax and cross-entropy at every step: the sum over the steps, the mean over the sequences.

    x: scores (N, T, V).  y: words (N, T), integers; those that count must be in [0, V).
    mask: (N, T), true where a step counts: not where a short sequence is filled up.
    verbose: print the shape of dx, as the course does.
    Returns loss and dx (N, T, V).

    Each step that counts is an example of `softmax_loss`: dx = (p - t) / N. The others give 0.
    """
    scores = as_float("temporal_softmax_loss", "x", x)
    y, mask = checked_labels("temporal_softmax_loss", scores, y, mask)
    by_step = lies_by_step(scores)
    rows = widened(as_rows(scores, by_step))  # (N * T, V)
    counts, right = ((a.T if by_step else a).ravel() for a in (mask, np.where(mask, y, 0)))
    right = np.arange(len(rows)), right
    N = max(1, len(scores))
    shifted = rows - rows.real.max(axis=1, keepdims=True)
    dx = np.exp(shifted)
    sums = dx.sum(axis=1, keepdims=True)
    log_p = shifted[right] - np.log(sums[:, 0])  # of the right words
    dx *= counts[:, None] / (N * sums)
    dx[right] -= counts / N
    dx = as_sequences(cast(dx, scores.dtype), scores.shape, by_step)
    if verbose:
        print("dx.shape:", dx.shape)
    return cast(-log_p[counts].sum() / N, scores.dtype), dx


def word_softmax_loss(x, y):
    """Softmax and cross-entropy of words, the mean over all that count. Its exp is the perplexity.

    x: scores (N, T, V).  y: words (N, T), integers in [0, V), or -1 where a step does not count.
    Returns loss and dx (N, T, V): those of `temporal_softmax_loss` times N / the number that counts.
    """
    mask = np.asarray(y) != -1
    loss, dx = temporal_softmax_loss(x, y, mask)
    share = len(dx) / max(1, np.count_nonzero(mask))
    return loss * loss.dtype.type(share), dx * dx.dtype.type(share)
