"""Images: the data sets and nets of the command line, and what a run on them reports."""

import math

from ..data_utils import DATA_SETS
from ..engine.files import written_whole
from ..models import MODELS
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
]

DEFAULTS = {
    "model": "LeNet5",
    "data": "digits",
    "data_dir": None,
    "epochs": 10,
    "batch_size": 64,
    "update_rule": "adam",
    "learning_rate": None,
    "lr_decay": 0.85,
    "seed": 0,
}
MODEL_DEFAULTS = {"FullyConnectedNet": {"hidden_dims": [100, 100], "weight_scale": "kaiming"}}
FLATTENED = ("TwoLayerNet", "FullyConnectedNet")  # take an image as a row of numbers


def defaults(given):
    """The settings of a run, given some of them."""
    return dict(DEFAULTS)


def load(settings):
    """The data, and what they add to the settings."""
    return loaded(DATA_SETS, settings), {}


def sizes(settings, data):
    """The arguments of a net that the data decide."""
    shape = data["X_train"].shape[1:]
    flattened = settings["model"] in FLATTENED
    return {"input_dim": math.prod(shape) if flattened else shape, "num_classes": 10}


def callbacks(settings):
    """What is called while a net trains, besides what the Solver calls itself."""
    return []


def report(settings, solver, data, folder):
    """The test accuracy with its interval, and the pictures."""
    from .. import vis_utils
    from ..report import class_report

    X, y = data["X_test"], data["y_test"]
    predicted = solver.predict(X)
    names = data["class_names"]
    report = class_report(y, predicted, names)
    with written_whole(folder / "report.txt") as temporary:
        temporary.write_text(f"{report}\n")
    vis_utils.save(vis_utils.plot_curves(solver), folder / "curves.png")
    vis_utils.save(vis_utils.show_mistakes(X, y, predicted, names), folder / "mistakes.png")
    vis_utils.save(vis_utils.show_confusion(report.counts, names), folder / "confusion.png")
    low, high = report.interval
    solver.say(str(report).partition("\n")[2])  # class by class
    print(
        f"test accuracy: {report.accuracy:.4f} ({report.right} of {report.total} images; "
        f"95 % interval {low:.4f} to {high:.4f})"
    )
