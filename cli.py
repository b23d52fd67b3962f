"""The command line: handgrad train | compare | gradcheck | download."""

import argparse
import contextlib
import csv
import inspect
import json
import math
import sys
from datetime import datetime
from pathlib import Path

from . import __version__
from .data_utils import DATA_SETS, SOURCES
from .engine.checkpoints import last_epoch
from .engine.errors import look_up, refuse_unknown
from .engine.executors import executor_on
from .engine.files import in_use, remove_leftovers, written_whole
from .engine.ranks import Single, communicator, end_all, meet, speaker
from .models import ACTIVATIONS, INITIALIZERS, LOSSES, MODELS, POOLS
from .models.net import keywords
from .optim import UPDATE_RULES

__all__ = ["main"]

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
# Options that are arguments of a model. Each model takes those that its constructor names.
MODEL_OPTIONS = (
    "hidden_dims",
    "filters",
    "filter_size",
    "pool",
    "activation",
    "normalization",
    "dropout",
    "reg",
    "weight_scale",
    "loss",
)
MODEL_DEFAULTS = {"FullyConnectedNet": {"hidden_dims": [100, 100], "weight_scale": "kaiming"}}
FLATTENED = ("TwoLayerNet", "FullyConnectedNet")  # take an image as a row of numbers

EXAMPLES = """\
examples:
  handgrad train                                     LeNet5 on digits that handgrad draws itself
  handgrad download mnist                            fetch MNIST into the cache folder
  handgrad train --data mnist --epochs 5             LeNet5 on MNIST
  handgrad train --data cifar10 --model ConvNet --filters 32 pool 64 pool --normalization batchnorm
  handgrad train --resume runs/20260101-120000-LeNet5-digits --epochs 20
  handgrad compare --vary update-rule sgd adam --seeds 3 --epochs 5
  handgrad gradcheck                                 every written gradient against a numerical one
"""


def main(argv=None):
    """Run a command; returns the exit code.

    A user's mistake, and whatever the disk or the network refuses, is one line on stderr, and code 2.
    Among processes that train together it ends all of them.
    """
    code = _run(_parser().parse_args(argv))
    if code:
        end_all(code)
    return code


def _run(args):
    try:
        return args.run(args)
    except (ValueError, TypeError, OSError, FloatingPointError, ImportError) as error:
        print(f"handgrad: {speaker()}" + " ".join([_sentence(error), *_notes(error)]), file=sys.stderr)
        return 2
    except KeyboardInterrupt as error:
        print(f"handgrad: {speaker()}" + " ".join(["stopped by you.", *_notes(error)]), file=sys.stderr)
        return 130


def _sentence(error):
    """An error's message. The operating system's becomes 'path: reason.'"""
    if isinstance(error, OSError) and error.strerror:
        return ": ".join(filter(None, [error.filename and str(error.filename), error.strerror])) + "."
    return str(error)


def _notes(error):
    return getattr(error, "__notes__", [])


