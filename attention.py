"""Attention, and what a transformer needs beside it: gelu, softmax, RMS norm, positions, conv1d.

Read `layers.py` first: the contract of a pair, the letters and the three rules are the same here. New
letters:
    N sequences   D numbers a step   T queries   S keys and values (in self-attention S = T)
    E width of a head   V words
    x (N, T, D) is a batch of sequences, x_t its step t.

Attention is a weighted mean. Each query q_t is compared with all keys k_s; the better they fit, the
more of the value v_s is in the result:

    score_ts = q_t . k_s / sqrt(E)      p_ts = softmax of score_ts over s      out_t = sum_s p_ts v_s

A mask says which keys a query may see. The others get the weight 0, exactly, and pass no gradient.
"""

import math

import numpy as np

from .engine.arrays import as_float, as_floats, cast, logistic, plus, row_products, row_sums, widened
from .engine.checks import check_dout, dropout_settings
from .engine.products import matmul
from .engine.randomness import dropout_mask
from .engine.sequence_checks import (
    attention_settings,
    check_attention,
    check_conv1d,
    check_multi_head,
    check_positions,
    check_rmsnorm,
    checked_mask,
)
from .layers import conv_backward, conv_forward

__all__ = [
    "conv1d_backward",
    "conv1d_forward",
    "gelu_backward",
    "gelu_forward",
    "multi_head_attention_backward",
    "multi_head_attention_forward",
    "multi_head_attention_step",
    "multi_head_attention_weights",
    "position_embedding_backward",
    "position_embedding_forward",
    "rmsnorm_backward",
    "rmsnorm_forward",
    "scaled_dot_product_attention_backward",
    "scaled_dot_product_attention_forward",
    "sinusoidal_positions",
    "softmax_backward",
    "softmax_forward",
]

# ---------------------------------------------------------------------------- gelu


def gelu_forward(x, approximate=True):
    """Gaussian error linear unit: out = x * P(x), for x of any shape (Hendrycks & Gimpel 2016).

    P is the distribution function of the normal distribution, (1 + erf(x / sqrt(2))) / 2.
    approximate: replace erf by tanh(sqrt(2 / pi) * (x + 0.044715 * x^3)), as GPT-2 does; out changes by
    less than 5e-4, and takes a fraction of the time.
    """
    x = as_float("gelu_forward", "x", x)
    P = _normal_by_tanh(x) if approximate else _normal(x)
    return x * P, (x, P, approximate)


def gelu_backward(dout, cache):
    """dx = dout * (P(x) + x * P'(x)), the rule for products.

    exact:    P'(x) = exp(-x^2 / 2) / sqrt(2 pi), the normal density.
    by tanh:  P = (1 + tanh(u / 2)) / 2 with u = 2 sqrt(2 / pi) * (x + 0.044715 * x^3). This is the
              logistic function 1 / (1 + exp(-u)), so P'(x) = P (1 - P) * du/dx.
    """
    x, P, approximate = cache
    dout = check_dout("gelu_backward", dout, x.shape)
    if approximate:
        slope = x * x
        slope *= 3 * _CUBIC * _ROOT
        slope += _ROOT  # du/dx
        slope *= P
        slope *= 1 - P
    else:
        slope = np.exp(-x * x / 2) / math.sqrt(2 * math.pi)
    slope *= x
    slope += P
    return cast(dout * slope, x.dtype)


_ROOT, _CUBIC = 2 * math.sqrt(2 / math.pi), 0.044715


def _normal_by_tanh(x):
    u = np.empty_like(x)
    np.multiply(x, x, out=u)
    u *= _CUBIC * _ROOT
    u += _ROOT
    u *= x
    return logistic(u)


def _normal(x):
    from scipy.special import erf  # imported when needed: it takes time

    narrow = x.astype(np.float64) if x.dtype == np.longdouble else x  # scipy has no wider erf
    return ((1 + erf(narrow / math.sqrt(2))) / 2).astype(x.dtype)


# ---------------------------------------------------------------------------- softmax


