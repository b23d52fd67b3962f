"""More faults, in the styles of other people, written before the doctor saw them.

Some may have one of several causes. At first sight it named 40 of 41 and 64 of 72.
"""

# ruff: noqa: N801, N805, NPY002, RUF059, SIM

import numpy as np
import pytest
from handgrad.gradient_check import check_layer, check_loss, check_model

R, g = np.random.default_rng(77), np.random.RandomState(42)
LAYERS, LOSSES, MODELS = [], [], []


def layer(causes, forward, *args):
    def enter(backward):
        LAYERS.append(
            pytest.param(set(causes.split("|")), forward, backward, args, id=backward.__name__)
        )
        return backward

    return enter


def lossf(causes):
    return lambda loss: LOSSES.append(pytest.param(set(causes.split("|")), loss, id=loss.__name__))


def model(causes, **settings):
    def enter(kind):
        MODELS.append(pytest.param(set(causes.split("|")), kind, settings, id=kind.__name__))
        return kind

    return enter


# --- linear without reshape, einsum
def lin_f(x, W, b):
    return np.einsum("ni,ij->nj", x, W) + b[None, :], dict(x=x, W=W, b=b)


LIN = (R.normal(size=(5, 3)), R.normal(size=(3, 4)), R.normal(size=4))


@layer("transposed", lin_f, *LIN)
def b01_dW_ji(dout, c):
    return np.einsum("nj,ij->ni", dout, c["W"]), np.einsum("ni,nj->ji", c["x"], dout), dout.sum(0)


@layer("sum", lin_f, *LIN)
def b02_db_lastaxis(dout, c):
    return np.einsum("nj,ij->ni", dout, c["W"]), np.einsum("ni,nj->ij", c["x"], dout), dout.sum(-1)


@layer("factor", lin_f, *LIN)
def b03_all_over_n(dout, c):
    N = len(dout)
    dout = dout / N
    return np.einsum("nj,ij->ni", dout, c["W"]), np.einsum("ni,nj->ij", c["x"], dout), dout.sum(0)


@layer("order", lin_f, *LIN)
def b04_b_w(dout, c):
    return np.einsum("nj,ij->ni", dout, c["W"]), dout.sum(0), np.einsum("ni,nj->ij", c["x"], dout)


@layer("sum|overwritten", lin_f, *LIN)
def b05_dw_last(dout, c):
    dW = np.zeros(c["W"].shape)
    for n in range(5):
        for i in range(3):
            for j in range(4):
                dW[i, j] = c["x"][n, i] * dout[n, j]
    return np.einsum("nj,ij->ni", dout, c["W"]), dW, dout.sum(0)


@layer("sum|detached", lin_f, *LIN)
def b06_loop_from_one(dout, c):
    db = np.zeros(4)
    for n in range(1, len(dout)):
        db += dout[n]
    return np.einsum("nj,ij->ni", dout, c["W"]), np.einsum("ni,nj->ij", c["x"], dout), db


@layer("unknown|detached", lin_f, *LIN)
def b07_too_few(dout, c):
    return np.einsum("nj,ij->ni", dout, c["W"]), np.einsum("ni,nj->ij", c["x"], dout)


@layer("unknown", lin_f, *LIN)
def b08_raises(dout, c):
    return dout @ c["W"], None, None


# --- elu, softplus, swish
def elu_f(x, a=1.0):
    return np.where(x > 0, x, a * (np.exp(x) - 1)), (x, a)


ACT = (R.normal(size=(6, 4)),)


@layer("mask|detached", elu_f, *ACT, 1.3)
def b09_elu_zero(dout, c):
    x, a = c
    dx = dout.copy()
    dx[x < 0] = 0
    return dx


@layer("factor", elu_f, *ACT, 1.3)
def b10_elu_no_alpha(dout, c):
    x, a = c
    return dout * np.where(x > 0, 1, np.exp(x))


def swish_f(x):
    s = 1 / (1 + np.exp(-x))
    return x * s, (x, s)


@layer("detached|unknown", swish_f, *ACT)
def b11_swish_product_half(dout, c):
    x, s = c
    return dout * s


@layer("sign|unknown", swish_f, *ACT)
def b12_swish_minus(dout, c):
    x, s = c
    return -(dout * s + dout * x * s * (1 - s))


def tanh_kept(x):
    b13_state[0] = np.tanh(x)
    return b13_state[0], None


@layer("stale", tanh_kept, *ACT)
def b13_stale_tanh(dout, c):
    return dout * (1 - b13_state[0] ** 2)


