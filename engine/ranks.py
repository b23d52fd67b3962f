"""Ranks: the processes of an MPI communicator, which train one net together on one machine or several.

Each rank has the net and the data, and takes some parts of every batch. What the parts give is added
up in the order of a binary tree over them:

    ((p0 + p1) + (p2 + p3)) + ((p4 + p5) + (p6 + p7))

The number of parts is a power of two and depends on the net and the size of the batch alone. A rank
adds up its own parts as far as the tree goes; these blocks travel, and every rank has their sum in the
end. So it is the same, bit for bit, for any number of ranks. MPI only moves bytes: the order of its own
sums may change with the number of ranks.
"""

import contextlib
import functools
import itertools
import os
import platform
import subprocess
import sys
import time
import zlib

import numpy as np

from .extras import need
from .parts import Parts
from .workers import default_count

__all__ = [
    "Alone",
    "Ranks",
    "Share",
    "Single",
    "added",
    "communicator",
    "end_all",
    "ranks_of",
    "speaker",
]

SMALL = 1 << 20  # bytes: blocks of so many in all travel to all ranks at once
LAUNCHED = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE")  # MPICH and its like; Open MPI
NAP = 0.02  # seconds between two looks whether all have come
GRACE = 0.5  # seconds: an error that all ranks meet is told by the first one


class Alone:
    """One process that trains by itself. It has the methods of `Ranks`, which do nothing."""

    rank, size, is_first, threads = 0, 1, True, None

    def batch(self, examples, index, *place):
        """X and y of the examples of these indices."""
        return examples(index, *place)

    def map(self, function, items):
        """[function(item) for item in items]"""
        return [function(item) for item in items]

    def agreed(self, value):
        """The first rank's value."""
        return value

    def together(self, solver):
        """For this block the ranks train together."""
        return contextlib.nullcontext()


