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

This is the product of the vector dout with the matrix of all derivatives, the Jacobian. A layer never
builds the matrix: it has one entry for each pair of an input and an output, and most of them are 0.
`dout` always has the shape of `out`, and `dx` that of `x`. Three rules cover most layers, and the
derivations below name them:

    copy <-> add            a number that is used in several places gets the sum of what comes back
    broadcast <-> sum       a bias that is added to every row gets the sum over the rows
    product <-> transpose   out = x @ w  gives  dx = dout @ w.T  and  dw = x.T @ dout

An example with numbers, out = x @ w:

>>> x, w = np.array([[1.0, 2.0]]), np.array([[3.0, 5.0], [4.0, 6.0]])
>>> out, cache = affine_forward(x, w, np.zeros(2))
>>> out                                     # 1*3 + 2*4 and 1*5 + 2*6
array([[11., 17.]])
>>> dx, dw, db = affine_backward(np.array([[1.0, 10.0]]), cache)
>>> dx                                      # x_1 enters out_1 times 3 and out_2 times 5: 1*3 + 10*5
array([[53., 64.]])
>>> dw                                      # w_dm enters out_m times x_d
array([[ 1., 10.],
       [ 2., 20.]])

Letters, the same everywhere:
    N examples   D inputs   M outputs   C channels, or classes   H x W image   F filters
    HH x WW filter or window   OH x OW output image.   Images are (N, C, H, W).

The contract of every pair:
    - Arguments are never written to, and a cache serves any number of backward calls. One thing is
      kept between calls, the running statistics of batch norm, and it lives in the caller's `bn_param`.
    - Layers compute with real or complex numbers: floats of any precision, and complex ones, so that a
      gradient can be checked by complex step. For its sake comparisons look at the real part. Integers
      and bools are computed as float64, and lists of numbers are read as arrays.
    - A gradient has the shape and the dtype of its argument, and with arguments of one dtype out has
      it, too: float32 stays float32. Means, losses and bias gradients of float16 are summed in float32,
      because float16 ends at 65504.
    - Arrays may have any memory order. Empty batches work. A wrong shape, dtype or setting raises
      ValueError: who, what came, what was expected.