b13_state = [None]


def clip_f(x):
    return np.clip(x, -0.5, 0.5), x


@layer("mask", clip_f, *ACT)
def b14_clip_only_above(dout, x):
    return dout * (x < 0.5)


@layer("mask", clip_f, *ACT)
def b15_clip_ignored(dout, x):
    return dout


# --- dropout (course)
def drop_f(x, param):
    if param["mode"] == "train":
        m = (np.random.RandomState(param["seed"]).rand(*x.shape) < param["p"]) / param["p"]
        return x * m, (param, m)
    return x, (param, None)


@layer("factor", drop_f, R.normal(size=(5, 6)), {"mode": "train", "p": 0.7, "seed": 1})
def b16_drop_times_p(dout, c):
    p, m = c
    return dout * m * p["p"]


@layer("mask", drop_f, R.normal(size=(5, 6)), {"mode": "train", "p": 0.7, "seed": 1})
def b17_drop_fresh_mask_seeded(dout, c):
    p, m = c
    m2 = (np.random.RandomState(p["seed"] + 1).rand(*dout.shape) < p["p"]) / p["p"]
    return dout * m2


# --- BN staged graph
def bn_f(x, g, b, p):
    mu = np.mean(x, 0)
    xm = x - mu
    sq = xm**2
    var = np.mean(sq, 0)
    sd = np.sqrt(var + 1e-5)
    iv = 1 / sd
    xh = xm * iv
    return g * xh + b, (xm, iv, sd, var, xh, g)


BN = (R.normal(size=(6, 3)) * 2 + 1, R.normal(size=3), R.normal(size=3), {"mode": "train"})


def bn_b(dout, c, use_mu=True, use_var=True, half=0.5, n=True):
    xm, iv, sd, var, xh, g = c
    N, D = dout.shape
    db = dout.sum(0)
    dg = (dout * xh).sum(0)
    dxh = dout * g
    div = (dxh * xm).sum(0)
    dxm1 = dxh * iv
    dsd = -div / sd**2
    dvar = half * dsd / sd
    dsq = np.ones((N, D)) * dvar / (N if n else 1)
    dxm2 = 2 * xm * dsq
    dxm = dxm1 + (dxm2 if use_var else 0)
    dmu = -dxm.sum(0)
    return dxm + (np.ones((N, D)) * dmu / N if use_mu else 0), dg, db


@layer("statistics", bn_f, *BN)
def b18_no_mu(d, c):
    return bn_b(d, c, use_mu=False)


@layer("statistics", bn_f, *BN)
def b19_no_var(d, c):
    return bn_b(d, c, use_var=False)


@layer("statistics|unknown", bn_f, *BN)
def b20_no_half(d, c):
    return bn_b(d, c, half=1.0)


@layer("sum", bn_f, *BN)
def b21_gamma_beta_2d(d, c):
    dx, dg, db = bn_b(d, c)
    return dx, dg[None], db[None]


# spatial bn via reshape
def sbn_f(x, g, b, p):
    N, C, H, W = x.shape
    o, c = bn_f(x.transpose(0, 2, 3, 1).reshape(-1, C), g, b, p)
    return o.reshape(N, H, W, C).transpose(0, 3, 1, 2), c


SBN = (R.normal(size=(2, 3, 2, 4)), R.normal(size=3), R.normal(size=3), {})


@layer("transposed", sbn_f, *SBN)
def b22_sbn_reshape(d, c):
    N, C, H, W = d.shape
    dx, dg, db = bn_b(d.transpose(0, 2, 3, 1).reshape(-1, C), c)
    return dx.reshape(N, C, H, W), dg, db


@layer("statistics", sbn_f, *SBN)
def b23_sbn_nomean(d, c):
    N, C, H, W = d.shape
    dx, dg, db = bn_b(d.transpose(0, 2, 3, 1).reshape(-1, C), c, use_mu=False)
    return dx.reshape(N, H, W, C).transpose(0, 3, 1, 2), dg, db


# layernorm by T trick
def ln_f(x, g, b, p):
    xt = x.T
    mu = xt.mean(0)
    sd = np.sqrt(xt.var(0) + 1e-5)
    xh = ((xt - mu) / sd).T
    return g * xh + b, (xh, sd, g)


LN = (R.normal(size=(4, 5)), R.normal(size=5), R.normal(size=5), {})


