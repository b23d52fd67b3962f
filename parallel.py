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
import functools
import itertools
import math
import os
import threading
import time

import numpy as np

from . import processes

_active = None  # the session of the enclosing `workers`, if any
_in_a_part = contextvars.ContextVar("handgrad is at work on a part", default=False)


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

    Nothing is left running when it returns or raises. Within a part it spreads nothing further.
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
    try:
        here.run(work)
    finally:
        concurrent.futures.wait(futures)
    for future in futures:
        future.result()
    return results


PATIENCE = 1.0  # seconds: work that takes longer is worth starting processes for


def helpers(make, wanted):
    """At most `wanted` helpers that stand ready (see processes.py); none where threads are to do.

    They are started, with `make`, once the enclosing `workers` is a second old, and end with it.
    """
    session = _current()
    if not wanted or session is None or session.thread != threading.get_ident() or _in_a_part.get():
        return []
    return session.ready_helpers(make, wanted)


def matmul(a, b):
    """a @ b of two matrices, or of a matrix or a stack with a stack (n, K, N) of them.

    It is cut along the stack or the longest side into blocks that BLAS multiplies fast, and if it is
    large shared out to two workers.
    """
    (M, K), N = a.shape[-2:], b.shape[-1]
    large = M * b.size >= LARGE
    if b.ndim == 3:
        return _stack_product(a, b, large)
    longest = max(M, K, N)
    if K == longest:
        return _sum_of_products(a, b, large)
    if M == longest:
        return _product_by_rows(a, b, large)
    if not large:
        return a @ b
    out = np.empty((M, N), np.result_type(a, b))
    run(lambda columns: np.matmul(a, b[:, columns], out=out[:, columns]), _shares(N, M * b.size, TILE))
    return out


def _sum_of_products(a, b, large):
    """a @ b along K, its inner side: columns of a with rows of b, block by block, added up."""
    (M, K), N = a.shape, b.shape[1]
    width = _block_width(M * N, K, least=64)  # shorter ones take longer to add up than they gain
    if width:
        return _stack_product(
            a.reshape(M, -1, width).swapaxes(0, 1), b.reshape(-1, width, N), large
        ).sum(axis=0)
    if not large:
        return a @ b
    here, there = run(lambda k: a[:, k] @ b[k], _shares(K, M * b.size, TILE))
    return np.add(here, there, out=here)


def _product_by_rows(a, b, large):
    """a @ b along M: rows of a with all of b, block by block."""
    (M, K), N = a.shape, b.shape[1]
    width = _block_width(K * N, M)
    if not (width or large):
        return a @ b
    into = out = np.empty((M, N), np.result_type(a, b))
    if width:
        a, into = (m.reshape(-1, width, m.shape[1]) for m in (a, out))  # views
        b = np.ascontiguousarray(b)  # small products with a transposed matrix are slow
    shares = _shares(len(a), M * b.size, 1 if width else TILE) if large else [slice(None)]
    run(lambda rows: np.matmul(a[rows], b, out=into[rows]), shares)
    return out


def _shares(size, work, tile=1):
    """Two slices. The first is for this thread, and is the larger: the other has to wake up."""
    tile = tile if size >= 4 * tile else 1
    middle = math.ceil((9 / 16 if work < 4 * LARGE else 1 / 2) * size / tile) * tile
    return slice(0, middle), slice(middle, None)


def _stack_product(a, b, large):
    """a @ b with a stack b (n, K, N); for a matrix `a` in blocks of columns if that gains something."""
    if a.ndim == 3 and _pays_to_copy(*a.shape[-2:], b.shape[-1]):
        b = np.ascontiguousarray(b)
    width = _block_width(a.size, b.shape[-1]) if a.ndim == 2 and len(b) else 0
    if not (width or large):
        return a @ b
    into = out = np.empty((len(b), a.shape[-2], b.shape[-1]), np.result_type(a, b))
    shares = _shares(len(b), a.shape[-2] * b.size) if large else [slice(None)]
    if width:
        b, into = (m.reshape(*m.shape[:2], -1, width).swapaxes(1, 2) for m in (b, out))  # views
    a = np.broadcast_to(a, (len(b), *(1,) * (b.ndim - 3), *a.shape[-2:]))
    run(lambda n: np.matmul(a[n], b[n], out=into[n]), shares)
    return out


@functools.cache
def _block_width(size, N, least=32):
    """How many of N rows or columns make a small product with `size` numbers; 0 if there is nothing to
    gain.
    """
    if size * N <= SMALL or not _has_small_kernels():
        return 0
    return max((w for w in range(least, SMALL // size + 1) if N % w == 0), default=0)


def _pays_to_copy(M, K, N):
    """Is the second matrix, which may be transposed, better copied? Small products are slow with a
    transposed one, but not by so much that few uses of each number would pay for the copy.
    """
    return M >= 100 and N >= 16 and M * K * N <= SMALL and _has_small_kernels()


@functools.cache
def _has_small_kernels():
    """Does BLAS multiply small matrices without copying them first? OpenBLAS does with AVX-512."""
    from threadpoolctl import threadpool_info

    return any(info.get("architecture") in AVX512 for info in threadpool_info())


SMALL = 10**6  # multiplications
AVX512 = ("SkylakeX", "Cooperlake", "SapphireRapids")
TILE = 8  # numbers that BLAS takes at once
LARGE = 2**24  # multiplications: some 300 microseconds, several times what it costs to wake a thread


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