"""

import math

import numpy as np

from .engine import convolution, pooling
from .engine.arrays import (
    as_float,
    as_floats,
    cast,
    feature_products,
    feature_sums,
    kept_where,
    plus,
    positive_part,
    row_products,
    row_sums,
    spread,
    widened,
)
from .engine.checks import (
    check_affine,
    check_batchnorm,
    check_dout,
    check_groups,
    check_labels,
    check_norm,
    check_targets,
    conv_settings,
    dropout_settings,
    pool_settings,
)
from .engine.errors import check_range
from .engine.images import flatten, unflatten, without_frame
from .engine.parts import by_part, total
from .engine.products import matmul
from .engine.randomness import dropout_mask
from .engine.sequences import as_rows, as_sequences, lies_by_step

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
    x, w, b = as_floats("affine_forward", x=x, w=w, b=b)
    check_affine("affine_forward", x, w, b)
    rows = flatten(x)  # (N, D)
    return plus(matmul(rows, w), b), (x, rows, w, b.dtype)


def affine_backward(dout, cache, need_dx=True):
    """From dout (N, M): dx shaped as x, dw (D, M), db (M,).

    x_nd enters out_nm of every output m, times w_dm:   dx_nd = sum_m dout_nm w_dm   dx = dout @ w.T
    w_dm enters out_nm of every example n, times x_nd:  dw_dm = sum_n x_nd dout_nm   dw = x.T @ dout
    b_m is added to out_nm of every example n:          db_m  = sum_n dout_nm        broadcast <-> sum

    need_dx=False leaves dx out (None): the first layer of a net has no use for it.
    """
    x, rows, w, b_dtype = cache
    dout = check_dout("affine_backward", dout, (len(rows), w.shape[1]))
    dx = cast(unflatten(dout, w, x), x.dtype) if need_dx else None  # dout @ w.T, shaped as x
    dw = matmul(rows.T, dout)  # (D, N) @ (N, M)
    db = widened(dout).sum(axis=0)
    return dx, cast(dw, w.dtype), cast(db, b_dtype)


# ---------------------------------------------------------------------------- activations
# Each entry of out depends on one entry of x, so the sum over j has one term: dx = dout * derivative.


def relu_forward(x):
    """Rectifier: out = max(x, 0), for x of any shape."""
    x = as_float("relu_forward", "x", x)
    out = positive_part(x)
    return out, out


def relu_backward(dout, cache):
    """dx = dout where x > 0, else 0. The derivative is 1 above 0, 0 below, and taken as 0 at x = 0."""
    out = cache
    dout = check_dout("relu_backward", dout, out.shape)
    return cast(kept_where(out.real > 0, dout), out.dtype)


def leaky_relu_forward(x, alpha=0.01):
    """Leaky rectifier: out = x where x > 0, else alpha * x, for x of any shape (Maas et al. 2013)."""
    x = as_float("leaky_relu_forward", "x", x)
    return x * _slope(x, alpha), (x, alpha)


def leaky_relu_backward(dout, cache):
    """dx = dout where x > 0, else alpha * dout; at x = 0 the derivative is taken as alpha."""
    x, alpha = cache
    dout = check_dout("leaky_relu_backward", dout, x.shape)
    return cast(dout * _slope(x, alpha), x.dtype)


def _slope(x, alpha):
    """1 where x > 0, else alpha, in the precision of x."""
    slope = (x.real > 0).astype(x.real.dtype)
    return slope + float(alpha) * (1 - slope)


def sigmoid_forward(x):
    """Logistic function: out = 1 / (1 + exp(-x)), for x of any shape; no x overflows."""
    x = as_float("sigmoid_forward", "x", x)
    negative = x.real < 0
    e = np.exp(np.where(negative, x, -x))  # the exponent is never above 0
    out = (e * negative + ~negative) / (1 + e)  # e / (1 + e) for a negative x, else 1 / (1 + e)
    return out, out


def sigmoid_backward(dout, cache):
    """dx = dout * out * (1 - out).

    With e = exp(-x), out = 1 / (1 + e) has the derivative e / (1 + e)^2 = 1 / (1 + e) * e / (1 + e).
    """
    out = cache
    dout = check_dout("sigmoid_backward", dout, out.shape)
    return cast(dout * out * (1 - out), out.dtype)


def tanh_forward(x):
    """Hyperbolic tangent: out = sinh(x) / cosh(x), for x of any shape."""
    x = as_float("tanh_forward", "x", x)
    out = np.tanh(x)
    return out, out


def tanh_backward(dout, cache):
    """dx = dout * (1 - out^2), since (sinh / cosh)' = (cosh^2 - sinh^2) / cosh^2."""
    out = cache
    dout = check_dout("tanh_backward", dout, out.shape)
    return cast(dout * (1 - out * out), out.dtype)


# ---------------------------------------------------------------------------- losses
# A loss is forward and backward at once: the chain begins here, with the derivative of the loss with
# respect to itself, 1. Each is a mean over the examples, so that every gradient carries 1 / N
# (mse_loss: over the entries).