def softmax_forward(x):
    """Softmax over the last axis: out_c = exp(x_c) / sum_k exp(x_k), for x of any shape (..., C).

    No x overflows: the largest entry is made 0, as in `softmax_loss`.
    """
    x = as_float("softmax_forward", "x", x)
    out = cast(_softmax(widened(x)), x.dtype)
    return out, out


def softmax_backward(dout, cache):
    """dx_c = out_c * (dout_c - sum_k dout_k out_k).

    With S = sum_k exp(x_k), out_k = exp(x_k) / S depends on x_c in two ways:
        through the numerator, only if k = c:   out_c
        through S, for every k:                 -exp(x_k) / S^2 * exp(x_c) = -out_k out_c
    and so dx_c = dout_c out_c - sum_k dout_k out_k out_c. One sum a row, and no matrix of C x C.
    """
    out = cache
    dout = check_dout("softmax_backward", dout, out.shape)
    wide = widened(out)
    return cast(wide * (dout - row_products(dout, wide)), out.dtype)


def _softmax(x):
    """Softmax over the last axis, a fresh array. An entry of -inf gives exactly 0."""
    p = x - x.real.max(axis=-1, keepdims=True, initial=-np.inf)
    np.exp(p, out=p)
    p /= row_sums(p)
    return p


# ---------------------------------------------------------------------------- RMS norm


def rmsnorm_forward(x, gamma, rms_param):
    """RMS norm (Zhang & Sennrich 2019): out = gamma * x / sqrt(mean(x^2) + eps) over the last axis.

    x: (..., D).  gamma: (D,).  rms_param: eps (1e-5).   Layer norm without mean and without beta.
    """
    x, gamma = as_floats("rmsnorm_forward", x=x, gamma=gamma)
    eps = check_rmsnorm("rmsnorm_forward", x, gamma, rms_param)
    wide = widened(x)
    s = 1 / np.sqrt(_mean_product(wide, wide) + eps)  # (..., 1)
    xhat = wide * s
    return cast(xhat * gamma, np.result_type(x, gamma)), (xhat, s, gamma, x.dtype)


def rmsnorm_backward(dout, cache):
    """From dout (..., D): dx (..., D), dgamma (D,).

    With s = 1 / sqrt(mean(x^2) + eps), xhat_i = s x_i and dxhat = gamma * dout. x_i reaches xhat
        directly:   s dxhat_i
        through s:  s gets sum_j dxhat_j x_j, and its derivative by x_i is -s^3 x_i / D.
                    Together -s^3 x_i mean(dxhat x) = -s xhat_i mean(dxhat xhat)
    """
    xhat, s, gamma, dtype = cache
    dout = widened(check_dout("rmsnorm_backward", dout, xhat.shape))
    dgamma = (dout * xhat).sum(axis=tuple(range(dout.ndim - 1)))
    dxhat = dout * gamma
    dx = s * (dxhat - xhat * _mean_product(dxhat, xhat))
    return cast(dx, dtype), cast(dgamma, gamma.dtype)


def _mean_product(a, b):
    return row_products(a, b) / max(1, a.shape[-1])


# ---------------------------------------------------------------------------- attention


def scaled_dot_product_attention_forward(q, k, v, mask=None, causal=False):
    """Attention (Vaswani et al. 2017): out = softmax(q @ k.T / sqrt(E)) @ v.

    q: (N, ..., T, E).  k: (N, ..., S, E).  v: (N, ..., S, D).
    mask: bools that broadcast to (N, ..., T, S), true where a query may see a key, as in PyTorch. A
    mask for padding is (N, 1, S), or (N, 1, 1, S) if there are heads.
    causal: a query sees the keys up to its own place. The last query stands at the place of the last
    key, so T < S queries see the S - T keys before them, too.
    Returns out (N, ..., T, D) and a cache. Raises ValueError if a query may see no key.
    """
    who = "scaled_dot_product_attention_forward"
    q, k, v = as_floats(who, q=q, k=k, v=v)
    check_attention(who, q, k, v, causal)
    mask = checked_mask(who, mask, causal, (*q.shape[:-1], k.shape[-2]))
    out, p = _attend(q, k, v, mask)
    return out, (q, k, v, p, out)


