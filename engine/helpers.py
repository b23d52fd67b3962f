"""Helpers: processes that take a share of the work where threads would wait for each other.

Python's threads pass the interpreter's lock back and forth at every call of NumPy. Where the calls are
as short as in a small convolutional net, two threads are hardly faster than one. A helper is a process.
It calls the functions that it is sent through a pipe; arrays lie in memory that both sides see.

A helper runs the same code on the same numbers, and nothing depends on it: if it fails or is late, the
caller does its share, and so meets the same error, if there is one, where it can be raised.
"""

import contextlib
import copy
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

__all__ = ["Helper", "Shelf", "all_or_none", "helpers_available", "packed", "serve", "unpacked"]

SHELF = 1 << 28  # bytes of addresses for each side; only what is written takes memory
BACK_OFF = 8  # a helper that kept us waiting is left alone for this many times as long
SPIN = 2e-3  # seconds of polling before sleeping: waking up is slow, too
DEADLINE = 5.0, 20.0  # seconds, and multiples of our own working time, after which a helper is given up


class Helper:
    """The caller's side of a helper process."""

    def __init__(self):
        import multiprocessing  # imported when needed: it takes time

        memory = _memory()
        self._connection, theirs = multiprocessing.Pipe()
        try:
            self._ours, self._theirs = Shelf(memory, 0), Shelf(memory, SHELF)
            self._process = _started(theirs.fileno(), memory)
        except OSError:
            self._connection.close()
            raise
        finally:
            theirs.close()
            os.close(memory)
        self._has_answered, self._sent, self._rests_until = False, 0.0, 0.0
        self._setup = None  # the last setup that was sent

    @property
    def ready(self):
        """True once it has started, while it lives, unless it was late the last time."""
        if not self._has_answered and self._process is not None and self._connection.poll(0):
            self._has_answered = self.receive() is not None
        return self._has_answered and time.perf_counter() >= self._rests_until

    def send(self, function, setup, *args):
        """Have `function(setup, *args)` called. Arrays that were sent before are overwritten.

        function: importable by its name.  setup: anything that pickles; it is sent only if it is not
        equal to the last one.  args: arrays, numbers and strings, also in lists, tuples and dicts;
        tuples arrive as lists.
        """
        if self._process is None:
            return
        self._ours.clear()
        try:
            message = (function, self._news(setup), np.geterr(), packed(args, self._ours))
            _send(self._connection, message)
            self._sent = time.perf_counter()
        except Exception as error:  # the helper has ended, or this cannot be sent
            self._give_up(error)

    def _news(self, setup):
        """The setup if the helper does not have it yet, else None."""
        with contextlib.suppress(ValueError):  # arrays inside cannot be compared: send it again
            if self._setup == setup:
                return None
        self._setup = copy.deepcopy(setup)
        return setup

    def receive(self):
        """What the function returned, or None if it failed. Its arrays last until the next `send`."""
        if self._process is None:
            return None
        asked = time.perf_counter()
        worked = asked - self._sent
        least, multiples = DEADLINE
        try:
            message = _received(self._connection, max(least, multiples * worked))
            answer = unpacked(message, self._theirs)
        except Exception as error:  # it has ended, is late, or talks nonsense
            self._give_up(error)
            return None
        self._back_off(worked, time.perf_counter() - asked)
        return answer

    def _back_off(self, worked, waited):
        """A helper that takes twice as long as the caller has no processor to itself: it is not asked
        again for a while, so that waiting for it costs little.
        """
        if waited > worked:
            self._rests_until = time.perf_counter() + BACK_OFF * waited

    def _give_up(self, error):
        process = self._process
        self.close()
        warnings.warn(
            f"handgrad: a helper process is lost (exit code {process.returncode}, {error!r}); threads "
            "do its share of the work from here on.",
            RuntimeWarning,
            stacklevel=2,
        )

    def close(self):
        """End it at once. It holds nothing that could be lost."""
        if self._process is not None:
            self._connection.close()
            self._process.kill()
            self._process.wait()
        self._process, self._has_answered = None, False


@contextlib.contextmanager
def all_or_none(helpers):
    """On an exception end the helpers: a stale reply would be read as the next answer."""
    try:
        yield
    except BaseException:
        for helper in helpers:
            helper.close()
        raise


