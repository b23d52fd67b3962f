"""How far several processes carry:  python -m benchmarks.scaling [--write] [--rounds N]

It times steps of one process and of two (mpiexec), in turn, and how long sums travel between the two;
holds the model of cost.py against that; and predicts up to 1024 nodes. And it times a comparison of
1,000 small runs. --write puts the tables and the figure into docs/. Needs the extra `mpi`.
"""

import argparse
import concurrent.futures
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from handgrad import Solver, compare
from handgrad.callbacks import Callback
from handgrad.data_utils import spiral
from handgrad.engine.ranks import Ranks, Share, Single
from handgrad.engine.workers import default_count
from handgrad.models import ConvNet, FullyConnectedNet, LeNet5, TwoLayerNet

from . import cost, pages
from .ours import _transform
from .workloads import VGG, images

NETS = {
    "LeNet-5": ("lenet5", lambda: LeNet5(seed=0)),
    "VGG": ("vgg", lambda: ConvNet(VGG, (), normalization="batchnorm", seed=0)),
    "wide dense net": ("fc100x5", lambda: FullyConnectedNet([2048, 2048], seed=0)),
}
BATCHES = {"LeNet-5": (128, 256, 1024), "VGG": (128, 256), "wide dense net": (512, 1024)}
SECONDS = 0.6  # of steps that are timed in a round
NODES = [2**k for k in range(11)]
THREADS = 2  # of a node in the predictions
PICTURE = "![Efficiency by number of nodes, for three nets and three networks](scaling.png)"
WHERE = (
    "Where adding nodes stops helping, for a batch that stays as it is: the fastest number of nodes, "
    "and the largest with which at least half of the nodes' work is used. A batch has no more nodes "
    "than parts."
)


# ---------------------------------------------------------------------------- one job


class Timed(Callback):
    """Stops after some steps, and notes when the first and the last of them ended."""

    def on_step_end(self, solver):
        self.ends.append((time.perf_counter(), time.process_time()))
        if len(self.ends) == self.steps:
            solver.stop_training = True

    def seconds(self, solver, steps):
        """Seconds a step, by the clock and of the processor."""
        self.steps, self.ends = steps + 1, []
        solver.train()
        return [(last - first) / steps for first, last in zip(self.ends[0], self.ends[-1], strict=True)]


def job():
    """Time all cases in this process, or in all of mpiexec; the first one prints JSON."""
    comm = Single()
    if "PMI_SIZE" in os.environ:
        from mpi4py import MPI

        comm = MPI.COMM_WORLD
    found = {"steps": {}, "processor": {}, "exchange": {}}
    for name, (data, make) in NETS.items():
        for batch in BATCHES[name]:
            case = f"{name} {batch}"
            found["steps"][case], found["processor"][case] = timed_steps(make(), data, batch, comm)
        if comm.Get_size() > 1:
            found["exchange"][name] = timed_exchange(make(), comm)
    if comm.Get_size() > 1:
        found["latency"], found["per_byte"], found["per_byte_added"] = measured_network(comm)
    if comm.Get_rank() == 0:
        print(json.dumps(found))


def timed_steps(model, data, batch, comm):
    X, y = images(data)
    timed = Timed()
    solver = Solver(
        model,
        {"X_train": X, "y_train": y, "transform": _transform},
        update_rule="sgd_momentum",
        optim_config={"learning_rate": 1e-3},
        batch_size=batch,
        num_epochs=10**6,
        num_train_samples=1,
        callbacks=[timed],
        verbose=False,
        workers=1,
        comm=comm,
        seed=0,
    )
    once, _ = timed.seconds(solver, 2)
    return timed.seconds(solver, agreed(comm, max(3, math.ceil(SECONDS / once))))


def timed_exchange(model, comm):
    """Seconds until both ranks have the sum of two gradients."""
    size = comm.Get_size()
    share = Share(Ranks(comm, None), [slice(k, k + 1) for k in range(size)])
    grads = {"loss": np.float32(1), **{name: np.array(p) for name, p in model.params.items()}}
    return repeated(comm, lambda: share.totals([grads]))


def measured_network(comm):
    """Latency, seconds a byte, seconds to add a byte: of an allgather of 8 bytes and of 8 MB."""

    def gathered(size):
        mine, all_of_it = np.ones(size, np.uint8), np.empty(size * comm.Get_size(), np.uint8)
        return repeated(comm, lambda: comm.Allgather(mine, all_of_it))

    a, b = np.ones((2, 1 << 21), np.float32)
    adding = repeated(comm, lambda: np.add(a, b, out=a)) / a.nbytes
    latency, size = gathered(8), 8 << 20
    return latency, (gathered(size) - latency) / size, adding


def repeated(comm, function):
    """The median of seconds of one call."""
    seconds = []
    for _ in range(agreed(comm, 30)):
        comm.Barrier()
        started = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def agreed(comm, value):
    return comm.bcast(value)


# ---------------------------------------------------------------------------- rounds


def rounds_of_jobs(count):
    """What one process found and what two found, in `count` rounds by turns."""
    return [(run_job(1), run_job(2)) for _ in range(count)]


