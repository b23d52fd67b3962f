"""handgrad compare: several values of one option, several seeds; a table, and a figure with bands."""

import argparse
from pathlib import Path

from ..engine.executors import executor_on
from ..engine.files import written_whole
from .options import add_options
from .settings import OPTIONS, load, settings_of, solver_of
from .train import EXAMPLES

__all__ = ["add", "build_run", "run"]


def add(commands):
    """The parser of the command."""
    parser = commands.add_parser(
        "compare",
        help="train with several values of one option, each with several seeds",
        description="Train with several values of one option, the same seeds and budget for all. "
        "The folder gets a file for each run, table.md, table.csv and curves.png. A comparison that is "
        "started again makes only the runs that are missing.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--vary",
        nargs="+",
        required=True,
        metavar="OPTION_OR_VALUE",
        help="an option of train and the values it takes: learning-rate 0.1 0.01, or tied yes no",
    )
    parser.add_argument("--seeds", type=int, default=3, help="runs of each value (default: 3)")
    parser.add_argument("--target", type=float, help="time the runs up to this validation accuracy")
    parser.add_argument(
        "--on",
        metavar="WHERE",
        help="dask://host:port for a dask cluster; mpi for the processes of mpiexec "
        "(default: processes here, one a processor)",
    )
    add_options(parser)
    parser.set_defaults(run=run)


def run(args):
    """Several values of one option, several seeds: a table, and a figure with bands."""
    with executor_on(args.on) as executor:  # None in a process that has worked for the first one
        return 0 if executor is None else _compare(args, executor)


def _compare(args, executor):
    from .. import vis_utils
    from ..compare import compare

    option, *values = args.vary
    changes = {value: _parsed(option, value) for value in values}
    named = {f"{option} {v}": settings_of(vars(args) | changed) for v, changed in changes.items()}
    for settings in named.values():
        settings.pop("seed")  # each run has its own
    folder = Path(args.out or "runs/compare")
    given = dict(folder=folder / "runs", target=args.target, executor=executor)
    result = compare(build_run, named, args.seeds, **given)
    for name, text in (("table.md", result.markdown() + "\n"), ("table.csv", result.csv())):
        with written_whole(folder / name) as temporary:
            temporary.write_text(text)
    vis_utils.save(result.figure(), folder / "curves.png")
    print(f"{result.table()}\nfolder: {folder}")
    return 1 if result.failures else 0


def _parsed(option, value):
    """What the command line makes of `--option value`, as settings; exits as it does if wrong."""
    parser = argparse.ArgumentParser("handgrad compare", add_help=False)
    add_options(parser)
    typed = option.lstrip("-")
    name = typed.replace("-", "_")
    if name not in OPTIONS or name == "seed":
        raise ValueError(f"compare: --vary {option}, expected an option of the run or the model.")
    flags = {"yes": [f"--{typed}"], "no": [f"--no-{typed}"]}
    words = flags.get(value, [f"--{typed}", *value.split()])
    return {name: getattr(parser.parse_args(words), name)}


def build_run(seed, **settings):
    """A Solver for settings as the command line has them."""
    settings = {**settings, "seed": seed}
    return solver_of(settings, load(settings))