def softmax_loss(x, y, smoothing=0.0):
    """Softmax and cross-entropy, the mean over the batch; no score overflows.

    x: scores (N, C).  y: labels (N,), integers in [0, C).  smoothing: takes this share (0 to 1) of the
    target from the right class and spreads it evenly over all classes (Szegedy et al. 2016).
    Returns loss and dx (N, C).

    For one example, with the target t (1 at the right class, else 0; with smoothing
    t_c = (1 - smoothing) * [c = y] + smoothing / C; it always sums to 1):
        S = sum_k exp(x_k)     p_c = exp(x_c) / S
        loss = -sum_c t_c log p_c = -sum_c t_c (x_c - log S) = log S - sum_c t_c x_c
    The derivative of log S with respect to x_c is exp(x_c) / S = p_c, and so dx_c = p_c - t_c.
    Adding a to all scores multiplies exp(x_c) and S by exp(a) and leaves p_c as it is. So the largest
    score is made 0, and no exp overflows.
    """
    check_range("softmax_loss", "smoothing", smoothing, 0, 1)
    scores = as_float("softmax_loss", "x", x)
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
    A class c whose term is above 0 adds x_c - x_y + 1 to the loss, and so 1 to dx_c and -1 to dx_y.
    All these terms hold x_y (copy <-> add): dx_y is minus their number.
    """
    scores = as_float("svm_loss", "x", x)
    x = widened(scores)
    right = check_labels("svm_loss", x, y)  # the index of each example's own class
    N = max(1, len(x))
    margins = x - x[right][:, None] + 1
    margins[right] = 0
    over = margins.real > 0
    dx = over.astype(x.dtype)
    dx[right] = -over.sum(axis=1)  # minus the count, at the right class
    return cast(margins[over].sum() / N, scores.dtype), cast(dx / N, scores.dtype)


def mse_loss(x, y):
    """Mean squared error over every entry of x: loss = sum of (x - y)^2 / (N * C).

    x: (N, C).  y: targets shaped as x (for C = 1 also (N,), floats), or labels (N,), integers in
    [0, C), read as one-hot rows.
    Returns loss and dx (N, C) = 2 * (x - y) / (N * C): each entry of x is in one of the squares.
    """
    scores = as_float("mse_loss", "x", x)
    x = widened(scores)
    is_number = x.shape[1:] == (1,) and np.asarray(y).dtype.kind == "f"
    if np.ndim(y) == 1 and not is_number:
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
      seed  a whole number, or what else `np.random.default_rng` takes; an equal seed gives an equal
            mask. Without it each call draws a new one. NumPy's global generator is never touched.

    out = x * mask, where mask is 0 with probability p, else 1 / (1 - p). Then the mean of an entry is
    (1 - p) * x / (1 - p) = x, as at test time.
    """
    x = as_float("dropout_forward", "x", x)
    p, training = dropout_settings("dropout_forward", dropout_param)
    if not training:
        return x.copy(order="K"), (None, x.shape, x.dtype)
    mask = dropout_mask(x.shape, x.real.dtype, p, dropout_param.get("seed"))
    return x * mask, (mask, x.shape, x.dtype)


def dropout_backward(dout, cache):
    """dx = dout * mask, with the mask of the forward pass; at test time dx = dout."""
    mask, shape, dtype = cache
    dout = check_dout("dropout_backward", dout, shape)
    return cast(dout.copy(order="K") if mask is None else dout * mask, dtype)


