"""The layers: pairs of plain functions, with every gradient derived and written by hand.

    out, cache = x_forward(x, ..., x_param)
    dx, ... = x_backward(dout, cache)        one gradient for each array argument, in their order

Read this file from top to bottom: affine, activations, losses, dropout, normalisation, convolution,
pooling.

Backpropagation. A net is a composition, loss = f3(f2(f1(x))). The forward pass computes it from the
inside out. The backward pass goes the other way: each layer receives dout, the gradient of the loss
with respect to its output, and returns the gradient with respect to each of its inputs. By the chain
rule, an input gets the sum over all outputs that depend on it:

    dx_i = sum over j of  dout_j * (derivative of out_j with respect to x_i)

`dout` always has the shape of `out`, and `dx` that of `x`. Three rules cover most layers:

    copy <-> add          a number that is used in several places gets the sum of what comes back
    broadcast <-> sum     a bias that is added to every row gets the sum over the rows
    product <-> transpose out = x @ w  gives  dx = dout @ w.T  and  dw = x.T @ dout

An example with numbers, out = x @ w:

>>> x, w = np.array([[1.0, 2.0]]), np.array([[3.0, 5.0], [4.0, 6.0]])
>>> out, cache = affine_forward(x, w, np.zeros(2))
>>> out                                     # 1*3 + 2*4 and 1*5 + 2*6
array([[11., 17.]])
>>> dx, dw, db = affine_backward(np.array([[1.0, 10.0]]), cache)
>>> dx                                      # x_1 counts 3 in out_1 and 5 in out_2: 1*3 + 10*5
array([[53., 64.]])
>>> dw                                      # w_dm counts x_d in out_m
array([[ 1., 10.],
       [ 2., 20.]])

Letters, the same everywhere:
    N examples   D inputs   M outputs   C channels, or classes   H x W image   F filters
    HH x WW filter or window   OH x OW output image.   Images are (N, C, H, W).

The contract of every pair:
    - Arguments are never written to, and a cache serves any number of backward calls. One thing is
      kept between calls, the running statistics of batch norm, and it lives in the caller's `bn_param`.
    - A gradient has the shape and the dtype of the argument. float32 stays float32. float64, longdouble
      and complex pass through, so that a gradient can be checked by complex step; for its sake
      comparisons look at the real part. Whole numbers and truth values are taken as float64.
    - Arrays may have any memory order. Empty batches work. A wrong shape or setting raises ValueError:
      who, what came, what was expected.
"""

import math

import numpy as np

from .engine import convolution, pooling
from .engine.arrays import (
    as_floats,
    cast,
    feature_products,
    feature_sums,
    kept_where,
    plus,
    positive_part,
    spread,
    widened,
)
from .engine.checks import (
    check_affine,
    check_dout,
    check_groups,
    check_labels,
    check_norm,
    check_targets,
    conv_settings,
    dropout_settings,
    is_training,
    pool_settings,
)
from .engine.errors import check_range
from .engine.images import flatten, unflatten
from .engine.parts import by_part, total
from .engine.products import matmul

__all__ = [
    "affine_backward",
    "affine_forward",
    "avg_pool_backward",
    "avg_pool_forward",
    "batchnorm_backward",
    "batchnorm_backward_alt",
    "batchnorm_forward",
    "conv_backward",
    "conv_backward_fast",
    "conv_backward_im2col",
    "conv_backward_naive",
    "conv_backward_strides",
    "conv_forward",
    "conv_forward_fast",
    "conv_forward_im2col",
    "conv_forward_naive",
    "conv_forward_strides",
    "dropout_backward",
    "dropout_forward",
    "layernorm_backward",
    "layernorm_forward",
    "leaky_relu_backward",
    "leaky_relu_forward",
    "max_pool_backward",
    "max_pool_backward_fast",
    "max_pool_backward_naive",
    "max_pool_forward",
    "max_pool_forward_fast",
    "max_pool_forward_naive",
    "mse_loss",
    "relu_backward",
    "relu_forward",
    "sigmoid_backward",
    "sigmoid_forward",
    "softmax_loss",
    "spatial_batchnorm_backward",
    "spatial_batchnorm_forward",
    "spatial_groupnorm_backward",
    "spatial_groupnorm_forward",
    "svm_loss",
    "tanh_backward",
    "tanh_forward",
]

