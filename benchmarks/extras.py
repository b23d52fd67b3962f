"""Other measurements: speed of sgemm, other ways to convolve, growth with size, time to import."""

import subprocess
import sys
import time

import numpy as np
from handgrad import layers
from handgrad.engine.workers import workers
from threadpoolctl import threadpool_limits


def seconds(run, rounds=7):
    """The median time of one call, after one to warm up."""
    run()
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return float(np.median(times))


def sgemm_flops(threads):
    """Floating-point operations a second in a large product of float32 matrices."""
    a = np.ones((2048, 2048), np.float32)
    with threadpool_limits(threads, user_api="blas"):
        return 2 * 2048**3 / seconds(lambda: a @ a)


# ---------------------------------------------------------------------------- other ways to convolve


def plain_conv(x, w, b, dout, pad):
    """Forward and backward by plain im2col: one big matrix of windows, one product for each result."""
    N, C, H, W = x.shape
    F, _, HH, WW = w.shape
    framed = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    windows = np.lib.stride_tricks.sliding_window_view(framed, (HH, WW), axis=(2, 3))
    OH, OW = windows.shape[2:4]
    cols = windows.transpose(1, 4, 5, 2, 3, 0).reshape(C * HH * WW, -1)
    out = (w.reshape(F, -1) @ cols + b[:, None]).reshape(F, OH, OW, N).transpose(3, 0, 1, 2)
    drows = dout.transpose(1, 2, 3, 0).reshape(F, -1)
    dw = (drows @ cols.T).reshape(w.shape)
    dcols = (w.reshape(F, -1).T @ drows).reshape(C, HH, WW, OH, OW, N)
    dframed = np.zeros((C, H + 2 * pad, W + 2 * pad, N), x.dtype)
    for i in range(HH):
        for j in range(WW):
            dframed[:, i : i + OH, j : j + OW] += dcols[:, i, j]
    dx = dframed[:, pad : pad + H, pad : pad + W].transpose(3, 0, 1, 2)
    return out, dx, dw, drows.sum(axis=1)


def conv_case(x_shape, w_shape, pad):
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal(s).astype(np.float32) for s in (x_shape, w_shape))
    b = np.zeros(len(w), np.float32)
    out, _ = layers.conv_forward(x, w, b, {"pad": pad})
    dout = rng.standard_normal(out.shape).astype(np.float32)
    return x, w, b, dout


def our_conv(x, w, b, dout, pad):
    _, cache = layers.conv_forward(x, w, b, {"pad": pad})
    return layers.conv_backward(dout, cache)


def naive_conv(x, w, b, dout, pad):
    _, cache = layers.conv_forward_naive(x, w, b, {"pad": pad, "stride": 1})
    return layers.conv_backward_naive(dout, cache)


def conv_table():
    """Rows of (case, ours, plain im2col, loops), in seconds. Loops run on a sixteenth of the batch."""
    cases = {
        "LeNet-5's second, 64 images": ((64, 6, 14, 14), (16, 6, 5, 5), 0),
        "7x7, 32 filters, 48 images": ((48, 3, 32, 32), (32, 3, 7, 7), 3),
        "3x3, 64 to 64 channels, 64 images": ((64, 64, 16, 16), (64, 64, 3, 3), 1),
    }
    rows = []
    with workers(1):
        for name, (x_shape, w_shape, pad) in cases.items():
            x, w, b, dout = conv_case(x_shape, w_shape, pad)
            ours = seconds(lambda: our_conv(x, w, b, dout, pad))  # noqa: B023
            plain = seconds(lambda: plain_conv(x, w, b, dout, pad))  # noqa: B023
            few = len(x) // 16
            loops = 16 * seconds(lambda: naive_conv(x[:few], w, b, dout[:few], pad), rounds=1)  # noqa: B023
            rows.append((name, ours, plain, loops))
    return rows


# ---------------------------------------------------------------------------- growth and import


def growth_table():
    """Seconds of a convolution, forward and backward, as N, C and the image's side double twice."""
    base = dict(N=32, C=16, side=16)
    rows = []
    with workers(1):
        for what in base:
            times = []
            for factor in (1, 2, 4):
                size = {**base, what: base[what] * factor}
                x_shape = (size["N"], size["C"], size["side"], size["side"])
                case = conv_case(x_shape, (32, size["C"], 3, 3), 1)
                times.append(seconds(lambda: our_conv(*case, 1)))  # noqa: B023
            rows.append((what, times))
    return rows


def import_seconds(rounds=15):
    """What `import handgrad` adds to `import numpy`: the median of differences, measured in turn."""

    def once(statement):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", statement], check=True)
        return time.perf_counter() - started

    return float(
        np.median([once("import numpy, handgrad") - once("import numpy") for _ in range(rounds)])
    )