# ---------------------------------------------------------------------------- normalisation
# Four layers, one formula: shift and scale until the mean is 0 and the variance 1 over some axes,
# then give each feature (axis 1) its own scale gamma and shift beta.
#   batchnorm   (N, D)  over N    spatial_batchnorm   (N, C, H, W)  over N, H, W
#   layernorm   (N, D)  over D    spatial_groupnorm   (N, C, H, W)  over H, W and a group of channels
# layernorm takes sequences (N, T, D), too, and reads them as N * T rows.
#
# Forward, for the n numbers x_i that share a mean:
#     mu = sum x_i / n      c_i = x_i - mu      var = sum c_i^2 / n      s = 1 / sqrt(var + eps)
#     xhat_i = s c_i        out_i = gamma xhat_i + beta
# Backward, with mean() over the same numbers:
#     beta is added to every out_i:             dbeta = sum dout_i
#     gamma multiplies xhat_i in every out_i:   dgamma = sum dout_i xhat_i
#     xhat_i is multiplied by gamma:            dxhat_i = gamma dout_i
# c_i reaches xhat in two ways (copy <-> add), directly and through the variance, which all xhat share:
#     directly:              s dxhat_i
#     through the variance:  ds = sum_j dxhat_j c_j = n mean(dxhat c). The derivative of s by var is
#                            -s^3 / 2, that of var by c_i is 2 c_i / n. The product of the three:
#                            -s^3 c_i mean(dxhat c) = -s xhat_i mean(dxhat xhat)
#     together:              dc_i = s (dxhat_i - xhat_i mean(dxhat xhat))
# x_i reaches c in two ways, directly and through the mean, which is subtracted from every c_j:
#     directly:              dc_i
#     through the mean:      dmu = -sum_j dc_j, and the derivative of mu by x_i is 1/n. The product:
#                            -mean(dc) = -s mean(dxhat), since mean(xhat) = 0 and so the second term
#                            of dc has the mean 0
#     together:              dx_i = s (dxhat_i - mean(dxhat) - xhat_i mean(dxhat xhat))
# In batch norm gamma is the same for all numbers that share a mean, and the means are known sums:
# mean(dxhat) = gamma dbeta / n, mean(dxhat xhat) = gamma dgamma / n. With xhat_i = s c_i:
#     dx_i = s gamma (dout_i - dbeta / n - s c_i dgamma / n)
# At test time mu and var are numbers that do not depend on x: only the direct path is left,
#     dx_i = s gamma dout_i


def batchnorm_forward(x, gamma, beta, bn_param):
    """Batch normalisation (Ioffe & Szegedy 2015): each column of out has mean beta, deviation gamma.

    x: (N, D).  gamma, beta: (D,).  bn_param:
      mode          'train': by the batch's mean and (biased) variance; 'test': by the running ones
      eps           added to the variance (1e-5)
      momentum      running = momentum * running + (1 - momentum) * the batch's (0.9)
      running_mean, running_var   (D,), zeros at first; a training pass puts the new ones here
    Returns out (N, D) and a cache.
    """
    return _batchnorm("batchnorm_forward", x, gamma, beta, bn_param, ndim=2)


def batchnorm_backward(dout, cache):
    """From dout (N, D): dx (N, D), dgamma (D,), dbeta (D,). The derivation stands above."""
    return _batchnorm_backward("batchnorm_backward", dout, cache)


def spatial_batchnorm_forward(x, gamma, beta, bn_param):
    """Batch normalisation of images: one mean and variance for each channel.

    x: (N, C, H, W), an array or a batch in parts (engine/parts.py); out is of the same kind.
    gamma, beta: (C,).  bn_param: as in `batchnorm_forward`, with C for D.
    """
    return _batchnorm("spatial_batchnorm_forward", x, gamma, beta, bn_param, ndim=4)


def spatial_batchnorm_backward(dout, cache):
    """From dout (N, C, H, W): dx (N, C, H, W), dgamma (C,), dbeta (C,)."""
    return _batchnorm_backward("spatial_batchnorm_backward", dout, cache)


def _batchnorm(who, x, gamma, beta, bn_param, ndim):
    """Batch norm of rows and of images. xhat = s * (c - m): in training c is centred, and m is 0; at
    test time c is x, and m the running mean.

    For an array, by_part(f, x) and total(f, x) are both f(x). For a batch in parts, by_part applies f
    to each part, and total adds up what f gives for the parts.
    """
    x, gamma, beta = as_floats(who, x=x, gamma=gamma, beta=beta)
    training = check_batchnorm(who, x, gamma, beta, bn_param, ndim)
    dtype, x = x.dtype, by_part(widened, x)
    if training and x.size:  # an empty batch has no mean
        n = x.size // gamma.size  # numbers that share a mean
        mu = total(feature_sums, x) / n  # (C,)
        c, m = by_part(lambda x: x - spread(mu, x), x), 0.0
        var = total(lambda c: feature_products(c, c), c) / n  # no abs: for a complex step
        _update_running(bn_param, mu, var)
    else:
        n, c, m = 0, x, _running(bn_param, "running_mean", gamma.size, x.dtype)
        var = _running(bn_param, "running_var", gamma.size, x.dtype)
    s = 1 / np.sqrt(var + float(bn_param.get("eps", 1e-5)))
    scale = s * gamma.ravel()
    shift = beta.ravel() - m * scale
    out = by_part(lambda c: cast(plus(c * spread(scale, c), spread(shift, c)), dtype), c)
    return out, (c, m, s, gamma, beta.dtype, n, dtype)