def scaled_dot_product_attention_backward(dout, cache):
    """From dout (N, ..., T, D): dq, dk, dv, shaped as q, k, v.

    out = p @ v is a product:             dv = p.T @ dout          dp = dout @ v.T
    p is a softmax of each row of scores: dscore_ts = p_ts (dp_ts - sum_r dp_tr p_tr)
    The sum is known: dp_tr = dout_t . v_r, so it is dout_t . sum_r p_tr v_r = dout_t . out_t, a sum
    over D numbers. Where p is 0, so is dscore: what is masked gets no gradient.
    score = q @ k.T / sqrt(E) is a product, too:
        dq = dscore @ k / sqrt(E)         dk = dscore.T @ q / sqrt(E)
    """
    q, k, v, p, out = cache
    dout = check_dout("scaled_dot_product_attention_backward", dout, out.shape)
    dq, dk, dv = _attend_backward(dout, q, k, v, p, out)
    return cast(dq, q.dtype), cast(dk, k.dtype), cast(dv, v.dtype)


def _attend(q, k, v, mask, out=None, drop=None):
    """out and the weights p (..., T, S). mask: what is added to the scores, 0 or -inf, or None.
    drop: what the weights are multiplied by, or None.
    """
    scores = np.matmul(q * (1 / math.sqrt(q.shape[-1])), k.swapaxes(-1, -2))
    if mask is not None:
        scores += mask
    p = cast(_softmax(widened(scores)), scores.dtype)
    return np.matmul(_times(p, drop), v, out=out), p


def _attend_backward(dout, q, k, v, p, out, dq=None, dk=None, dv=None, drop=None):
    """dq, dk and dv, new arrays unless they are given."""
    scale = 1 / math.sqrt(q.shape[-1])
    dv = np.matmul(_times(p, drop).swapaxes(-1, -2), dout, out=dv)
    dscore = _times(np.matmul(dout, v.swapaxes(-1, -2)), drop)  # so far dp
    dscore -= row_products(dout, out)
    dscore *= p
    dscore *= scale
    dq = np.matmul(dscore, k, out=dq)
    dk = np.matmul(dscore.swapaxes(-1, -2), q, out=dk)
    return dq, dk, dv


def _times(a, drop):
    return a if drop is None else a * drop


# ---------------------------------------------------------------------------- multi-head attention
# Self-attention with several heads: each head has queries, keys and values of its own, of width
# E = D / heads, and looks for something else. All of them are affine maps of the same x, so W holds
# them side by side, first the queries of all heads, then the keys, then the values:
#     x (N, T, D) @ W (D, 3D) + b = qkv (N, T, 3D), seen as (N, T, 3, heads, E)
#     head h:  z_h = attention(q_h, k_h, v_h)                       (N, T, E)
#     z = the z_h side by side                                      (N, T, D)
#     out = z @ Wo + bo                                             (N, T, D)
# Backward, from the end. Views and putting side by side move numbers and change none: their way back is
# the same view.
#     dz = dout @ Wo.T       dWo = z.T @ dout       dbo = sum of dout         (an affine layer)
#     dq_h, dk_h, dv_h from dz_h                                              (attention, head by head)
#     dx = dqkv @ W.T        dW = x.T @ dqkv        db = sum of dqkv          (an affine layer)
# x is used as query, as key and as value (copy <-> add): the product dqkv @ W.T adds the three up.
#
# Dropout, in training, multiplies the weights by a mask m, 0 or 1 / (1 - p_drop), as GPT-2 does:
#     r = p * m        out = r @ v
# Backward:            dv = r.T @ dout       dr = dout @ v.T       dp = dr * m
# The softmax needs the sum over s of dp_ts p_ts = dr_ts m_ts p_ts = dr_ts r_ts. With
# dr_ts = dout_t . v_s it is dout_t . out_t as before.