def _parser():
    parser = argparse.ArgumentParser(
        prog="handgrad",
        description="Neural networks whose every gradient is written by hand, in pure NumPy.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"handgrad {__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")

    _add_train(commands)
    _add_compare(commands)
    _add_gradcheck(commands)
    _add_download(commands)
    return parser


def _add_train(commands):
    parser = commands.add_parser(
        "train",
        help="train a net and write a run folder",
        description="Train a net. The run folder gets settings.json, history.csv, checkpoint.npz, "
        "report.txt, curves.png, mistakes.png and confusion.png.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=train)
    _add_run_options(parser)
    _add_model_options(parser)


def _add_compare(commands):
    parser = commands.add_parser(
        "compare",
        help="train with several values of one option, each with several seeds",
        description="Train with several values of one option, the same seeds and budget for all. "
        "The folder gets a file for each run, table.md, table.csv and curves.png; started again "
        "it goes on where it was.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=compare)
    parser.add_argument(
        "--vary",
        nargs="+",
        required=True,
        metavar="OPTION_OR_VALUE",
        help="an option of train and the values it takes: learning-rate 0.1 0.01",
    )
    parser.add_argument("--seeds", type=int, default=3, help="runs of each value (default: 3)")
    parser.add_argument("--target", type=float, help="a validation accuracy to time")
    parser.add_argument(
        "--on",
        metavar="WHERE",
        help="dask://host:port for a dask cluster; mpi for the processes of mpiexec "
        "(default: processes here, one a processor)",
    )
    _add_run_options(parser)
    _add_model_options(parser)


def _add_gradcheck(commands):
    parser = commands.add_parser(
        "gradcheck", help="hold every model's written gradients against numerical ones"
    )
    parser.add_argument("--model", choices=MODELS, help="only this one (default: all)")
    parser.set_defaults(run=gradcheck)


def _add_download(commands):
    parser = commands.add_parser("download", help="fetch a data set, checked, from a mirror")
    parser.add_argument("data", choices=SOURCES)
    parser.add_argument("--data-dir", help="where to (default: HANDGRAD_DATA or the cache folder)")
    parser.set_defaults(run=download)


def _add_run_options(parser):
    group = parser.add_argument_group("the run")
    default = {name: f"(default: {value})" for name, value in DEFAULTS.items()}
    group.add_argument("--model", choices=MODELS, help=default["model"])
    group.add_argument("--data", choices=DATA_SETS, help=default["data"])
    group.add_argument("--data-dir", help="where data files are (default: HANDGRAD_DATA)")
    group.add_argument("--epochs", type=int, help=default["epochs"])
    group.add_argument("--batch-size", type=int, help=default["batch_size"])
    group.add_argument("--update-rule", choices=UPDATE_RULES, help=default["update_rule"])
    group.add_argument("--learning-rate", type=float, help="(default: the rule's own)")
    group.add_argument(
        "--lr-decay", type=float, help=f"its factor after each epoch {default['lr_decay']}"
    )
    group.add_argument("--seed", type=int, help=f"of everything random {default['seed']}")
    group.add_argument("--out", help="the run folder (default: a new one in runs/)")
    group.add_argument("--resume", metavar="RUN", help="go on with the run in this folder")
    group.add_argument("--quiet", action="store_true", help="print the result only")


def _add_model_options(parser):
    group = parser.add_argument_group("the model (each has its own defaults)")
    group.add_argument("--hidden-dims", type=int, nargs="*", help="widths of hidden affine layers")
    group.add_argument(
        "--filters",
        type=_filter,
        nargs="*",
        help="convolutions and pools in order: 32 pool 64 pool",
    )
    group.add_argument("--filter-size", type=int)
    group.add_argument("--pool", choices=POOLS)
    group.add_argument("--activation", choices=ACTIVATIONS)
    group.add_argument("--normalization", choices=("batchnorm", "layernorm"))
    group.add_argument("--dropout", type=float, help="the probability of dropping")
    group.add_argument("--reg", type=float, help="strength of the L2 penalty")
    group.add_argument(
        "--weight-scale", type=_scale, help=f"a number, or one of {', '.join(INITIALIZERS)}"
    )
    group.add_argument("--loss", choices=LOSSES)


def _filter(text):
    return text if text == "pool" else int(text)


def _scale(text):
    return text if text in INITIALIZERS else float(text)


# ---------------------------------------------------------------------------- train


def train(args):
    """Train, test once, and leave a run folder behind. Under mpiexec all its processes train."""
    comm = communicator()
    if comm is not None and comm.Get_rank() > 0:
        return _train_along(comm)
    folder, settings = _resumed(args) if args.resume else _new_run(args)
    if comm is None and "ranks" in settings:
        comm = Single()  # its bits are those of several
    if comm is not None:
        settings["ranks"] = comm.Get_size()
    with _what_is_safe(folder), in_use(folder):
        if not args.resume:
            _refuse_a_second_run(folder)
        remove_leftovers(folder)
        if comm is not None:
            comm.bcast(settings)
        data = _load(settings)
        with _named(folder / "settings.json") if args.resume else contextlib.nullcontext():
            solver = _solver(settings, data, folder, args.quiet, comm)
        if args.resume:
            solver.load_checkpoint(folder / "checkpoint.npz")
        _write_json(folder / "settings.json", settings)
        for _ in solver.epochs():
            _write_history(folder / "history.csv", solver.history)
        _report(solver, data, folder)
    if comm is not None:
        meet(comm)
    return 0


def _train_along(comm):
    """Take part in the training of the first process, which alone has a folder."""
    settings = comm.bcast(None)
    _solver(settings, _load(settings), None, True, comm).train()
    meet(comm)  # the first process draws its pictures meanwhile
    return 0


@contextlib.contextmanager
def _what_is_safe(folder):
    """Say what of a run is saved when the disk fails or the user stops it."""
    try:
        yield
    except (BlockingIOError, FileNotFoundError):
        raise
    except (OSError, KeyboardInterrupt) as error:
        with contextlib.suppress(OSError, ValueError):  # there is no whole checkpoint to speak of
            epoch = last_epoch(folder / "checkpoint.npz")
            error.add_note(
                f"The last whole checkpoint is of epoch {epoch}: `handgrad train --resume {folder}` "
                "goes on from there."
            )
        raise


def _settings(args):
    given = {name: value for name, value in vars(args).items() if value is not None}
    settings = {name: given.get(name, default) for name, default in DEFAULTS.items()}
    return settings | {name: given[name] for name in MODEL_OPTIONS if name in given}


def _new_run(args):
    settings = _settings(args)
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    return Path(args.out or Path("runs") / f"{stamp}-{settings['model']}-{settings['data']}"), settings


def _refuse_a_second_run(folder):
    if (folder / "checkpoint.npz").exists():
        raise ValueError(f"{folder} holds a run already; expected a new folder, or --resume {folder}.")


def _resumed(args):
    """The settings of the run in the folder; only the number of epochs may change."""
    folder = Path(args.resume)
    allowed = {"resume", "epochs", "quiet", "data_dir", "run"}  # not settings of the run
    extra = [name for name, value in vars(args).items() if value is not None and name not in allowed]
    if extra:
        raise ValueError(
            f"--resume takes the run's own settings, but --{extra[0].replace('_', '-')} came too; "
            "expected --epochs, --data-dir and --quiet at most."
        )
    settings = _checked_settings(folder / "settings.json")
    for name in ("epochs", "data_dir"):
        if getattr(args, name) is not None:
            settings[name] = getattr(args, name)
    return folder, settings


def _checked_settings(path):
    """The settings of a run. ValueError, which names the file, if it holds anything else."""
    with _named(path):
        settings = json.loads(path.read_text())
        if not isinstance(settings, dict) or not settings.keys() >= DEFAULTS.keys():
            raise ValueError(f"holds {settings!r:.60}, expected a dict with {sorted(DEFAULTS)}.")
        refuse_unknown("settings", settings, [*DEFAULTS, *MODEL_OPTIONS, "ranks"])
        look_up("settings", DATA_SETS, settings["data"], "data")
        if not isinstance(settings["data_dir"], str | None):
            raise ValueError(f"data_dir = {settings['data_dir']!r}, expected a path or null.")
    return settings


@contextlib.contextmanager
def _named(path):
    """Turn whatever wrong settings make the code stumble over into a ValueError that names the file."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise ValueError(f"{path}: {error or type(error).__name__}") from error


def _load(settings):
    loader = DATA_SETS[settings["data"]]
    takes_folder = "data_dir" in inspect.signature(loader).parameters
    return loader(settings["data_dir"]) if takes_folder else loader()


def build_model(settings, image_shape):
    """The model of a run's settings, for images of a shape (C, H, W)."""
    name = settings["model"]
    model = look_up("settings", MODELS, name, "model")
    given = {option: settings[option] for option in MODEL_OPTIONS if option in settings}
    options = MODEL_DEFAULTS.get(name, {}) | given
    if name == "TwoLayerNet" and len(options.get("hidden_dims", ())) == 1:
        (options["hidden_dim"],) = options.pop("hidden_dims")
    for option in options:
        if option not in keywords(model):
            raise ValueError(f"{name} takes no --{option.replace('_', '-')}.")
    input_dim = math.prod(image_shape) if name in FLATTENED else image_shape
    return model(input_dim=input_dim, num_classes=10, seed=settings["seed"], **options)


def _solver(settings, data, folder, quiet, comm=None):
    from .solver import Solver

    rate = settings["learning_rate"]
    return Solver(
        build_model(settings, data["X_train"].shape[1:]),
        data,
        update_rule=settings["update_rule"],
        optim_config={} if rate is None else {"learning_rate": rate},
        lr_decay=settings["lr_decay"],
        batch_size=settings["batch_size"],
        num_epochs=settings["epochs"],
        print_every=0,
        verbose=not quiet,
        checkpoint_name=folder and folder / "checkpoint",
        comm=comm,
        seed=settings["seed"],
    )


def _report(solver, data, folder):
    """The test accuracy with its interval, and the pictures."""
    from . import vis_utils
    from .report import class_report

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
    print(f"run folder: {folder}")
    print(f"curves: {folder / 'curves.png'}")


def _write_json(path, content):
    with written_whole(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")


def _write_history(path, history):
    with written_whole(path) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.DictWriter(file, history[0])
        writer.writeheader()
        writer.writerows(history)


# ---------------------------------------------------------------------------- compare


def compare(args):
    """Several values of one option, several seeds: a table, and a figure with bands."""
    with executor_on(args.on) as executor:  # None in a process that has worked for the first one
        return 0 if executor is None else _compare(args, executor)


def _compare(args, executor):
    from . import vis_utils
    from .compare import compare as run_comparison

    option, *values = args.vary
    base = _settings(args)
    base.pop("seed")  # each run has its own
    folder = Path(args.out or "runs/compare")
    parsed = {value: _parsed(option, value) for value in values}
    named = {f"{option} {value}": {**base, **changed} for value, changed in parsed.items()}
    given = dict(folder=folder / "runs", target=args.target, executor=executor)
    result = run_comparison(build_run, named, args.seeds, **given)
    for name, text in (("table.md", result.markdown() + "\n"), ("table.csv", result.csv())):
        with written_whole(folder / name) as temporary:
            temporary.write_text(text)
    vis_utils.save(result.figure(), folder / "curves.png")
    print(f"{result.table()}\nfolder: {folder}")
    return 1 if result.failures else 0


def _parsed(option, value):
    """What the command line makes of `--option value`, as settings; exits as it does if wrong."""
    args = _parser().parse_args(["train", f"--{option.lstrip('-')}", *value.split()])
    name = option.lstrip("-").replace("-", "_")
    if name not in (*DEFAULTS, *MODEL_OPTIONS) or name == "seed":
        raise ValueError(f"compare: --vary {option}, expected an option of the run or the model.")
    return {name: getattr(args, name)}


def build_run(seed, **settings):
    """A Solver for settings as the command line has them."""
    settings = {**settings, "seed": seed}
    return _solver(settings, _load(settings), folder=None, quiet=True)


# ---------------------------------------------------------------------------- the other commands


# The nets that gradcheck builds for images of 3 x 16 x 16.
CHECKED_NETS = {
    "TwoLayerNet": {"input_dim": 768, "hidden_dim": 20, "weight_scale": "xavier", "reg": 0.1},
    "FullyConnectedNet": {
        "hidden_dims": [20, 15],
        "input_dim": 768,
        "normalization": "batchnorm",
        "dropout": 0.3,
        "weight_scale": "xavier",
    },
    "LeNet5": {"input_dim": (3, 16, 16)},
    "ThreeLayerConvNet": {
        "input_dim": (3, 16, 16),
        "num_filters": 4,
        "hidden_dim": 20,
        "weight_scale": "kaiming",
    },
    "ConvNet": {
        "filters": (6, "pool", 8, "pool"),
        "hidden_dims": (20,),
        "input_dim": (3, 16, 16),
        "normalization": "batchnorm",
        "dropout": 0.3,
    },
}


def gradcheck(args):
    """Check each model on a small batch; exit code 1 if a gradient is wrong."""
    import numpy as np

    from .gradient_check import check_model

    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((4, 3, 16, 16)), np.array([3, 1, 4, 1])
    reports = [
        check_model(MODELS[name](seed=0, **options), X, y)
        for name, options in CHECKED_NETS.items()
        if args.model in (None, name)
    ]
    print("\n\n".join(map(str, reports)))
    wrong = [report.title for report in reports if not report]
    largest = max(report.error for report in reports)
    print(f"\nlargest relative error: {largest:.1e}; wrong: {', '.join(wrong) or 'none'}")
    return 1 if wrong else 0


def download(args):
    """Fetch a data set."""
    from .data_utils import download as fetch

    for path in fetch(args.data, args.data_dir):
        print(path)
    return 0
