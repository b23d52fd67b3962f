"""Digits: layers written as loops against layers written with arrays, timed."""

import sys
import timeit

import numpy as np
from handgrad import layers
from handgrad.engine.workers import workers
from matplotlib.figure import Figure

from .study import Section, argument_parser, show

NAME = "digits_loops"
TITLE = "Digits: loops against arrays"
TEXT = """Each layer forward and backward on a batch of digits, in float32 and on one thread: written as
Python loops over every number, and as handgrad has it. The two give the same numbers to 1e-3, of up
to hundreds."""


def affine_loops(x, w, b, dout):
    """out = x @ w + b and its gradients, one multiplication at a time."""
    (N, D), M = x.shape, len(b)
    out, dx, dw, db = np.zeros((N, M)), np.zeros((N, D)), np.zeros((D, M)), np.zeros(M)
    for n in range(N):
        for m in range(M):
            out[n, m] = b[m]
            db[m] += dout[n, m]
            for d in range(D):
                out[n, m] += x[n, d] * w[d, m]
                dx[n, d] += dout[n, m] * w[d, m]
                dw[d, m] += x[n, d] * dout[n, m]
    return out, dx, dw, db


def affine_arrays(x, w, b, dout):
    out, cache = layers.affine_forward(x, w, b)
    return out, *layers.affine_backward(dout, cache)


def relu_loops(x, dout):
    out, dx = np.zeros(x.shape), np.zeros(x.shape)
    for n in range(x.shape[0]):
        for d in range(x.shape[1]):
            if x[n, d] > 0:
                out[n, d], dx[n, d] = x[n, d], dout[n, d]
    return out, dx


def relu_arrays(x, dout):
    out, cache = layers.relu_forward(x)
    return out, layers.relu_backward(dout, cache)


def conv_loops(x, w, b, dout):
    out, cache = layers.conv_forward_naive(x, w, b, {"stride": 1, "pad": 1})
    return out, *layers.conv_backward_naive(dout, cache)


def conv_arrays(x, w, b, dout):
    out, cache = layers.conv_forward(x, w, b, {"stride": 1, "pad": 1})
    return out, *layers.conv_backward(dout, cache)


def pool_loops(x, dout):
    settings = {"pool_height": 2, "pool_width": 2, "stride": 2}
    out, cache = layers.max_pool_forward_naive(x, settings)
    return out, layers.max_pool_backward_naive(dout, cache)


def pool_arrays(x, dout):
    settings = {"pool_height": 2, "pool_width": 2, "stride": 2}
    out, cache = layers.max_pool_forward(x, settings)
    return out, layers.max_pool_backward(dout, cache)


def cases(images):
    """{layer: (loops, arrays, shapes of the arguments)}"""
    N = images
    return {
        "affine, 256 to 100": (affine_loops, affine_arrays, ((N, 256), (256, 100), (100,), (N, 100))),
        "ReLU, 100": (relu_loops, relu_arrays, ((N, 100), (N, 100))),
        "convolution, 16 of 3x3": (
            *(conv_loops, conv_arrays),
            ((N, 1, 16, 16), (16, 1, 3, 3), (16,), (N, 16, 16, 16)),
        ),
        "max pool of 2x2, 16 channels": (pool_loops, pool_arrays, ((N, 16, 16, 16), (N, 16, 8, 8))),
    }


def measure(images):
    """{layer: (milliseconds of the loops, of the arrays)}, each the best of three rounds."""
    rng, times = np.random.default_rng(0), {}
    for name, (loops, arrays, shapes) in cases(images).items():
        given = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
        for one, other in zip(loops(*given), arrays(*given), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-3)
        with workers(1):  # one thread, as small arrays are best off
            times[name] = tuple(1e3 * _seconds(run, given) for run in (loops, arrays))
    return times


def _seconds(run, given):
    timer = timeit.Timer(lambda: run(*given))
    number, _ = timer.autorange()
    return min(timer.repeat(3, number)) / number


def table(times):
    lines = ["| layer | loops, ms | arrays, ms | times as fast |", "|---|---|---|---|"]
    for name, (loops, arrays) in times.items():
        lines.append(f"| {name} | {loops:,.1f} | {arrays:.3f} | **{loops / arrays:,.0f}** |")
    return "\n".join(lines)


def picture(times):
    """Two bars a layer, on a logarithmic scale."""
    figure = Figure(figsize=(8, 3.5), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(times))
    for k, kind in enumerate(("loops", "arrays")):
        axes.barh(places + 0.4 * k, [pair[k] for pair in times.values()], 0.4, label=kind)
    axes.set_yticks(places + 0.2, list(times))
    axes.invert_yaxis()
    axes.set(xscale="log", xlabel="milliseconds a batch, forward and backward")
    axes.legend()
    return figure


def main(argv=None):
    args = argument_parser(NAME, TITLE).parse_args(argv)
    images = 2 if args.quick else 50
    times = measure(images)
    section = Section(NAME, TITLE, TEXT, f"batches of {images}, the best of three rounds", table(times))
    show(section, {f"{NAME}.png": (picture(times), TITLE)}, args.folder if args.quick else None)


if __name__ == "__main__":
    sys.exit(main())
