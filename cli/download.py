"""handgrad download: a data set from a mirror."""

from ..data_utils import SOURCES

__all__ = ["add", "run"]


def add(commands):
    """The parser of the command."""
    parser = commands.add_parser("download", help="fetch a data set and check its sums")
    parser.add_argument("data", choices=SOURCES)
    parser.add_argument("--data-dir", help="the folder (default: HANDGRAD_DATA, or the cache folder)")
    parser.set_defaults(run=run)


def run(args):
    """Fetch a data set."""
    from ..data_utils import download

    for path in download(args.data, args.data_dir):
        print(path)
    return 0
