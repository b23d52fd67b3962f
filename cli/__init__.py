"""The command line: handgrad train | generate | compare | gradcheck | download.

Each command is a module with `add(commands)`, its parser, and `run(args)`, which returns the exit code.
What the two kinds of data need, images and texts, is in `images` and `texts`; `settings` puts options
and defaults together, and `options` is the table of all options.
"""

import argparse
import sys

from .. import __version__
from ..engine.ranks import end_all, speaker
from . import compare, download, generate, gradcheck, train

__all__ = ["main"]

COMMANDS = (train, generate, compare, gradcheck, download)


def main(argv=None):
    """Run a command; returns the exit code.

    A user's mistake, and whatever the disk or the network refuses, is one line on stderr, and code 2.
    Among processes that train together it ends all of them.
    """
    code = _run(_parser().parse_args(argv))
    if code:
        end_all(code)
    return code


def _parser():
    parser = argparse.ArgumentParser(
        prog="handgrad",
        description="Neural networks whose every gradient is written by hand, in pure NumPy.",
        epilog=train.EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"handgrad {__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")
    for command in COMMANDS:
        command.add(commands)
    return parser


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
