"""Pictures: curves, image grids, filters, mistakes, confusion matrix. None needs a display.

Each function returns a matplotlib Figure, which a notebook shows by itself. `save` writes it to a file.
Images are (N, C, H, W) with C = 1 (grey) or 3 (colour), in any range of numbers.
"""

import functools
import io
import math

import numpy as np

from .engine.files import written_whole
from .report import confusion_matrix

__all__ = [
    "confusion_matrix",
    "plot_bands",
    "plot_curves",
    "plot_learning_rates",
    "save",
    "show_augmented",
    "show_confusion",
    "show_filters",
    "show_images",
    "show_mistakes",
    "visualize_grid",
]


def _figure(width, height):
    from matplotlib.figure import Figure  # when first needed: it costs time at import

    figure = Figure(figsize=(width, height), layout="constrained")
    figure._repr_png_ = functools.partial(_png, figure)  # without it a notebook shows a line of text
    return figure


def _png(figure):
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def save(figure, path):
    """Write a figure to a file: PNG, PDF or SVG, by its ending. The file is whole or not there."""
    if not hasattr(figure, "savefig"):
        raise TypeError(f"save: figure is a {type(figure).__name__}, expected save(figure, path).")
    with written_whole(path) as temporary:
        figure.savefig(temporary, dpi=120)
    return path


# ---------------------------------------------------------------------------- curves


