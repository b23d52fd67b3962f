"""The layers: each a pair of plain functions, and every gradient written by hand.

    out, cache = x_forward(x, ..., x_param)
    dx, ... = x_backward(dout, cache)        one gradient per array argument, in their order

`dout` is the gradient of the loss with respect to `out`; backward turns it into the gradient with
respect to each argument (the chain rule, one link at a time). A loss is both at once:
`loss, dx = x_loss(x, y)`.

Letters, the same everywhere:
    N examples   D inputs   M outputs   C channels, or classes   H x W image   F filters
    HH x WW filter or window   OH x OW output image.   Images are (N, C, H, W).

The contract of every pair:
    - Arguments are never written to, and a cache serves any number of backward calls. The one thing
      kept between calls, batch norm's running statistics, lives in the caller's `bn_param`.
    - A gradient has the shape and the dtype of what it is the gradient of. float32 stays float32;
      float64, longdouble and complex pass through, so that a gradient can be checked by complex
      step. For its sake comparisons look at the real part.
    - Arrays may lie in memory in any order. Empty batches work. A wrong shape or setting raises
      ValueError: who, what came, what was expected.
"""

import math

import numpy as np

from .engine.errors import check_range, look_up, refuse_unknown
from .engine.images import (
    as_images,
    as_rows,
    filters_as_matrix,
    filters_upside_down,
    flatten,
    fold,
    fold_columns,
    matrix_as_filters,
    output_size,
    pad_images,
    room_for_columns,
    spread,
    stacks,
    unflatten,
    unfold,
    window_entries,
)
from .engine.parts import Parts
from .engine.products import matmul, matmul_stack, sum_of_products
from .engine.workers import run

# ---------------------------------------------------------------------------- affine


def affine_forward(x, w, b):
    """Affine map of a mini-batch: out = rows(x) @ w + b.

    x: (N, d_1, ..., d_k), read as N rows of D = d_1 * ... * d_k.  w: (D, M).  b: (M,).
    Returns out (N, M) and a cache. Raises ValueError on unequal D or M.
    """
    rows = flatten(x)  # (N, D)
    if w.shape != (rows.shape[1], *b.shape):
        raise ValueError(
            f"affine_forward: x {x.shape} has D = {rows.shape[1]} and b {b.shape}, "
            f"so w should be {(rows.shape[1], *b.shape)}, not {w.shape}."
        )
    return _plus(matmul(rows, w), b), (x, rows, w, b.dtype)


def affine_backward(dout, cache, need_dx=True):
    """From dout (N, M): dx shaped as x, dw (D, M), db (M,).

    need_dx=False leaves dx out (None): the first layer of a net has no use for it.
    """
    x, rows, w, b_dtype = cache
    _check_dout("affine_backward", dout, (len(rows), w.shape[1]))
    dx = _cast(unflatten(dout, w, x), x.dtype) if need_dx else None  # dout @ w.T, shaped as x
    return dx, _cast(matmul(rows.T, dout), w.dtype), _cast(dout.sum(axis=0), b_dtype)


# ---------------------------------------------------------------------------- activations


def relu_forward(x):
    """Rectifier: out = max(x, 0), for x of any shape."""
    if x.dtype.kind == "f":
        out = x.clip(0, np.inf)  # takes a third of the time of np.maximum with one number
    else:
        out = np.where(x.real <= 0, x.dtype.type(0), x)
    return out, out


def relu_backward(dout, cache):
    """dx = dout where x > 0, else 0; at the kink, x = 0, the gradient is 0."""
    out = cache
    _check_dout("relu_backward", dout, out.shape)
    return _cast(_masked(dout, out.real > 0), out.dtype)


def leaky_relu_forward(x, alpha=0.01):
    """Leaky rectifier: out = x where x > 0, else alpha * x, for x of any shape (Maas et al. 2013)."""
    return x * _slope(x, alpha), (x, alpha)


def leaky_relu_backward(dout, cache):
    """dx = dout where x > 0, else alpha * dout; at x = 0 it is alpha * dout."""
    x, alpha = cache
    _check_dout("leaky_relu_backward", dout, x.shape)
    return _cast(dout * _slope(x, alpha), x.dtype)


def _slope(x, alpha):
    """1 where x > 0, else alpha, in the precision of x."""
    slope = (x.real > 0).astype(x.real.dtype)
    return slope + float(alpha) * (1 - slope)


def sigmoid_forward(x):
    """Logistic function: out = 1 / (1 + exp(-x)), for x of any shape; no x overflows."""
    negative = x.real < 0
    e = np.exp(np.where(negative, x, -x))  # the exponent is never above 0
    out = (e * negative + ~negative) / (1 + e)
    return out, out


