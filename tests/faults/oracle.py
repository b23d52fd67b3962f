"""The layers once more, each by its definition, for complex numbers; and gradients by complex step.

Nothing here is taken from handgrad, and nothing is fast. A gradient comes from the forward function
alone: f(x + i h v) = f(x) + i h J v + O(h^2), so the imaginary part over h is the derivative of f in
the direction v, without the rounding that a difference has. Comparisons look at the real part.
"""

import itertools

import numpy as np
import scipy.special

__all__ = ["derivative"]

STEP = 1e-40


def derivative(function, arrays, directions):
    """The derivative of function(*arrays) where each array moves along its direction."""
    moved = [a.astype(np.float64) + 1j * STEP * v for a, v in zip(arrays, directions, strict=True)]
    return np.imag(function(*moved)) / STEP


# ---------------------------------------------------------------------------- rows and activations


def affine(x, w, b):
    rows = x.reshape(len(x), w.shape[0])
    columns = [(rows * w[:, m]).sum(axis=1) + b[m] for m in range(len(b))]
    return np.stack(columns, axis=1)


def relu(x):
    return np.where(x.real > 0, x, 0)


def leaky_relu(x, alpha):
    return np.where(x.real > 0, x, alpha * x)


def tanh(x):
    x = np.clip(x.real, -300, 300) + 1j * x.imag  # beyond it the derivative is 0
    return np.sinh(x) / np.cosh(x)


def sigmoid(x):
    return (1 + tanh(x / 2)) / 2


# ---------------------------------------------------------------------------- losses


def softmax(x, y, smoothing=0.0):
    losses = []
    for scores, right in zip(x, y, strict=True):
        largest = scores.real.max()
        log_sum = largest + np.log(np.exp(scores - largest).sum())
        target = smoothing / len(scores) + (1 - smoothing) * (np.arange(len(scores)) == right)
        losses.append((target * (log_sum - scores)).sum())
    return _mean(losses)


def svm(x, y):
    losses = []
    for scores, right in zip(x, y, strict=True):
        margins = [s - scores[right] + 1 for c, s in enumerate(scores) if c != right]
        losses.append(sum(m for m in margins if m.real > 0))
    return _mean(losses)


def mse(x, y):
    targets = np.eye(x.shape[1])[y]
    return _mean(
        [((row - target) ** 2).sum() / len(row) for row, target in zip(x, targets, strict=True)]
    )


def _mean(losses):
    return np.complex128(sum(losses) / max(1, len(losses)))


# ---------------------------------------------------------------------------- normalisation


def _normalized(x, eps):
    """All numbers of x with mean 0 and variance 1."""
    centred = x - x.mean()
    return centred / np.sqrt((centred**2).mean() + eps)


def batchnorm(x, gamma, beta, eps):
    """Rows or images: over everything but axis 1."""
    out = np.array(x, complex)
    for c in range(x.shape[1] if len(x) else 0):
        out[:, c] = gamma[c] * _normalized(x[:, c], eps) + beta[c]
    return out


def batchnorm_at_test(x, gamma, beta, mean, variance, eps):
    out = np.array(x, complex)
    for c in range(x.shape[1]):
        out[:, c] = gamma[c] * (x[:, c] - mean[c]) / np.sqrt(variance[c] + eps) + beta[c]
    return out


def layernorm(x, gamma, beta, eps):
    rows = [gamma * _normalized(row, eps) + beta for row in x]
    return np.array(rows, complex).reshape(x.shape)


def groupnorm(x, gamma, beta, groups, eps):
    out, width = np.array(x, complex), x.shape[1] // groups
    for n, g in itertools.product(range(len(x)), range(groups)):
        channels = slice(g * width, (g + 1) * width)
        normed = _normalized(x[n, channels], eps)
        out[n, channels] = gamma[channels, None, None] * normed + beta[channels, None, None]
    return out


# ---------------------------------------------------------------------------- images


def conv(x, w, b, stride, pad):
    """stride, pad: pairs."""
    framed = np.pad(x, ((0, 0), (0, 0), (pad[0],) * 2, (pad[1],) * 2))
    places = _places(framed.shape, w.shape[2:], stride)
    out = np.empty((len(x), len(w), *places.shape), np.result_type(x, w, b))
    for (i, j), window in np.ndenumerate(places):
        for f in range(len(w)):
            out[:, f, i, j] = (framed[:, :, *window] * w[f]).sum(axis=(1, 2, 3)) + b[f]
    return out


