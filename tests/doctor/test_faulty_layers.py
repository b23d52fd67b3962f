"""Backward passes with one mistake each, as students write them, and the cause that must be named."""

# ruff: noqa: RUF059, NPY002  students unpack more than they use, and draw from the global generator

import numpy as np
import pytest
from handgrad.gradient_check import check_layer

ROWS = []


def rows(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def fault(cause, forward, *args):
    """Enter a backward into the table."""

    def enter(backward):
        ROWS.append(pytest.param(cause, forward, backward, args, id=backward.__name__))
        return backward

    return enter


# ---------------------------------------------------------------------------- affine

X, W, B = rows((4, 6), 1), rows((6, 3), 2), rows((3,), 3)


def affine(x, w, b):
    out = x.reshape(x.shape[0], -1).dot(w) + b
    return out, (x, w, b)


@fault("sign", affine, X, W, B)
def affine_minus_dx(dout, cache):
    x, w, b = cache
    return -dout.dot(w.T), x.T.dot(dout), dout.sum(axis=0)


@fault("factor", affine, X, W, B)
def affine_mean_of_bias(dout, cache):
    x, w, b = cache
    return dout.dot(w.T), x.T.dot(dout), np.mean(dout, axis=0)


@fault("factor", affine, X, W, B)
def affine_dw_divided_by_n(dout, cache):
    x, w, b = cache
    return dout.dot(w.T), x.T.dot(dout) / x.shape[0], dout.sum(axis=0)


@fault("factor", affine, X, W, B)
def affine_dx_twice(dout, cache):
    x, w, b = cache
    dx = np.zeros(x.shape)
    for n in range(x.shape[0]):
        for m in range(w.shape[1]):
            dx[n] += 2 * dout[n, m] * w[:, m]
    return dx, x.T.dot(dout), dout.sum(axis=0)


@fault("transposed", affine, X, W, B)
def affine_dw_transposed(dout, cache):
    x, w, b = cache
    return dout @ w.T, dout.T @ x, dout.sum(axis=0)


@fault("transposed", affine, rows((5, 4)), rows((4, 4), 1), rows(4, 2))
def affine_w_square_not_transposed(dout, cache):
    x, w, b = cache
    return dout @ w, x.T @ dout, dout.sum(axis=0)


@fault("transposed", affine, rows((4, 4)), rows((4, 4), 1), rows(4, 2))
def affine_x_square_not_transposed(dout, cache):
    x, w, b = cache
    return dout @ w.T, x @ dout, dout.sum(axis=0)


@fault("transposed", affine, rows((4, 2, 3)), W, B)
def affine_reshaped_before_transposing(dout, cache):
    x, w, b = cache
    dx = w.dot(dout.T).reshape(x.shape)
    dw = x.reshape(x.shape[0], -1).T.dot(dout)
    return dx, dw, dout.sum(axis=0)


@fault("transposed", affine, rows((4, 2, 3)), W, B)
def affine_dx_left_flat(dout, cache):
    x, w, b = cache
    return dout.dot(w.T), x.reshape(x.shape[0], -1).T.dot(dout), dout.sum(axis=0)


@fault("order", affine, X, W, B)
def affine_dw_first(dout, cache):
    x, w, b = cache
    dx, dw, db = dout.dot(w.T), x.T.dot(dout), dout.sum(axis=0)
    return dw, dx, db


@fault("order", affine, rows((4, 4)), rows((4, 4), 1), rows(4, 2))
def affine_order_of_equal_shapes(dout, cache):
    x, w, b = cache
    return x.T.dot(dout), dout.dot(w.T), dout.sum(axis=0)


@fault("sum", affine, X, W, B)
def affine_bias_not_summed(dout, cache):
    x, w, b = cache
    return dout.dot(w.T), x.T.dot(dout), dout


@fault("sum", affine, rows((4, 6)), rows((6, 4), 1), rows(4, 2))
def affine_bias_over_the_wrong_axis(dout, cache):
    x, w, b = cache
    return dout.dot(w.T), x.T.dot(dout), dout.sum(axis=1)


@fault("sum", affine, X, W, B)
def affine_bias_keepdims(dout, cache):
    x, w, b = cache
    return dout.dot(w.T), x.T.dot(dout), np.sum(dout, axis=0, keepdims=True)


@fault("sum", affine, X, W, B)
def affine_bias_of_everything(dout, cache):
    x, w, b = cache
    return dout.dot(w.T), x.T.dot(dout), np.ones_like(b) * np.sum(dout)


@fault("sum", affine, X, W, B)
def affine_only_first_example(dout, cache):
    x, w, b = cache
    return dout.dot(w.T), np.outer(x[0], dout[0]), dout.sum(axis=0)


@fault("sum", affine, X, W, B)
def affine_dw_by_example(dout, cache):
    x, w, b = cache
    return dout.dot(w.T), np.einsum("nd,nm->ndm", x, dout), dout.sum(axis=0)


@fault("overwritten", affine, X, W, B)
def affine_loop_assigns_dw(dout, cache):
    x, w, b = cache
    dw, db = np.zeros_like(w), np.zeros_like(b)
    for n in range(len(x)):
        dw = np.outer(x[n], dout[n])
        db += dout[n]
    return dout.dot(w.T), dw, db


@fault("detached", affine, X, W, B)
def affine_bias_forgotten(dout, cache):
    x, w, b = cache
    return dout.dot(w.T), x.T.dot(dout), np.zeros_like(b)


@fault("detached", affine, X, W, B)
def affine_dx_none(dout, cache):
    x, w, b = cache
    return None, x.T.dot(dout), dout.sum(axis=0)


@fault("input changed", affine, X, W, B)
def affine_changes_dout(dout, cache):
    x, w, b = cache
    db = dout.sum(axis=0)
    dx = dout.dot(w.T)
    dw = x.T.dot(dout)
    dout *= 0
    return dx, dw, db


@fault("precision", affine, X, W, B)
def affine_in_single_precision(dout, cache):
    x, w, b = cache
    return dout.dot(w.T).astype(np.float32), x.T.dot(dout), dout.sum(axis=0)


LAST = {}


def affine_global(x, w, b):
    LAST["x"] = x
    return x.dot(w) + b, (w, b)


@fault("stale", affine_global, X, W, B)
def affine_global_x(dout, cache):
    w, b = cache
    return dout.dot(w.T), LAST["x"].T.dot(dout), dout.sum(axis=0)


# ---------------------------------------------------------------------------- activations


def relu(x):
    return np.maximum(0, x), x


@fault("mask", relu, rows((4, 5)))
def relu_by_dout(dout, cache):
    return dout * (dout > 0)


@fault("mask", relu, rows((4, 5)))
def relu_without_a_mask(dout, cache):
    return dout.copy()


@fault("mask", relu, rows((4, 5)))
def relu_reversed(dout, cache):
    x = cache
    dx = dout.copy()
    dx[x > 0] = 0
    return dx


@fault("mask", relu, rows((4, 5)))
def relu_above_a_half(dout, cache):
    x = cache
    return np.where(x > 0.5, dout, 0)


@fault("input changed", relu, rows((4, 5)))
def relu_in_place(dout, cache):
    x = cache
    dx = dout
    dx[x <= 0] = 0
    return dx


def relu_writes(x):
    x[x < 0] = 0
    return x, x.copy()


@fault("input changed", relu_writes, rows((4, 5)))
def relu_forward_in_place(dout, cache):
    return dout * (cache > 0)


@fault("precision", lambda x: (3 * relu(x)[0], x), rows((4, 5)))
def relu_integers(dout, cache):
    return (3 * dout * (cache > 0)).astype(int)


def leaky(x, alpha=0.1):
    return np.where(x > 0, x, alpha * x), (x, alpha)


@fault("mask", leaky, rows((4, 5)), 0.2)
def leaky_as_relu(dout, cache):
    x, alpha = cache
    return dout * (x > 0)


@fault("mask", leaky, rows((4, 5)), 0.2)
def leaky_swapped(dout, cache):
    x, alpha = cache
    return dout * np.where(x > 0, alpha, 1)


@fault("factor", leaky, rows((4, 5)), 0.2)
def leaky_with_another_slope(dout, cache):
    x, alpha = cache
    return dout * np.where(x > 0, 1, 0.01)


def sigmoid(x):
    out = 1 / (1 + np.exp(-x))
    return out, out


@fault("sign", sigmoid, rows((4, 5)))
def sigmoid_minus(dout, cache):
    s = cache
    return dout * s * (s - 1)


@fault("unknown", sigmoid, rows((4, 5)))
def sigmoid_squared(dout, cache):
    s = cache
    return dout * s * (1 - s**2)


@fault("unknown", sigmoid, rows((4, 5)))
def sigmoid_forgets_dout(dout, cache):
    s = cache
    return s * (1 - s)


def tanh(x):
    return np.tanh(x), x


@fault("unknown", tanh, rows((4, 5)))
def tanh_not_squared(dout, cache):
    return dout * (1 - np.tanh(cache))


@fault("factor", tanh, rows((4, 5)))
def tanh_halved(dout, cache):
    return 0.5 * dout * (1 - np.tanh(cache) ** 2)


@fault("detached", tanh, rows((4, 5)))
def tanh_zeros(dout, cache):
    return np.zeros_like(cache)


# ---------------------------------------------------------------------------- dropout


def dropout(x, param):
    np.random.seed(param["seed"])
    mask = (np.random.rand(*x.shape) >= param["p"]) / (1 - param["p"])
    return x * mask, (param, mask)


DROP = {"p": 0.4, "seed": 3}


@fault("factor", dropout, rows((6, 5)), DROP)
def dropout_not_scaled(dout, cache):
    param, mask = cache
    return dout * (mask > 0)


@fault("factor", dropout, rows((6, 5)), DROP)
def dropout_scaled_twice(dout, cache):
    param, mask = cache
    return dout * mask / (1 - param["p"])


@fault("mask", dropout, rows((6, 5)), DROP)
def dropout_without_a_mask(dout, cache):
    return dout * 1.0


@fault("mask", dropout, rows((6, 5)), DROP)
def dropout_inverted_mask(dout, cache):
    param, mask = cache
    return dout * (mask == 0) / (1 - param["p"])


def dropout_without_seed(x, p):
    mask = np.random.default_rng().random(x.shape) > p
    return x * mask, mask


@fault("random", dropout_without_seed, rows((6, 5)), 0.5)
def dropout_random(dout, cache):
    return dout * cache


@fault("random", dropout, rows((6, 5)), DROP)
def dropout_draws_again(dout, cache):
    param, mask = cache
    new = np.random.default_rng().random(dout.shape) >= param["p"]
    return dout * new / (1 - param["p"])


# ---------------------------------------------------------------------------- normalisation


def batchnorm(x, gamma, beta, param):
    mu, var = x.mean(axis=0), x.var(axis=0)
    std = np.sqrt(var + param.get("eps", 1e-5))
    xhat = (x - mu) / std
    return gamma * xhat + beta, (xhat, gamma, std)


BN = (3 * rows((7, 4)) + 1, 1 + 0.3 * rows(4, 1), rows(4, 2), {"mode": "train"})


@fault("statistics", batchnorm, *BN)
def batchnorm_mean_constant(dout, cache):
    xhat, gamma, std = cache
    N = len(dout)
    dxhat = dout * gamma
    dx = (dxhat - xhat * (dxhat * xhat).sum(axis=0) / N) / std
    return dx, (dout * xhat).sum(axis=0), dout.sum(axis=0)


@fault("statistics", batchnorm, *BN)
def batchnorm_variance_constant(dout, cache):
    xhat, gamma, std = cache
    dxhat = dout * gamma
    return (dxhat - dxhat.mean(axis=0)) / std, (dout * xhat).sum(axis=0), dout.sum(axis=0)


@fault("statistics", batchnorm, *BN)
def batchnorm_both_constant(dout, cache):
    xhat, gamma, std = cache
    return dout * gamma / std, (dout * xhat).sum(axis=0), dout.sum(axis=0)


@fault("factor", batchnorm, *BN)
def batchnorm_forgets_n(dout, cache):
    xhat, gamma, std = cache
    N = len(dout)
    dxhat = dout * gamma
    dx = (N * dxhat - dxhat.sum(axis=0) - xhat * (dxhat * xhat).sum(axis=0)) / std
    return dx, (dout * xhat).sum(axis=0), dout.sum(axis=0)


@fault("factor", batchnorm, *BN)
def batchnorm_forgets_gamma(dout, cache):
    xhat, gamma, std = cache
    dx = (dout - dout.mean(axis=0) - xhat * (dout * xhat).mean(axis=0)) / std
    return dx, (dout * xhat).sum(axis=0), dout.sum(axis=0)


@fault("sum", batchnorm, *BN)
def batchnorm_dgamma_not_summed(dout, cache):
    xhat, gamma, std = cache
    dxhat = dout * gamma
    dx = (dxhat - dxhat.mean(axis=0) - xhat * (dxhat * xhat).mean(axis=0)) / std
    return dx, dout * xhat, dout.sum(axis=0)


@fault("order", batchnorm, *BN)
def batchnorm_dbeta_first(dout, cache):
    xhat, gamma, std = cache
    dxhat = dout * gamma
    dx = (dxhat - dxhat.mean(axis=0) - xhat * (dxhat * xhat).mean(axis=0)) / std
    return dx, dout.sum(axis=0), (dout * xhat).sum(axis=0)


def batchnorm_at_test(x, gamma, beta, param):
    std = np.sqrt(param["running_var"] + 1e-5)
    xhat = (x - param["running_mean"]) / std
    return gamma * xhat + beta, (xhat, gamma, std)


@fault(
    "statistics",
    batchnorm_at_test,
    *BN[:3],
    {"running_mean": 0.1 * rows(4, 5), "running_var": np.arange(1.0, 5)},
)
def batchnorm_train_formula_at_test(dout, cache):
    xhat, gamma, std = cache
    dxhat = dout * gamma
    dx = (dxhat - dxhat.mean(axis=0)) / std
    return dx, (dout * xhat).sum(axis=0), dout.sum(axis=0)


def layernorm(x, gamma, beta, param):
    mu = x.mean(axis=1, keepdims=True)
    std = np.sqrt(((x - mu) ** 2).mean(axis=1, keepdims=True) + 1e-5)
    xhat = (x - mu) / std
    return gamma * xhat + beta, (xhat, gamma, std)


LN = (rows((4, 6)), 1 + 0.3 * rows(6, 1), rows(6, 2), {})


@fault("statistics", layernorm, *LN)
def layernorm_mean_constant(dout, cache):
    xhat, gamma, std = cache
    dxhat = dout * gamma
    dx = (dxhat - xhat * (dxhat * xhat).mean(axis=1, keepdims=True)) / std
    return dx, (dout * xhat).sum(axis=0), dout.sum(axis=0)


@fault("statistics", layernorm, *LN)
def layernorm_variance_constant(dout, cache):
    xhat, gamma, std = cache
    dxhat = dout * gamma
    dx = (dxhat - dxhat.mean(axis=1, keepdims=True)) / std
    return dx, (dout * xhat).sum(axis=0), dout.sum(axis=0)


@fault("sum", layernorm, *LN)
def layernorm_over_the_batch(dout, cache):
    xhat, gamma, std = cache
    dxhat = dout * gamma
    dx = (dxhat - dxhat.mean(axis=0) - xhat * (dxhat * xhat).mean(axis=0)) / std
    return dx, (dout * xhat).sum(axis=0), dout.sum(axis=0)


GN = (rows((2, 4, 3, 3)), (1 + 0.3 * rows(4, 1)), rows(4, 2), 2)


def groupnorm(x, gamma, beta, G):
    N, C, H, W = x.shape
    g = x.reshape(N, G, C // G, H, W)
    mu = g.mean(axis=(2, 3, 4), keepdims=True)
    std = np.sqrt(g.var(axis=(2, 3, 4), keepdims=True) + 1e-5)
    xhat = ((g - mu) / std).reshape(x.shape)
    out = xhat * gamma.reshape(1, C, 1, 1) + beta.reshape(1, C, 1, 1)
    return out, (xhat, gamma, std, G)


def groupnorm_dx(dout, cache, mean=1, variance=1):
    xhat, gamma, std, G = cache
    N, C, H, W = dout.shape
    dxhat = (dout * gamma.reshape(1, C, 1, 1)).reshape(N, G, C // G, H, W)
    xg, axes = xhat.reshape(dxhat.shape), (2, 3, 4)
    dx = dxhat - mean * dxhat.mean(axis=axes, keepdims=True)
    dx -= variance * xg * (dxhat * xg).mean(axis=axes, keepdims=True)
    return (dx / std).reshape(dout.shape)


@fault("statistics", groupnorm, *GN)
def groupnorm_mean_constant(dout, cache):
    dgamma = (dout * cache[0]).sum(axis=(0, 2, 3))
    return groupnorm_dx(dout, cache, mean=0), dgamma, dout.sum(axis=(0, 2, 3))


@fault("statistics", groupnorm, *GN)
def groupnorm_variance_constant(dout, cache):
    dgamma = (dout * cache[0]).sum(axis=(0, 2, 3))
    return groupnorm_dx(dout, cache, variance=0), dgamma, dout.sum(axis=(0, 2, 3))


@fault("sum", groupnorm, *GN)
def groupnorm_dbeta_not_over_the_batch(dout, cache):
    dgamma = (dout * cache[0]).sum(axis=(0, 2, 3))
    return groupnorm_dx(dout, cache), dgamma, dout.sum(axis=(2, 3))


# ---------------------------------------------------------------------------- convolution


def conv(x, w, b, param):
    stride, pad = param["stride"], param["pad"]
    N, C, H, W = x.shape
    F, _, HH, WW = w.shape
    xp = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)), mode="constant")
    OH, OW = 1 + (H + 2 * pad - HH) // stride, 1 + (W + 2 * pad - WW) // stride
    out = np.zeros((N, F, OH, OW))
    for n in range(N):
        for f in range(F):
            for i in range(OH):
                for j in range(OW):
                    window = xp[n, :, i * stride : i * stride + HH, j * stride : j * stride + WW]
                    out[n, f, i, j] = np.sum(window * w[f]) + b[f]
    return out, (x, w, b, param)


