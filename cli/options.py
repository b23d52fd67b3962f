"""The options of a run: tables of {name: what argparse is told}, which `train` and `compare` share."""

from ..models import ACTIVATIONS, INITIALIZERS, LOSSES, POOLS
from ..optim import UPDATE_RULES
from .images import DATA_SETS, DEFAULTS, MODELS

__all__ = ["MODEL", "RUN", "add_options", "flag"]


def flag(name):
    """An option's name as it is typed: '--batch-size'."""
    return "--" + name.replace("_", "-")


def _default(name):
    return f"(default: {DEFAULTS[name]})"


def _filter(text):
    return text if text == "pool" else int(text)


def _scale(text):
    return text if text in INITIALIZERS else float(text)


RUN = {
    "model": {"choices": [*MODELS], "help": _default("model")},
    "data": {"choices": [*DATA_SETS], "help": _default("data")},
    "data_dir": {"help": "where data files are (default: HANDGRAD_DATA)"},
    "epochs": {"type": int, "help": _default("epochs")},
    "batch_size": {"type": int, "help": _default("batch_size")},
    "update_rule": {"choices": [*UPDATE_RULES], "help": _default("update_rule")},
    "learning_rate": {"type": float, "help": "(default: the rule's own)"},
    "lr_decay": {"type": float, "help": f"its factor after each epoch {_default('lr_decay')}"},
    "clip_norm": {
        "type": float,
        "help": "a longer gradient of all parameters is shortened to this norm (default: never)",
    },
    "seed": {"type": int, "help": f"of everything random {_default('seed')}"},
}
# Arguments of models. Each model takes those that its constructor names.
MODEL = {
    "hidden_dim": {"type": int, "help": "hidden units"},
    "hidden_dims": {"type": int, "nargs": "*", "help": "widths of hidden affine layers"},
    "filters": {
        "type": _filter,
        "nargs": "*",
        "help": "convolutions and pools in order: 32 pool 64 pool",
    },
    "filter_size": {"type": int},
    "pool": {"choices": [*POOLS]},
    "activation": {"choices": [*ACTIVATIONS]},
    "normalization": {"choices": ["batchnorm", "layernorm"]},
    "dropout": {"type": float, "help": "the probability of dropping"},
    "reg": {"type": float, "help": "strength of the L2 penalty"},
    "weight_scale": {"type": _scale, "help": f"a number, or one of {', '.join(INITIALIZERS)}"},
    "loss": {"choices": [*LOSSES]},
}
GROUPS = {"the run": RUN, "the model (each has its own defaults)": MODEL}


def add_options(parser):
    """All options that are settings of a run, and --out."""
    for title, table in GROUPS.items():
        group = parser.add_argument_group(title)
        for name, given in table.items():
            group.add_argument(flag(name), **given)
    parser.add_argument("--out", help="the run folder (default: a new one in runs/)")