@layer("sum", ln_f, *LN)
def b24_ln_gamma_axis(d, c):
    xh, sd, g = c
    D = 5
    dxh = (d * g).T
    x = xh.T
    dx = ((D * dxh - dxh.sum(0) - x * (dxh * x).sum(0)) / (D * sd)).T
    return dx, (d * xh).sum(1), d.sum(0)


@layer("factor", ln_f, *LN)
def b25_ln_N_for_D(d, c):
    xh, sd, g = c
    D = 5
    dxh = (d * g).T
    x = xh.T
    dx = ((D * dxh - dxh.sum(0) - x * (dxh * x).sum(0)) / (4 * sd)).T
    return dx, (d * xh).sum(0), d.sum(0)


# conv1d-ish/im2col conv
def cv_f(x, w, b, p):
    s, pd = p["stride"], p["pad"]
    N, C, H, W = x.shape
    F, _, K, L = w.shape
    xp = np.pad(x, [(0, 0), (0, 0), (pd, pd), (pd, pd)])
    OH = (H + 2 * pd - K) // s + 1
    OW = (W + 2 * pd - L) // s + 1
    o = np.zeros((N, F, OH, OW), dtype=xp.dtype)
    for i in range(OH):
        for j in range(OW):
            o[:, :, i, j] = (
                np.tensordot(
                    xp[:, :, i * s : i * s + K, j * s : j * s + L], w, axes=([1, 2, 3], [1, 2, 3])
                )
                + b
            )
    return o, (xp, w, b, p, x.shape)


def cv_b(d, c, op="+=", s=None, unpad=None, K0=None):
    xp, w, b, p, xs = c
    s = s or p["stride"]
    pd = p["pad"]
    F, _, K, L = w.shape
    dxp = np.zeros_like(xp)
    dw = np.zeros_like(w)
    for i in range(d.shape[2]):
        for j in range(d.shape[3]):
            g = d[:, :, i, j]
            t = np.tensordot(g, w, axes=(1, 0))
            if op == "+=":
                dxp[:, :, i * s : i * s + K, j * s : j * s + L] += t
            else:
                dxp[:, :, i * s : i * s + K, j * s : j * s + L] = t
            dw += np.tensordot(
                g,
                xp[:, :, i * p["stride"] : i * p["stride"] + K, j * p["stride"] : j * p["stride"] + L],
                axes=(0, 0),
            )
    H, W = xs[2:]
    return (
        (dxp[:, :, pd : pd + H, pd : pd + W] if unpad is None else unpad(dxp, pd)),
        dw,
        d.sum((0, 2, 3)),
    )


CV = (
    R.normal(size=(2, 3, 4, 4)),
    R.normal(size=(2, 3, 3, 3)),
    R.normal(size=2),
    {"stride": 1, "pad": 1},
)


@layer("overwritten", cv_f, *CV)
def b26_cv_assign(d, c):
    return cv_b(d, c, op="=")


@layer("border", cv_f, *CV)
def b27_cv_unpad_off(d, c):
    return cv_b(d, c, unpad=lambda a, p: a[:, :, 2 * p :, 2 * p :])


@layer("border", cv_f, *CV)
def b28_cv_unpad_left(d, c):
    return cv_b(d, c, unpad=lambda a, p: a[:, :, p - 1 : -p - 1, p:-p])


@layer(
    "border",
    cv_f,
    R.normal(size=(1, 2, 6, 6)),
    R.normal(size=(2, 2, 2, 2)),
    R.normal(size=2),
    {"stride": 2, "pad": 0},
)
def b29_cv_stride(d, c):
    return cv_b(d, c, s=1, unpad=lambda a, p: a)


@layer("sum", cv_f, *CV)
def b30_cv_db_nosumhw(d, c):
    dx, dw, db = cv_b(d, c)
    return dx, dw, d.sum(axis=(0, 3))


@layer("transposed", cv_f, *CV)
def b31_cv_dw_swapaxes(d, c):
    dx, dw, db = cv_b(d, c)
    return dx, dw.swapaxes(2, 3), db