def run_job(processes):
    mpiexec = [str(Path(sys.executable).with_name("mpiexec")), "-n", str(processes)]
    command = [sys.executable, "-m", "benchmarks.scaling", "--job"]
    command = command if processes == 1 else mpiexec + command
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout)


def median(rounds, processes, *keys):
    """The median of a figure over the rounds."""
    values = []
    for found in rounds:
        value = found[processes - 1]
        for key in keys:
            value = value[key]
        values.append(value)
    return statistics.median(values)


def ratio(rounds, above, below):
    """The median of the rounds' ratios of two steps; each is (processes, case)."""
    ratios = [
        found[above[0] - 1]["steps"][above[1]] / found[below[0] - 1]["steps"][below[1]]
        for found in rounds
    ]
    return statistics.median(ratios)


def fitted(rounds, name):
    """The net as the model of cost knows it: a line through the steps of one process. It takes the
    processor's seconds, which other work on the machine hardly changes.
    """
    model = NETS[name][1]()
    few, *_, many = BATCHES[name]
    parts = [len(model.shared_parts(batch)) for batch in (few, many)]
    seconds = [median(rounds, 1, "processor", f"{name} {batch}") for batch in (few, many)]
    part = (seconds[1] - seconds[0]) / (parts[1] - parts[0])
    rest = max(0.0, seconds[0] - parts[0] * part)
    size = sum(p.nbytes for p in model.params.values())
    channels = tuple(len(s["running_mean"]) for s in model.bn_params)
    return cost.Net(name, size, part, rest, channels, lambda batch: len(model.shared_parts(batch)))


# ---------------------------------------------------------------------------- comparisons


def small_run(seed):
    X, y = spiral()
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(X))
    X, y = X[order], y[order]
    data = {"X_train": X[:-50], "y_train": y[:-50], "X_val": X[-50:], "y_val": y[-50:]}
    settings = dict(batch_size=50, num_epochs=60, update_rule="adam", num_train_samples=100)
    model = TwoLayerNet(2, 50, 3, weight_scale=0.1, seed=seed)
    return Solver(model, data, **settings, verbose=False, workers=1, seed=seed)


def bare_run(seed):
    """A run without a comparison: it trains, and nothing is kept."""
    solver = small_run(seed)
    solver.train()
    return solver.best_val_acc


def overhead(rounds, runs):
    """(seconds of a bare run, ratios of the seconds of all runs with and without `compare`)."""
    count, bare, ratios = default_count(), [], []
    for _ in range(rounds):
        started = time.perf_counter()
        with concurrent.futures.ProcessPoolExecutor(count) as pool:
            list(pool.map(bare_run, range(runs)))
        bare.append(time.perf_counter() - started)
        with tempfile.TemporaryDirectory() as folder:
            started = time.perf_counter()
            compare(small_run, {"small": {}}, runs, folder=folder, progress=False)
            ratios.append((time.perf_counter() - started) / bare[-1])
    return statistics.median(bare) * count / runs, ratios


# ---------------------------------------------------------------------------- the page


def measured_table(rounds):
    """Seconds of steps, and what a second process brings: for a batch, and for one twice as large."""
    head = ("net", "batch", "1 process, ms", "2 processes, ms", "speed-up", "weak efficiency")
    rows = []
    for name, batches in BATCHES.items():
        for batch in batches:
            one, two = (1e3 * median(rounds, n, "steps", f"{name} {batch}") for n in (1, 2))
            strong = ratio(rounds, (1, f"{name} {batch}"), (2, f"{name} {batch}"))
            weak = "-"
            if 2 * batch in batches:
                found = ratio(rounds, (1, f"{name} {batch}"), (2, f"{name} {2 * batch}"))
                weak = f"{100 * found:.0f} %"
            rows.append((name, batch, f"{one:.2f}", f"{two:.2f}", f"{strong:.2f}", weak))
    return pages.table(head, rows)


def model_table(rounds, nets, here):
    """The model's step of two processes beside the measured one."""
    head = ("net", "batch", "model, ms", "measured, ms", "model / measured", "of which sums travel, ms")
    rows = []
    for name, net in nets.items():
        for batch in BATCHES[name]:
            found = 1e3 * median(rounds, 2, "steps", f"{name} {batch}")
            said = 1e3 * cost.step(net, here, 2, batch)
            travel = 1e3 * cost.exchange(net, here, 2)
            took = 1e3 * median(rounds, 2, "exchange", name)
            rows.append(
                (name, batch, f"{said:.2f}", f"{found:.2f}", f"{said / found:.2f}",
                 f"{travel:.2f} (gradients measured: {took:.2f})")
            )  # fmt: skip
    return pages.table(head, rows)


