"""The model of what a step costs on several nodes, against numbers worked by hand."""

import importlib
import math
from pathlib import Path

import pytest


@pytest.fixture
def cost(monkeypatch):
    """benchmarks/cost.py of the checkout, which is not part of the installed package."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent))
    return importlib.import_module("benchmarks.cost")


@pytest.fixture
def network(cost):
    """A second of latency, a hundredth of a second a byte, a thousandth to add one."""
    return cost.Network("slow", 1.0, 0.01, 0.001)


def test_small_sums_are_gathered_and_added_by_every_node(cost, network):
    """4 nodes, 100 bytes each: 2 hops, 3/4 of 400 bytes travel, and 3 times 100 bytes are added."""
    assert cost.total(network, 4, 100) == pytest.approx(2 * 1.0 + 300 * 0.01 + 300 * 0.001)
    assert cost.total(network, 1, 100) == 0


def test_large_sums_are_cut_among_the_nodes_added_and_gathered(cost, network):
    """4 nodes, 4 MB each: 3 messages of a quarter each way, 4 MB to add, and a ring of 3 hops."""
    size = 4_000_000
    there, back = (3 * 1.0 + 0.75 * size * 0.01 for _ in range(2))
    assert cost.total(network, 4, size) == pytest.approx(there + size * 0.001 + back)


def test_a_step_takes_the_busiest_nodes_turns_the_rest_and_what_travels(cost, network):
    """10 parts on 4 nodes: 3 at most, in 2 turns of 2 threads."""
    net = cost.Net("net", 100, part=7.0, rest=0.5, channels=(5, 5), parts=lambda batch: batch // 32)
    norms = 2 * 4 * cost.total(network, 4, 20)
    assert cost.exchange(net, network, 4) == pytest.approx(cost.total(network, 4, 100) + norms)
    alone = cost.step(net, network, 4, 320, threads=2) - cost.exchange(net, network, 4)
    assert alone == pytest.approx(2 * 7.0 + 0.5)
    assert cost.step(net, network, 1, 320) == pytest.approx(10 * 7.0 + 0.5)


def test_more_nodes_pay_less_and_less(cost):
    net = cost.Net("net", 10**6, part=1e-2, rest=1e-3, channels=(), parts=lambda batch: batch)
    nodes = [2**k for k in range(11)]
    for network in cost.NETWORKS:
        seconds = [cost.step(net, network, n, 1024) for n in nodes]
        efficiency = [seconds[0] / n / s for n, s in zip(nodes, seconds, strict=True)]
        assert efficiency == sorted(efficiency, reverse=True)
        assert all(map(math.isfinite, seconds))