# pooling by reshape
def mp_f(x):
    N, C, H, W = x.shape
    r = x.reshape(N, C, H // 2, 2, W // 2, 2)
    o = r.max(axis=3).max(axis=4)
    return o, (x, r, o)


MP = (R.normal(size=(2, 2, 4, 6)),)


@layer("factor|unknown|mask", mp_f, *MP)
def b32_mp_mean(d, c):
    x, r, o = c
    return (np.ones_like(r) * d[:, :, :, None, :, None] / 4).reshape(x.shape)


@layer("mask", mp_f, *MP)
def b33_mp_sign(d, c):
    x, r, o = c
    m = r >= 0
    return (m * d[:, :, :, None, :, None]).reshape(x.shape)


@layer("detached|border", mp_f, *MP)
def b34_mp_firstchannel(d, c):
    x, r, o = c
    m = r == o[:, :, :, None, :, None]
    g = (m * d[:, :, :, None, :, None]).reshape(x.shape)
    g[:, 1] = 0
    return g


# attention-like softmax
def sm_f(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    p = e / e.sum(-1, keepdims=True)
    return p, p


@layer("detached|unknown", sm_f, *ACT)
def b35_sm_diag(d, p):
    return d * p * (1 - p)


@layer("detached|unknown", sm_f, *ACT)
def b36_sm_firstterm(d, p):
    return d * p


def bias_f(x, b):
    return x + b, None


@layer("sum", bias_f, R.normal(size=(3, 4, 5)), R.normal(size=5))
def b37_bias3d(d, c):
    return d, d.sum(axis=0)


def scale_f(x, s):
    return x * s, (x, s)


@layer("factor", scale_f, R.normal(size=(3, 4)), np.array([1.7]))
def b38_scale_mean(d, c):
    x, s = c
    return d * s, np.array([np.mean(d * x)])


@layer("input changed", scale_f, R.normal(size=(3, 4)), np.array([1.7]))
def b39_scale_inplace(d, c):
    x, s = c
    x *= d
    return d * s, np.array([x.sum()])


@layer("precision", scale_f, R.normal(size=(3, 4)), np.array([1.7]))
def b40_scale_f32(d, c):
    x, s = c
    return (d * s), np.array([np.sum((d * x).astype("f4"))])


@layer("random", scale_f, R.normal(size=(3, 4)), np.array([1.7]))
def b41_noise(d, c):
    x, s = c
    return d * s + 1e-3 * np.random.default_rng().normal(size=d.shape), np.array([np.sum(d * x)])


# fully connected, images in
def fc(x, w, b):
    N = x.shape[0]
    x2 = np.reshape(x, (N, -1))
    return np.add(np.matmul(x2, w), b), {"x": x, "w": w, "b": b}


A = (g.randn(3, 2, 2, 2), g.randn(8, 5), g.randn(5))


@layer("transposed", fc, *A)
def c01(d, c):  # fortran reshape
    dx = np.matmul(d, c["w"].T)
    return np.reshape(dx, c["x"].shape, order="F"), np.reshape(c["x"], (3, -1)).T @ d, np.sum(d, 0)


@layer("factor", fc, *A)
def c02(d, c):  # w scaled by number of outputs
    return (
        np.reshape(d @ c["w"].T, c["x"].shape) / d.shape[1],
        np.reshape(c["x"], (3, -1)).T @ d,
        np.sum(d, 0),
    )


@layer("sign", fc, *A)
def c03(d, c):
    return np.reshape(d @ c["w"].T, c["x"].shape), np.reshape(c["x"], (3, -1)).T @ d, -np.sum(d, 0)


@layer("sum|detached", fc, *A)
def c04(d, c):
    db = np.zeros(5)
    for i in range(d.shape[0] - 1):
        db += d[i]
    return np.reshape(d @ c["w"].T, c["x"].shape), np.reshape(c["x"], (3, -1)).T @ d, db


@layer("order", fc, *A)
def c05(d, c):
    return np.reshape(c["x"], (3, -1)).T @ d, np.sum(d, 0), np.reshape(d @ c["w"].T, c["x"].shape)


@layer("sum", fc, *A)
def c06(d, c):
    return (
        np.reshape(d @ c["w"].T, c["x"].shape),
        np.reshape(c["x"], (3, -1)).T @ d,
        d.mean(1)[:, None].sum() * np.ones(5),
    )


@layer("detached", fc, *A)
def c07(d, c):
    dx = np.zeros_like(c["x"])
    (d @ c["w"].T).reshape(c["x"].shape)
    return dx, np.reshape(c["x"], (3, -1)).T @ d, np.sum(d, 0)


# prelu: learnable
def prelu(x, a):
    return np.where(x > 0, x, a * x), (x, a)


P = (g.randn(4, 3), np.array([0.25]))


@layer("mask", prelu, *P)
def c08(d, c):
    x, a = c
    return d * np.where(x > 0, 1, a), np.array([np.sum(d * x)])


@layer("sum", prelu, *P)
def c09(d, c):
    x, a = c
    return d * np.where(x > 0, 1, a), np.sum(d * x * (x <= 0), axis=0)


@layer("mask", prelu, *P)
def c10(d, c):
    x, a = c
    return d * np.where(d > 0, 1, a), np.array([np.sum(d * x * (x <= 0))])


# tanh, cached out vs x confusion
def th(x):
    o = np.tanh(x)
    return o, o


Z = (g.randn(3, 5),)


@layer("unknown", th, *Z)
def c11(d, o):
    return d * (1 - np.tanh(o) ** 2)


@layer("factor", th, *Z)
def c12(d, o):
    return d * (1 - o**2) / len(o)


@layer("unknown|factor", th, *Z)
def c13(d, o):
    return 1 - o**2


@layer("input changed", th, *Z)
def c14(d, o):
    o **= 2
    return d * (1 - o)


@layer("sign", th, *Z)
def c15(d, o):
    return d * (o * o - 1)


# relu6
def r6(x):
    return np.minimum(np.maximum(x, 0), 1.0), x


@layer("mask", r6, *Z)
def c16(d, x):
    return d * (x > 0)


# BN compact
def bn(x, ga, be, eps=1e-5):
    m = x.mean(0)
    v = ((x - m) ** 2).mean(0)
    h = (x - m) / np.sqrt(v + eps)
    return ga * h + be, (h, ga, v, eps, x, m)


B = (g.randn(8, 3) + 2, g.rand(3) + 0.5, g.randn(3))


def bnp(d, c):
    h, ga, v, eps, x, m = c
    return (d * h).sum(0), d.sum(0)


@layer("statistics", bn, *B)
def c17(d, c):
    h, ga, v, eps, x, m = c
    N = len(d)
    dh = d * ga
    return (1 / np.sqrt(v + eps)) / N * (N * dh - dh.sum(0)), *bnp(d, c)


@layer("statistics", bn, *B)
def c18(d, c):
    h, ga, v, eps, x, m = c
    N = len(d)
    dh = d * ga
    return (1 / np.sqrt(v + eps)) / N * (N * dh - h * (dh * h).sum(0)), *bnp(d, c)


@layer("statistics|sign", bn, *B)
def c19(d, c):  # wrong sign of variance term
    h, ga, v, eps, x, m = c
    N = len(d)
    dh = d * ga
    return (1 / np.sqrt(v + eps)) / N * (N * dh - dh.sum(0) + h * (dh * h).sum(0)), *bnp(d, c)


@layer("factor", bn, *B)
def c20(d, c):  # std forgotten
    h, ga, v, eps, x, m = c
    N = len(d)
    dh = d * ga
    return 1 / N * (N * dh - dh.sum(0) - h * (dh * h).sum(0)), *bnp(d, c)


@layer("factor|unknown", bn, *B)
def c21(d, c):  # dgamma with x - mean
    h, ga, v, eps, x, m = c
    N = len(d)
    dh = d * ga
    return (
        (1 / np.sqrt(v + eps)) / N * (N * dh - dh.sum(0) - h * (dh * h).sum(0)),
        (d * (x - m)).sum(0),
        d.sum(0),
    )


@layer("sum", bn, *B)
def c22(d, c):
    h, ga, v, eps, x, m = c
    N = len(d)
    dh = d * ga
    return (
        (1 / np.sqrt(v + eps)) / N * (N * dh - dh.sum(0) - h * (dh * h).sum(0)),
        (d * h).sum(1),
        d.sum(0),
    )


# spatial BN, mean over (0,2,3)
def sbn(x, ga, be):
    m = x.mean((0, 2, 3), keepdims=True)
    s = np.sqrt(x.var((0, 2, 3), keepdims=True) + 1e-5)
    h = (x - m) / s
    return h * ga[:, None, None] + be[:, None, None], (h, s, ga)


S = (g.randn(3, 2, 2, 3), g.rand(2) + 0.5, g.randn(2))


def sbb(d, c, k=(0, 2, 3), mu=1):
    h, s, ga = c
    dh = d * ga[:, None, None]
    return (dh - mu * dh.mean(k, keepdims=True) - h * (dh * h).mean(k, keepdims=True)) / s


@layer("sum", sbn, *S)
def c23(d, c):
    return sbb(d, c, (2, 3)), (d * c[0]).sum((0, 2, 3)), d.sum((0, 2, 3))


@layer("statistics", sbn, *S)
def c24(d, c):
    return sbb(d, c, mu=0), (d * c[0]).sum((0, 2, 3)), d.sum((0, 2, 3))


@layer("sum", sbn, *S)
def c25(d, c):
    return sbb(d, c), (d * c[0]).sum((2, 3)), d.sum((0, 2, 3))


# conv, im2col
def im(x, K, s, p):
    N, C, H, W = x.shape
    xp = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)))
    OH = (H + 2 * p - K) // s + 1
    OW = (W + 2 * p - K) // s + 1
    cols = np.empty((N, C, K, K, OH, OW), dtype=x.dtype)
    for a in range(K):
        for b in range(K):
            cols[:, :, a, b] = xp[:, :, a : a + s * OH : s, b : b + s * OW : s]
    return cols