# ---------------------------------------------------------------------------- affine


def affine_forward(x, w, b):
    """Affine map: out = rows(x) @ w + b, in indices out_nm = sum_d x_nd w_dm + b_m.

    x: (N, d_1, ..., d_k), read as N rows of D = d_1 * ... * d_k.  w: (D, M).  b: (M,).
    Returns out (N, M) and a cache. Raises ValueError on unequal D or M.
    """
    x, w, b = as_floats("affine_forward", x, w, b)
    rows = flatten(x)  # (N, D)
    check_affine("affine_forward", x, rows, w, b)
    return plus(matmul(rows, w), b), (x, rows, w, b.dtype)


def affine_backward(dout, cache, need_dx=True):
    """From dout (N, M): dx shaped as x, dw (D, M), db (M,).

    w_dm enters out_nm of every example n, times x_nd:  dw_dm = sum_n x_nd dout_nm   dw = x.T @ dout
    x_nd enters out_nm of every output m, times w_dm:   dx_nd = sum_m dout_nm w_dm   dx = dout @ w.T
    b_m is added to out_nm of every example n:          db_m  = sum_n dout_nm

    need_dx=False leaves dx out (None): the first layer of a net has no use for it.
    """
    x, rows, w, b_dtype = cache
    check_dout("affine_backward", dout, (len(rows), w.shape[1]))
    dx = cast(unflatten(dout, w, x), x.dtype) if need_dx else None  # dout @ w.T, shaped as x
    dw = matmul(rows.T, dout)
    db = widened(dout).sum(axis=0)
    return dx, cast(dw, w.dtype), cast(db, b_dtype)


# ---------------------------------------------------------------------------- activations
# Each entry of out depends on one entry of x, so that dx = dout * (the derivative there).


def relu_forward(x):
    """Rectifier: out = max(x, 0), for x of any shape."""
    (x,) = as_floats("relu_forward", x)
    out = positive_part(x)
    return out, out


def relu_backward(dout, cache):
    """dx = dout where x > 0, else 0. The derivative is 1 above 0, 0 below, and taken as 0 at x = 0."""
    out = cache
    check_dout("relu_backward", dout, out.shape)
    return cast(kept_where(out.real > 0, dout), out.dtype)


def leaky_relu_forward(x, alpha=0.01):
    """Leaky rectifier: out = x where x > 0, else alpha * x, for x of any shape (Maas et al. 2013)."""
    (x,) = as_floats("leaky_relu_forward", x)
    return x * _slope(x, alpha), (x, alpha)


def leaky_relu_backward(dout, cache):
    """dx = dout where x > 0, else alpha * dout; at x = 0 the derivative is taken as alpha."""
    x, alpha = cache
    check_dout("leaky_relu_backward", dout, x.shape)
    return cast(dout * _slope(x, alpha), x.dtype)


def _slope(x, alpha):
    """1 where x > 0, else alpha, in the precision of x."""
    slope = (x.real > 0).astype(x.real.dtype)
    return slope + float(alpha) * (1 - slope)


def sigmoid_forward(x):
    """Logistic function: out = 1 / (1 + exp(-x)), for x of any shape; no x overflows."""
    (x,) = as_floats("sigmoid_forward", x)
    negative = x.real < 0
    e = np.exp(np.where(negative, x, -x))  # the exponent is never above 0
    out = (e * negative + ~negative) / (1 + e)
    return out, out


def sigmoid_backward(dout, cache):
    """dx = dout * out * (1 - out).

    With e = exp(-x), out = 1 / (1 + e) has the derivative e / (1 + e)^2 = 1 / (1 + e) * e / (1 + e).
    """
    out = cache
    check_dout("sigmoid_backward", dout, out.shape)
    return cast(dout * out * (1 - out), out.dtype)