def sigmoid_backward(dout, cache):
    """dx = dout * out * (1 - out)."""
    out = cache
    _check_dout("sigmoid_backward", dout, out.shape)
    return _cast(dout * out * (1 - out), out.dtype)


def tanh_forward(x):
    """Hyperbolic tangent, for x of any shape."""
    out = np.tanh(x)
    return out, out


def tanh_backward(dout, cache):
    """dx = dout * (1 - out ** 2)."""
    out = cache
    _check_dout("tanh_backward", dout, out.shape)
    return _cast(dout * (1 - out * out), out.dtype)


# ---------------------------------------------------------------------------- dropout


def dropout_forward(x, dropout_param):
    """Inverted dropout (Srivastava et al. 2014): entries vanish in training, at test nothing does.

    x: any shape. dropout_param:
      p     the probability of *dropping* an entry, in [0, 1). What is left is scaled by
            1 / (1 - p), so that its mean stays. (The course of 2018 and later calls the
            probability of keeping p; that is 1 - p here.)
      mode  'train' or 'test'.
      seed  whatever `np.random.default_rng` takes; an equal seed gives an equal mask. Without it
            each call draws a new one. NumPy's global generator is never touched.
    """
    refuse_unknown("dropout_forward", dropout_param, ("p", "mode", "seed"), "keys of dropout_param")
    p, mode = dropout_param.get("p"), dropout_param.get("mode")
    check_range("dropout_forward", "p", p, 0, 1, open_high=True, hint=KEEP_HINT)
    if not look_up("dropout_forward", MODES, mode, "mode"):
        return x.copy(order="K"), (None, x.shape, x.dtype)
    draws = np.random.default_rng(dropout_param.get("seed")).random(x.shape, np.float32)
    mask = (draws >= p).astype(x.real.dtype)
    mask *= 1 / (1 - float(p))
    return x * mask, (mask, x.shape, x.dtype)


def dropout_backward(dout, cache):
    """dx = dout * mask, the mask of the forward pass (or dout itself, of a pass at test time)."""
    mask, shape, dtype = cache
    _check_dout("dropout_backward", dout, shape)
    return _cast(dout.copy(order="K") if mask is None else dout * mask, dtype)


MODES = {"train": True, "test": False}
BN_KEYS = ("eps", "momentum", "running_mean", "running_var")
KEEP_HINT = (
    " p is the probability of dropping; where p was the probability of keeping "
    "(the course since 2018), pass 1 - p, and 0 for no dropout."
)

# ---------------------------------------------------------------------------- normalisation
# Four layers, one formula: shift and scale until the mean is 0 and the variance 1 over some axes,
# then give each feature (axis 1) a scale gamma and a shift beta of its own.
#   batchnorm   (N, D)  over N    spatial_batchnorm   (N, C, H, W)  over N, H, W
#   layernorm   (N, D)  over D    spatial_groupnorm   (N, C, H, W)  over H, W and a group of channels


def batchnorm_forward(x, gamma, beta, bn_param):
    """Batch normalisation (Ioffe & Szegedy 2015): out has mean beta and deviation gamma by column.

    x: (N, D).  gamma, beta: (D,).  bn_param:
      mode          'train': by the batch's mean and (biased) variance; 'test': by the running ones
      eps           added to the variance (1e-5)
      momentum      running = momentum * running + (1 - momentum) * the batch's (0.9)
      running_mean, running_var   (D,), zeros at first; a training pass puts the new ones here
    Returns out (N, D) and a cache.
    """
    _check_norm("batchnorm_forward", x, gamma, beta, bn_param, BN_KEYS, ndim=2)
    (out,), cache = batchnorm_parts_forward([x], gamma, beta, bn_param)
    return out, cache


def batchnorm_backward(dout, cache):
    """From dout (N, D): dx (N, D), dgamma (D,), dbeta (D,)."""
    _check_dout("batchnorm_backward", dout, cache[0][0].shape)
    (dx,), dgamma, dbeta = batchnorm_parts_backward([dout], cache)
    return dx, dgamma, dbeta


def spatial_batchnorm_forward(x, gamma, beta, bn_param):
    """Batch normalisation of images: one mean and variance for each channel.

    x: (N, C, H, W).  gamma, beta: (C,).  bn_param: as in `batchnorm_forward`, with C for D.
    """
    _check_norm("spatial_batchnorm_forward", x, gamma, beta, bn_param, BN_KEYS, ndim=4)
    if isinstance(x, Parts):
        outs, cache = batchnorm_parts_forward(x.arrays, gamma, beta, bn_param)
        return Parts(outs), cache
    (out,), cache = batchnorm_parts_forward([x], gamma, beta, bn_param)
    return out, cache