def cim(cols, xs, K, s, p, add=True, q=None):
    N, C, H, W = xs
    xp = np.zeros((N, C, H + 2 * p, W + 2 * p))
    OH, OW = cols.shape[4:]
    for a in range(K):
        for b in range(K):
            if add:
                xp[:, :, a : a + s * OH : s, b : b + s * OW : s] += cols[:, :, a, b]
            else:
                xp[:, :, a : a + s * OH : s, b : b + s * OW : s] = cols[:, :, a, b]
    q = p if q is None else q
    return xp[:, :, q : q + H, q : q + W]


def cv(x, w, b, prm):
    K = w.shape[2]
    cols = im(x, K, prm["stride"], prm["pad"])
    o = np.einsum("ncabij,fcab->nfij", cols, w) + b[:, None, None]
    return o, (cols, w, x.shape, prm)


def cvb(d, c, **k):
    cols, w, xs, prm = c
    dc = np.einsum("nfij,fcab->ncabij", d, w)
    return (
        cim(dc, xs, w.shape[2], prm["stride"], prm["pad"], **k),
        np.einsum("nfij,ncabij->fcab", d, cols),
        d.sum((0, 2, 3)),
    )


C = (g.randn(2, 2, 4, 5), g.randn(3, 2, 3, 3), g.randn(3), {"stride": 1, "pad": 1})