def tanh_forward(x):
    """Hyperbolic tangent: out = sinh(x) / cosh(x), for x of any shape."""
    (x,) = as_floats("tanh_forward", x)
    out = np.tanh(x)
    return out, out


def tanh_backward(dout, cache):
    """dx = dout * (1 - out^2), since (sinh / cosh)' = (cosh^2 - sinh^2) / cosh^2."""
    out = cache
    check_dout("tanh_backward", dout, out.shape)
    return cast(dout * (1 - out * out), out.dtype)


# ---------------------------------------------------------------------------- losses
# A loss is forward and backward at once: the chain begins here, with the derivative of the loss by
# itself, 1. Each is a mean over the examples, so that every gradient carries 1 / N.


def softmax_loss(x, y, smoothing=0.0):
    """Softmax and cross-entropy, the mean over the batch; no score overflows.

    x: scores (N, C).  y: labels (N,), integers in [0, C).  smoothing: takes this share (0 to 1) of the
    target from the right class and spreads it evenly over all classes (Szegedy et al. 2016).
    Returns loss and dx (N, C).

    For one example with targets t_c that sum to 1, and S = sum_k exp(x_k):
        p_c = exp(x_c) / S        loss = -sum_c t_c log p_c = log S - sum_c t_c x_c
    The derivative of log S with respect to x_c is exp(x_c) / S = p_c, and so dx_c = p_c - t_c.
    Adding the same number to all scores changes no p_c. So the largest is made 0: no exp overflows.
    """
    check_range("softmax_loss", "smoothing", smoothing, 0, 1)
    (scores,) = as_floats("softmax_loss", x)
    x = widened(scores)
    right = check_labels("softmax_loss", x, y)  # the index of each example's own class
    N = max(1, len(x))
    shifted = x - x.real.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    dx = np.exp(log_p)
    dx[right] -= 1 - smoothing
    loss = -(1 - smoothing) * log_p[right].sum() / N
    if smoothing:
        dx -= smoothing / x.shape[1]
        loss -= smoothing / x.shape[1] * log_p.sum() / N
    return cast(loss, scores.dtype), cast(dx / N, scores.dtype)


def svm_loss(x, y):
    """Multi-class hinge loss (Weston & Watkins 1999) with margin 1, the mean over the batch.

    x: scores (N, C).  y: labels (N,), integers in [0, C).   Returns loss and dx (N, C).

    For one example:   loss = sum over c != y of max(0, x_c - x_y + 1).
    Each class c over its margin adds x_c - x_y + 1: 1 to dx_c, and -1 to dx_y. So dx_c is 1 or 0, and
    dx_y is minus the number of classes over their margin.
    """
    (scores,) = as_floats("svm_loss", x)
    x = widened(scores)
    right = check_labels("svm_loss", x, y)  # the index of each example's own class
    N = max(1, len(x))
    margins = x - x[right][:, None] + 1
    margins[right] = 0
    over = margins.real > 0
    dx = over.astype(x.dtype)
    dx[right] = -over.sum(axis=1)
    return cast(margins[over].sum() / N, scores.dtype), cast(dx / N, scores.dtype)


def mse_loss(x, y):
    """Mean squared error over every entry of x: loss = sum of (x - y)^2 / (N * C).

    x: (N, C).  y: targets shaped as x, or labels (N,), integers in [0, C), read as one-hot rows.
    Returns loss and dx (N, C) = 2 * (x - y) / (N * C).
    """
    (scores,) = as_floats("mse_loss", x)
    x = widened(scores)
    if np.ndim(y) == 1:
        right = check_labels("mse_loss", x, y)
        difference = x.copy()
        difference[right] -= 1
    else:
        difference = x - check_targets("mse_loss", x, y)
    size = max(1, x.size)
    dx = difference * (2 / size)
    return cast((difference * difference).sum() / size, scores.dtype), cast(dx, scores.dtype)


# ---------------------------------------------------------------------------- dropout


