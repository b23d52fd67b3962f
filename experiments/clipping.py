"""Tiny Shakespeare: what clipping does to a recurrent net."""

import functools
import itertools
import math

import numpy as np
from handgrad.data_utils import load_shakespeare
from handgrad.models import LanguageModel
from matplotlib.figure import Figure

from .study import Column, Study, build, main

RATES, NORMS, SHOWN = (0.5, 2.0, 5.0), (None, 1.0, 0.25), 2.0
CHARACTERS, BATCH, LAST = 65, 32, 20


class Watched(LanguageModel):
    """Keeps the norm of each gradient."""

    def __init__(self, *arguments, **settings):
        super().__init__(*arguments, **settings)
        self.norms = []

    def loss(self, X, y=None):
        result = super().loss(X, y)
        if y is not None:
            _, grads = result
            self.norms.append(math.hypot(*(np.linalg.norm(g) for g in grads.values())))
        return result


def norms(solver):
    return solver.model.norms


@functools.cache
def load(steps):
    """As many windows of 64 characters as so many batches take."""
    data = load_shakespeare(64)
    return {key: data[key][: steps * BATCH] for key in ("X_train", "y_train")}


def name(rate, clip_norm):
    return f"rate {rate:g}, " + ("not clipped" if clip_norm is None else f"clip_norm {clip_norm:g}")


def run(rate, clip_norm):
    return dict(
        model=functools.partial(Watched, CHARACTERS, 128, cell="rnn"),
        data=load,
        num_training=200,
        learning_rate=rate,
        clip_norm=clip_norm,
        batch_size=BATCH,
        num_epochs=1,
        num_train_samples=BATCH,
    )


def last_loss(run):
    return float(np.mean(run["loss_history"][-LAST:]))


def is_lost(run):
    """Whether it is worse than a net that gives all characters the same score."""
    return last_loss(run) > math.log(CHARACTERS)


def picture(result):
    """Loss and norm of the gradient at each step, for all runs at one rate."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    panels = figure.subplots(1, 2)
    for k, norm in enumerate(NORMS):
        some = [run for (setting, _), run in result.runs.items() if setting == name(SHOWN, norm)]
        for run in some:
            for axes, values in zip(panels, (run["loss_history"], run["kept"]), strict=True):
                axes.plot(values, color=f"C{k}", lw=0.8, alpha=0.7)
        panels[0].plot([], color=f"C{k}", label=name(SHOWN, norm))
    for axes, title in zip(panels, ("loss", "norm of the gradient"), strict=True):
        axes.set(title=title, xlabel="step", yscale="log")
        axes.grid(alpha=0.3)
    panels[0].legend()
    return figure


STUDY = Study(
    "clipping",
    "Tiny Shakespeare: what clipping does to a recurrent net",
    """A simple recurrent net with 128 hidden units learns characters, 64 steps at a time in batches of
32, by 200 steps of plain gradient descent. Backward through 64 steps the gradient now and then becomes
many times as long as usual (Pascanu et al. 2013). At a small rate that does not matter: clip_norm 1
changes next to nothing, and 0.25 slows the net down. At a large rate one such step throws the weights
far away, where tanh is flat, and the net does not come back. clip_norm shortens the step and keeps its
direction, so that a rate ten times as large works, and the loss is lower after the same number of
steps. The norm has to fit: 1.0 is too long for the largest rate here. Losses are the means of the last
20 steps. A run is lost if its loss is above log 65, that of a net which gives all 65 characters the
same score. Norms are those before clipping.""",
    build,
    {name(rate, norm): run(rate, norm) for rate, norm in itertools.product(RATES, NORMS)},
    quick=dict(
        model=functools.partial(Watched, CHARACTERS, 16, cell="rnn"),
        num_training=20,
    ),
    seeds=3,
    measured=Column("loss", last_loss),
    others=(
        Column("largest norm", lambda run: max(run["kept"]), ",.1f"),
        Column("lost, %", lambda run: 100 * is_lost(run), ".0f"),
    ),
    keep=norms,
    figure=picture,
    caption="Loss and norm of the gradient at each step",
)

if __name__ == "__main__":
    raise SystemExit(main(STUDY))
