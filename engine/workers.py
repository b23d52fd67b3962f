"""How fast code is run: parts in threads and processes, BLAS at one thread, memory kept at hand.

    with workers(2):
        ...

Inside, `run(function, parts)` spreads its calls over two threads. NumPy lets go of the interpreter
while it computes, so that the threads do run at the same time; where calls are too short for that,
`helpers` gives processes. The work is cut into parts by its size alone, and results are put together
in the order of the parts: what comes out is the same, bit for bit, for any number of workers.

BLAS is held to one thread, because on products as small as these a second one costs more than it
brings; and what NumPy frees is kept by the process for its next array, because fresh pages from the
operating system cost more than the arithmetic done on them. Both are put back at the end.
"""

import concurrent.futures
import contextlib
import contextvars
import ctypes
import itertools
import os
import threading
import time

from . import helpers as processes

_active = None  # the session of the enclosing `workers`, if any
_in_a_part = contextvars.ContextVar("handgrad is at work on a part", default=False)
_ahead = contextvars.ContextVar("the Ahead of the work that handgrad is at", default=None)


class _Session:
    def __init__(self, count):
        self.count = count
        self.pool = concurrent.futures.ThreadPoolExecutor(count - 1, "handgrad") if count > 1 else None
        self.process, self.thread = os.getpid(), threading.get_ident()
        self.started = time.perf_counter()
        self.helpers = []
        self._may_start = count > 1 and processes.available()

    def ready_helpers(self, make, wanted):
        if self._may_start and time.perf_counter() - self.started >= PATIENCE:
            self._may_start = False
            with contextlib.suppress(OSError):  # no memory, or no more processes: threads will do
                for _ in range(min(self.count - 1, wanted)):
                    self.helpers.append(processes.Helper(make))
        return [helper for helper in self.helpers if helper.ready][:wanted]

    def close(self):
        if self.pool is not None:
            self.pool.shutdown(wait=True, cancel_futures=True)
        for helper in self.helpers:
            helper.close()


def _current():
    """The session of the enclosing `workers`; a process that was forked has only its parent's."""
    return _active if _active is not None and _active.process == os.getpid() else None


def default_count():
    """The processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextlib.contextmanager
def workers(count=None):
    """Run what is inside with `count` threads (None: one a processor). Inside another, no effect."""
    global _active
    if _current() is not None:
        yield
        return
    count = default_count() if count is None else count
    if not isinstance(count, int) or count < 1:
        raise ValueError(f"workers: count = {count!r}, expected a whole number from 1 up.")
    with _blas_at_one_thread(), _memory_kept():
        session = _active = _Session(count)
        try:
            yield
        finally:
            _active = None
            session.close()


def slices(size, count):
    """`count` slices, as even as can be, of something of the given size."""
    bounds = [size * k // count for k in range(count + 1)]
    return [slice(*pair) for pair in itertools.pairwise(bounds)]


def run(function, parts):
    """[function(part) for part in parts], spread over the workers; the first error is raised here.

    None of the calls still runs when it returns or raises. Within a part it spreads nothing further.
    """
    session = _current()
    count = 1 if session is None or _in_a_part.get() else min(session.count, len(parts))
    if count <= 1:
        return [function(part) for part in parts]
    results, waiting = [None] * len(parts), iter(range(len(parts)))

    def work():
        _in_a_part.set(True)
        try:
            for at in waiting:  # whoever is free takes the next: a thread may take long to wake up
                results[at] = function(parts[at])
        except BaseException:
            for _ in waiting:  # nobody needs the rest
                pass
            raise

    # Copies of this context: np.errstate is to hold in every thread, the mark in none for longer.
    here, *others = (contextvars.copy_context() for _ in range(count))
    futures = [session.pool.submit(context.run, work) for context in others]
    if (ahead := _ahead.get()) is not None:
        ahead.count(session.pool)
    try:
        here.run(work)
    finally:
        for future in futures:
            future.exception()  # waits, and wakes up sooner than concurrent.futures.wait
    for future in futures:
        future.result()
    return results


class Ahead:
    """A call whose result is wanted after some work: a worker makes it beside the end of that work.

        ahead = Ahead(function, runs)
        with ahead:
            ...             # the work, which calls `run` as often as `runs` says
        ahead.result()

    The worker begins when it has done its share of the last `run`. Sooner it would be missed at the
    next one; later it would have to be woken up. If there were fewer, the call is made when its result
    is asked for; with runs = 0 it always is. Afterwards `runs` says how many there were.
    """

    def __init__(self, function, runs):
        self._function, self._last = function, runs
        self._future, self.runs = None, 0

    def __enter__(self):
        self._token = _ahead.set(self)

    def __exit__(self, *_):
        _ahead.reset(self._token)

    def count(self, pool):
        self.runs += 1
        if self.runs == self._last:
            self._future = pool.submit(contextvars.copy_context().run, self._in_a_worker)

    def _in_a_worker(self):
        _in_a_part.set(True)
        return self._function()

    def result(self):
        return self._function() if self._future is None else self._future.result()


PATIENCE = 1.0  # seconds: work that takes longer is worth starting processes for


def helpers(make, wanted):
    """At most `wanted` helpers that stand ready (see processes.py); none where threads are to do.

    They are started, with `make`, once the enclosing `workers` is a second old, and end with it.
    """
    session = _current()
    if not wanted or session is None or session.thread != threading.get_ident() or _in_a_part.get():
        return []
    return session.ready_helpers(make, wanted)


def _blas_at_one_thread():
    from threadpoolctl import threadpool_limits  # when first needed: it costs time at import

    return threadpool_limits(1, user_api="blas")


# ---------------------------------------------------------------------------- memory

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # the names of mallopt's settings in glibc's malloc.h
_KEEP = 1 << 30
_USUAL_MMAP, _USUAL_TRIM = 32 << 20, 64 << 20  # what glibc itself settles at when arrays are large


@contextlib.contextmanager
def _memory_kept():
    """On Linux with glibc, freed memory stays with the process; elsewhere nothing happens."""
    try:
        libc = ctypes.CDLL(None)
        mallopt, trim = libc.mallopt, libc.malloc_trim
    except (AttributeError, OSError, TypeError):  # not glibc
        yield
        return
    mallopt(_MMAP_THRESHOLD, _KEEP)
    mallopt(_TRIM_THRESHOLD, _KEEP)
    try:
        yield
    finally:
        mallopt(_MMAP_THRESHOLD, _USUAL_MMAP)
        mallopt(_TRIM_THRESHOLD, _USUAL_TRIM)
        trim(0)