def dropout_forward(x, dropout_param):
    """Inverted dropout (Srivastava et al. 2014): in training, entries are dropped at random.

    x: any shape. dropout_param:
      p     the probability of *dropping* an entry, in [0, 1). (The course of 2018 and later calls the
            probability of keeping p; that is 1 - p here.)
      mode  'train' or 'test'; at test time out = x.
      seed  whatever `np.random.default_rng` takes; an equal seed gives an equal mask. Without it
            each call draws a new one. NumPy's global generator is never touched.

    out = x * mask, where mask is 0 with probability p, else 1 / (1 - p). Then the mean of an entry is
    (1 - p) * x / (1 - p) = x, as at test time.
    """
    (x,) = as_floats("dropout_forward", x)
    p, training = dropout_settings("dropout_forward", dropout_param)
    if not training:
        return x.copy(order="K"), (None, x.shape, x.dtype)
    draws = np.random.default_rng(dropout_param.get("seed")).random(x.shape, np.float32)
    mask = (draws >= p).astype(x.real.dtype)
    mask *= 1 / (1 - p)
    return x * mask, (mask, x.shape, x.dtype)


def dropout_backward(dout, cache):
    """dx = dout * mask, with the mask of the forward pass; at test time dx = dout."""
    mask, shape, dtype = cache
    check_dout("dropout_backward", dout, shape)
    return cast(dout.copy(order="K") if mask is None else dout * mask, dtype)


# ---------------------------------------------------------------------------- normalisation
# Four layers, one formula: shift and scale until the mean is 0 and the variance 1 over some axes,
# then give each feature (axis 1) its own scale gamma and shift beta.
#   batchnorm   (N, D)  over N    spatial_batchnorm   (N, C, H, W)  over N, H, W
#   layernorm   (N, D)  over D    spatial_groupnorm   (N, C, H, W)  over H, W and a group of channels
#
# Forward, for the n numbers x_i that share a mean:
#     mu = sum x_i / n      c_i = x_i - mu      var = sum c_i^2 / n      s = 1 / sqrt(var + eps)
#     xhat_i = s c_i        out_i = gamma xhat_i + beta
# Backward, with mean() over the same numbers:
#     beta is added to every out_i:             dbeta = sum dout_i
#     gamma multiplies xhat_i in every out_i:   dgamma = sum dout_i xhat_i
#     xhat_i is multiplied by gamma:            dxhat_i = gamma dout_i
# c_i reaches xhat in two ways, directly and through the variance, which all xhat share:
#     directly:              s dxhat_i
#     through the variance:  s gets sum_j dxhat_j c_j = n mean(dxhat c). The derivative of s by var is
#                            -s^3 / 2, that of var by c_i is 2 c_i / n. The product of the three:
#                            -s^3 c_i mean(dxhat c) = -s xhat_i mean(dxhat xhat)
#     together:              dc_i = s (dxhat_i - xhat_i mean(dxhat xhat))
# x_i reaches c in two ways, directly and through the mean, which is subtracted from every c_j:
#     directly:              dc_i
#     through the mean:      mu gets -sum_j dc_j, and x_i is 1/n of mu: -mean(dc) = -s mean(dxhat),
#                            since the second term of dc has the mean 0, as xhat has
#     together:              dx_i = s (dxhat_i - mean(dxhat) - xhat_i mean(dxhat xhat))

BATCHNORM_KEYS = ("eps", "momentum", "running_mean", "running_var")


def batchnorm_forward(x, gamma, beta, bn_param):
    """Batch normalisation (Ioffe & Szegedy 2015): each column of out has mean beta, deviation gamma.

    x: (N, D).  gamma, beta: (D,).  bn_param:
      mode          'train': by the batch's mean and (biased) variance; 'test': by the running ones
      eps           added to the variance (1e-5)
      momentum      running = momentum * running + (1 - momentum) * the batch's (0.9)
      running_mean, running_var   (D,), zeros at first; a training pass puts the new ones here
    Returns out (N, D) and a cache.
    """
    x, gamma, beta = _norm_arrays("batchnorm_forward", x, gamma, beta)
    check_norm("batchnorm_forward", x, gamma, beta, bn_param, BATCHNORM_KEYS, ndim=2)
    return _batchnorm(x, gamma, beta, bn_param, is_training("batchnorm_forward", bn_param))


