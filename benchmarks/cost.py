"""What a step costs on several nodes: a model of arithmetic, latency and bandwidth.

    step = parts of a node, T at a time, times the time of a part + the rest + sums that travel

A node is a process with T threads. A net is described by what was measured on one thread: the seconds
of a part's forward and backward pass, and those of the rest of a step, which every node does by itself
(update, flat buffer, Python). What travels is what `engine/ranks.py` sends, with the costs of
collectives in Thakur, Rabenseifner and Gropp, "Optimization of Collective Communication Operations in
MPICH" (2005): for R nodes, n bytes, latency a, seconds a byte b

    allgather      log2(R) a + (R - 1) / R n b     to 512 kB, else by a ring with (R - 1) a
    alltoall       (R - 1) a + (R - 1) / R n b     pairwise
"""

import math
from dataclasses import dataclass

from handgrad.engine.ranks import SMALL

__all__ = ["ETHERNET", "NETWORKS", "Net", "Network", "exchange", "step"]

ETHERNET = 1448 / 1538  # of each frame of 1500 bytes is payload of TCP
RING = 512 << 10  # bytes from which MPICH gathers by a ring
PER_LAYER = 4  # sums over the batch of each batch norm: two forward, two backward


@dataclass(frozen=True)
class Network:
    """latency in seconds, seconds a byte, seconds to add a byte; where the latency is from."""

    name: str
    latency: float
    per_byte: float
    per_byte_added: float = 1e-10
    source: str = ""

    def allgather(self, nodes, size):
        """size: bytes of what all have in the end."""
        hops = nodes - 1 if size > RING else math.ceil(math.log2(nodes))
        return hops * self.latency + (nodes - 1) / nodes * size * self.per_byte

    def alltoall(self, nodes, size):
        """size: bytes of what each sends."""
        return (nodes - 1) * self.latency + (nodes - 1) / nodes * size * self.per_byte


NETWORKS = (
    Network("1 Gb/s", 23e-6, 8e-9 / ETHERNET, source="NetPIPE, norma.mbg.duth.gr"),
    Network("10 Gb/s", 20e-6, 8e-10 / ETHERNET, source="Hurwitz and Feng 2003"),
    Network("100 Gb/s", 1.5e-6, 8e-11 / ETHERNET, source="InfiniBand, MVAPICH-Aptus 2008"),
)


@dataclass(frozen=True)
class Net:
    """A net as measured: bytes of its gradients, seconds of a part and of the rest, numbers of channels
    of its batch norms; parts(batch) is how many parts a batch has.
    """

    name: str
    size: int
    part: float
    rest: float
    channels: tuple
    parts: object

    def most_parts(self, nodes, batch):
        """How many parts the busiest node takes."""
        return math.ceil(self.parts(batch) / nodes)


def total(network, nodes, size):
    """Seconds until all have the sum of what each has, `size` bytes."""
    if nodes == 1:
        return 0.0
    if nodes * size <= SMALL:
        adding = (nodes - 1) * size * network.per_byte_added
        return network.allgather(nodes, nodes * size) + adding
    adding = size * network.per_byte_added
    return network.alltoall(nodes, size) + adding + network.allgather(nodes, size)


def exchange(net, network, nodes):
    """Seconds of a step in which sums travel."""
    small = sum(PER_LAYER * total(network, nodes, 4 * channels) for channels in net.channels)
    return total(network, nodes, net.size) + small


def step(net, network, nodes, batch, threads=1):
    """Seconds of a step."""
    turns = math.ceil(net.most_parts(nodes, batch) / threads)
    return turns * net.part + net.rest + exchange(net, network, nodes)