def conv_back(dout, cache, assign_dx=False, assign_dw=False, rows=0, stride=None, cut=None, flip=False):
    """The right loops, with switches for what goes wrong."""
    x, w, b, param = cache
    s, pad = stride or param["stride"], param["pad"]
    N, C, H, W = x.shape
    F, _, HH, WW = w.shape
    xp = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)), mode="constant")
    dxp, dw, db = np.zeros_like(xp), np.zeros_like(w), np.zeros_like(b)
    for n in range(N):
        for f in range(F):
            for i in range(dout.shape[2] - rows):
                for j in range(dout.shape[3]):
                    at = np.s_[n, :, i * s : i * s + HH, j * s : j * s + WW]
                    filt = w[f, :, ::-1, ::-1] if flip else w[f]
                    dxp[at] = (0 if assign_dx else dxp[at]) + filt * dout[n, f, i, j]
                    dw[f] = (0 if assign_dw else dw[f]) + xp[at] * dout[n, f, i, j]
                    db[f] += dout[n, f, i, j]
    dx = dxp[:, :, pad : pad + H, pad : pad + W] if cut is None else cut(dxp, pad, H, W)
    return dx, dw, db


CONV = (rows((1, 2, 4, 4)), rows((2, 2, 3, 3), 1), rows(2, 2), {"stride": 1, "pad": 1})
CONV0 = (rows((1, 2, 5, 5)), *CONV[1:3], {"stride": 2, "pad": 0})


