"""The settings of a run: options and defaults as one dict, which settings.json keeps; and from it the
data, the net and the Solver.
"""

import contextlib
import json

from ..engine.errors import check_range, look_up, refuse_unknown
from ..models.net import keywords
from . import images, texts
from .options import DATA, MODEL, RUN, flag

__all__ = ["build_model", "checked_settings", "kind_of", "load", "named", "settings_of", "solver_of"]

# A kind of data is a module with loaders (DATA_SETS), nets (MODELS), DEFAULTS of a run, MODEL_DEFAULTS
# {model: options}, and the functions defaults, load, sizes, callbacks and report.
KINDS = (images, texts)
OF_DATA = {name: kind for kind in KINDS for name in kind.DATA_SETS}
OF_MODEL = {name: kind for kind in KINDS for name in kind.MODELS}
OPTIONS = (*RUN, *DATA, *MODEL)
REQUIRED = tuple(images.DEFAULTS)  # what the file of each run holds
OTHERS = ("ranks", "vocabulary")  # settings that are no options


def settings_of(given):
    """Settings from options {name: value}; None for one that was not given."""
    given = {name: given[name] for name in OPTIONS if given.get(name) is not None}
    if "text" in given:
        given = {"data": "text"} | given
    if "streams" in given:
        given = {"batch_size": given["streams"]} | given
    kind = OF_DATA.get(given.get("data")) or OF_MODEL.get(given.get("model"), images)
    defaults = kind.defaults(given)
    if given.get("update_rule", defaults["update_rule"]) != defaults["update_rule"]:
        defaults["learning_rate"] = None  # the rule's own
    return defaults | given


def kind_of(settings):
    """The kind of data that the settings name. ValueError if it is not what the model reads."""
    data, model = settings["data"], settings["model"]
    kind = look_up("settings", OF_DATA, data, "data")
    reads = look_up("settings", OF_MODEL, model, "model")
    if reads is not kind:
        raise ValueError(
            f"{model} does not read --data {data}; expected --data {' or '.join(reads.DATA_SETS)}, "
            f"or --model {' or '.join(kind.MODELS)}."
        )
    return kind


def checked_settings(path):
    """The settings in a file. ValueError, which names the file, if it holds anything else."""
    if not path.exists():
        raise FileNotFoundError(f"{path.parent} is no run folder; it has no {path.name}.")
    with named(path):
        settings = json.loads(path.read_text())
        if not isinstance(settings, dict) or not settings.keys() >= set(REQUIRED):
            raise ValueError(f"holds {settings!r:.60}, expected a dict with {sorted(REQUIRED)}.")
        refuse_unknown("settings", settings, [*OPTIONS, *OTHERS])
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
    """The data of a run. What they tell, such as the characters of a text, is added to the settings."""
    data, found = kind_of(settings).load(settings)
    for name, value in found.items():
        if settings.setdefault(name, value) != value:
            raise ValueError(
                f"--data {settings['data']} has {name} = {value!r:.60}, expected that of the run, "
                f"{settings[name]!r:.60}."
            )
    return data


def build_model(settings, data=None):
    """The model of a run's settings. A net for texts needs no data."""
    kind, name = kind_of(settings), settings["model"]
    given = {option: settings[option] for option in MODEL if option in settings}
    options = kind.MODEL_DEFAULTS.get(name, {}) | given
    if name == "TwoLayerNet" and len(options.get("hidden_dims", ())) == 1:
        (options["hidden_dim"],) = options.pop("hidden_dims")
    for option in options:
        if option not in keywords(kind.MODELS[name]):
            raise ValueError(f"{name} takes no {flag(option)}.")
    return kind.MODELS[name](**kind.sizes(settings, data), seed=settings["seed"], **options)


def solver_of(settings, data, folder=None, quiet=True, comm=None):
    """The Solver of a run's settings; with a folder, its checkpoints are there."""
    from ..solver import Solver

    return Solver(
        build_model(settings, data),
        data,
        update_rule=settings["update_rule"],
        optim_config=_optim_config(settings),
        lr_decay=settings["lr_decay"],
        clip_norm=settings.get("clip_norm"),
        batch_size=settings["batch_size"],
        num_epochs=settings["epochs"],
        sampling="sequential" if "streams" in settings else "permutation",
        print_every=0,
        verbose=not quiet,
        checkpoint_name=folder and folder / "checkpoint",
        callbacks=kind_of(settings).callbacks(settings),
        comm=comm,
        seed=settings["seed"],
    )


def _optim_config(settings):
    rule, rate = settings["update_rule"], settings["learning_rate"]
    config = {} if rate is None else {"learning_rate": rate}
    if "weight_decay" not in settings:
        return config
    if rule != "adamw":
        raise ValueError(f"{rule} takes no --weight-decay; expected --update-rule adamw.")
    check_range("adamw", "weight_decay", settings["weight_decay"], 0, float("inf"), open_high=True)
    return config | {"weight_decay": settings["weight_decay"], "least_ndim": 2}
