"""handgrad generate: a net of a run folder writes, character by character."""

import itertools
import os
import sys
from pathlib import Path

from ..engine.checkpoints import load_params
from ..engine.errors import check_count
from . import texts
from .settings import build_model, checked_settings, kind_of, named

__all__ = ["add", "run"]


def add(commands):
    """The parser of the command."""
    parser = commands.add_parser(
        "generate",
        help="write text with a net that was trained on text",
        description="Write text with the net in a run folder, with the parameters that were best on "
        "validation. Each character is written as soon as it is drawn.",
    )
    parser.add_argument("folder", metavar="RUN", help="a run folder of `handgrad train --data text`")
    parser.add_argument("--prompt", help="the beginning of the text (default: a new line)")
    parser.add_argument("-n", "--length", type=int, default=500, help="characters (default: 500)")
    parser.add_argument(
        "--temperature",
        type=float,
        default=0.8,
        help="below 1 makes likely characters likelier; 0 takes the likeliest (default: 0.8)",
    )
    parser.add_argument("--top-k", type=int, help="draw from the k likeliest only (default: from all)")
    parser.add_argument("--seed", type=int, help="of the random draws (default: a new one each time)")
    parser.set_defaults(run=run)


def run(args):
    """Write a text. A closed pipe and Ctrl-C end it quietly."""
    try:
        model, settings = _read(Path(args.folder))
        if args.prompt == "":
            raise ValueError("--prompt is empty, expected a character at least.")
        check_count("seed", args.seed, low=0, optional=True, who="generate")
        choice = {name: getattr(args, name) for name in ("temperature", "top_k", "seed")}
        _write(args.prompt or "", texts.written(model, settings, args.prompt, args.length, **choice))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader has enough, as `head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at the end
    return 0


def _read(folder):
    """The net of a run, and the run's settings."""
    settings = checked_settings(folder / "settings.json")
    if kind_of(settings) is not texts:
        raise ValueError(
            f"{folder} is a run on images, {settings['model']} on {settings['data']}; expected one on "
            f"{' or '.join(texts.DATA_SETS)}."
        )
    checkpoint = folder / "checkpoint.npz"
    if not checkpoint.exists():
        raise ValueError(f"{folder} has no checkpoint yet; the first one comes after an epoch.")
    with named(folder / "settings.json"):
        model = build_model(settings)
    load_params(model, checkpoint)
    return model, settings


def _write(prompt, pieces):
    first = next(pieces, "")  # what is wrong is told before anything is written
    for piece in itertools.chain([prompt, first], pieces):
        sys.stdout.write(piece)
        sys.stdout.flush()
    if piece != "\n":
        print(flush=True)