def max_pool(x, window, stride, pad):
    """The frame is outside: an image is never smaller than the largest number in it."""
    framed = np.pad(
        x.astype(complex), ((0, 0), (0, 0), (pad[0],) * 2, (pad[1],) * 2), constant_values=-np.inf
    )

    def largest(entries):
        at = entries.real.argmax(axis=2)
        return np.take_along_axis(entries, at[..., None], 2)[..., 0]

    return _pooled(framed, window, stride, largest)


def avg_pool(x, window, stride, pad):
    framed = np.pad(x, ((0, 0), (0, 0), (pad[0],) * 2, (pad[1],) * 2))
    return _pooled(framed, window, stride, lambda entries: entries.sum(axis=2) / entries.shape[2])


def _pooled(framed, window, stride, function):
    places = _places(framed.shape, window, stride)
    out = np.empty((*framed.shape[:2], *places.shape), framed.dtype)
    for (i, j), at in np.ndenumerate(places):
        out[:, :, i, j] = function(framed[:, :, *at].reshape(*framed.shape[:2], window[0] * window[1]))
    return out


def _places(shape, size, stride):
    """The slices of rows and columns under each output pixel: an array (OH, OW) of pairs."""
    rows = [slice(top, top + size[0]) for top in range(0, shape[2] - size[0] + 1, stride[0])]
    columns = [slice(left, left + size[1]) for left in range(0, shape[3] - size[1] + 1, stride[1])]
    places = np.empty((len(rows), len(columns)), object)
    for (i, top), (j, left) in itertools.product(enumerate(rows), enumerate(columns)):
        places[i, j] = top, left
    return places


# ---------------------------------------------------------------------------- sequences (N, T, D)


def over_time(cell, x, h):
    """The states of a recurrent layer after each step."""
    states = []
    for t in range(x.shape[1]):
        h = cell(x[:, t], h)
        states.append(h)
    return np.stack(states, axis=1)


def rnn(x, h0, Wx, Wh, b):
    return over_time(lambda x, h: tanh(_times(x, Wx) + _times(h, Wh) + b), x, h0)


def lstm(x, h0, Wx, Wh, b):
    c = np.zeros_like(h0)

    def cell(x, h):
        nonlocal c
        i, f, o, g = np.split(_times(x, Wx) + _times(h, Wh) + b, 4, axis=1)
        c = sigmoid(f) * c + sigmoid(i) * tanh(g)
        return sigmoid(o) * tanh(c)

    return over_time(cell, x, h0)


def gru(x, h0, Wx, Wh, bx, bh):
    def cell(x, h):
        a, u = (np.split(s, 3, axis=1) for s in (_times(x, Wx) + bx, _times(h, Wh) + bh))
        r, z = sigmoid(a[0] + u[0]), sigmoid(a[1] + u[1])
        return (1 - z) * tanh(a[2] + r * u[2]) + z * h

    return over_time(cell, x, h0)


def _times(x, w):
    """x @ w, for x (..., D)."""
    return (x[..., :, None] * w).sum(axis=-2)


def affine_steps(x, w, b):
    return _times(x, w) + b


def word_scores(x, w):
    return _times(x, w.T)


def conv1d(x, w, b, stride, pad):
    images = conv(x.swapaxes(1, 2)[:, :, None], w[:, :, None], b, (1, stride), (0, pad))
    return images[:, :, 0].swapaxes(1, 2)


def gelu(x):
    return x * (1 + scipy.special.erf(x / np.sqrt(2))) / 2


def gelu_by_tanh(x):
    return x * (1 + tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))) / 2


def rmsnorm(x, gamma, eps):
    return gamma * x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + eps)


def softmax_rows(x):
    e = np.exp(x - x.real.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def attention(q, k, v, causal):
    """One query after the other: q (N, T, E), k (N, S, E), v (N, S, D)."""
    out = np.empty((*q.shape[:2], v.shape[2]), complex)
    for n, t in np.ndindex(q.shape[:2]):
        seen = k.shape[1] - q.shape[1] + t + 1 if causal else k.shape[1]
        weights = softmax_rows((k[n, :seen] * q[n, t]).sum(axis=1) / np.sqrt(q.shape[2]))
        out[n, t] = (weights[:, None] * v[n, :seen]).sum(axis=0)
    return out


def multi_head_attention(x, W, b, Wo, bo, heads, causal):
    q, k, v = np.split(affine_steps(x, W, b), 3, axis=2)
    parts = (np.split(a, heads, axis=2) for a in (q, k, v))
    z = [attention(*head, causal) for head in zip(*parts, strict=True)]
    return affine_steps(np.concatenate(z, axis=2), Wo, bo)
