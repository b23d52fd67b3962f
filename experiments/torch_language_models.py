"""Tiny Shakespeare: language models of handgrad beside PyTorch's. Needs the extra `bench`."""

import functools
from dataclasses import dataclass

import numpy as np
import torch
from handgrad import Solver
from handgrad.data_utils import load_shakespeare
from handgrad.engine.randomness import generator
from handgrad.models import LanguageModel
from matplotlib.figure import Figure
from scipy import stats
from torch import nn

from .study import Section, argument_parser, show

NAME = "torch_language_models"
TITLE = "Tiny Shakespeare: language models beside PyTorch's"
TEXT = """Embedding, a cell with 128 hidden units, scores of the next character; the first 5000
windows of 64 characters, batches of 50, Adam at 3e-3, gradients clipped to the norm 1, 3 epochs. With
each seed PyTorch's net begins with the weights of handgrad's and sees the same batches, so that only
roundings differ, and what they grow to in 300 steps. PyTorch's cells have two biases, which are added
up; the second one stays 0 here, since handgrad's RNN and LSTM have one. The loss is that of the last
epoch on the whole validation set, in nats a character; the interval is that of PyTorch's mean."""

RATE, CLIP, BATCH = 3e-3, 1.0, 50
CELLS = {"rnn": nn.RNN, "lstm": nn.LSTM}
SIDES = ("handgrad", "PyTorch")


@functools.cache
def load(count):
    """The first so many windows of each part; None for all."""
    data = load_shakespeare(64)
    parts = {key: data[key][:count] for key in ("X_train", "y_train", "X_val", "y_val")}
    return parts, len(data["vocabulary"])


# ---------------------------------------------------------------------------- PyTorch's side


class Theirs(nn.Module):
    """The same net with the weights of ours."""

    def __init__(self, cell, params):
        super().__init__()
        V, D = params["W1"].shape
        H = len(params["Wh1"])
        self.words, self.scores = nn.Embedding(V, D), nn.Linear(H, V)
        self.cell = CELLS[cell](D, H, batch_first=True)
        self.cell.bias_hh_l0.requires_grad_(False)
        recurrent = [_in_their_order(cell, params[name]) for name in ("Wx1", "Wh1", "b1")]
        cells = [*recurrent, np.zeros_like(params["b1"])]
        ours = [params["W1"].T, *cells, params["W2"], params["b2"]]
        with torch.no_grad():
            for weight, a in zip(
                (*self.words.parameters(), *self.cell.parameters(), *self.scores.parameters()),
                ours,
                strict=True,
            ):
                weight.copy_(torch.tensor(a.T))

    def forward(self, X):
        return self.scores(self.cell(self.words(X))[0])


def _in_their_order(cell, a):
    """PyTorch has the gates of an LSTM in the order i, f, g, o, handgrad i, f, o, g."""
    if cell != "lstm":
        return a
    i, f, o, g = np.split(a, 4, axis=-1)
    return np.concatenate([i, f, g, o], axis=-1)


def _loss(net, X, y):
    return nn.functional.cross_entropy(net(X).flatten(0, 1), y.flatten())


def their_losses(cell, params, data, epochs, seed):
    """The validation loss after each epoch, trained in the usual way with the Solver's batches."""
    net = Theirs(cell, params)
    learned = [p for p in net.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(learned, lr=RATE)
    X, y, X_val, y_val = (torch.tensor(a, dtype=torch.long) for a in data.values())
    losses = []
    for epoch in range(epochs):
        order = torch.tensor(generator(seed, "shuffle", epoch).permutation(len(X)))
        for index in order.split(BATCH):
            optimizer.zero_grad()
            _loss(net, X[index], y[index]).backward()
            nn.utils.clip_grad_norm_(learned, CLIP)
            optimizer.step()
        losses.append(validated(net, X_val, y_val))
    return losses


@torch.no_grad()
def validated(net, X, y):
    """The mean loss over all words."""
    parts = zip(X.split(100), y.split(100), strict=True)
    return sum(len(part) * _loss(net, part, answers).item() for part, answers in parts) / len(X)


# ---------------------------------------------------------------------------- our side


def our_losses(model, data, epochs, seed):
    solver = Solver(
        model,
        data,
        update_rule="adam",
        optim_config={"learning_rate": RATE},
        clip_norm=CLIP,
        batch_size=BATCH,
        num_epochs=epochs,
        num_train_samples=BATCH,
        verbose=False,
        workers=1,
        seed=seed,
    )
    return [record["val_nats"] for record in solver.epochs()]


# ---------------------------------------------------------------------------- both


@dataclass(frozen=True)
class Pair:
    """Validation losses by epoch: of handgrad, of PyTorch."""

    ours: list
    theirs: list


def train(cell, seed, count, width, epochs):
    data, V = load(count)
    model = LanguageModel(V, width, cell=cell, seed=seed)
    first = {name: p.copy() for name, p in model.params.items()}
    return Pair(our_losses(model, data, epochs, seed), their_losses(cell, first, data, epochs, seed))


def measure(seeds, **size):
    """{cell: a Pair for each seed}"""
    torch.set_num_threads(1)
    return {cell: [train(cell, seed, **size) for seed in range(seeds)] for cell in CELLS}


def table(pairs):
    head = (
        *("cell", "handgrad, mean", "PyTorch, mean", "95 % interval of PyTorch's mean"),
        *("handgrad within", "largest difference with a seed"),
    )
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for cell, some in pairs.items():
        ours, theirs = np.array([(p.ours[-1], p.theirs[-1]) for p in some]).T
        means = f"**{ours.mean():.4f}** | {theirs.mean():.4f}"
        lines.append(
            f"| {cell} | {means} | {compared(ours, theirs)} | {abs(ours - theirs).max():.4f} |"
        )
    return "\n".join(lines)


def compared(ours, theirs):
    """Student's 95 % interval of the mean of theirs | whether the mean of ours lies in it."""
    if len(theirs) < 2:
        return "- | -"
    low, high = stats.t.interval(0.95, len(theirs) - 1, theirs.mean(), stats.sem(theirs))
    return f"{low:.4f} to {high:.4f} | {'yes' if low <= ours.mean() <= high else 'no'}"


def picture(pairs):
    figure = Figure(figsize=(4.5 * len(pairs), 4), layout="constrained")
    for axes, (cell, some) in zip(figure.subplots(1, len(pairs)), pairs.items(), strict=True):
        for k, pair in enumerate(some):
            for side, losses, style in zip(SIDES, (pair.ours, pair.theirs), ("-", "--"), strict=True):
                epochs = np.arange(1, len(losses) + 1)
                axes.plot(epochs, losses, style, color=f"C{k}", label=f"{side}, seed {k}")
        axes.set(title=f"{cell}: validation loss", xlabel="epoch")
        axes.grid(alpha=0.3)
    figure.axes[-1].legend()
    return figure


def main(argv=None):
    args = argument_parser(NAME, TITLE).parse_args(argv)
    seeds = 1 if args.quick else 3
    size = dict(count=200, width=16, epochs=2) if args.quick else dict(count=5000, width=128, epochs=3)
    pairs = measure(seeds, **size)
    cost = f"{seeds} seeds, torch {torch.__version__}"
    figures = {f"{NAME}.png": (picture(pairs), "Validation loss by epoch, both sides")}
    show(Section(NAME, TITLE, TEXT, cost, table(pairs)), figures, args.folder if args.quick else None)


if __name__ == "__main__":
    main()