@fault("overwritten", conv, *CONV)
def conv_dx_assigned(dout, cache):
    return conv_back(dout, cache, assign_dx=True)


@fault("overwritten", conv, *CONV)
def conv_dw_assigned(dout, cache):
    return conv_back(dout, cache, assign_dw=True)


@fault("border", conv, *CONV)
def conv_frame_not_cut(dout, cache):
    return conv_back(dout, cache, cut=lambda dxp, pad, H, W: dxp)


@fault("border", conv, *CONV0)
def conv_cut_with_minus_pad(dout, cache):
    return conv_back(dout, cache, cut=lambda dxp, pad, H, W: dxp[:, :, pad:-pad, pad:-pad])


@fault("border", conv, *CONV)
def conv_cut_at_the_wrong_place(dout, cache):
    return conv_back(dout, cache, cut=lambda dxp, pad, H, W: dxp[:, :, :H, :W])


@fault("border", conv, *CONV)
def conv_last_row_left_out(dout, cache):
    return conv_back(dout, cache, rows=1)


@fault("border", conv, *CONV0)
def conv_stride_one(dout, cache):
    return conv_back(dout, cache, stride=1)


@fault("transposed", conv, *CONV)
def conv_filter_flipped(dout, cache):
    return conv_back(dout, cache, flip=True)