def helpers_available():
    """Whether this system and this Python can start helpers."""
    return os.name == "posix" and bool(sys.executable) and not getattr(sys, "frozen", False)


def _started(*passed):
    code = (
        f"from {__package__}.helpers import serve; from {__package__}.workers import workers\n"
        f"with workers(1): serve{passed}"
    )
    return subprocess.Popen(
        [sys.executable, "-P", "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p or str(Path.cwd()) for p in sys.path)},
        pass_fds=passed,
        process_group=0,  # Ctrl-C reaches the caller only
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def serve(connection, memory):
    """The helper's side: answer until the caller is gone. connection, memory: file descriptors."""
    from multiprocessing.connection import Connection

    connection, theirs, ours = Connection(connection), Shelf(memory, 0), Shelf(memory, SHELF)
    setup = None
    with contextlib.suppress(EOFError, OSError):
        _send(connection, True)  # ready
        while True:
            function, news, errors, args = _received(connection)
            setup = setup if news is None else news
            ours.clear()
            _send(connection, _answer(function, setup, errors, args, theirs, ours))


def _answer(function, setup, errors, args, theirs, ours):
    try:
        with np.errstate(**errors):
            return packed(function(setup, *unpacked(args, theirs)), ours)
    except Exception:  # the caller does the same work and meets the same error
        return None


def _received(connection, deadline=None):
    """The next message; TimeoutError after `deadline` seconds without one."""
    poll = select.poll()  # connection.poll takes seven times as long
    poll.register(connection.fileno(), select.POLLIN)
    until = time.perf_counter() + SPIN
    while not poll.poll(0):
        if time.perf_counter() > until:
            if not poll.poll(None if deadline is None else 1e3 * deadline):
                raise TimeoutError(f"no answer within {deadline:.3g} seconds")
            break
    return pickle.loads(connection.recv_bytes())


def _send(connection, message):
    """connection.send with the faster pickler."""
    connection.send_bytes(pickle.dumps(message, pickle.HIGHEST_PROTOCOL))


# ---------------------------------------------------------------------------- arrays in shared memory


class Shelf:
    """Shared memory in which arrays are laid one after the other.

    A plain tuple says where an array lies: there are many of them, and tuples pickle fast.
    """

    def __init__(self, memory, start):
        self._memory, self._start = mmap.mmap(memory, 2 * SHELF), start
        self.clear()

    def clear(self):
        """Make room: the next array overwrites the first one."""
        self._free = self._start

    def put(self, a):
        """Copy `a`, in its memory order; returns its tuple. ValueError if it does not fit."""
        if self._free + a.nbytes > self._start + SHELF:
            raise ValueError(f"Shelf: an array of {a.nbytes} bytes does not fit into what is left.")
        strides = a.strides if a.flags.forc else np.empty_like(a).strides
        place = (self._free, a.shape, a.dtype.str, strides)
        self._free += -(-a.nbytes // 64) * 64
        self.get(place)[...] = a
        return place

    def get(self, place):
        """The array of a tuple, as a view of the shared memory."""
        at, shape, dtype, strides = place
        return np.ndarray(shape, dtype, self._memory, at, strides)


def packed(value, shelf):
    """`value` with the shelf's tuples in place of arrays, also in lists, dicts and tuples.

    Its own tuples become lists.
    """
    if isinstance(value, np.ndarray):
        return shelf.put(value)
    if isinstance(value, dict):
        return {key: packed(v, shelf) for key, v in value.items()}
    if isinstance(value, tuple | list):
        return [packed(v, shelf) for v in value]
    return value


def unpacked(value, shelf):
    """The inverse of `packed`, except that tuples stay lists."""
    if isinstance(value, tuple):
        return shelf.get(value)
    if isinstance(value, dict):
        return {key: unpacked(v, shelf) for key, v in value.items()}
    if isinstance(value, list):
        return [unpacked(v, shelf) for v in value]
    return value


def _memory():
    """A file that lies in memory where the system has such; it is gone when both sides close it."""
    if hasattr(os, "memfd_create"):
        file = os.memfd_create("handgrad")
    else:
        with tempfile.TemporaryFile() as kept:
            file = os.dup(kept.fileno())
    os.ftruncate(file, 2 * SHELF)
    return file
