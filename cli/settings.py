"""The settings of a run: options and defaults as one dict, which settings.json keeps; and from it the
data, the net and the Solver.
"""

import contextlib
import json

from ..engine.errors import look_up, refuse_unknown
from ..models.net import keywords
from . import images
from .options import MODEL, RUN, flag

__all__ = ["checked_settings", "kind_of", "load", "named", "settings_of", "solver_of"]

# A kind of data is a module with loaders (DATA_SETS), nets (MODELS), DEFAULTS of a run, MODEL_DEFAULTS
# {model: options}, and the functions load, sizes, callbacks and report.
KINDS = (images,)
OF_DATA = {name: kind for kind in KINDS for name in kind.DATA_SETS}
REQUIRED = tuple(images.DEFAULTS)  # what the file of each run holds
OTHERS = ("ranks",)  # settings that are no options


def settings_of(given):
    """Settings from options {name: value}; None for one that was not given."""
    given = {name: value for name, value in given.items() if value is not None}
    settings = {name: given.get(name, value) for name, value in images.DEFAULTS.items()}
    return settings | {name: given[name] for name in (*RUN, *MODEL) if name in given}


def kind_of(settings):
    """The kind of data that the settings name."""
    return look_up("settings", OF_DATA, settings["data"], "data")


def checked_settings(path):
    """The settings in a file. ValueError, which names the file, if it holds anything else."""
    with named(path):
        settings = json.loads(path.read_text())
        if not isinstance(settings, dict) or not settings.keys() >= set(REQUIRED):
            raise ValueError(f"holds {settings!r:.60}, expected a dict with {sorted(REQUIRED)}.")
        refuse_unknown("settings", settings, [*RUN, *MODEL, *OTHERS])
        kind_of(settings)
        if not isinstance(settings["data_dir"], str | None):
            raise ValueError(f"data_dir = {settings['data_dir']!r}, expected a path or null.")
    return settings


@contextlib.contextmanager
def named(path):
    """Turn whatever wrong settings make the code stumble over into a ValueError that names the file."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise ValueError(f"{path}: {error or type(error).__name__}") from error


def load(settings):
    """The data of a run. What they tell is added to the settings."""
    data, found = kind_of(settings).load(settings)
    settings.update(found)
    return data


def build_model(settings, data):
    """The model of a run's settings."""
    kind, name = kind_of(settings), settings["model"]
    model = look_up("settings", kind.MODELS, name, "model")
    given = {option: settings[option] for option in MODEL if option in settings}
    options = kind.MODEL_DEFAULTS.get(name, {}) | given
    if name == "TwoLayerNet" and len(options.get("hidden_dims", ())) == 1:
        (options["hidden_dim"],) = options.pop("hidden_dims")
    for option in options:
        if option not in keywords(model):
            raise ValueError(f"{name} takes no {flag(option)}.")
    return model(**kind.sizes(settings, data), seed=settings["seed"], **options)


def solver_of(settings, data, folder=None, quiet=True, comm=None):
    """The Solver of a run's settings; with a folder, its checkpoints are there."""
    from ..solver import Solver

    rate = settings["learning_rate"]
    return Solver(
        build_model(settings, data),
        data,
        update_rule=settings["update_rule"],
        optim_config={} if rate is None else {"learning_rate": rate},
        lr_decay=settings["lr_decay"],
        clip_norm=settings.get("clip_norm"),
        batch_size=settings["batch_size"],
        num_epochs=settings["epochs"],
        print_every=0,
        verbose=not quiet,
        checkpoint_name=folder and folder / "checkpoint",
        callbacks=kind_of(settings).callbacks(settings),
        comm=comm,
        seed=settings["seed"],
    )