def batchnorm_backward(dout, cache):
    """From dout (N, D): dx (N, D), dgamma (D,), dbeta (D,). The derivation stands above."""
    return _batchnorm_backward("batchnorm_backward", dout, cache)


def spatial_batchnorm_forward(x, gamma, beta, bn_param):
    """Batch normalisation of images: one mean and variance for each channel.

    x: (N, C, H, W), an array or a batch in parts (engine/parts.py); out is of the same kind.
    gamma, beta: (C,).  bn_param: as in `batchnorm_forward`, with C for D.
    """
    x, gamma, beta = _norm_arrays("spatial_batchnorm_forward", x, gamma, beta)
    check_norm("spatial_batchnorm_forward", x, gamma, beta, bn_param, BATCHNORM_KEYS, ndim=4)
    return _batchnorm(x, gamma, beta, bn_param, is_training("spatial_batchnorm_forward", bn_param))


def spatial_batchnorm_backward(dout, cache):
    """From dout (N, C, H, W): dx (N, C, H, W), dgamma (C,), dbeta (C,)."""
    return _batchnorm_backward("spatial_batchnorm_backward", dout, cache)


def _batchnorm(x, gamma, beta, bn_param, training):
    dtype, x = x.dtype, by_part(widened, x)
    n = x.size // max(1, gamma.size)  # numbers that share a mean
    eps, momentum = float(bn_param.get("eps", 1e-5)), float(bn_param.get("momentum", 0.9))
    mean, var = (_running(bn_param, key, gamma.size, x.dtype) for key in BATCHNORM_KEYS[2:])  # (C,)
    by_batch = training and n > 0  # an empty batch has no statistics
    if by_batch:
        batch_mean = total(feature_sums, x) / n
        x = by_part(lambda x: x - spread(batch_mean, x), x)  # c: centred, so its mean is 0 from here on
        batch_var = total(lambda c: feature_products(c, c), x) / n  # no abs: for a complex step
        for key, new in zip(BATCHNORM_KEYS[2:], (batch_mean, batch_var), strict=True):
            bn_param[key] = _mixed(bn_param.get(key), new.real, momentum, dtype)
        mean, var = np.zeros_like(batch_mean), batch_var
    s = 1 / np.sqrt(var + eps)
    scale = s * gamma.ravel()
    shift = beta.ravel() - mean * scale
    out = by_part(lambda x: cast(plus(x * spread(scale, x), spread(shift, x)), dtype), x)
    return out, (x, mean, s, gamma, beta.dtype, n if by_batch else 0, dtype)


def _running(bn_param, key, features, dtype):
    """The running statistics as (C,)."""
    return np.ravel(bn_param.get(key, np.zeros(features))).astype(dtype.type(0).real.dtype)


def _mixed(old, new, momentum, dtype):
    """momentum * old + (1 - momentum) * new, in the shape and dtype of the old ones."""
    old = np.zeros(new.shape, dtype.type(0).real.dtype) if old is None else np.asarray(old)
    kept = old.dtype if old.dtype.kind == "f" else np.float64
    return (momentum * old + (1 - momentum) * new.reshape(old.shape)).astype(kept)


def _batchnorm_backward(who, dout, cache):
    x, mean, s, gamma, beta_dtype, n, dtype = cache  # x centred in training
    check_dout(who, dout, x.shape)
    dout = by_part(widened, dout)
    dbeta = total(feature_sums, dout)
    dgamma = (total(feature_products, dout, x) - mean * dbeta) * s  # sum dout_i xhat_i
    scale = s * gamma.ravel()
    if n:  # dx_i = s gamma (dout_i - dbeta / n - s c_i dgamma / n)
        slope, shift = -scale * s * dgamma / n, -scale * dbeta / n

        def dx_of(dout, x):
            dx = plus(dout * spread(scale, dout), x * spread(slope, x))
            return cast(plus(dx, spread(shift, x)), dtype)
    else:  # running statistics do not depend on x

        def dx_of(dout, x):
            return cast(dout * spread(scale, dout), dtype)

    dgamma, dbeta = dgamma.reshape(gamma.shape), dbeta.reshape(gamma.shape)
    return by_part(dx_of, dout, x), cast(dgamma, gamma.dtype), cast(dbeta, beta_dtype)