def multi_head_attention_forward(x, W, b, Wo, bo, attention_param, dropout_param=None):
    """Self-attention with several heads (Vaswani et al. 2017). The derivation stands above.

    x: (N, T, D).  W: (D, 3D).  b: (3D,).  Wo: (D, D).  bo: (D,).  attention_param:
      heads    a divisor of D
      causal   a step sees itself and those before it (False)
      mask     bools that broadcast to (N, heads, T, T), true where a step may see another (None: all)
    dropout_param: p, mode and seed as in `dropout_forward`, for the weights (None: no dropout).
    Returns out (N, T, D) and a cache. Raises ValueError if a step may see none.
    """
    who = "multi_head_attention_forward"
    x, W, b, Wo, bo = arrays = as_floats(who, x=x, W=W, b=b, Wo=Wo, bo=bo)
    heads, causal, mask = attention_settings(who, attention_param)
    check_multi_head(who, x, W, b, Wo, bo, heads)
    N, T, D = x.shape
    shape = (N, heads, T, T)
    mask = checked_mask(who, mask, causal, shape)
    rows = x.reshape(N * T, D)
    qkv = plus(matmul(rows, W), b).reshape(N, T, 3 * D)
    z = np.empty((N, T, D), qkv.dtype)
    q, k, v = _heads(qkv, 3, heads)
    drop = None if dropout_param is None else _drop(who, shape, qkv.real.dtype, dropout_param)
    _, p = _attend(q, k, v, mask, out=_heads(z, 1, heads)[0], drop=drop)
    out = plus(matmul(z.reshape(N * T, D), Wo), bo)
    return out.reshape(N, T, D), (rows, qkv, p, drop, z, W, Wo, [a.dtype for a in arrays])


def multi_head_attention_backward(dout, cache):
    """From dout (N, T, D): dx (N, T, D), dW (D, 3D), db (3D,), dWo (D, D), dbo (D,)."""
    rows, qkv, p, drop, z, W, Wo, dtypes = cache
    drows = check_dout("multi_head_attention_backward", dout, z.shape).reshape(rows.shape)
    dz = matmul(drows, Wo.T).reshape(z.shape)
    dqkv = np.empty(qkv.shape, np.result_type(qkv, dz))
    heads = p.shape[1]
    (dz_h,), (z_h,) = _heads(dz, 1, heads), _heads(z, 1, heads)
    _attend_backward(dz_h, *_heads(qkv, 3, heads), p, z_h, *_heads(dqkv, 3, heads), drop)
    dqkv = dqkv.reshape(len(rows), len(W.T))  # (N * T, 3D)
    dx = matmul(dqkv, W.T).reshape(z.shape)
    dW, db = matmul(rows.T, dqkv), widened(dqkv).sum(axis=0)
    dWo, dbo = matmul(z.reshape(rows.shape).T, drows), widened(drows).sum(axis=0)
    return tuple(cast(g, dtype) for g, dtype in zip((dx, dW, db, dWo, dbo), dtypes, strict=True))


def _drop(who, shape, dtype, dropout_param):
    p, training = dropout_settings(who, dropout_param)
    return dropout_mask(shape, dtype, p, dropout_param.get("seed")) if training else None


def multi_head_attention_weights(cache):
    """What each step takes from each step, before dropout: p (N, heads, T, T), to be looked at.

    cache: from `multi_head_attention_forward`.  Each row of p sums to 1; what a step may not see has 0.
    """
    _, _, p, *_ = cache
    return p


def multi_head_attention_step(x, past, W, b, Wo, bo, attention_param):
    """Further steps of causal attention, with the keys and values of the steps before.

    x: (N, T, D), the next T steps.  past: from the call before, None at the beginning.  The other
    arguments as in `multi_head_attention_forward`, which gives the same for all steps at once.
    Returns out (N, T, D) and the new past, keys and values (2, N, heads, S, E) of all S steps so far.
    """
    who = "multi_head_attention_step"
    x, W, b, Wo, bo = as_floats(who, x=x, W=W, b=b, Wo=Wo, bo=bo)
    heads, causal, mask = attention_settings(who, attention_param)
    check_multi_head(who, x, W, b, Wo, bo, heads)
    if not causal or mask is not None:
        raise ValueError(f"{who}: causal = {causal} and mask = {mask}, expected causal attention.")
    N, T, D = x.shape
    qkv = _heads((x.reshape(N * T, D) @ W + b).reshape(N, T, 3 * D), 3, heads)
    past = qkv[1:].copy() if past is None else np.concatenate([past, qkv[1:]], axis=3)
    mask = checked_mask(who, None, T > 1, (T, past.shape[3]))
    z = np.empty((N, T, D), qkv.dtype)
    _attend(qkv[0], *past, mask, out=_heads(z, 1, heads)[0])
    return (z.reshape(N * T, D) @ Wo + bo).reshape(N, T, D), past


