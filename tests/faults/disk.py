"""Disks: full, read-only, gone, without power, at each call of the operating system that a write makes.

`Disk` stands between Python and the operating system. It passes the calls on, notes them, and lets one
of them fail, or all from one on. From its notes it also tells what a disk may hold after a power cut:
the contents of a file as they were when it was last synced, and the names in a folder as they were when
the folder was last synced, with any number of the later changes in their order.
"""

import builtins
import contextlib
import errno
import functools
import io
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from unittest import mock

import numpy as np
from handgrad import vis_utils
from handgrad.cli import images, train
from handgrad.engine.checkpoints import last_epoch

from . import attack
from .files import a_mat, a_solver, a_state

ERRORS = (errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT, errno.ENOENT)


class Disk:
    """calls: (name, path, what) of each call.  fails_at, code: which call fails, with which error.

    for_good: whether all later calls fail, too.
    """

    def __init__(self, fails_at=None, code=errno.EIO, for_good=False):
        self.calls, self.fails_at, self.code, self.for_good = [], fails_at, code, for_good
        self.names = {}  # of open files, by number

    def call(self, name, path, what=None):
        at = len(self.calls)
        self.calls.append((name, str(path), what))
        if self.fails_at is not None and (
            at == self.fails_at or (self.for_good and at > self.fails_at)
        ):
            raise OSError(self.code, os.strerror(self.code))

    @contextlib.contextmanager
    def in_place(self):
        """Let the calls of this process go through the disk."""
        original = {name: getattr(os, name) for name in CALLS}
        opened = io.open

        def called(name, path, *args, **kwargs):
            self.call(name, path, *args[:1])
            return original[name](path, *args, **kwargs)

        def by_number(name, handle):
            self.call(name, self.names.get(handle, handle))
            return original[name](handle)

        def open_number(path, *args, **kwargs):
            self.call("open", path)
            handle = original["open"](path, *args, **kwargs)
            self.names[handle] = path
            return handle

        def open_file(path, mode="r", *args, **kwargs):
            if not set(mode) & set("wa+") or not isinstance(path, str | os.PathLike):
                return opened(path, mode, *args, **kwargs)
            self.call("open", path)
            raw = WatchedFile(self, path, mode.replace("b", ""))
            self.names[raw.fileno()] = path
            file = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
            return file if "b" in mode else io.TextIOWrapper(file, newline=kwargs.get("newline"))

        replaced = {name: functools.partial(called, name) for name in CALLS}
        replaced |= {name: functools.partial(by_number, name) for name in ("fsync", "close")}
        replaced["open"] = open_number
        with (
            mock.patch.multiple(os, **replaced),
            mock.patch.object(io, "open", open_file),
            mock.patch.object(builtins, "open", open_file),
        ):
            yield self


CALLS = ("open", "close", "fsync", "replace", "chmod", "unlink", "mkdir")


class WatchedFile(io.FileIO):
    """A file whose writes go through the disk."""

    def __init__(self, disk, path, mode):
        super().__init__(path, mode)
        self._disk, self._path = disk, path

    def write(self, content):
        self._disk.call("write", self._path, bytes(content))
        return super().write(content)


# ---------------------------------------------------------------------------- what is written


@functools.cache
def a_trained_solver():
    solver = a_solver()
    solver.train()
    return solver


def a_picture(path):
    vis_utils.save(vis_utils.plot_curves(a_trained_solver()), path)


WRITERS = {
    "checkpoint.npz": lambda path: a_trained_solver().save_checkpoint(path),
    "settings.json": lambda path: train._write_json(path, dict(images.DEFAULTS)),
    "history.csv": lambda path: train._write_history(path, a_trained_solver().history),
    "curves.png": a_picture,
}


