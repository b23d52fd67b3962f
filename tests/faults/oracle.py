"""The layers once more, each by its definition, for complex numbers; and gradients by complex step.

Nothing here is taken from handgrad, and nothing is fast. A gradient comes from the forward function
alone: f(x + i h v) = f(x) + i h J v + O(h^2), so the imaginary part over h is the derivative of f in
the direction v, without the rounding that a difference has. Comparisons look at the real part.
"""

import itertools

import numpy as np

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