class Ranks:
    """The ranks of a communicator.

    comm  mpi4py's, or a `Single`
    cut   cut(N) -> the slices of a batch of N examples that are its parts; as many as a power of two
    """

    def __init__(self, comm, cut):
        self.comm, self.rank, self.size, self.cut = comm, comm.Get_rank(), comm.Get_size(), cut
        self.is_first, self._is_together = self.rank == 0, False
        self.threads = None if self.size == 1 else _threads(comm)

    def batch(self, examples, index, *place):
        """X and y of the examples of these indices, as Parts: those of this rank."""
        share = Share(self, self.cut(len(index)))
        pairs = [examples(index[part], *place, part.start) for part in share.mine]
        return [Parts(map(np.asarray, arrays), share) for arrays in zip(*pairs, strict=True)]

    def map(self, function, items):
        """[function(item) for item in items], shared out while the ranks train together."""
        if not self._is_together:
            return [function(item) for item in items]
        results = [None] * len(items)
        mine = [function(item) for item in items[self.rank :: self.size]]
        for rank, theirs in enumerate(self.comm.allgather(mine)):
            results[rank :: self.size] = theirs
        return results

    def agreed(self, value):
        """The first rank's value, on every rank, while they train together."""
        return self.comm.bcast(value) if self._is_together else value

    @contextlib.contextmanager
    def together(self, solver):
        """For this block the ranks train together. All begin where the first one is."""
        if self.size > 1:
            _end_all_by_errors(self.comm)
            self._is_together = True
            self._agree(solver)
        try:
            with _witness(self.comm):
                yield
        except SystemExit as error:  # the others would wait for this one without end
            print(f"handgrad: {speaker()}{error!r} ends all processes.", file=sys.stderr)
            end_all(1)
            raise
        finally:
            self._is_together = False

    def _agree(self, solver):
        """Take up the first rank's training, which must have the same settings and data."""
        solver.say(f"{self.size} processes train together.")
        ours = _facts(solver)
        theirs, checkpoint = self.agreed((ours, self.is_first and solver.as_checkpoint()))
        for name, value in theirs.items():
            if ours[name] != value:
                raise ValueError(
                    f"Solver: {name} is {ours[name]!r} in rank {self.rank} of {self.size}, but "
                    f"{value!r} in rank 0; expected the same in all."
                )
        if not self.is_first:
            solver.take_up(checkpoint)

    # ------------------------------------------------------------------ sums

    def total(self, terms, count):
        """The sum over `count` parts, in the order of the tree.

        terms: arrays, one for each part of this rank; they may be written to.
        """
        outlines = _outlines(count, self.size)
        own = ((k, 1, term) for k, term in zip(_own(self.rank, self.size, count), terms, strict=False))
        blocks = added(own)
        if self.size == 1:
            return blocks[0][2]
        first = np.asarray(terms[0])
        flat = np.concatenate([np.ravel(term) for *_, term in blocks] or [np.empty(0, first.dtype)])
        sizes = list(map(len, outlines))
        by_slices = sum(sizes) * first.nbytes > SMALL
        travel = self._by_slices if by_slices else self._to_all
        return travel(flat, first.size, sizes, outlines).reshape(first.shape)

    def _to_all(self, flat, n, sizes, outlines):
        """All blocks travel to all ranks, and each adds them up."""
        blocks = np.empty((sum(sizes), n), flat.dtype)
        self.comm.Allgatherv(flat, (blocks, [size * n for size in sizes]))
        return _sum(outlines, blocks)

    def _by_slices(self, flat, n, sizes, outlines):
        """Each rank adds up a slice of all blocks, and then all get all slices. So each rank sends and
        receives little more than twice the size of the sum.
        """
        bounds = [n * rank // self.size for rank in range(self.size + 1)]
        slices = [slice(*pair) for pair in itertools.pairwise(bounds)]
        widths = [s.stop - s.start for s in slices]
        own, width = flat.reshape(-1, n), widths[self.rank]
        given = flat if len(own) == 1 else np.concatenate([own[:, s].ravel() for s in slices])
        blocks = np.empty((sum(sizes), width), flat.dtype)
        sent, received = [len(own) * w for w in widths], [size * width for size in sizes]
        self.comm.Alltoallv((given, sent), (blocks, received))
        total = np.empty(n, flat.dtype)
        self.comm.Allgatherv(_sum(outlines, blocks), (total, widths))
        return total


class Share:
    """The parts of one batch, and which of them a rank takes: the slices in `mine`.

    If there are fewer parts than ranks, some ranks are spare: they compute the first part along, so
    that they know all shapes, and it is not counted.
    """

    def __init__(self, ranks, parts):
        self.ranks, self.count, self.N = ranks, len(parts), parts[-1].stop
        self.mine = [parts[k] for k in _own(ranks.rank, ranks.size, self.count)] or parts[:1]

    def total(self, terms):
        """The sum over all parts of the batch. terms: an array for each part of this rank."""
        return self.ranks.total(terms, self.count)

    def totals(self, named):
        """The same for dicts of arrays, which travel as one flat buffer."""
        like = {name: np.asarray(a) for name, a in named[0].items()}
        dtype = np.result_type(np.float32, *like.values())
        flat = self.total([np.concatenate([*map(np.ravel, d.values())], dtype=dtype) for d in named])
        ends = np.cumsum([a.size for a in like.values()])[:-1]
        pieces = zip(like.items(), np.split(flat, ends), strict=True)
        return {name: p.reshape(a.shape).astype(a.dtype, copy=False) for (name, a), p in pieces}


class Single:
    """A communicator of one process, which needs no MPI. With it a training gives the same bits as with
    several.
    """

    def Get_rank(self):
        return 0

    def Get_size(self):
        return 1

    def bcast(self, value):
        return value


# ---------------------------------------------------------------------------- the tree


def added(blocks):
    """The blocks, in their order, added up as far as they are neighbours in the tree.

    A block is (its first part, how many parts, their sum). The sum of a left one is written to.
    """
    done = []
    for start, size, term in blocks:
        while done and done[-1][1] == size and done[-1][0] % (2 * size) == 0:
            start, _, left = done.pop()
            left += term
            term, size = left, 2 * size
        done.append((start, size, term))
    return done


def _own(rank, ranks, count):
    """The numbers of the parts that a rank takes."""
    return range(count * rank // ranks, count * (rank + 1) // ranks)


@functools.lru_cache
def _outlines(count, ranks):
    """For each rank (first part, how many parts) of its blocks."""
    owns = (_own(rank, ranks, count) for rank in range(ranks))
    return [[(start, size) for start, size, _ in added((k, 1, 0) for k in own)] for own in owns]


def _sum(outlines, blocks):
    """The sum of all ranks' blocks, which lie one after the other."""
    outlined = zip(itertools.chain(*outlines), blocks, strict=True)
    ((_, _, total),) = added((start, size, term) for (start, size), term in outlined)
    return total


# ---------------------------------------------------------------------------- one job


def ranks_of(comm, model, batch_size):
    """Ranks for a communicator, Alone for None. ValueError if they cannot share the model's batches."""
    if comm is None:
        return Alone()
    if not hasattr(model, "shared_parts"):
        raise ValueError(
            f"Solver: comm came, but {type(model).__name__} cannot share a batch; expected a Net."
        )
    ranks = Ranks(comm, model.shared_parts)
    count = len(ranks.cut(batch_size))
    if count < ranks.size:
        raise ValueError(
            f"Solver: a batch of {batch_size} examples has {count} parts, but {ranks.size} processes "
            "came; expected a larger batch_size or fewer processes."
        )
    return ranks


def communicator():
    """The communicator of all processes that mpiexec or srun started with this one; None without them.

    Raises ValueError if mpi4py belongs to another MPI than mpiexec does.
    """
    sizes = [int(os.environ[name]) for name in LAUNCHED if name in os.environ]
    size = sizes[0] if sizes else int(os.environ.get("SLURM_STEP_NUM_TASKS", 1))
    if size == 1:
        return Single() if sizes else None
    world = need(f"A training by {size} processes", "mpi4py.MPI", "mpi").COMM_WORLD
    if world.size != size:
        raise ValueError(
            f"handgrad: {size} processes were started, but mpi4py sees {world.size}; expected the "
            "mpiexec of the MPI that mpi4py uses (pip install mpi4py mpich brings both)."
        )
    _end_all_by_errors(world)
    return world


WITNESS = """
import os, select, sys
names, lost, poll = {}, [], select.poll()
for pid, name in zip(sys.argv[1::2], sys.argv[2::2]):
    try:
        handle = os.pidfd_open(int(pid))
    except ProcessLookupError:  # it died before this process began
        lost.append(name)
    else:
        names[handle] = name
        poll.register(handle, select.POLLIN)
for name in lost or [names[handle] for handle, _ in poll.poll()]:
    print(f"handgrad: {name} is lost, and so all end.", file=sys.stderr)
"""


@contextlib.contextmanager
def _witness(comm):
    """A process that says for this block which rank of this machine dies first. It is needed because
    mpiexec then kills all ranks, and may name any of them. (Linux only.)
    """
    size = comm.Get_size()
    if size == 1 or not hasattr(os, "pidfd_open"):
        yield
        return
    here, everywhere = platform.node(), comm.allgather((platform.node(), os.getpid()))
    ours = [(rank, pid) for rank, (node, pid) in enumerate(everywhere) if node == here]
    if comm.Get_rank() != ours[0][0]:
        yield
        return
    names = ((f"{pid}", f"rank {rank} of {size} (process {pid} on {here})") for rank, pid in ours)
    command = [sys.executable, "-I", "-S", "-c", WITNESS, *itertools.chain(*names)]
    quiet = dict(stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    with subprocess.Popen(command, start_new_session=True, **quiet) as witness:
        try:
            yield
        finally:
            witness.kill()


def meet(comm):
    """Wait for all ranks, asleep: MPI's own waiting keeps a processor busy."""
    if comm.Get_size() > 1:
        arrived = comm.Ibarrier()
        while not arrived.Test():
            time.sleep(NAP)


def _threads(comm):
    """How many threads each rank gets, if all ranks of this machine share its processors."""
    mine = range(default_count()) if not hasattr(os, "sched_getaffinity") else os.sched_getaffinity(0)
    everywhere = comm.allgather((platform.node(), set(mine)))
    here = [processors for node, processors in everywhere if node == platform.node()]
    return max(1, len(set().union(*here)) // len(here))


def _facts(solver):
    """What must be the same in all ranks."""
    y = np.ascontiguousarray(solver.y_train)
    data = f"{solver.X_train.shape} {solver.X_train.dtype}, labels {zlib.crc32(y.tobytes()):08x}"
    return {"num_epochs": solver.num_epochs, "the training data": data, **solver.settings()}


_ours = []  # the communicator whose other ranks an error here ends


def _end_all_by_errors(comm):
    """From now on an error that nobody catches in this rank ends all of them."""
    if _ours or comm.Get_size() == 1:
        return
    _ours.append(comm)
    usual = sys.excepthook

    def hook(kind, error, trace):
        name = speaker()
        usual(kind, error, trace)
        print(f"handgrad: {name}{kind.__name__} ends all processes.", file=sys.stderr)
        end_all(1)

    sys.excepthook = hook


def speaker():
    """'rank 2 of 4: ', or '' without others.

    The first rank speaks at once, the others a little later, so that it ends them before they repeat
    what it says.
    """
    if not _ours:
        return ""
    comm = _ours[0]
    time.sleep(GRACE if comm.Get_rank() else 0)
    return f"rank {comm.Get_rank()} of {comm.Get_size()}: "


def end_all(code):
    """End this process and all other ranks, if there are some."""
    if _ours:
        sys.stdout.flush()
        sys.stderr.flush()
        time.sleep(GRACE / 2)  # mpiexec passes on what was said, unless the job ends before
        _ours[0].Abort(code)