def _batchnorm_backward(who, dout, cache):
    c, m, s, gamma, beta_dtype, n, dtype = cache
    dout = by_part(widened, check_dout(who, dout, c.shape))
    dbeta = total(feature_sums, dout)
    dgamma = (total(feature_products, dout, c) - m * dbeta) * s  # sum dout_i xhat_i
    scale = s * gamma.ravel()
    if n:
        through_var, through_mu = -scale * s * dgamma / n, -scale * dbeta / n

        def dx_of(dout, c):
            dx = plus(dout * spread(scale, dout), c * spread(through_var, c))
            return cast(plus(dx, spread(through_mu, c)), dtype)
    else:  # the running mean and variance do not depend on x: only the direct path is left

        def dx_of(dout, c):
            return cast(dout * spread(scale, dout), dtype)

    dgamma, dbeta = dgamma.reshape(gamma.shape), dbeta.reshape(gamma.shape)
    return by_part(dx_of, dout, c), cast(dgamma, gamma.dtype), cast(dbeta, beta_dtype)


def _running(bn_param, key, size, dtype):
    """The running statistics (C,), in the precision of x."""
    return np.ravel(bn_param.get(key, np.zeros(size))).astype(dtype.type(0).real.dtype)


def _update_running(bn_param, mu, var):
    """Mix the batch's statistics into the running ones, which keep their shape and precision."""
    momentum = float(bn_param.get("momentum", 0.9))
    for key, new in (("running_mean", mu.real), ("running_var", var.real)):
        old = np.asarray(bn_param.get(key, np.zeros_like(new)))
        mixed = momentum * old + (1 - momentum) * new.reshape(old.shape)
        bn_param[key] = mixed.astype(old.dtype if old.dtype.kind == "f" else np.float64)


def layernorm_forward(x, gamma, beta, ln_param):
    """Layer normalisation (Ba, Kiros & Hinton 2016): each row by its own mean and variance.

    x: (N, D), or (N, ..., D): rows along the last axis.  gamma, beta: (D,).
    ln_param: eps, added to the variance (1e-5).
    """
    x, gamma, beta = as_floats("layernorm_forward", x=x, gamma=gamma, beta=beta)
    by_step = lies_by_step(x)
    rows = as_rows(x, by_step) if x.ndim > 2 else x
    check_norm("layernorm_forward", rows, gamma, beta, ln_param, ndim=2)
    out, cache = _normalize(rows, gamma, beta, ln_param, rows.shape, _mean_of_row)
    return as_sequences(out, x.shape, by_step), (cache, x.shape, by_step)


def layernorm_backward(dout, cache):
    """From dout (N, ..., D): dx (N, ..., D), dgamma (D,), dbeta (D,)."""
    cache, shape, by_step = cache
    drows = as_rows(check_dout("layernorm_backward", dout, shape), by_step)
    dx, dgamma, dbeta = _normalize_backward("layernorm_backward", drows, cache)
    return as_sequences(dx, shape, by_step), dgamma, dbeta