@fault("sum", conv, *CONV)
def conv_bias_only_over_the_batch(dout, cache):
    dx, dw, _ = conv_back(dout, cache)
    return dx, dw, dout.sum(axis=0)


@fault("factor", conv, *CONV)
def conv_bias_mean(dout, cache):
    dx, dw, _ = conv_back(dout, cache)
    return dx, dw, dout.mean(axis=(0, 2, 3))


@fault("transposed", conv, *CONV)
def conv_dw_channels_swapped(dout, cache):
    dx, dw, db = conv_back(dout, cache)
    return dx, dw.transpose(1, 0, 2, 3), db


@fault("border", conv, *CONV)
def conv_edges_zeroed(dout, cache):
    dx, dw, db = conv_back(dout, cache)
    dx[:, :, 0, :] = 0
    dx[:, :, :, -1] = 0
    return dx, dw, db


# ---------------------------------------------------------------------------- pooling


def pool(x, param, f):
    PH, PW, s = param["pool_height"], param["pool_width"], param["stride"]
    N, C, H, W = x.shape
    out = np.zeros((N, C, 1 + (H - PH) // s, 1 + (W - PW) // s))
    for i in range(out.shape[2]):
        for j in range(out.shape[3]):
            out[:, :, i, j] = f(x[:, :, i * s : i * s + PH, j * s : j * s + PW])
    return out, (x, param)


def max_pool(x, param):
    return pool(x, param, lambda window: window.max(axis=(2, 3)))


def avg_pool(x, param):
    return pool(x, param, lambda window: window.mean(axis=(2, 3)))


def windows(dout, cache):
    x, param = cache
    PH, PW, s = param["pool_height"], param["pool_width"], param["stride"]
    for n, c, i, j in np.ndindex(dout.shape):
        yield (n, c, i, j), np.s_[n, c, i * s : i * s + PH, j * s : j * s + PW]


POOL = (rows((2, 3, 6, 6)), {"pool_height": 2, "pool_width": 2, "stride": 2})
OVER = (rows((2, 2, 5, 5)), {"pool_height": 3, "pool_width": 3, "stride": 1})


@fault("overwritten", max_pool, *OVER)
def max_pool_assigns(dout, cache):
    x, param = cache
    dx = np.zeros_like(x)
    for k, at in windows(dout, cache):
        dx[at] = (x[at] == x[at].max()) * dout[k]
    return dx


@fault("mask", max_pool, *POOL)
def max_pool_to_all(dout, cache):
    dx = np.zeros_like(cache[0])
    for k, at in windows(dout, cache):
        dx[at] += dout[k]
    return dx


@fault("mask", max_pool, *POOL)
def max_pool_to_the_smallest(dout, cache):
    x, dx = cache[0], np.zeros_like(cache[0])
    for k, at in windows(dout, cache):
        dx[at] += (x[at] == x[at].min()) * dout[k]
    return dx


@fault("factor", max_pool, *POOL)
def max_pool_divided(dout, cache):
    x, dx = cache[0], np.zeros_like(cache[0])
    for k, at in windows(dout, cache):
        dx[at] += (x[at] == x[at].max()) * dout[k] / 4
    return dx


@fault("border", max_pool, *POOL)
def max_pool_last_column_left_out(dout, cache):
    x, dx = cache[0], np.zeros_like(cache[0])
    for k, at in windows(dout, cache):
        if k[3] < dout.shape[3] - 1:
            dx[at] += (x[at] == x[at].max()) * dout[k]
    return dx


@fault("factor", avg_pool, *POOL)
def avg_pool_not_divided(dout, cache):
    dx = np.zeros_like(cache[0])
    for k, at in windows(dout, cache):
        dx[at] += dout[k]
    return dx


@fault("overwritten", avg_pool, *OVER)
def avg_pool_assigns(dout, cache):
    dx = np.zeros_like(cache[0])
    for k, at in windows(dout, cache):
        dx[at] = dout[k] / 9
    return dx


@pytest.mark.parametrize(("cause", "forward", "backward", "args"), ROWS)
def test_the_cause_is_named(cause, forward, backward, args):
    report = check_layer(forward, backward, *args)
    assert not report
    assert {d.cause for d in report.diagnoses} == {cause}, str(report)


@pytest.mark.parametrize(
    ("backward", "which"),
    [
        (batchnorm_mean_constant, "takes the mean for constant"),
        (batchnorm_variance_constant, "takes the variance for constant"),
        (batchnorm_both_constant, "takes mean and variance for constant"),
    ],
)
def test_it_says_which_statistic_is_constant(backward, which):
    (diagnosis,) = check_layer(batchnorm, backward, *BN).diagnoses
    assert which in diagnosis.evidence
    assert "over axis 0" in diagnosis.evidence


def affine_relu(x, w, b):
    a = x @ w + b
    return np.maximum(a, 0), (x, w, a)


def affine_relu_without_a_mask(dout, cache):
    x, w, _ = cache
    return dout @ w.T, x.T @ dout, dout.sum(axis=0)


def test_outputs_that_are_stopped_are_counted():
    report = check_layer(affine_relu, affine_relu_without_a_mask, X, W, B)
    stopped = np.sum(X @ W + B <= 0)
    assert {d.cause for d in report.diagnoses} == {"mask"}
    assert f"Of 12 outputs {stopped} do not depend on x" in report.diagnoses[0].evidence


def test_a_factor_names_its_number_and_its_sign():
    (diagnosis,) = check_layer(
        tanh, lambda dout, x: dout * (np.tanh(x) ** 2 - 1) / 7, rows((7, 5))
    ).diagnoses
    assert diagnosis.cause == "factor"
    assert "-1/N" in diagnosis.evidence
    assert "turn the sign, too" in diagnosis.advice
