"""Texts: the data sets and nets of the command line, and what a run on them reports.

A run keeps the characters of its text in its settings, so that `handgrad generate` needs the run folder
alone.
"""

import itertools

import numpy as np

from ..callbacks import Callback
from ..data_utils import Characters, load_names, load_shakespeare, load_text
from ..engine.files import written_whole
from ..engine.randomness import generator
from ..models import GPT, LanguageModel
from . import images
from .loading import loaded

__all__ = [
    "DATA_SETS",
    "DEFAULTS",
    "MODELS",
    "MODEL_DEFAULTS",
    "callbacks",
    "defaults",
    "load",
    "report",
    "sizes",
    "written",
]

DATA_SETS = {"text": load_text, "shakespeare": load_shakespeare, "names": load_names}
MODELS = {"GPT": GPT, "LanguageModel": LanguageModel}
DEFAULTS = images.DEFAULTS | {
    "model": "GPT",
    "data": "text",
    "batch_size": 32,
    "learning_rate": 3e-3,
    "clip_norm": 1.0,
}
MODEL_DEFAULTS = {  # small enough for text within a minute
    "GPT": {"width": 64, "depth": 2},
    "LanguageModel": {"hidden_dim": 128, "cell": "gru"},
}
RUN_DEFAULTS = {"LanguageModel": {"learning_rate": 5e-3}}
SONNETS = {  # so short a text is soon known by heart; chosen on validation
    "GPT": {"epochs": 6, "lr_decay": 0.7, "dropout": 0.2},
    "LanguageModel": {
        **{"epochs": 6, "lr_decay": 0.7, "dropout": 0.5},
        **{"hidden_dim": 64, "learning_rate": 2e-3},
    },
}
CONTEXT = 64
WINDOWS = 2000  # an epoch of a short text has about so many, which overlap
LINES = ("names",)  # data sets whose examples are lines, which begin and end with the word 0
SHOWN = {"temperature": 0.8, "seed": 0}  # how samples in reports are drawn


def defaults(given):
    """The settings of a run, given some of them."""
    model = given.get("model", DEFAULTS["model"])
    of_the_sonnets = given.get("data", DEFAULTS["data"]) == "text" and "text" not in given
    return DEFAULTS | RUN_DEFAULTS.get(model, {}) | (SONNETS.get(model, {}) if of_the_sonnets else {})


def load(settings):
    """The data, and what they add to the settings: the characters, and the length of a window."""
    _check_streams(settings)
    chosen = settings["data"] in LINES or settings.keys() & {"stride", "streams"}
    every = {} if chosen else {"stride": 1}
    context = {} if settings["data"] in LINES else {"context": CONTEXT}
    data = loaded(DATA_SETS, every | context | settings)
    found = {"vocabulary": data["vocabulary"].characters, "context": data["X_train"].shape[1]}
    if every:
        side_by_side = data["X_train"][:: found["context"]]
        found["stride"] = max(1, min(found["context"], side_by_side.size // WINDOWS))
        data |= {name: data[name][:: found["stride"]] for name in ("X_train", "y_train")}
    return data, found


def _check_streams(settings):
    if "streams" not in settings:
        return
    streams, batch_size = settings["streams"], settings["batch_size"]
    if settings["model"] != "LanguageModel":
        raise ValueError(
            f"{settings['model']} takes no --streams, since it has no state to carry; expected "
            "--model LanguageModel."
        )
    if batch_size != streams:
        raise ValueError(
            f"--streams {streams} with --batch-size {batch_size}; expected the same, or no "
            "--batch-size, since a batch has a window of each stream."
        )
    if "stride" in settings:
        raise ValueError("--streams takes no --stride, since each window begins where one ended.")


def sizes(settings, data=None):
    """The arguments of a net that the data decide. They are in the settings."""
    return {"vocab_size": len(settings["vocabulary"]), "context": settings["context"]}


def callbacks(settings):
    """What is called while a net trains, besides what the Solver calls itself."""
    return [Sample(settings)]


class Sample(Callback):
    """Prints a line of text that the net writes, after each epoch."""

    def __init__(self, settings):
        self.settings = settings

    def on_epoch_end(self, solver):
        if solver.verbose:
            text = "".join(written(solver.model, self.settings, None, 70, **SHOWN))
            solver.say("    " + " / ".join(text.split("\n")))


def report(settings, solver, data, folder):
    """How well the net predicts, and what it writes."""
    from .. import vis_utils

    split = "test" if "X_test" in data else "validation"
    X, y = (data["X_test"], data["y_test"]) if split == "test" else (data["X_val"], data["y_val"])
    solver.check_accuracy(X, y)
    m = solver.measured
    result = (
        f"{split}: {m['bits']:.3f} bits a character, perplexity {m['perplexity']:.2f}, loss "
        f"{m['nats']:.3f} ({100 * m['acc']:.1f} % of {(y >= 0).sum()} characters predicted)"
    )
    text = "".join(written(solver.model, settings, None, 500, **SHOWN))
    with written_whole(folder / "report.txt") as temporary:
        temporary.write_text(f"{result}\n\n{text}\n", encoding="utf-8")
    figure = vis_utils.plot_curves(solver)
    figure.axes[1].set(title="bits a character", ylabel="bits a character")
    vis_utils.save(figure, folder / "curves.png")
    solver.say(f"\n{text}\n")
    print(result)


# ---------------------------------------------------------------------------- writing


def written(model, settings, prompt, n, **choice):
    """How a net goes on with a prompt: n characters, one after the other.

    prompt: a text; None begins a line.  choice: temperature, top_k and seed, as in `WordModel.words`.
    A net of lines, such as names, begins each with the prompt.
    """
    characters = Characters(settings["vocabulary"])
    write = _lines if settings["data"] in LINES else _text
    return write(model, characters, prompt, n, **choice)


def _text(model, characters, prompt, n, **choice):
    begin = "\n" if "\n" in characters.characters else characters.characters[0]
    for word in model.words(characters.encode(prompt or begin), n, **choice):
        yield characters.characters[word]


def _lines(model, characters, prompt, n, seed=None, **choice):
    prompt = prompt or ""
    begin = np.concatenate([[0], characters.encode(prompt)])
    for line in itertools.count():
        draws = None if seed is None else generator(seed, "words", line).integers(1 << 31)
        for word in model.words(begin, n, seed=draws, **choice):
            n -= 1
            yield characters.characters[word] if word else "\n"
            if not word:
                break
        if n <= 0:
            return
        yield prompt