@layer("overwritten", cv, *C)
def c26(d, c):
    return cvb(d, c, add=False)


@layer("border", cv, *C)
def c27(d, c):
    return cvb(d, c, q=0)


@layer("transposed", cv, *C)
def c28(d, c):
    x, w, b = cvb(d, c)
    return x, w[:, :, ::-1, ::-1], b


@layer("transposed", cv, g.randn(2, 3, 4, 4), g.randn(3, 3, 3, 3), g.randn(3), {"stride": 1, "pad": 1})
def c29(d, c):
    cols, w, xs, prm = c
    dc = np.einsum("nfij,cfab->ncabij", d, w)
    return cim(dc, xs, 3, 1, 1), np.einsum("nfij,ncabij->fcab", d, cols), d.sum((0, 2, 3))


@layer("border", cv, *C)
def c30(d, c):
    x, w, b = cvb(d, c)
    d2 = d.copy()
    d2[:, :, 0] = 0
    return cvb(d2, c)[0], w, b


@layer("factor", cv, *C)
def c31(d, c):
    x, w, b = cvb(d, c)
    return x / len(x), w / len(x), b


def cv_kept(x, w, b, prm):
    out, ST[0] = cv(x, w, b, prm)
    return out, None


@layer("stale", cv_kept, *C)
def c32(d, c):
    return cvb(d, ST[0])


ST = [None]


# pool with stride<window
def mp(x, prm):
    K = prm["k"]
    s = prm["s"]
    cols = im(x, K, s, 0)
    N, C_, _, _, OH, OW = cols.shape
    f = cols.reshape(N, C_, K * K, OH, OW)
    return f.max(2), (f, x.shape, K, s)


MPA = (g.randn(2, 1, 5, 5), {"k": 3, "s": 2})


def mpb(d, c, add=True, arg=np.argmax):
    f, xs, K, s = c
    m = np.zeros_like(f)
    i = arg(f, axis=2)
    np.put_along_axis(m, i[:, :, None], d[:, :, None], 2)
    return cim(m.reshape(*xs[:2], K, K, *d.shape[2:]), xs, K, s, 0, add)


@layer("overwritten", mp, *MPA)
def c33(d, c):
    return mpb(d, c, add=False)


@layer("mask", mp, *MPA)
def c34(d, c):
    return mpb(d, c, arg=np.argmin)


@layer("factor", mp, *MPA)
def c35(d, c):
    return mpb(d, c) / 9


@layer("mask", mp, *MPA)
def c36(d, c):
    f, xs, K, s = c
    m = np.ones_like(f) * d[:, :, None]
    return cim(m.reshape(*xs[:2], K, K, *d.shape[2:]), xs, K, s, 0)


