"""The options of a run: tables of {name: what argparse is told}, which `train` and `compare` share."""

from argparse import BooleanOptionalAction
from pathlib import Path

from ..models import ACTIVATIONS, CELLS, INITIALIZERS, LOSSES, POOLS
from ..optim import UPDATE_RULES
from . import images, texts

__all__ = ["DATA", "MODEL", "RUN", "add_options", "flag"]


def flag(name):
    """An option's name as it is typed: '--batch-size'."""
    return "--" + name.replace("_", "-")


def _default(name):
    of_images, of_texts = images.DEFAULTS[name], texts.DEFAULTS[name]
    return f"(default: {of_images}{'' if of_texts == of_images else f'; for texts {of_texts}'})"


def _path(text):
    return str(Path(text).absolute())  # a run may be resumed from another folder


def _filter(text):
    return text if text == "pool" else int(text)


def _scale(text):
    return text if text in INITIALIZERS else float(text)


RUN = {
    "model": {"choices": [*images.MODELS, *texts.MODELS], "help": f"the net {_default('model')}"},
    "data": {
        "choices": [*images.DATA_SETS, *texts.DATA_SETS],
        "help": f"the data set {_default('data')}",
    },
    "data_dir": {"help": "the folder with data files (default: HANDGRAD_DATA, or the cache folder)"},
    "epochs": {"type": int, "help": f"passes over the training set {_default('epochs')}"},
    "batch_size": {"type": int, "help": f"examples a step {_default('batch_size')}"},
    "update_rule": {"choices": [*UPDATE_RULES], "help": f"the optimizer {_default('update_rule')}"},
    "learning_rate": {
        "type": float,
        "help": "of the rule (default: the rule's own; for texts and adam 0.003, LanguageModel 0.005, "
        "on the sonnets 0.002)",
    },
    "lr_decay": {
        "type": float,
        "help": f"the learning rate's factor after each epoch {_default('lr_decay')}",
    },
    "weight_decay": {
        "type": float,
        "help": "of adamw, on matrices and filters only (default: the rule's own, on all parameters)",
    },
    "clip_norm": {
        "type": float,
        "help": "shorten the gradient to this norm if it is longer (default: never; for texts 1.0)",
    },
    "seed": {"type": int, "help": f"of everything random {_default('seed')}"},
}
# Texts, and how they are cut into windows.
DATA = {
    "text": {
        "type": _path,
        "metavar": "FILE",
        "help": "any UTF-8 text (default: nine sonnets, with epochs, rates and dropout that suit them)",
    },
    "context": {"type": int, "help": f"characters in a window (default: {texts.CONTEXT})"},
    "stride": {
        "type": int,
        "help": "characters from one window to the next (default: the context, and less for short "
        f"texts, so that an epoch has {texts.WINDOWS} windows)",
    },
}
# Arguments of models. Each model takes those that its constructor names.
MODEL = {
    "width": {"type": int, "help": "size of a character's vector"},
    "depth": {"type": int, "help": "how many blocks or recurrent layers"},
    "heads": {"type": int, "help": "attention heads, a divisor of the width"},
    "tied": {
        "action": BooleanOptionalAction,
        "help": "compute scores with the embedding's matrix, or with one of their own (default: tied)",
    },
    "cell": {"choices": [*CELLS], "help": "the kind of recurrent layer"},
    "hidden_dim": {"type": int, "help": "hidden units of a layer"},
    "wordvec_dim": {"type": int, "help": "size of a character's vector (default: hidden-dim)"},
    "streams": {
        "type": int,
        "help": "cut the text into so many pieces, read them side by side, and carry the state of the "
        "recurrent layers from window to window; this is the batch size, too",
    },
    "hidden_dims": {"type": int, "nargs": "*", "help": "widths of hidden affine layers"},
    "filters": {
        "type": _filter,
        "nargs": "*",
        "help": "convolutions and pools in order: 32 pool 64 pool",
    },
    "filter_size": {"type": int, "help": "rows and columns of a filter"},
    "pool": {"choices": [*POOLS], "help": "the kind of pooling"},
    "activation": {"choices": [*ACTIVATIONS], "help": "behind each hidden layer"},
    "normalization": {"choices": ["batchnorm", "layernorm"], "help": "before each activation"},
    "dropout": {"type": float, "help": "the probability of dropping"},
    "reg": {"type": float, "help": "strength of the L2 penalty"},
    "weight_scale": {
        "type": _scale,
        "help": f"deviation of the first weights: a number, or one of {', '.join(INITIALIZERS)}",
    },
    "loss": {"choices": [*LOSSES], "help": "what is minimised"},
}
GROUPS = {"the run": RUN, "texts": DATA, "the model (each has its own defaults)": MODEL}


def add_options(parser):
    """All options that are settings of a run, and --out."""
    for title, table in GROUPS.items():
        group = parser.add_argument_group(title)
        for name, given in table.items():
            group.add_argument(flag(name), **given)
    parser.add_argument("--out", help="the run folder (default: a new one in runs/)")