def plot_curves(solvers):
    """Loss and accuracy (in regression R squared) while training: of one Solver, or of several in a
    dict {name: Solver}.

    The loss is smoothed over a fiftieth of the run. Several solvers have a colour each.
    """
    several = isinstance(solvers, dict)
    solvers = solvers if several else {"": solvers}
    for solver in solvers.values():
        if not hasattr(solver, "loss_history"):
            came = type(solver).__name__
            raise TypeError(
                f"plot_curves: a {came} came, expected a Solver, or a dict {{name: Solver}}."
            )
    figure = _figure(11, 4)
    losses, accuracies = figure.subplots(1, 2)
    for k, (name, solver) in enumerate(solvers.items()):
        color = f"C{k % 10}"
        epochs = np.arange(1, len(solver.loss_history) + 1) / solver.iterations_per_epoch
        if not several:
            losses.plot(epochs, solver.loss_history, color=color, alpha=0.25, lw=0.8)
        smooth = _smoothed(solver.loss_history, max(1, len(epochs) // 50))
        losses.plot(epochs[len(epochs) - len(smooth) :], smooth, color=color, label=name)
        train = "--" if several else "-"
        _plot_accuracy(accuracies, solver.train_acc_history, train, color, f"{name} train")
        other = color if several else "C1"
        _plot_accuracy(accuracies, solver.val_acc_history, "-", other, f"{name} validation")
    losses.set(title="training loss", xlabel="epoch", ylabel="loss")
    measured = " / ".join(dict.fromkeys(s.measure.name for s in solvers.values()))
    accuracies.set(title=measured, xlabel="epoch", ylabel=measured)
    if several:
        losses.legend()
    if accuracies.lines:
        accuracies.legend()
    for axes in (losses, accuracies):
        axes.grid(alpha=0.3)
    return figure


def plot_bands(curves):
    """Panels of curves by epoch, {name: {panel: [history, ...]}}: means, and bands over the runs."""
    panels = list(next(iter(curves.values()))) if curves else ["loss"]
    figure = _figure(4.5 * len(panels), 4)
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for k, (name, histories) in enumerate(curves.items()):
            length = min((len(h) for h in histories[panel]), default=0)
            if not length:
                continue
            runs = np.array([h[:length] for h in histories[panel]])
            epochs = np.arange(length) + (1 if panel == "loss" else 0)
            axes.plot(epochs, runs.mean(axis=0), color=f"C{k % 10}", label=name)
            axes.fill_between(epochs, runs.min(axis=0), runs.max(axis=0), color=f"C{k % 10}", alpha=0.2)
        axes.set(title=panel, xlabel="epoch")
        axes.grid(alpha=0.3)
        if axes.lines:
            _fit_range(axes, np.concatenate([line.get_ydata()[1:] for line in axes.lines]))
    lines = max((axes.lines for axes in figure.axes), key=len)
    if lines:  # once for all panels, and under them: names may be long
        figure.legend(handles=list(lines), loc="outside lower center", ncols=min(len(lines), 3))
    return figure


def plot_learning_rates(test):
    """The losses of a RangeTest (lr_finder.py) over its rates, with the suggestion."""
    figure = _figure(6, 4)
    axes = figure.subplots()
    axes.plot(test.rates, test.losses, color="C0", alpha=0.25, lw=0.8)
    axes.plot(test.rates, test.smoothed, color="C0", label="loss, smoothed")
    if test.suggestion is not None:
        axes.axvline(test.suggestion, color="C1", ls="--", label=f"suggestion: {test.suggestion:.2g}")
        low, high = test.smoothed.min(), min(test.smoothed.max(), 2 * test.smoothed[0])
        axes.set_ylim(low - 0.1 * (high - low), high + 0.1 * (high - low))
    axes.set(title="learning-rate range test", xlabel="learning rate", ylabel="loss", xscale="log")
    axes.legend()
    axes.grid(alpha=0.3)
    return figure


def _fit_range(axes, values):
    """The range of what comes after the first epoch, which would dwarf it; logarithmic if wide."""
    values = values[np.isfinite(values)]
    if not values.size or values.min() == values.max():
        return
    low, high = values.min(), values.max()
    if low > 0 and high / low > 30:
        axes.set_yscale("log")
    else:
        margin = 0.05 * (high - low)
        axes.set_ylim(low - margin, high + margin)


def _plot_accuracy(axes, history, style, color, label):
    if history:
        axes.plot(range(len(history)), history, style, color=color, marker=".", label=label.strip())


def _smoothed(values, window):
    """The running mean of `window` values; shorter by window - 1."""
    sums = np.cumsum(np.concatenate([[0.0], values]))
    return (sums[window:] - sums[:-window]) / window


# ---------------------------------------------------------------------------- images


def visualize_grid(Xs, ubound=255.0, padding=1):
    """Images side by side as one, each stretched to the range 0 to ubound.

    Xs: (N, H, W, C), as in the course.  Returns (rows * (H + padding) - padding, ..., C); a constant
    image becomes zeros.
    """
    Xs = np.asarray(Xs)
    if Xs.ndim != 4:
        raise ValueError(f"visualize_grid: Xs has shape {Xs.shape}, expected (N, H, W, C).")
    N, H, W, C = Xs.shape
    columns = math.ceil(math.sqrt(N))
    rows = math.ceil(N / columns) if N else 0
    grid = np.zeros((rows * (H + padding), columns * (W + padding), C))
    for n, image in enumerate(Xs):
        top, left = n // columns * (H + padding), n % columns * (W + padding)
        low, high = float(image.min()), float(image.max())
        if high > low:
            grid[top : top + H, left : left + W] = ubound * ((image - low) / (high - low))
    return grid[: max(0, len(grid) - padding), : max(0, grid.shape[1] - padding)]


def show_images(X, titles=None, columns=10):
    """Images X (N, C, H, W), C = 1, 3 or 4, each stretched to its own range.

    titles: N texts, or None.  columns: images side by side (10). Raises ValueError for other shapes.
    """
    X = np.asarray(X)
    if X.ndim != 4 or X.shape[1] not in (1, 3, 4):
        raise ValueError(
            f"show_images: X has shape {X.shape}, expected images (N, C, H, W), C = 1, 3 or 4."
        )
    if titles is not None and len(titles) != len(X):
        raise ValueError(
            f"show_images: {len(titles)} titles came, expected one for each of {len(X)} images."
        )
    rows = max(1, math.ceil(len(X) / columns))
    height = 1.0 if titles is None else 1.25 + 0.15 * max(str(t).count("\n") for t in [*titles, ""])
    figure = _figure(columns, rows * height)
    for k, axes in enumerate(figure.subplots(rows, columns, squeeze=False).flat):
        axes.axis("off")
        if k < len(X):
            axes.imshow(_displayable(X[k]), cmap="gray", interpolation="nearest")
            if titles is not None:
                axes.set_title(str(titles[k]), fontsize=8)
    return figure


def show_augmented(X, augment, versions=8, seed=0):
    """Each image of X (N, C, H, W) in a row: as it is, and after `versions` draws of augment(X, rng).

    versions: how many draws (8).  seed: of the draws (0).
    """
    rng = np.random.default_rng(seed)
    columns = [X, *(augment(X, rng) for _ in range(versions))]
    titles = ["before", *[""] * versions] * len(X)
    return show_images(np.stack(columns, axis=1).reshape(-1, *X.shape[1:]), titles, versions + 1)


def show_filters(w):
    """The filters (F, C, HH, WW) of a first layer; C = 1 or 3 as images, else channel by channel.

    The weights (D, M) of a first affine layer: reshape w.T to (M, C, H, W).
    """
    w = np.asarray(w)
    if w.ndim != 4:
        raise ValueError(f"show_filters: w has shape {w.shape}, expected filters (F, C, HH, WW).")
    F, C, HH, WW = w.shape
    return show_images(
        w if C in (1, 3) else w.reshape(F * C, 1, HH, WW), columns=8 if C in (1, 3) else C
    )


def show_mistakes(X, y, predicted, class_names=None, most=50):
    """The images that were classified wrong, each with 'predicted, not true' above it.

    X: (N, C, H, W).  y, predicted: labels (N,), N at least 1.  class_names: a word for each class
    (None: numbers).  most: how many images at most (50). Raises ValueError if they do not fit.
    """
    X, y, predicted = map(np.asarray, (X, y, predicted))
    if not y.shape == predicted.shape == X.shape[:1]:
        raise ValueError(
            f"show_mistakes: X has shape {X.shape}, y {y.shape} and predicted {predicted.shape}, "
            "expected a label and a prediction for each image."
        )
    wrong = np.flatnonzero(y != predicted)[:most]
    C = int(max(y.max(), predicted.max())) + 1
    names = _names("show_mistakes", class_names, C)
    between = ", " if max(map(len, names)) < 5 else ",\n"
    titles = [f"{names[predicted[n]]}{between}not {names[y[n]]}" for n in wrong]
    return show_images(X[wrong], titles)


def _names(who, class_names, C):
    """The names of C classes as text; their numbers if there are none."""
    names = [str(name) for name in (range(C) if class_names is None else class_names)]
    if len(names) < C:
        raise ValueError(f"{who}: {len(names)} class_names came, expected one for each of {C} classes.")
    return names


def _displayable(image):
    """One image (C, H, W) as (H, W) or (H, W, 3), in the range 0 to 1."""
    image = image.astype(float)
    low, high = image.min(), image.max()
    image = (image - low) / (high - low if high > low else 1)
    return image[0] if len(image) == 1 else image.transpose(1, 2, 0)


# ---------------------------------------------------------------------------- confusion


def show_confusion(counts, class_names=None):
    """A confusion matrix with its numbers; the colour is the share of the true class.

    counts: (C, C), as `confusion_matrix` gives them.  class_names: C words (None: numbers).
    """
    counts = np.asarray(counts)
    C = len(counts)
    names = _names("show_confusion", class_names, C)
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    figure = _figure(1.5 + 0.5 * C, 1 + 0.5 * C)
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for i, j in np.ndindex(counts.shape):
        if counts[i, j]:
            color = "white" if shares[i, j] > 0.5 else "black"
            axes.text(j, i, str(counts[i, j]), ha="center", va="center", fontsize=8, color=color)
    turned = dict(rotation=45, ha="right", rotation_mode="anchor") if max(map(len, names)) > 4 else {}
    axes.set_xticks(range(C), names[:C], **turned)
    axes.set_yticks(range(C), names[:C])
    axes.set(xlabel="predicted", ylabel="true")
    return figure