def layernorm_forward(x, gamma, beta, ln_param):
    """Layer normalisation (Ba, Kiros & Hinton 2016): each row by its own mean and variance.

    x: (N, D).  gamma, beta: (D,).  ln_param: eps, added to the variance (1e-5).
    """
    x, gamma, beta = _norm_arrays("layernorm_forward", x, gamma, beta)
    check_norm("layernorm_forward", x, gamma, beta, ln_param, ("eps",), ndim=2)
    return _normalize(x, gamma, beta, ln_param, x.shape, axes=(1,))


def layernorm_backward(dout, cache):
    """From dout (N, D): dx (N, D), dgamma (D,), dbeta (D,)."""
    return _normalize_backward("layernorm_backward", dout, cache)


def spatial_groupnorm_forward(x, gamma, beta, G, gn_param):
    """Group normalisation (Wu & He 2018): each image by the mean and variance of G channel groups.

    x: (N, C, H, W).  gamma, beta: (C,) or (1, C, 1, 1).  G: a divisor of C.
    gn_param: eps, added to the variance (1e-5).
    """
    x, gamma, beta = _norm_arrays("spatial_groupnorm_forward", x, gamma, beta)
    check_norm("spatial_groupnorm_forward", x, gamma, beta, gn_param, ("eps",), ndim=4)
    N, C, H, W = x.shape
    check_groups("spatial_groupnorm_forward", G, C)
    return _normalize(x, gamma, beta, gn_param, (N, G, C // G, H, W), axes=(2, 3, 4))


def spatial_groupnorm_backward(dout, cache):
    """From dout (N, C, H, W): dx (N, C, H, W), dgamma and dbeta shaped as gamma."""
    return _normalize_backward("spatial_groupnorm_backward", dout, cache)


def _normalize(x, gamma, beta, param, shape, axes):
    """Each example by itself: x seen in `shape`, over the axes."""
    dtype, eps = x.dtype, float(param.get("eps", 1e-5))
    groups = widened(x).reshape(shape)
    c = groups - _mean(groups, axes)
    s = 1 / np.sqrt(_mean(c * c, axes) + eps)
    xhat = c * s
    out = xhat.reshape(x.shape)
    out = out * spread(gamma, out) + spread(beta, out)
    return cast(out, dtype), (xhat, s, gamma, beta.dtype, axes, x.shape, dtype)


def _normalize_backward(who, dout, cache):
    xhat, s, gamma, beta_dtype, axes, x_shape, dtype = cache
    check_dout(who, dout, x_shape)
    dout = widened(dout)
    dgamma = feature_products(dout, xhat.reshape(x_shape)).reshape(gamma.shape)
    dbeta = feature_sums(dout).reshape(gamma.shape)
    dxhat = (dout * spread(gamma, dout)).reshape(xhat.shape)
    dx = s * (dxhat - _mean(dxhat, axes) - xhat * _mean(dxhat * xhat, axes))
    return cast(dx.reshape(x_shape), dtype), cast(dgamma, gamma.dtype), cast(dbeta, beta_dtype)


def _mean(x, axes):
    return x.sum(axis=axes, keepdims=True) / max(1, math.prod(x.shape[a] for a in axes))


def _norm_arrays(who, x, gamma, beta):
    return x if hasattr(x, "arrays") else as_floats(who, x)[0], *as_floats(who, gamma, beta)


# ---------------------------------------------------------------------------- convolution
# First by its definition, as loops that are slow and plain to read; then the same sums as products of
# matrices.


def conv_forward_naive(x, w, b, conv_param):
    """Convolution by its definition: out[n, f, i, j] = sum(window(n, i, j) * w[f]) + b[f].

    The window is what lies under the filter: w.shape[1:] numbers of image n, from row i * stride and
    column j * stride of the image in its frame of zeros.  Arguments as in `conv_forward`.
    """
    x, w, b = as_floats("conv_forward_naive", x, w, b)
    stride, pad, shape = conv_settings("conv_forward_naive", x, w, b, conv_param)
    framed = np.pad(x, _frame(pad))
    out = np.empty((len(x), len(w), *shape), np.result_type(x, w, b))
    for n, f, i, j in np.ndindex(out.shape):
        rows, columns = _window(i, j, w.shape[2:], stride)
        out[n, f, i, j] = np.sum(framed[n, :, rows, columns] * w[f]) + b[f]
    return out, (x, w, b, stride, pad)


def conv_backward_naive(dout, cache):
    """Each product of the sum gives its two factors dout times the other one: a filter the windows that
    it met, a window the filters that met it. Pixels in several windows add up what comes back.
    """
    x, w, b, stride, pad = cache
    framed = np.pad(x, _frame(pad))
    dframed, dw, db = np.zeros_like(framed), np.zeros_like(w), np.zeros_like(b)
    for n, f, i, j in np.ndindex(dout.shape):
        rows, columns = _window(i, j, w.shape[2:], stride)
        dframed[n, :, rows, columns] += dout[n, f, i, j] * w[f]
        dw[f] += dout[n, f, i, j] * framed[n, :, rows, columns]
        db[f] += dout[n, f, i, j]
    return _without_frame(dframed, x.shape, pad), dw, db


def conv_forward(x, w, b, conv_param):
    """Convolution (cross-correlation, as everywhere in this field) of images with F filters.

    x: (N, C, H, W).  w: (F, C, HH, WW).  b: (F,).
    conv_param: stride (1) and pad (0), the width of a frame of zeros; a number or a pair (H, W).
    Returns out (N, F, OH, OW), OH = 1 + (H + 2 * pad - HH) // stride and OW alike, and a cache.

    With the windows as the columns of a matrix and the filters as the rows of another, the sums of
    `conv_forward_naive` are one product: out = filters @ windows + b.
    """
    x, w, b = as_floats("conv_forward", x, w, b)
    stride, pad, shape = conv_settings("conv_forward", x, w, b, conv_param)
    out, windows = convolution.correlate(x, w, stride, pad, shape)
    out = plus(out, spread(b, out))
    return out, (windows, w, b.dtype, out.shape, x.shape, x.dtype, stride, pad)


def conv_backward(dout, cache, need_dx=True):
    """From dout (N, F, OH, OW): dx (N, C, H, W), dw (F, C, HH, WW), db (F,).

    Write k for an entry of the filter (c, ii, jj) and p for a position of the output (n, i, j). Then
    out_fp = sum_k w_fk window_kp + b_f, an affine map, and its gradients are products as well:
        dw_fk      = sum_p dout_fp window_kp      (dout @ windows.T)
        dwindow_kp = sum_f w_fk dout_fp           (filters.T @ dout)
        db_f       = sum_p dout_fp
    Making windows copies each pixel into all windows that hold it, so dx sums the dwindow entries that
    are copies of the same pixel.

    need_dx=False leaves dx out (None), as in `affine_backward`.
    """
    windows, w, b_dtype, out_shape, x_shape, x_dtype, stride, pad = cache
    check_dout("conv_backward", dout, out_shape)
    drows = convolution.rows_of(dout)  # (OH, F, OW * N), the positions in the order of the windows
    dw = convolution.filter_gradient(drows, windows, w.shape)
    db = feature_sums(widened(drows))
    dx = convolution.image_gradient(drows, w, x_shape, stride, pad) if need_dx else None
    return None if dx is None else cast(dx, x_dtype), cast(dw, w.dtype), cast(db, b_dtype)


def _window(i, j, size, stride):
    """The slices of rows and of columns under output pixel (i, j)."""
    top, left = i * stride[0], j * stride[1]
    return slice(top, top + size[0]), slice(left, left + size[1])


def _frame(pad):
    return ((0, 0), (0, 0), (pad[0],) * 2, (pad[1],) * 2)


def _without_frame(framed, x_shape, pad):
    (ph, pw), (_, _, H, W) = pad, x_shape
    return framed[:, :, ph : ph + H, pw : pw + W]


# ---------------------------------------------------------------------------- pooling


def max_pool_forward_naive(x, pool_param):
    """The largest entry of each window, by the definition. Arguments as in `max_pool_forward`."""
    (x,) = as_floats("max_pool_forward_naive", x)
    window, stride, pad, shape = pool_settings("max_pool_forward_naive", x, pool_param)
    framed = np.pad(x, _frame(pad), constant_values=-np.inf)
    out = np.empty((*x.shape[:2], *shape), x.dtype)
    for n, c, i, j in np.ndindex(out.shape):
        rows, columns = _window(i, j, window, stride)
        out[n, c, i, j] = np.max(framed[n, c, rows, columns])
    return out, (framed, x.shape, window, stride, pad)


def max_pool_backward_naive(dout, cache):
    """Each dout goes to the entry that was the largest; the others had no influence.

    Of several equal ones the leftmost takes it all, and of those the uppermost.
    """
    framed, x_shape, window, stride, pad = cache
    dframed = np.zeros_like(framed)
    for n, c, i, j in np.ndindex(dout.shape):
        rows, columns = _window(i, j, window, stride)
        block = framed[n, c, rows, columns]
        column, row = np.unravel_index(np.argmax(block.T), block.T.shape)
        dframed[n, c, rows, columns][row, column] += dout[n, c, i, j]
    return _without_frame(dframed, x_shape, pad)


def max_pool_forward(x, pool_param):
    """The largest entry of each window.

    x: (N, C, H, W).  pool_param: pool_height, pool_width, stride (the window's size), and pad (0),
    at most half the window; a frame of padding is never the largest. Windows may overlap.
    Returns out (N, C, OH, OW), OH = 1 + (H + 2 * pad - pool_height) // stride, and a cache.
    """
    (x,) = as_floats("max_pool_forward", x)
    window, stride, pad, _ = pool_settings("max_pool_forward", x, pool_param)
    out, where = pooling.largest(x, window, stride, pad)
    return out, (where, out.shape, x.dtype)


def max_pool_backward(dout, cache):
    """dx: each dout goes to the largest entry of its window, as in `max_pool_backward_naive`."""
    where, out_shape, dtype = cache
    check_dout("max_pool_backward", dout, out_shape)
    return cast(pooling.largest_backward(dout, where), dtype)


def avg_pool_forward(x, pool_param):
    """The mean of each window; a frame of padding counts as zeros (as in PyTorch's default).

    x, pool_param and out as in `max_pool_forward`.
    """
    (x,) = as_floats("avg_pool_forward", x)
    window, stride, pad, _ = pool_settings("avg_pool_forward", x, pool_param)
    out, shapes = pooling.sums(widened(x), window, stride, pad)
    out = cast(out / (window[0] * window[1]), x.dtype)
    return out, (shapes, out.shape, x.dtype)


def avg_pool_backward(dout, cache):
    """dx: each of the n entries of a window counts 1/n in its mean, and so gets dout / n.

    Entries in several windows get the sum.
    """
    shapes, out_shape, dtype = cache
    check_dout("avg_pool_backward", dout, out_shape)
    (PH, PW) = shapes[3]
    return cast(pooling.sums_backward(widened(dout) / (PH * PW), shapes), dtype)


# ---------------------------------------------------------------------------- the course's names
# The course has a slow and a fast version of these; here the fast one is the layer.

batchnorm_backward_alt = batchnorm_backward
conv_forward_fast = conv_forward_im2col = conv_forward_strides = conv_forward
conv_backward_fast = conv_backward_im2col = conv_backward_strides = conv_backward
max_pool_forward_fast, max_pool_backward_fast = max_pool_forward, max_pool_backward
