"""Helpers: processes that do a share of the work where threads would wait for each other.

Python's threads hand the interpreter's lock to and fro at every call of NumPy; where calls are as
short as in a small convolutional net, two threads are hardly faster than one. A helper is a process
of its own. It holds one object and calls the methods that it is told to, through a pipe; arrays lie
in memory that both sides see.

A helper runs the same code on the same numbers and is never needed: what it fails at, the caller
does itself, and so meets the error, if there is one, where it can be raised.
"""

import contextlib
import mmap
import os
import pickle
import select
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np

SHELF = 1 << 28  # bytes of addresses for each side; memory is taken only by what is written
REST = 8  # times as long as was waited for a helper that was late
SPIN = 2e-3  # seconds of looking for an answer before going to sleep: waking up takes long, too


class Helper:
    """The caller's side. `make`, found by its name, makes a context manager for what a helper holds."""

    def __init__(self, make):
        import multiprocessing  # when first needed: it costs time at import

        memory = _memory()
        self._connection, theirs = multiprocessing.Pipe()
        try:
            self._ours, self._theirs = Shelf(memory, 0), Shelf(memory, SHELF)
            self._process = _started(make, theirs.fileno(), memory)
        except OSError:
            self._connection.close()
            raise
        finally:
            theirs.close()
            os.close(memory)
        self._answers, self._sent, self._rests_until = False, 0.0, 0.0
        self.told = None  # what the caller need not say again

    @property
    def ready(self):
        """Has it started and not ended, and was it not late the last time?"""
        if not self._answers and self._process is not None and self._connection.poll(0):
            self._answers = self.receive() is not None
        return self._answers and time.perf_counter() >= self._rests_until

    def send(self, method, *args):
        """Have the method called; arrays that were sent before are gone."""
        if self._process is None:
            return
        self._ours.clear()
        try:
            _send(self._connection, (method, packed(args, self._ours)))
            self._sent = time.perf_counter()
        except Exception as error:  # it has ended, or this cannot be sent
            self._give_up(error)

    def receive(self):
        """What the method returned, or None if it failed. Arrays last until the next one is called."""
        if self._process is None:
            return None
        asked = time.perf_counter()
        try:
            answer = unpacked(_awaited(self._connection), self._theirs)
            self._rest(asked - self._sent, time.perf_counter() - asked)
            return answer
        except (EOFError, OSError) as error:
            self._give_up(error)
            return None

    def _rest(self, worked, waited):
        """One that was waited for longer than the caller itself worked has no processor of its own;
        so that this costs little, it is not asked again for a while.
        """
        if waited > worked:
            self._rests_until = time.perf_counter() + REST * waited

    def _give_up(self, error):
        process = self._process
        self.close()
        warnings.warn(
            f"handgrad: a helping process is lost (exit code {process.returncode}, {error!r}); threads "
            "do its share of the work from here on.",
            RuntimeWarning,
            stacklevel=2,
        )

    def close(self):
        """End it at once: it holds nothing that would be missed."""
        if self._process is not None:
            self._connection.close()
            self._process.kill()
            self._process.wait()
        self._process, self._answers = None, False


@contextlib.contextmanager
def at_work(helpers):
    """An exception ends the helpers at once: answers that nobody waits for would come later."""
    try:
        yield
    except BaseException:
        for helper in helpers:
            helper.close()
        raise


def available():
    """Can this system and this Python start helpers?"""
    return os.name == "posix" and bool(sys.executable) and not getattr(sys, "frozen", False)


def _started(make, *passed):
    code = f"from {__name__} import serve; from {make.__module__} import {make.__name__} as make"
    return subprocess.Popen(
        [sys.executable, "-P", "-c", f"{code}; serve(make, *{passed})"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p or str(Path.cwd()) for p in sys.path)},
        pass_fds=passed,
        process_group=0,  # the keyboard interrupts the caller only
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def serve(make, connection, memory):
    """The helper's side: answer until the caller is gone."""
    from multiprocessing.connection import Connection

    connection, theirs, ours = Connection(connection), Shelf(memory, 0), Shelf(memory, SHELF)
    with make() as held, contextlib.suppress(EOFError, OSError):
        _send(connection, True)  # ready
        while True:
            method, args = _awaited(connection)
            ours.clear()
            _send(connection, _answer(held, method, args, theirs, ours))


def _answer(held, method, args, theirs, ours):
    try:
        return packed(getattr(held, method)(*unpacked(args, theirs)), ours)
    except Exception:  # the caller will do the same work and meet the same error
        return None


def _awaited(connection):
    poll = select.poll()  # connection.poll takes seven times as long
    poll.register(connection.fileno(), select.POLLIN)
    until = time.perf_counter() + SPIN
    while not poll.poll(0) and time.perf_counter() < until:
        pass
    return pickle.loads(connection.recv_bytes())


def _send(connection, message):
    """As connection.send would, which takes three times as long to pickle: it is made for more."""
    connection.send_bytes(pickle.dumps(message, pickle.HIGHEST_PROTOCOL))


# ---------------------------------------------------------------------------- arrays in shared memory


class Shelf:
    """A stretch of shared memory on which arrays are laid one after the other. What says where an
    array lies, and how, is a plain tuple: there are many of them, and to pickle a class takes longer.
    """

    def __init__(self, memory, start):
        self._memory, self._start = mmap.mmap(memory, 2 * SHELF), start
        self.clear()

    def clear(self):
        self._free = self._start

    def put(self, a):
        """A copy of `a`, in its order in memory; the tuple for it. ValueError if it is too large."""
        if self._free + a.nbytes > self._start + SHELF:
            raise ValueError(f"an array of {a.nbytes} bytes does not fit into what is left.")
        strides = a.strides if a.flags.forc else np.empty_like(a).strides
        lies = (self._free, a.shape, a.dtype.str, strides)
        self._free += -(-a.nbytes // 64) * 64
        self.get(lies)[...] = a
        return lies

    def get(self, lies):
        at, shape, dtype, strides = lies
        return np.ndarray(shape, dtype, self._memory, at, strides)


def packed(value, shelf):
    """The value with a shelf's tuples in the place of arrays, in its lists and dicts too; its own
    tuples become lists.
    """
    if isinstance(value, np.ndarray):
        return shelf.put(value)
    if isinstance(value, dict):
        return {key: packed(v, shelf) for key, v in value.items()}
    if isinstance(value, tuple | list):
        return [packed(v, shelf) for v in value]
    return value


def unpacked(value, shelf):
    """The inverse, but for what was a tuple."""
    if isinstance(value, tuple):
        return shelf.get(value)
    if isinstance(value, dict):
        return {key: unpacked(v, shelf) for key, v in value.items()}
    if isinstance(value, list):
        return [unpacked(v, shelf) for v in value]
    return value


def _memory():
    """A file that lies in memory where the system has such; gone when both sides have closed it."""
    if hasattr(os, "memfd_create"):
        file = os.memfd_create("handgrad")
    else:
        with tempfile.TemporaryFile() as kept:
            file = os.dup(kept.fileno())
    os.ftruncate(file, 2 * SHELF)
    return file
