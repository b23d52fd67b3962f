"""Reversal: what the heads of a GPT look at."""

import functools

import numpy as np
from handgrad.attention import multi_head_attention_forward, multi_head_attention_weights
from handgrad.data_utils import reversal
from handgrad.models import GPT, LanguageModel
from matplotlib.figure import Figure

from .study import SECONDS, Column, Study, build, main

LENGTH, SYMBOLS, HEADS, DRAWN = 20, 10, 4, "GPT, 2 blocks"


@functools.cache
def load(count):
    """As many sequences to train with, to choose the best parameters by, and to test with."""
    data = {}
    for seed, part in enumerate(("train", "val", "test")):
        data[f"X_{part}"], data[f"y_{part}"] = reversal(count, LENGTH, SYMBOLS, seed)
    return data


def net(model, *sizes, **options):
    return dict(
        model=functools.partial(model, SYMBOLS + 1, *sizes, **options),
        data=load,
        num_training=1000,
        update_rule="adam",
        learning_rate=3e-3,
        clip_norm=1.0,
        batch_size=50,
        num_epochs=15,
        num_train_samples=50,
        num_val_samples=200,
    )


# ---------------------------------------------------------------------------- what is kept of a run


def answers(solver):
    """The share of right symbols on the test set, that on the validation set by epoch, and what the
    heads look at in the first test sequence.
    """
    data = solver.data
    solver.check_accuracy(data["X_test"], data["y_test"])
    return {
        "test": solver.measured["acc"],
        "val": [record["val_acc"] for record in solver.history],
        "symbols": data["X_test"][0].tolist(),
        "maps": [np.round(p[0], 3).tolist() for p in weights(solver.model, data["X_test"][:1])],
    }


def weights(model, X):
    """The attention weights (N, heads, T, T) of each block."""
    calls, _, _ = model.layer_calls(X)
    return [
        multi_head_attention_weights(forward(*arguments)[1])
        for _, forward, _, arguments, _ in calls
        if forward is multi_head_attention_forward
    ]


def steps_to_99(run):
    """Training steps until 99 % of the validation symbols are right; infinite if they never are."""
    reached = [k for k, share in enumerate(run["kept"]["val"], 1) if share >= 0.99]
    return run["iterations_per_epoch"] * reached[0] if reached else np.inf


def picture(result):
    """The maps of one net: a row of panels for each block, a panel for each head."""
    kept = result.runs[DRAWN, 0]["kept"]
    blocks, symbols = kept["maps"], ["|" if s == SYMBOLS else s for s in kept["symbols"]]
    figure = Figure(figsize=(3 * HEADS, 3.2 * len(blocks)), layout="constrained")
    panels, ticks = figure.subplots(len(blocks), HEADS), (range(len(symbols)), symbols)
    for (row, column), axes in np.ndenumerate(panels):
        axes.imshow(blocks[row][column], cmap="Blues", vmin=0, vmax=1)
        axes.axhline(LENGTH - 0.5, color="C1", lw=0.8)
        axes.set_title(f"block {row + 1}, head {column + 1}", fontsize=9)
        axes.set_xticks(*(ticks if row == len(blocks) - 1 else ([], [])), fontsize=5)
        axes.set_yticks(*(ticks if column == 0 else ([], [])), fontsize=5)
    figure.supxlabel("looked at", fontsize=9)
    figure.supylabel("read; below the line the answer is said", fontsize=9)
    return figure


STUDY = Study(
    "reversal_attention",
    "Reversal: what the heads of a GPT look at",
    """Twenty symbols of ten kinds, a mark, and the same symbols backwards: a language model has to say
them, each from what it has read. 1000 sequences are seen 15 times, in batches of 50, by Adam at 3e-3.
What counts is the share of right symbols in the answers to 1000 other sequences; guessing has 10 %. One
block is enough: a head that looks as far to the left of the mark as the answer has gone to the right of
it sees the symbol that comes next. In the maps these places are a line that falls to the left. Where
there are two blocks, the first one does it, and the second finds nothing left to look for. An LSTM,
which has to carry all symbols in one state, has less than half of them right after as many steps
("inf": it never reaches 99 %).""",
    build,
    {
        "GPT, 1 block": net(GPT, 2 * LENGTH, 64, 1, HEADS),
        "GPT, 2 blocks": net(GPT, 2 * LENGTH, 64, 2, HEADS),
        "LSTM of 128": net(LanguageModel, 128),
    },
    quick=dict(num_training=100, num_epochs=1),
    seeds=3,
    measured=Column("% right", lambda run: 100 * run["kept"]["test"]),
    others=(Column("steps to 99 %", steps_to_99, ".0f"), SECONDS),
    keep=answers,
    figure=picture,
    caption="Attention weights, from 0 (white) to 1 (blue), on a test sequence",
)

if __name__ == "__main__":
    raise SystemExit(main(STUDY))