def _heads(a, count, heads):
    """Views (N, heads, T, E) of the `count` arrays (N, T, D) that lie side by side in a."""
    N, T, width = a.shape
    E = width // (count * heads)
    return a.reshape(N, T, count, heads, E).transpose(2, 0, 3, 1, 4)


# ---------------------------------------------------------------------------- positions
# Attention does not see the order of the steps: it has to be told where each one stands.


def sinusoidal_positions(T, D):
    """The positions 0 to T - 1 as D numbers each, (T, D): sines and cosines of wave lengths that grow
    from 2 pi to 10000 * 2 pi (Vaswani et al. 2017):

        out[t, 2i] = sin(t / 10000^(2i / D))      out[t, 2i + 1] = cos(t / 10000^(2i / D))
    """
    even = np.arange(0, D, 2)
    angles = np.arange(T)[:, None] / 10000 ** (even / D)  # (T, D / 2), rounded up
    return np.stack([np.sin(angles), np.cos(angles)], axis=2).reshape(T, 2 * len(even))[:, :D]


def position_embedding_forward(x, W):
    """Adds row t of W to step t: out = x + W[:T].

    x: (N, T, D).  W: (P, D) with P at least T, learned or `sinusoidal_positions(P, D)`.
    """
    x, W = as_floats("position_embedding_forward", x=x, W=W)
    check_positions("position_embedding_forward", x, W)
    return x + W[: x.shape[1]], (x.shape, W.shape, x.dtype, W.dtype)


def position_embedding_backward(dout, cache):
    """From dout (N, T, D): dx (N, T, D), dW (P, D).

    Row t is added to step t of every sequence: it gets the sum over them (broadcast <-> sum). Rows from
    T on are not used and get 0.
    """
    shape, W_shape, dtype, W_dtype = cache
    dout = check_dout("position_embedding_backward", dout, shape)
    dW = np.zeros(W_shape, dout.dtype)
    dW[: shape[1]] = widened(dout).sum(axis=0)
    return cast(dout.copy(order="K"), dtype), cast(dW, W_dtype)


# ---------------------------------------------------------------------------- convolution of steps


def conv1d_forward(x, w, b, conv_param):
    """Convolution of sequences: out_t = sum of w[f] * (K steps of x, from t * stride - pad on) + b[f].

    x: (N, T, D).  w: (F, D, K).  b: (F,).
    conv_param: stride (1), and pad (0), a number of steps of zeros before the first and after the last.
    Returns out (N, OT, F), OT = 1 + (T + 2 * pad - K) // stride, and a cache.

    A sequence is an image of height 1 with D channels: this is `conv_forward`.
    """
    x, w, b = as_floats("conv1d_forward", x=x, w=w, b=b)
    stride, pad = check_conv1d("conv1d_forward", x, w, b, conv_param)
    param = {"stride": (1, stride), "pad": (0, pad)}
    out, cache = conv_forward(_as_images(x), w[:, :, None], b, param)
    return _as_steps(out), (cache, _as_steps(out).shape)


def conv1d_backward(dout, cache):
    """From dout (N, OT, F): dx (N, T, D), dw (F, D, K), db (F,): `conv_backward`."""
    cache, shape = cache
    dout = check_dout("conv1d_backward", dout, shape)
    dx, dw, db = conv_backward(_as_images(dout), cache)
    return _as_steps(dx), dw[:, :, 0], db


def _as_images(x):
    """Sequences (N, T, D) as images (N, D, 1, T)."""
    return x.swapaxes(1, 2)[:, :, None]


def _as_steps(images):
    """The inverse view."""
    return images[:, :, 0].swapaxes(1, 2)