# GroupNorm/embedding/cumsum/concat
def emb(w, i):
    return w[i], (i, w)


E = (g.randn(4, 3), np.array([1, 1, 3, 0]))


@layer("overwritten", emb, *E)
def c37(d, c):
    i, w = c
    o = np.zeros_like(w)
    o[i] += d
    return o


def cat(a, b):
    return np.concatenate([a, b], 1), a.shape[1]


@layer("order", cat, g.randn(3, 2), g.randn(3, 2))
def c38(d, k):
    return d[:, k:], d[:, :k]


@layer("detached|sum", lambda x: (x.mean(0), x), g.randn(4, 3))
def c39(d, x):
    o = np.zeros_like(x)
    o[0] = d / len(x)
    return o


@layer("factor", lambda x: (x.mean(0), x), g.randn(4, 3))
def c40(d, x):
    return np.tile(d, (len(x), 1))


@layer("random", lambda x: (x * (np.random.rand(*x.shape) > 0.3), x), g.randn(4, 3))
def c41(d, x):
    return d * (x != 0)


@layer("precision", lambda x: ((x.astype("f4") ** 2), x), g.randn(4, 3))
def c42(d, x):
    return 2 * x * d


@layer("factor", lambda x: (x**2, x), g.randn(4, 3))
def c43(d, x):
    return x * d


@layer("precision", lambda x: (x**2, x), g.randn(4, 3))
def c44(d, x):
    o = np.zeros(x.shape, dtype=np.float32)
    for i in np.ndindex(x.shape):
        o[i] = 2 * x[i] * d[i]
    return o


@layer("detached|statistics", lambda x: (x - x.mean(1, keepdims=True), x), g.randn(4, 3))
def c45(d, x):
    return d


# losses
sc = g.randn(6, 4)
yy = np.array([0, 1, 2, 3, 1, 0])


@lossf("factor")
def d01(x, y):
    p = np.exp(x) / np.exp(x).sum(1, keepdims=True)
    loss = -np.mean(np.log(p[range(6), y]))
    t = np.eye(4)[y]
    return loss, (p - t) / p.size


@lossf("sum")
def d02(x, y):
    p = np.exp(x) / np.exp(x).sum(1, keepdims=True)
    q = np.exp(x) / np.exp(x).sum(0)
    loss = -np.mean(np.log(p[range(6), y]))
    t = np.eye(4)[y]
    return loss, (q - t) / 6


@lossf("sign")
def d03(x, y):
    p = np.exp(x) / np.exp(x).sum(1, keepdims=True)
    loss = -np.mean(np.log(p[range(6), y]))
    t = np.eye(4)[y]
    return loss, (t - p) / 6


@lossf("mask")
def d04(x, y):
    c = x[range(6), y][:, None]
    m = np.maximum(0, x - c + 1)
    m[range(6), y] = 0
    b = (x - c > 0) * 1.0
    b[range(6), y] = -b.sum(1)
    return m.sum() / 6, b / 6


@lossf("detached|sign|unknown|factor")
def d05(x, y):  # right class counts -1 only
    c = x[range(6), y][:, None]
    m = np.maximum(0, x - c + 1)
    m[range(6), y] = 0
    b = (m > 0) * 1.0
    b[range(6), y] = -1
    return m.sum() / 6, b / 6


@lossf("factor")
def d06(x, y):
    t = np.eye(4)[y]
    return 0.5 * ((x - t) ** 2).sum() / 6, 2 * (x - t) / 6


@lossf("sign")
def d07(x, y):
    t = np.eye(4)[y]
    return ((x - t) ** 2).mean(), 2 * (t - x) / x.size