def spatial_groupnorm_forward(x, gamma, beta, G, gn_param):
    """Group normalisation (Wu & He 2018): each image by the mean and variance of G channel groups.

    x: (N, C, H, W).  gamma, beta: (C,) or (1, C, 1, 1).  G: a divisor of C.
    gn_param: eps, added to the variance (1e-5).
    """
    x, gamma, beta = as_floats("spatial_groupnorm_forward", x=x, gamma=gamma, beta=beta)
    check_norm("spatial_groupnorm_forward", x, gamma, beta, gn_param, ndim=4)
    N, C, H, W = x.shape
    check_groups("spatial_groupnorm_forward", G, C)
    return _normalize(x, gamma, beta, gn_param, (N, G, C // G, H, W), _mean_of_group)


def spatial_groupnorm_backward(dout, cache):
    """From dout (N, C, H, W): dx (N, C, H, W), dgamma and dbeta shaped as gamma."""
    return _normalize_backward("spatial_groupnorm_backward", dout, cache)


def _normalize(x, gamma, beta, param, shape, mean):
    """Layer and group norm: each example by itself.

    mean(a), and mean(a, b) of a * b: over the numbers of x, seen in `shape`, that share a mean.
    """
    dtype, eps, groups = x.dtype, float(param.get("eps", 1e-5)), widened(x).reshape(shape)
    c = groups - mean(groups)
    s = 1 / np.sqrt(mean(c, c) + eps)
    xhat = c * s
    out = xhat.reshape(x.shape)
    out = plus(out * spread(gamma, out), spread(beta, out))
    return cast(out, dtype), (xhat, s, gamma, beta.dtype, mean, x.shape, dtype)


def _normalize_backward(who, dout, cache):
    xhat, s, gamma, beta_dtype, mean, x_shape, dtype = cache
    dout = widened(check_dout(who, dout, x_shape))
    dgamma = feature_products(dout, xhat.reshape(x_shape)).reshape(gamma.shape)
    dbeta = feature_sums(dout).reshape(gamma.shape)
    dxhat = (dout * spread(gamma, dout)).reshape(xhat.shape)
    dx = s * (dxhat - mean(dxhat) - xhat * mean(dxhat, xhat))
    return cast(dx.reshape(x_shape), dtype), cast(dgamma, gamma.dtype), cast(dbeta, beta_dtype)


def _mean_of_row(a, b=None):
    """(N, D) to (N, 1)."""
    return (row_sums(a) if b is None else row_products(a, b)) / max(1, a.shape[1])


def _mean_of_group(a, b=None):
    """(N, G, C / G, H, W) to (N, G, 1, 1, 1)."""
    a = a if b is None else a * b
    return a.sum(axis=(2, 3, 4), keepdims=True) / max(1, math.prod(a.shape[2:]))


# ---------------------------------------------------------------------------- convolution
# First by its definition, as loops that are slow and plain to read; then the same sums as products of
# matrices.


def conv_forward_naive(x, w, b, conv_param):
    """Convolution by its definition: out[n, f, i, j] = sum(window(n, i, j) * w[f]) + b[f].

    The window is what lies under the filter: w.shape[1:] numbers of image n, from row i * stride and
    column j * stride of the image in its frame of zeros.  Arguments as in `conv_forward`.
    """
    x, w, b = as_floats("conv_forward_naive", x=x, w=w, b=b)
    stride, pad, shape = conv_settings("conv_forward_naive", x, w, b, conv_param)
    framed = np.pad(x, _frame(pad))
    out = np.empty((len(x), len(w), *shape), np.result_type(x, w, b))
    for n, f, i, j in np.ndindex(out.shape):
        rows, columns = _window(i, j, w.shape[2:], stride)
        out[n, f, i, j] = np.sum(framed[n, :, rows, columns] * w[f]) + b[f]
    return out, (x, w, b, stride, pad, out.shape)


def conv_backward_naive(dout, cache):
    """dx, dw and db by the same loops.

    out is a sum of products, pixel * filter entry. Either factor gets dout * the other factor: the
    filter gets dout * window, and the window gets dout * filter. A filter meets every window, and a
    pixel lies in several: both add up what comes back (copy <-> add). b_f is added at every position.
    """
    x, w, b, stride, pad, out_shape = cache
    dout = check_dout("conv_backward_naive", dout, out_shape)
    framed = np.pad(x, _frame(pad))
    dframed, dw, db = (np.zeros_like(widened(a)) for a in (framed, w, b))
    for n, f, i, j in np.ndindex(dout.shape):
        rows, columns = _window(i, j, w.shape[2:], stride)
        dframed[n, :, rows, columns] += dout[n, f, i, j] * w[f]
        dw[f] += dout[n, f, i, j] * framed[n, :, rows, columns]
        db[f] += dout[n, f, i, j]
    dx = without_frame(dframed, x.shape, pad)
    return cast(dx, x.dtype), cast(dw, w.dtype), cast(db, b.dtype)


def conv_forward(x, w, b, conv_param):
    """Convolution (cross-correlation, as everywhere in this field) of images with F filters.

    x: (N, C, H, W).  w: (F, C, HH, WW).  b: (F,).
    conv_param: stride (1) and pad (0), the width of a frame of zeros; a number or a pair (H, W).
    Returns out (N, F, OH, OW), OH = 1 + (H + 2 * pad - HH) // stride and OW alike, and a cache.

    With the windows as the columns of a matrix (im2col) and the filters as the rows of another, the
    sums of `conv_forward_naive` are one product: out = filters @ windows + b.
    """
    x, w, b = as_floats("conv_forward", x=x, w=w, b=b)
    stride, pad, shape = conv_settings("conv_forward", x, w, b, conv_param)
    out, windows = convolution.correlate(x, w, stride, pad, shape)
    out = plus(out, spread(b, out))
    return out, (windows, w, b.dtype, out.shape, x.shape, x.dtype, stride, pad)


def conv_backward(dout, cache, need_dx=True):
    """From dout (N, F, OH, OW): dx (N, C, H, W), dw (F, C, HH, WW), db (F,).

    Write k for an entry of the filter (c, ii, jj) and p for a position of the output (n, i, j), and
    window_kp = framed[n, c, i * stride + ii, j * stride + jj] for the pixel where they meet. As
    matrices w is (F, K), window (K, P) and dout (F, P), with K = C * HH * WW and P = N * OH * OW. Then
    out_fp = sum_k w_fk window_kp + b_f, an affine map, and its gradients are products as well:
        dw_fk      = sum_p dout_fp window_kp      dout @ windows.T     (product <-> transpose)
        dwindow_kp = sum_f w_fk dout_fp           filters.T @ dout     (product <-> transpose)
        db_f       = sum_p dout_fp                                     (broadcast <-> sum)
    im2col copies each pixel into all windows that hold it. Its way back, col2im, adds: dx at a pixel is
    the sum of dwindow over the copies of that pixel (copy <-> add), 0 for a pixel under no window.

    These are the sums of `conv_backward_naive`. The engine cuts P into the OH rows of the output.

    need_dx=False leaves dx out (None), as in `affine_backward`.
    """
    windows, w, b_dtype, out_shape, x_shape, x_dtype, stride, pad = cache
    dout = check_dout("conv_backward", dout, out_shape)
    drows = convolution.rows_of(dout)  # (OH, F, OW * N), the positions in the order of the windows
    dw = convolution.filter_gradient(drows, windows, w.shape)
    db = feature_sums(widened(drows))
    dx = None
    if need_dx:
        dx = cast(convolution.image_gradient(drows, w, x_shape, stride, pad), x_dtype)
    return dx, cast(dw, w.dtype), cast(db, b_dtype)


def _window(i, j, size, stride):
    """The slices of rows and of columns under output pixel (i, j)."""
    top, left = i * stride[0], j * stride[1]
    return slice(top, top + size[0]), slice(left, left + size[1])


def _frame(pad):
    return ((0, 0), (0, 0), (pad[0],) * 2, (pad[1],) * 2)


# ---------------------------------------------------------------------------- pooling


def max_pool_forward_naive(x, pool_param):
    """The largest entry of each window, by the definition. Arguments as in `max_pool_forward`."""
    x = as_float("max_pool_forward_naive", "x", x)
    window, stride, pad, shape = pool_settings("max_pool_forward_naive", x, pool_param)
    framed = np.pad(x, _frame(pad), constant_values=-np.inf)
    out = np.empty((*x.shape[:2], *shape), x.dtype)
    for n, c, i, j in np.ndindex(out.shape):
        rows, columns = _window(i, j, window, stride)
        out[n, c, i, j] = np.max(framed[n, c, rows, columns])
    return out, (framed, x.shape, window, stride, pad, out.shape)


def max_pool_backward_naive(dout, cache):
    """Each dout goes to the entry that was the largest: out is that entry, with derivative 1. A small
    change of the others does not change out, and so they get 0.

    Of several equal ones the leftmost takes it all, and of those the uppermost. An entry that is the
    largest of several windows gets the sum (copy <-> add).
    """
    framed, x_shape, window, stride, pad, out_shape = cache
    dout = check_dout("max_pool_backward_naive", dout, out_shape)
    dframed = np.zeros_like(framed)
    for n, c, i, j in np.ndindex(dout.shape):
        rows, columns = _window(i, j, window, stride)
        block = framed[n, c, rows, columns]
        column, row = np.unravel_index(np.argmax(block.T), block.T.shape)
        dframed[n, c, rows, columns][row, column] += dout[n, c, i, j]
    return without_frame(dframed, x_shape, pad)


def max_pool_forward(x, pool_param):
    """The largest entry of each window.

    x: (N, C, H, W).  pool_param: pool_height, pool_width, stride (the window's size), and pad (0),
    at most half the window; an entry of the padding is never the largest. Windows may overlap.
    Returns out (N, C, OH, OW), OH = 1 + (H + 2 * pad - pool_height) // stride, and a cache.
    """
    x = as_float("max_pool_forward", "x", x)
    window, stride, pad, _ = pool_settings("max_pool_forward", x, pool_param)
    out, where = pooling.largest(x, window, stride, pad)
    return out, (where, out.shape, x.dtype)


def max_pool_backward(dout, cache):
    """dx: each dout goes to the largest entry of its window, as in `max_pool_backward_naive`."""
    where, out_shape, dtype = cache
    dout = check_dout("max_pool_backward", dout, out_shape)
    return cast(pooling.largest_backward(dout, where), dtype)


def avg_pool_forward(x, pool_param):
    """The mean of each window; a frame of padding counts as zeros (as in PyTorch's default).

    x, pool_param and out as in `max_pool_forward`.
    """
    x = as_float("avg_pool_forward", "x", x)
    window, stride, pad, _ = pool_settings("avg_pool_forward", x, pool_param)
    out, shapes = pooling.sums(widened(x), window, stride, pad)
    out = cast(out / (window[0] * window[1]), x.dtype)
    return out, (shapes, out.shape, x.dtype)


def avg_pool_backward(dout, cache):
    """dx: each of the n entries of a window enters its mean times 1/n, and so gets dout / n.

    An entry in several windows gets the sum (copy <-> add).
    """
    shapes, out_shape, dtype = cache
    dout = check_dout("avg_pool_backward", dout, out_shape)
    (PH, PW) = shapes[3]
    return cast(pooling.sums_backward(widened(dout) / (PH * PW), shapes), dtype)


# ---------------------------------------------------------------------------- the course's names
# The course has a slow and a fast version of these; here the fast one is the layer.

batchnorm_backward_alt = batchnorm_backward
conv_forward_fast = conv_forward_im2col = conv_forward_strides = conv_forward
conv_backward_fast = conv_backward_im2col = conv_backward_strides = conv_backward
max_pool_forward_fast, max_pool_backward_fast = max_pool_forward, max_pool_backward