def spatial_batchnorm_backward(dout, cache):
    """From dout (N, C, H, W): dx (N, C, H, W), dgamma (C,), dbeta (C,)."""
    if isinstance(dout, Parts):
        dxs, dgamma, dbeta = batchnorm_parts_backward(dout.arrays, cache)
        return Parts(dxs), dgamma, dbeta
    _check_dout("spatial_batchnorm_backward", dout, cache[0][0].shape)
    (dx,), dgamma, dbeta = batchnorm_parts_backward([dout], cache)
    return dx, dgamma, dbeta


def batchnorm_parts_forward(xs, gamma, beta, bn_param):
    """Either batch norm of a batch that lies in parts, [x, ...]: one mean and variance over all.

    The parts are shared among the workers (see parallel.py). Returns [out, ...] and a cache.
    """
    dtype = xs[0].real.dtype
    _check_norm("batchnorm_parts_forward", xs[0], gamma, beta, bn_param, BN_KEYS, xs[0].ndim)
    training = MODES[bn_param["mode"]]
    eps, momentum = float(bn_param.get("eps", 1e-5)), float(bn_param.get("momentum", 0.9))
    count = sum(x.size for x in xs) // max(1, gamma.size)  # numbers a feature
    zeros = np.zeros(gamma.size, dtype)
    running = {key: bn_param.get(key, zeros) for key in ("running_mean", "running_var")}
    mean, var = (r.ravel().astype(dtype) for r in running.values())  # (C,), as all that follows
    by_batch = training and count > 0  # an empty batch has no statistics of its own
    if by_batch:
        mean = sum(run(_feature_sums, xs)) / count
        xs = run(lambda x: x - spread(mean, x), xs)
        squares = run(lambda x: _feature_products(x, x), xs)  # no abs: for a complex step
        var = sum(squares) / count
        for (key, old), new in zip(running.items(), (mean, var), strict=True):
            mixed = momentum * old + (1 - momentum) * new.real.reshape(old.shape)
            bn_param[key] = mixed.astype(old.dtype)
        mean = np.zeros_like(mean)  # that of what xs are now
    inv_std = 1 / np.sqrt(var + eps)
    scale = inv_std * gamma.ravel()
    shift = beta.ravel() - mean * scale
    outs = run(lambda x: _plus(x * spread(scale, x), spread(shift, x)), xs)
    return outs, (xs, mean, inv_std, gamma, beta.dtype, count if by_batch else 0)


def batchnorm_parts_backward(douts, cache):
    """From [dout, ...]: [dx, ...], dgamma, dbeta.

    xhat = (x - mean) / std, on which mean and std depend as well; with mean() over the batch
    dx = gamma / std * (dout - mean(dout) - xhat * mean(dout * xhat)), and dbeta = sum(dout),
    dgamma = sum(dout * xhat) are these very means but for the count.
    """
    xs, mean, inv_std, gamma, beta_dtype, count = cache  # in training xs are centred: their mean is 0
    products = run(lambda pair: _feature_products(*pair), list(zip(douts, xs, strict=True)))
    dbeta = sum(run(_feature_sums, douts))
    dgamma = (sum(products) - mean * dbeta) * inv_std
    scale = inv_std * gamma.ravel()

    def dx(pair):
        dout, x = pair
        if not count:  # running statistics do not depend on x
            return _cast(dout * spread(scale, dout), x.dtype)
        slope, shift = -scale * inv_std * dgamma / count, -scale * dbeta / count
        tilted = _plus(dout * spread(scale, dout), x * spread(slope, x))
        return _cast(_plus(tilted, spread(shift, x)), x.dtype)

    dxs = run(dx, list(zip(douts, xs, strict=True)))
    shape = gamma.shape
    return dxs, _cast(dgamma, gamma.dtype).reshape(shape), _cast(dbeta, beta_dtype).reshape(shape)


def _feature_sums(a):
    """The sum for each feature, the axis 1; einsum takes a third of the time of np.sum here."""
    return np.einsum(f"{'nchw'[: a.ndim]}->c", a)


def _feature_products(a, b):
    """sum(a * b) for each feature."""
    letters = "nchw"[: a.ndim]
    return np.einsum(f"{letters},{letters}->c", a, b)


