"""handgrad train: a run folder with all that a training leaves, which --resume goes on with."""

import argparse
import contextlib
import csv
import itertools
import json
from datetime import datetime
from pathlib import Path

from ..engine.checkpoints import last_epoch
from ..engine.files import in_use, remove_leftovers, written_whole
from ..engine.ranks import Single, communicator, meet
from .options import add_options, flag
from .settings import checked_settings, kind_of, load, named, settings_of, solver_of

__all__ = ["EXAMPLES", "add", "run"]

EXAMPLES = """\
examples:
  handgrad train                                     LeNet5 on digits that handgrad draws itself
  handgrad download mnist                            fetch MNIST into the cache folder
  handgrad train --data mnist --epochs 5             LeNet5 on MNIST
  handgrad train --data cifar10 --model ConvNet --filters 32 pool 64 pool --normalization batchnorm
  handgrad train --data text --out sonnets           GPT on nine sonnets; or --text FILE
  handgrad generate sonnets --prompt "Shall I "      write what may follow
  handgrad train --resume runs/20260101-120000-LeNet5-digits --epochs 20    train on, up to 20 epochs
  handgrad compare --vary update-rule sgd adam --seeds 3 --epochs 5
  handgrad gradcheck                                 check the gradients of every model
"""
MAY_CHANGE = ("epochs", "data_dir", "text")  # when a run is resumed


def add(commands):
    """The parser of the command."""
    parser = commands.add_parser(
        "train",
        help="train a net and write a run folder",
        description="Train a net. The run folder gets settings.json, history.csv, checkpoint.npz, "
        "report.txt and curves.png; for images also mistakes.png and confusion.png.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_options(parser)
    parser.add_argument("--resume", metavar="RUN", help="go on with the run in this folder")
    parser.add_argument("--quiet", action="store_true", help="print the result only")
    parser.set_defaults(run=run)


def run(args):
    """Train, test once, and leave a run folder behind. Under mpiexec all its processes train."""
    comm = communicator()
    if comm is not None and comm.Get_rank() > 0:
        return _train_along(comm)
    folder, settings = _resumed(args) if args.resume else _new_run(args)
    if comm is None and "ranks" in settings:
        comm = Single()  # computes in the parts that several processes had, for the same bits
    if comm is not None:
        settings["ranks"] = comm.Get_size()
    with _what_is_safe(folder), in_use(folder):
        if not args.resume:
            _refuse_a_second_run(folder)
        remove_leftovers(folder)
        if comm is not None:
            comm.bcast(settings)
        data = load(settings)
        with named(folder / "settings.json") if args.resume else contextlib.nullcontext():
            solver = solver_of(settings, data, folder, args.quiet, comm)
        if args.resume:
            solver.load_checkpoint(folder / "checkpoint.npz")
        _write_json(folder / "settings.json", settings)
        # A kill may have come after the checkpoint of the last epoch, and before its history.
        for _ in itertools.chain(solver.history[-1:], solver.epochs()):
            _write_history(folder / "history.csv", solver.history)
        _report(settings, solver, data, folder)
    if comm is not None:
        meet(comm)
    return 0


def _train_along(comm):
    """Take part in the training of the first process, which alone has a folder."""
    settings = comm.bcast(None)
    solver_of(settings, load(settings), comm=comm).train()
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


def _new_run(args):
    settings = settings_of(vars(args))
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    return Path(args.out or Path("runs") / f"{stamp}-{settings['model']}-{settings['data']}"), settings


def _refuse_a_second_run(folder):
    if (folder / "checkpoint.npz").exists():
        raise ValueError(f"{folder} holds a run already; expected a new folder, or --resume {folder}.")


def _resumed(args):
    """The settings of the run in the folder; only the epochs may change, and where the data are."""
    folder = Path(args.resume)
    given = {name: value for name, value in vars(args).items() if value is not None}
    extra = given.keys() - {*MAY_CHANGE, "resume", "quiet", "run"}
    if extra:
        raise ValueError(
            f"--resume takes the run's own settings, but {flag(min(extra))} came too; "
            f"expected {', '.join(map(flag, MAY_CHANGE))} and --quiet at most."
        )
    settings = checked_settings(folder / "settings.json")
    return folder, settings | {name: given[name] for name in MAY_CHANGE if name in given}


def _report(settings, solver, data, folder):
    kind_of(settings).report(settings, solver, data, folder)
    print(f"run folder: {folder}")
    print(f"curves: {folder / 'curves.png'}")


def _write_json(path, content):
    with written_whole(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")


def _write_history(path, history):
    with written_whole(path) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.DictWriter(file, history[-1])
        writer.writeheader()
        writer.writerows(history)