def figures_table(nets, here):
    head = ("figure", "value", "source")
    rows = [
        (f"{name}: a part, the rest of a step, bytes of gradients",
         f"{1e3 * net.part:.3f} ms, {1e3 * net.rest:.3f} ms, {net.size:,}",
         f"line through one process's steps of {BATCHES[name][0]} and {BATCHES[name][-1]}")
        for name, net in nets.items()
    ]  # fmt: skip
    for network in (here, *cost.NETWORKS):
        rows.append(
            (f"{network.name}: latency, bandwidth",
             f"{1e6 * network.latency:.1f} µs, {1e-9 / network.per_byte:.3g} GB/s", network.source)
        )  # fmt: skip
    rows.append(("adding", f"{1e-9 / here.per_byte_added:.3g} GB/s", "measured: two arrays of 8 MB"))
    return pages.table(head, rows)


def efficiency(net, network, nodes, batch):
    """Speed-up over one node, divided by the number of nodes."""
    one = cost.step(net, network, 1, batch, THREADS)
    return one / nodes / cost.step(net, network, nodes, batch, THREADS)


def weak_efficiency(net, network, nodes, batch):
    """The same where each node has a batch of its own."""
    one = cost.step(net, network, 1, batch, THREADS)
    return one / cost.step(net, network, nodes, nodes * batch, THREADS)


def strong_table(nets, networks):
    """Where adding nodes stops helping, and what overlapping could save there at most."""
    head = ("net", "batch", "network", "fastest with", "speed-up", "half of the nodes' work used up to",
            "sums travel, share of a step", "overlap saves at most")  # fmt: skip
    rows = []
    for net in nets.values():
        for batch in (256, 2048, 16384):
            for network in networks:
                usable = [nodes for nodes in NODES if nodes <= net.parts(batch)]
                seconds = {n: cost.step(net, network, n, batch, THREADS) for n in usable}
                best = min(seconds, key=seconds.get)
                half = max(n for n in usable if efficiency(net, network, n, batch) >= 0.5)
                travel = cost.exchange(net, network, best)
                backward = 2 / 3 * (seconds[best] - travel)
                rows.append(
                    (net.name, batch, network.name, best, f"{seconds[1] / seconds[best]:.1f}", half,
                     f"{100 * travel / seconds[best]:.0f} %",
                     f"{100 * min(travel, backward) / seconds[best]:.0f} %")
                )  # fmt: skip
    return pages.table(head, rows)


def figure(nets, networks):
    """Above each node has a batch of its own; below all share one of 16,384."""
    from matplotlib.figure import Figure

    picture = Figure(figsize=(11, 6.5), layout="constrained")
    axes = picture.subplots(2, len(nets), sharex=True, sharey=True)
    for above, below, net in zip(*axes, nets.values(), strict=True):
        for k, network in enumerate(networks):
            for batch, style in ((512, "-"), (64, ":")):
                values = [weak_efficiency(net, network, n, batch) for n in NODES]
                above.plot(NODES, values, style, color=f"C{k}", label=f"{network.name}, {batch} a node")
            usable = [n for n in NODES if n <= net.parts(16384)]
            values = [efficiency(net, network, n, 16384) for n in usable]
            below.plot(usable, values, color=f"C{k}")
        above.set_title(net.name)
        below.set_xlabel("nodes")
    for row, title in zip(axes, ("a batch for each node", "one batch of 16,384"), strict=True):
        row[0].set_ylabel(f"efficiency, {title}")
    axes[0][0].set_xscale("log", base=2)
    axes[0][0].set_ylim(0, 1.05)
    axes[0][-1].legend(fontsize=7)
    for a in axes.flat:
        a.grid(alpha=0.3)
    return picture


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--job", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--write", action="store_true", help="write docs/scaling.md and its figure")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--runs", type=int, default=1000, help="small runs of the comparison")
    args = parser.parse_args()
    if args.job:
        return job()
    rounds = rounds_of_jobs(args.rounds)
    nets = {name: fitted(rounds, name) for name in NETS}
    measured = (median(rounds, 2, key) for key in ("latency", "per_byte", "per_byte_added"))
    here = cost.Network("two processes here", *measured, source="measured: allgather of 8 bytes, 8 MB")
    run, ratios = overhead(min(3, args.rounds), args.runs)
    seconds = f"{run:.3f} s each, {default_count()} processes"
    load = f"{os.getloadavg()[2]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    texts = {
        "comparison": f"**{100 * (statistics.median(ratios) - 1):.1f} %** more time "
        f"({args.runs:,} runs of {seconds}; rounds: "
        f"{', '.join(f'{100 * (r - 1):.1f} %' for r in ratios)}).",
        "measured": measured_table(rounds),
        "figures": figures_table(nets, here),
        "model": model_table(rounds, nets, here),
        "predicted": f"{PICTURE}\n\n{WHERE}\n\n{strong_table(nets, cost.NETWORKS)}",
        "written": f"Written by `python -m benchmarks.scaling --write --rounds {args.rounds}`. "
        f"Machine: {pages.processor()}, {os.cpu_count()} cores, load {load}; with a load "
        "above the number of cores the times by the clock are spoilt.",
    }
    for name, text in texts.items():
        print(f"\n{name}\n{text}")
        if args.write:
            pages.write_between(pages.DOCS / "scaling.md", name, text)
    if args.write:
        from handgrad.vis_utils import save

        save(figure(nets, cost.NETWORKS), pages.DOCS / "scaling.png")
    return None


if __name__ == "__main__":
    main()