def layernorm_forward(x, gamma, beta, ln_param):
    """Layer normalisation (Ba, Kiros & Hinton 2016): each row by its own mean and variance.

    x: (N, D).  gamma, beta: (D,).  ln_param: eps, added to the variance (1e-5).
    """
    _check_norm("layernorm_forward", x, gamma, beta, ln_param, ("eps",), ndim=2)
    xhat, inv_std = _standardize(x, (1,), ln_param.get("eps", 1e-5))
    return _scale_and_shift(xhat, gamma, beta), (xhat, inv_std, gamma, beta.dtype, (1,), x.shape)


def layernorm_backward(dout, cache):
    """From dout (N, D): dx (N, D), dgamma (D,), dbeta (D,)."""
    return _normalize_backward("layernorm_backward", dout, cache)


def spatial_groupnorm_forward(x, gamma, beta, G, gn_param):
    """Group normalisation (Wu & He 2018): each image by the mean and variance of G channel groups.

    x: (N, C, H, W).  gamma, beta: (C,) or (1, C, 1, 1).  G: a divisor of C.
    gn_param: eps, added to the variance (1e-5).
    """
    _check_norm("spatial_groupnorm_forward", x, gamma, beta, gn_param, ("eps",), ndim=4)
    N, C, H, W = x.shape
    if not isinstance(G, int | np.integer) or G < 1 or C % G:
        raise ValueError(f"spatial_groupnorm_forward: G = {G!r}, expected a divisor of C = {C}.")
    axes = (2, 3, 4)
    groups = x.reshape(N, G, C // G, H, W)
    xhat, inv_std = _standardize(groups, axes, gn_param.get("eps", 1e-5))
    out = _scale_and_shift(xhat.reshape(x.shape), gamma, beta)
    return out, (xhat, inv_std, gamma, beta.dtype, axes, x.shape)


def spatial_groupnorm_backward(dout, cache):
    """From dout (N, C, H, W): dx (N, C, H, W), dgamma and dbeta shaped as gamma."""
    return _normalize_backward("spatial_groupnorm_backward", dout, cache)


def _standardize(x, axes, eps):
    """xhat = (x - mean) / sqrt(var + eps) over the axes, and 1 / sqrt(var + eps)."""
    centred = x - _mean(x, axes)
    inv_std = 1 / np.sqrt(_mean(centred * centred, axes) + float(eps))
    return centred * inv_std, inv_std


def _scale_and_shift(xhat, gamma, beta):
    return xhat * spread(gamma, xhat) + spread(beta, xhat)


def _normalize_backward(who, dout, cache):
    """Through the scale and shift, then through xhat, on which mean and var depend as well.

    With mean() over the axes: dx = (dxhat - mean(dxhat) - xhat * mean(dxhat * xhat)) / std.
    """
    xhat, inv_std, gamma, beta_dtype, axes, x_shape = cache
    _check_dout(who, dout, x_shape)
    dgamma = _feature_products(dout, xhat.reshape(x_shape)).reshape(gamma.shape)
    dbeta = _feature_sums(dout).reshape(gamma.shape)
    dxhat = (dout * spread(gamma, dout)).reshape(xhat.shape)
    dx = inv_std * (dxhat - _mean(dxhat, axes) - xhat * _mean(dxhat * xhat, axes))
    dx = dx.reshape(x_shape)
    return _cast(dx, xhat.dtype), _cast(dgamma, gamma.dtype), _cast(dbeta, beta_dtype)


def _mean(x, axes):
    return x.sum(axis=axes, keepdims=True) / max(1, math.prod(x.shape[a] for a in axes))


# ---------------------------------------------------------------------------- convolution


def conv_forward(x, w, b, conv_param):
    """Convolution (cross-correlation, as everywhere in this field) of images with F filters.

    x: (N, C, H, W).  w: (F, C, HH, WW).  b: (F,).
    conv_param: stride (1) and pad (0), the width of a frame of zeros; a number or a pair (H, W).
    Returns out (N, F, OH, OW), OH = 1 + (H + 2 * pad - HH) // stride and OW alike, and a cache.
    """
    stride, pad = _conv_settings("conv_forward", x, w, b, conv_param)
    OH, OW = _output_shape("conv_forward", x, w.shape[2:], stride, pad)
    windows = unfold(x, w.shape[2:], stride, pad)  # (OH, HH * WW * C, OW * N)
    out = as_images(matmul_stack(filters_as_matrix(w), windows), (len(x), len(w), OH, OW))
    return _plus(out, spread(b, out)), (windows, w, b.dtype, x.shape, x.dtype, stride, pad)


def conv_backward(dout, cache, need_dx=True):
    """From dout (N, F, OH, OW): dx (N, C, H, W), dw (F, C, HH, WW), db (F,).

    The convolution is a product of matrices, so its backward is two: with the windows for dw, with
    the filters for dx. need_dx=False leaves dx out (None), as in `affine_backward`.
    """
    windows, w, b_dtype, x_shape, x_dtype, stride, pad = cache
    OH, _, OW_N = windows.shape
    N, F = x_shape[0], len(w)
    OW = output_size(x_shape[3], w.shape[3], stride[1], pad[1])
    _check_dout("conv_backward", dout, (N, F, OH, OW))
    drows = as_rows(dout).reshape(OH, F, OW_N)
    dw = sum_of_products(windows, drows.transpose(0, 2, 1))  # (HH * WW * C, F): faster this way
    dw = matrix_as_filters(dw.T, w.shape)
    db = _feature_sums(drows)
    dx = _cast(_conv_dx(drows, w, x_shape, stride, pad), x_dtype) if need_dx else None
    return dx, _cast(dw, w.dtype), _cast(db, b_dtype)


def _conv_dx(drows, w, x_shape, stride, pad):
    """What reaches the images through the filters.

    The general way is windows of gradients, folded. At stride 1 a row of pixels stood under each row
    of the filter once, so that along H dx is itself a convolution, of dout with the filters upside
    down: nothing is left to be folded but the columns.
    """
    _, _, HH, WW = w.shape
    frame = HH - 1 - pad[0]
    dtype = np.result_type(w, drows)
    if stride == (1, 1) and frame >= 0:
        dcols = room_for_columns(x_shape, WW, pad[1], dtype)  # (H, WW * C, OW * N)
        filters = filters_upside_down(w)  # (WW * C, HH * F)
        for rows, entries, windows in stacks(drows, HH, frame):
            matmul_stack(filters[:, entries], windows, out=dcols[rows])
        return fold_columns(dcols, x_shape, WW, pad[1])
    filters = filters_as_matrix(w).T  # (HH * WW * C, F)
    dwindows = (filters @ drow for drow in drows)  # OH of (HH * WW * C, OW * N)
    return fold(dwindows, x_shape, (HH, WW), stride, pad, dtype)


# ---------------------------------------------------------------------------- pooling


# A window is reduced along its columns first, and what is left along its row: in memory whole rows of
# images are neighbours, so that the first and larger half of the work runs over long stretches.


def max_pool_forward(x, pool_param, need_cache=True):
    """The largest entry of each window.

    x: (N, C, H, W).  pool_param: pool_height, pool_width, stride (the window's size), and pad (0),
    at most half the window; a frame of padding is never the largest. Windows may overlap.
    Returns out (N, C, OH, OW), OH = 1 + (H + 2 * pad - pool_height) // stride, and a cache.
    need_cache=False leaves it out (None): a prediction has no use for where the largest are.
    """
    window, stride, pad = _pool_settings("max_pool_forward", x, pool_param)
    framed = pad_images(x, pad, -np.inf)
    columns, along_columns = _max_along(framed, 2, window[0], stride[0], need_cache)  # (N, C, OH, W)
    out, along_rows = _max_along(columns, 3, window[1], stride[1], need_cache)  # (N, C, OH, OW)
    return out, (along_columns, along_rows, out.shape, x.shape, x.dtype, pad) if need_cache else None


def max_pool_backward(dout, cache):
    """dx: each dout goes to the largest entry of its window; of equal ones, to the leftmost, and of
    those to the uppermost.
    """
    along_columns, along_rows, out_shape, x_shape, x_dtype, pad = cache
    _check_dout("max_pool_backward", dout, out_shape)
    dcolumns = _max_along_backward(dout, along_rows)
    dframed = _max_along_backward(dcolumns, along_columns)
    return _cast(_unpad(dframed, x_shape, pad), x_dtype)


def _max_along(x, axis, size, stride, need_cache):
    """The largest entries; and where each entry but the last is one, which is all that backward needs:
    a byte for a number, while the number is at hand.
    """
    entries = list(window_entries(x, axis, size, stride))
    out = entries[0].copy(order="K") if size == 1 else entries[0]
    for entry in entries[1:]:
        if np.iscomplexobj(x):
            out = np.where(entry.real > out.real, entry, out)
        else:
            out = np.maximum(out, entry)
    masks = [entry == out for entry in entries[:-1]] if need_cache else None
    return out, (masks, x.shape, axis, size, stride)


def _max_along_backward(dout, cache):
    """The first entry that is the largest takes dout and leaves nothing; the last takes the rest."""
    masks, x_shape, axis, size, stride = cache
    tiled = stride == size and x_shape[axis] % size == 0  # each entry is in one window
    dx = (np.empty_like if tiled else np.zeros_like)(dout, shape=x_shape)
    *dentries, last = window_entries(dx, axis, size, stride)
    for mask, dentry in zip(masks, dentries, strict=True):
        share = _masked(dout, mask)
        _put(dentry, share, overlap=stride < size)
        dout = np.subtract(dout, share, out=share)
    _put(last, dout, overlap=stride < size)
    return dx


def _put(dentry, share, overlap):
    """Write the share of dout, or add it where windows overlap."""
    if overlap:
        dentry += share
    else:
        dentry[...] = share


def avg_pool_forward(x, pool_param):
    """The mean of each window; a frame of padding counts as zeros (as PyTorch's default does).

    x, pool_param and out as in `max_pool_forward`.
    """
    window, stride, pad = _pool_settings("avg_pool_forward", x, pool_param)
    framed = pad_images(x, pad)
    columns = sum(window_entries(framed, 2, window[0], stride[0]))  # (N, C, OH, W)
    out = sum(window_entries(columns, 3, window[1], stride[1])) / math.prod(window)  # (N, C, OH, OW)
    return out, (framed.shape, columns.shape, out.shape, x.shape, x.dtype, window, stride, pad)


def avg_pool_backward(dout, cache):
    """dx: each dout is shared out equally in its window."""
    framed_shape, columns_shape, out_shape, x_shape, x_dtype, window, stride, pad = cache
    _check_dout("avg_pool_backward", dout, out_shape)
    dcolumns = _sum_along_backward(dout / math.prod(window), columns_shape, 3, window[1], stride[1])
    dframed = _sum_along_backward(dcolumns, framed_shape, 2, window[0], stride[0])
    return _cast(_unpad(dframed, x_shape, pad), x_dtype)


def _sum_along_backward(dout, x_shape, axis, size, stride):
    dx = np.zeros_like(dout, shape=x_shape)
    for dentry in window_entries(dx, axis, size, stride):
        dentry += dout
    return dx


def _unpad(framed, x_shape, pad):
    (ph, pw), (_, _, H, W) = pad, x_shape
    return framed[:, :, ph : ph + H, pw : pw + W]


# ---------------------------------------------------------------------------- by the definition
# The same mathematics as loops: slow, and plain to read. Tests and the "vectorised against loops"
# comparison hold the fast layers against these.


def conv_forward_naive(x, w, b, conv_param):
    """`conv_forward` by its definition: out[n, f, i, j] = sum(window(n, i, j) * w[f]) + b[f]."""
    stride, pad = _conv_settings("conv_forward_naive", x, w, b, conv_param)
    OH, OW = _output_shape("conv_forward_naive", x, w.shape[2:], stride, pad)
    framed = np.pad(x, ((0, 0), (0, 0), (pad[0],) * 2, (pad[1],) * 2))
    out = np.empty((len(x), len(w), OH, OW), np.result_type(x, w, b))
    for n, f, i, j in np.ndindex(out.shape):
        rows, columns = _window(i, j, w.shape[2:], stride)
        out[n, f, i, j] = np.sum(framed[n, :, rows, columns] * w[f]) + b[f]
    return out, (x, w, b, stride, pad)


def conv_backward_naive(dout, cache):
    """`conv_backward` by its definition: what went in as a factor gets dout times the other one."""
    x, w, b, stride, pad = cache
    framed = np.pad(x, ((0, 0), (0, 0), (pad[0],) * 2, (pad[1],) * 2))
    dframed, dw, db = np.zeros_like(framed), np.zeros_like(w), np.zeros_like(b)
    for n, f, i, j in np.ndindex(dout.shape):
        rows, columns = _window(i, j, w.shape[2:], stride)
        dframed[n, :, rows, columns] += dout[n, f, i, j] * w[f]
        dw[f] += dout[n, f, i, j] * framed[n, :, rows, columns]
        db[f] += dout[n, f, i, j]
    return _unpad(dframed, x.shape, pad), dw, db


def max_pool_forward_naive(x, pool_param):
    """`max_pool_forward` by its definition."""
    window, stride, pad = _pool_settings("max_pool_forward_naive", x, pool_param)
    OH, OW = _output_shape("max_pool_forward_naive", x, window, stride, pad)
    frame = ((0, 0), (0, 0), (pad[0],) * 2, (pad[1],) * 2)
    framed = np.pad(x, frame, constant_values=-np.inf)
    out = np.empty((*x.shape[:2], OH, OW), x.dtype)
    for n, c, i, j in np.ndindex(out.shape):
        rows, columns = _window(i, j, window, stride)
        out[n, c, i, j] = np.max(framed[n, c, rows, columns])
    return out, (framed, x.shape, window, stride, pad)


def max_pool_backward_naive(dout, cache):
    """`max_pool_backward` by its definition."""
    framed, x_shape, window, stride, pad = cache
    dframed = np.zeros_like(framed)
    for n, c, i, j in np.ndindex(dout.shape):
        rows, columns = _window(i, j, window, stride)
        block = framed[n, c, rows, columns]
        # Of the largest the leftmost, and there the uppermost.
        column, row = np.unravel_index(np.argmax(block.T), block.T.shape)
        dframed[n, c, rows, columns][row, column] += dout[n, c, i, j]
    return _unpad(dframed, x_shape, pad)


def _window(i, j, size, stride):
    """The slices of rows and of columns under output pixel (i, j)."""
    top, left = i * stride[0], j * stride[1]
    return slice(top, top + size[0]), slice(left, left + size[1])


# ---------------------------------------------------------------------------- losses


def svm_loss(x, y):
    """Multi-class hinge loss (Weston & Watkins 1999), margin 1, mean over the batch.

    x: scores (N, C).  y: labels (N,), integers in [0, C).
    loss = sum over n and c != y_n of max(0, x[n, c] - x[n, y_n] + 1) / N.   Returns loss, dx (N, C).
    """
    picked = _check_labels("svm_loss", x, y)
    N = max(1, len(x))
    margins = x - x[picked][:, None] + 1
    margins[picked] = 0
    over = margins.real > 0
    dx = over.astype(x.dtype)
    dx[picked] = -over.sum(axis=1)  # the right class stands in every margin
    return margins[over].sum() / N, dx / N


def softmax_loss(x, y, smoothing=0.0):
    """Softmax and cross-entropy, mean over the batch; no score overflows.

    x: scores (N, C).  y: labels (N,), integers in [0, C).
    loss = -sum over n and c of t[n, c] * log p[n, c] / N, p = exp(x) / sum over c of exp(x), with
    t = one_hot(y); smoothing (0 to 1) takes that share from it and spreads it evenly over all
    classes (Szegedy et al. 2016).   Returns loss and dx (N, C) = (p - t) / N.
    """
    check_range("softmax_loss", "smoothing", smoothing, 0, 1)
    picked = _check_labels("softmax_loss", x, y)
    N = max(1, len(x))
    shifted = x - x.real.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    dx = np.exp(log_p)
    dx[picked] -= 1 - smoothing
    loss = -(1 - smoothing) * log_p[picked].sum() / N
    if smoothing:
        dx -= smoothing / x.shape[1]
        loss -= smoothing / x.shape[1] * log_p.sum() / N
    return loss, dx / N


def mse_loss(x, y):
    """Mean squared error, over every entry of x.

    x: (N, C).  y: targets shaped as x, or labels (N,), integers in [0, C), read as one-hot rows.
    loss = mean of (x - y) ** 2.  Returns loss and dx (N, C) = 2 * (x - y) / (N * C).
    """
    if np.ndim(y) == 1:
        picked = _check_labels("mse_loss", x, y)
        difference = x.copy()
        difference[picked] -= 1
    elif np.shape(y) == x.shape:
        difference = x - y
    else:
        raise ValueError(
            f"mse_loss: y has shape {np.shape(y)}, expected targets {x.shape} or labels {x.shape[:1]}."
        )
    size = max(1, x.size)
    dx = difference * (2 / size)
    return (difference * difference).sum() / size, _cast(dx, x.dtype)


# ---------------------------------------------------------------------------- the course's names
# The course keeps a slow and a fast version of each; here the fast one is the layer.

batchnorm_backward_alt = batchnorm_backward
conv_forward_fast = conv_forward_im2col = conv_forward_strides = conv_forward
conv_backward_fast = conv_backward_im2col = conv_backward_strides = conv_backward
max_pool_forward_fast, max_pool_backward_fast = max_pool_forward, max_pool_backward

# ---------------------------------------------------------------------------- plumbing


def _masked(a, mask):
    """a where the mask is true, else 0. Times 0 or 1: np.where is ten times slower on random masks."""
    factors = mask.astype(a.dtype)
    return np.multiply(a, factors, out=factors)


def _plus(a, b):
    """a + b for an `a` that nobody else holds: in its own memory when the dtype allows."""
    return np.add(a, b, out=a if np.result_type(a, b) == a.dtype else None)


def _cast(grad, dtype):
    """`grad` in the dtype of its argument; a complex one (of a complex step) is left whole."""
    if grad.dtype == dtype or grad.dtype.kind == "c" != dtype.kind:
        return grad
    return grad.astype(dtype)


def _pair(who, name, value, low):
    """A setting that is one number for both image axes, or a pair (along H, along W)."""
    if type(value) is int and value >= low:  # as nearly always: the rest takes ten times as long
        return value, value
    pair = tuple(value) if np.iterable(value) else (value, value)
    if len(pair) != 2 or any(not isinstance(v, int | np.integer) or v < low for v in pair):
        raise ValueError(
            f"{who}: {name} = {value!r}, expected a whole number of at least {low}, or two."
        )
    return pair


def _conv_settings(who, x, w, b, conv_param):
    refuse_unknown(who, conv_param, ("stride", "pad"), "keys of conv_param")
    if x.ndim != 4 or w.ndim != 4:
        raise ValueError(
            f"{who}: x has shape {x.shape} and w {w.shape}, "
            "expected images (N, C, H, W) and filters (F, C, HH, WW)."
        )
    if x.shape[1] != w.shape[1]:
        raise ValueError(
            f"{who}: x {x.shape} has C = {x.shape[1]}, but w {w.shape} expects C = {w.shape[1]}."
        )
    if b.shape != w.shape[:1]:
        raise ValueError(
            f"{who}: w {w.shape} has F = {len(w)}, so b should be {w.shape[:1]}, not {b.shape}."
        )
    stride = _pair(who, "stride", conv_param.get("stride", 1), low=1)
    return stride, _pair(who, "pad", conv_param.get("pad", 0), low=0)


def _pool_settings(who, x, pool_param):
    known = ("pool_height", "pool_width", "stride", "pad")
    refuse_unknown(who, pool_param, known, "keys of pool_param")
    missing = [key for key in known[:2] if key not in pool_param]
    if missing or x.ndim != 4:
        raise ValueError(
            f"{who}: x has shape {x.shape} and pool_param lacks {missing}, "
            "expected images (N, C, H, W) and a window."
        )
    window = _pair(who, "window", (pool_param["pool_height"], pool_param["pool_width"]), low=1)
    stride = _pair(who, "stride", pool_param.get("stride", window), low=1)
    pad = _pair(who, "pad", pool_param.get("pad", 0), low=0)
    if any(2 * p > size for p, size in zip(pad, window, strict=True)):
        raise ValueError(f"{who}: pad = {pad} is more than half of the window {window}.")
    _output_shape(who, x, window, stride, pad)
    return window, stride, pad


def _output_shape(who, x, window, stride, pad):
    """(OH, OW), or a ValueError where not one window fits."""
    size = [output_size(x.shape[a + 2], window[a], stride[a], pad[a]) for a in (0, 1)]
    if min(size) < 1:
        raise ValueError(
            f"{who}: a window of {tuple(window)} does not fit into images of {x.shape[2:]} "
            f"with pad {pad}; expected smaller windows or larger images."
        )
    return tuple(size)


def _check_norm(who, x, gamma, beta, param, known, ndim):
    refuse_unknown(who, param, (*known, "mode"), "keys of its settings")
    shape = "(N, D)" if ndim == 2 else "(N, C, H, W)"
    if x.ndim != ndim:
        raise ValueError(f"{who}: x has shape {x.shape}, expected {shape}.")
    features = x.shape[1]
    if gamma.size != features or beta.size != features:
        raise ValueError(
            f"{who}: x {x.shape} has {features} features, so gamma and beta should hold {features} "
            f"numbers each, not {gamma.shape} and {beta.shape}."
        )
    if "momentum" in known:
        look_up(who, MODES, param.get("mode"), "mode")


def _check_dout(who, dout, shape):
    if dout.shape != shape:
        raise ValueError(f"{who}: dout has shape {dout.shape}, expected that of out, {shape}.")


def _check_labels(who, x, y):
    """The index (rows, labels) of each example's own class in scores x (N, C)."""
    y = np.asarray(y)
    if x.ndim != 2 or y.shape != x.shape[:1]:
        raise ValueError(
            f"{who}: x has shape {x.shape} and y {y.shape}, expected scores (N, C) and labels (N,)."
        )
    if y.dtype.kind not in "iu":
        raise ValueError(f"{who}: y has dtype {y.dtype}, expected integers; try y.astype(int).")
    if y.size and not (0 <= y.min() and y.max() < x.shape[1]):
        wrong = y.min() if y.min() < 0 else y.max()
        raise ValueError(f"{who}: y holds the label {wrong}, expected 0 to {x.shape[1] - 1}.")
    return np.arange(len(y)), y