@functools.cache
def calls_of(name):
    """The calls that a writer makes on a disk without faults."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        WRITERS[name](path)  # imports what it needs
        with Disk().in_place() as disk:
            WRITERS[name](path)
            return list(disk.calls)


def a_writer(rng):
    return list(WRITERS)[rng.choice(len(WRITERS), p=[0.6, 0.2, 0.17, 0.03])]


@attack(
    "Whatever call fails while a file is written: an OSError names the file, the old one or the new "
    "one is there and whole, and no temporary file is left",
    long=1000,
    short=40,
)
def failing_call(rng, folder):
    name, for_good = a_writer(rng), bool(rng.integers(2))
    path, calls = folder / name, calls_of(name)
    old = b"the old file"
    path.write_bytes(old)
    disk = Disk(int(rng.integers(len(calls))), int(rng.choice(ERRORS)), for_good)
    try:
        with disk.in_place():
            WRITERS[name](path)
    except OSError as error:
        named = error.filename
    else:
        assert disk.calls[disk.fails_at][0] in ("unlink", "close", "mkdir")  # the folder is there
        return f"{disk.calls[disk.fails_at][0]} that does no harm"
    assert named == str(path), f"names {named!r}"
    what = disk.calls[disk.fails_at][0]
    if path.read_bytes() != old:
        assert "replace" in [call for call, *_ in disk.calls[: disk.fails_at]]
    left = {other.name for other in folder.iterdir()} - {name}
    assert not left or for_good or what == "unlink", left
    return what


@attack(
    "After a power cut a file is whole, old or new; once its writing has ended, it is the new one",
    long=200,
    short=4,
)
def power_cut(rng, folder):
    """All cuts of one write: after each call, with all states that the disk may be in."""
    name = a_writer(rng)
    path = folder / name
    path.write_bytes(b"the old file")
    with Disk().in_place() as disk:
        WRITERS[name](path)
    new = path.read_bytes()
    for cut in range(len(disk.calls) + 1):
        found = possible_contents(disk.calls[:cut], str(path), b"the old file")
        allowed = {b"the old file", new} if cut < len(disk.calls) else {new}
        assert found <= allowed, f"after {cut} calls, the last of them {disk.calls[cut - 1][:2]}"
    return name


def possible_contents(calls, path, old):
    """What may be found at the path after a power cut; None for contents that were never synced."""
    written, synced, names, pending = {}, {path: old}, {path: path}, []
    for call, where, what in calls:
        if call == "write":
            written[where] = None
            synced.pop(where, None)
        elif call == "fsync" and Path(where).is_dir():
            names, pending = apply(names, pending), []
        elif call == "fsync":
            synced[where] = Path(path).read_bytes()  # the only file that is written here
        elif call == "replace":
            pending.append((str(what), where))
    states = [apply(names, pending[:count]) for count in range(len(pending) + 1)]
    return {synced.get(state[path]) for state in states}


def apply(names, renames):
    """names: {path: the file that is there, by the path under which it was made}."""
    names = dict(names)
    for new, old in renames:
        names[new] = names.pop(old, old)
    return names


@attack(
    "A training that a disk breaks off goes on, when the disk is well, to the same bits",
    long=100,
    short=4,
)
def training(rng, folder):
    solver = a_saving_solver(folder / "run")
    disk = Disk(
        int(rng.integers(calls_of_a_training())), int(rng.choice(ERRORS)), bool(rng.integers(2))
    )
    failed = False
    try:
        with disk.in_place():
            solver.train()
    except OSError:
        failed = True
    solver.train()
    assert a_state(solver) == a_state(whole_training(folder / "whole"))
    resumed = a_saving_solver(folder / "run")
    resumed.load_checkpoint(folder / "run.npz")
    assert resumed.epoch == solver.epoch
    return "broken off" if failed else "not disturbed"


def a_saving_solver(path):
    from handgrad.callbacks import Checkpoint

    solver = a_solver()
    solver.callbacks.append(Checkpoint(path.with_suffix(".npz")))
    return solver


def whole_training(path):
    solver = a_saving_solver(path)
    solver.train()
    return solver


@functools.cache
def calls_of_a_training():
    return 2 * len(calls_of("checkpoint.npz"))


# ---------------------------------------------------------------------------- disks of the kernel

CHILD = """
import resource, sys
limit = int(sys.argv.pop(1))
if limit: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
from handgrad.cli import main
sys.exit(main(sys.argv[1:]))
"""


def handgrad(*args, limit=0):
    """The command in a process of its own. limit: no file may be larger, in bytes."""
    command = [sys.executable, "-c", CHILD, str(limit), *map(str, args)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@attack(
    "`handgrad train` on a full disk ends in one sentence with the path, and can be resumed from there",
    long=40,
    short=0,
)
def full(rng, folder):
    (folder / "digits.mat").write_bytes(a_mat(np.random.default_rng(0)))
    run, limit = (
        folder / "run",
        int(rng.choice([rng.uniform(50, 5000), *3 * [rng.uniform(15_000, 33_000)]])),
    )
    options = ["--data", "digits.mat", "--data-dir", folder, "--batch-size", "4", "--quiet"]
    options += ["--model", "TwoLayerNet", "--hidden-dims", "2", "--epochs", "100"]
    process = handgrad("train", *options, "--out", run, limit=limit)
    _, error = process.communicate()
    assert process.returncode == 2, error
    (line,) = error.splitlines()
    assert line.startswith(f"handgrad: {run}"), line
    assert "File too large" in line
    if not (run / "checkpoint.npz").exists():
        return "before the first checkpoint"
    assert (
        f"checkpoint is of epoch {last_epoch(run / 'checkpoint.npz')}: `handgrad train --resume {run}`"
        in line
    )
    assert not [path for path in run.iterdir() if path.name.startswith(".")]
    resumed = handgrad("train", "--resume", run, "--epochs", 101, "--quiet")
    _, error = resumed.communicate()
    assert resumed.returncode == 0, error
    assert last_epoch(run / "checkpoint.npz") == 101
    return "resumed"