# models
class Base:
    act = "relu"

    def __init__(s, reg=0.0, dims=(5, 6, 4, 3)):
        r = np.random.RandomState(3)
        s.reg = reg
        s.n = len(dims) - 1
        s.params = {}
        for i in range(s.n):
            s.params[f"W{i + 1}"] = r.randn(dims[i], dims[i + 1]) * 0.6
            s.params[f"b{i + 1}"] = np.zeros(dims[i + 1])

    def bw(s, i, d, h):  # returns dW
        return h.T @ d

    def bx(s, i, d, W):
        return d @ W.T

    def br(s, i, d, z):
        return d * (z > 0)

    def dl(s, p, y):
        p = p.copy()
        p[np.arange(len(y)), y] -= 1
        return p / len(y)

    def rg(s, i, W):
        return s.reg * W

    def fin(s, G):
        pass

    def loss(s, X, y=None):
        hs = [X]
        zs = []
        for i in range(1, s.n + 1):
            z = hs[-1] @ s.params[f"W{i}"] + s.params[f"b{i}"]
            zs.append(z)
            hs.append(np.maximum(z, 0) if i < s.n else z)
        if y is None:
            return z
        e = np.exp(z - z.max(1, keepdims=True))
        p = e / e.sum(1, keepdims=True)
        loss = -np.log(p[np.arange(len(y)), y]).mean() + 0.5 * s.reg * sum(
            (s.params[f"W{i + 1}"] ** 2).sum() for i in range(s.n)
        )
        d = s.dl(p, y)
        G = {}
        for i in range(s.n, 0, -1):
            if i < s.n:
                d = s.br(i, d, zs[i - 1])
            G[f"W{i}"] = s.bw(i, d, hs[i - 1]) + s.rg(i, s.params[f"W{i}"])
            G[f"b{i}"] = d.sum(0)
            d = s.bx(i, d, s.params[f"W{i}"])
        s.fin(G)
        return loss, G


@model("regularisation", reg=0.3)
class m01(Base):
    def rg(s, i, W):
        return 0 * W


@model("regularisation", reg=0.3)
class m02(Base):
    def rg(s, i, W):
        return 2 * s.reg * W


@model("regularisation", reg=0.3)
class m03(Base):
    def rg(s, i, W):
        return s.reg * W if i < s.n else 0


@model("regularisation", reg=0.3)
class m04(Base):
    def fin(s, G):
        for k in G:
            if k[0] == "b":
                G[k] = G[k] + s.reg * s.params[k]


@model("factor", reg=0.3)
class m05(Base):
    def dl(s, p, y):
        return len(y) * super().dl(p, y)


@model("factor")
class m06(Base):
    def dl(s, p, y):
        return super().dl(p, y) / p.shape[1]


@model("sign", reg=0.3)
class m07(Base):
    def dl(s, p, y):
        return -super().dl(p, y)


@model("mask")
class m08(Base):
    def br(s, i, d, z):
        return d * (d > 0)


@model("mask")
class m09(Base):
    def br(s, i, d, z):
        return d if i == 1 else d * (z > 0)


@model("detached")
class m10(Base):
    def fin(s, G):
        G["W1"] = np.zeros_like(G["W1"])


@model("sum")
class m11(Base):
    def fin(s, G):
        G["b2"] = G["b2"].reshape(1, -1)


@model("transposed")
class m12(Base):
    def fin(s, G):
        G["W2"] = G["W2"].T


@model("order")
class m13(Base):
    def fin(s, G):
        G["W1"], G["W2"] = G["W2"], G["W1"]


@model("factor")
class m14(Base):
    def fin(s, G):
        G["b3"] = G["b3"] / 7


@model("precision")
class m15(Base):
    def fin(s, G):
        for k in G:
            G[k] = G[k].astype(np.float32)


@model("input changed")
class m16(Base):
    def loss(s, X, y=None):
        X -= X.mean(0)
        return super().loss(X, y)


@model("mask|detached")
class m17(Base):
    def br(s, i, d, z):
        return d * (z > 0.3)


@model("regularisation", reg=0.3)
class m18(Base):  # loss lacks the half, gradient reg*W
    def rg(s, i, W):
        return 0.5 * s.reg * W


@model("sign")
class m19(Base):
    def br(s, i, d, z):
        return -d * (z > 0)


@model("factor")
class m20(Base):
    def br(s, i, d, z):
        return 0.5 * d * (z > 0)


def causes_of(report):
    assert not report
    return {d.cause for d in report.diagnoses}


@pytest.mark.parametrize(("causes", "forward", "backward", "args"), LAYERS)
def test_a_layer(causes, forward, backward, args):
    report = check_layer(forward, backward, *args)
    assert causes_of(report), str(report)
    assert causes_of(report) <= causes, str(report)


@pytest.mark.parametrize(("causes", "loss"), LOSSES)
def test_a_loss(causes, loss):
    report = check_loss(loss, sc, yy)
    assert causes_of(report), str(report)
    assert causes_of(report) <= causes, str(report)


@pytest.mark.parametrize(("causes", "kind", "settings"), MODELS)
def test_a_model(causes, kind, settings):
    X, y = np.random.RandomState(5).randn(7, 5), np.array([0, 1, 2, 0, 1, 2, 0])
    report = check_model(kind(**settings), X, y)
    assert causes_of(report), str(report)
    assert causes_of(report) <= causes, str(report)
