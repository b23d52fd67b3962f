"""Time handgrad against PyTorch and scikit-learn:  python -m benchmarks [LABEL ...]

Each side runs in its own process. The two take turns, one round each, so that other work on the machine
slows down both. A round lasts 0.3 seconds and comes after a pause, because threads keep spinning for
some 10 ms after their work. The ratio of a round is the peer's time over handgrad's: above 1 handgrad
is faster. Needs the extra `bench`: pip install -e '.[bench]'.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass

import numpy as np

from . import extras, pages
from .workloads import WORKLOADS, Workload

PAUSE = 0.05  # seconds


@dataclass(frozen=True)
class Measured:
    """A workload beside one peer: seconds a step, the ratios of the rounds, peak memory in MB."""

    workload: Workload
    threads: int
    peer: str
    seconds: float
    ratios: np.ndarray
    our_mb: float
    peer_mb: float


class Side:
    """A child process that runs one side."""

    def __init__(self, name, threads):
        command = [sys.executable, "-m", "benchmarks.child", name, str(threads)]
        env = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env
        )

    def round(self, workload):
        """(seconds a step, peak memory in MB)."""
        time.sleep(PAUSE)
        self.process.stdin.write(workload.label + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        return answer["seconds"], answer["peak_mb"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def measure(workload, threads, peer, rounds):
    """Both sides in turn. The first round warms up and does not count."""
    with Side("ours", threads) as ours, Side(peer, threads) as theirs:
        pairs = []
        for _ in range(rounds + 1):
            (a, our_mb), (b, peer_mb) = ours.round(workload), theirs.round(workload)
            pairs.append((a, b))
    times = np.array(pairs[1:])
    seconds, ratios = float(np.median(times[:, 0])), times[:, 1] / times[:, 0]
    return Measured(workload, threads, peer, seconds, ratios, our_mb, peer_mb)


def main():
    args = arguments()
    gemm = {threads: extras.sgemm_flops(threads) for threads in args.threads}
    print(pages.FULL_HEAD, flush=True)
    results = []
    for workload in (WORKLOADS[label] for label in args.labels or WORKLOADS):
        for threads in args.threads:
            for peer in workload.peers:
                results.append(measure(workload, threads, peer, args.rounds))
                print(pages.full_row(results[-1], gemm), flush=True)
    if args.write:
        pages.write(results, gemm, args.rounds)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("labels", nargs="*", metavar="LABEL", help=f"of {', '.join(WORKLOADS)}")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, nargs="+", default=[2, 1])
    parser.add_argument("--write", action="store_true", help="measure all; write the tables into docs/")
    args = parser.parse_args()
    unknown = [label for label in args.labels if label not in WORKLOADS]
    if unknown:
        parser.error(f"unknown labels {unknown}, expected some of {list(WORKLOADS)}")
    if args.write and args.labels:
        parser.error("--write measures all workloads, so it takes no labels")
    return args


if __name__ == "__main__":
    # Each library shall choose its own kernels. NumPy reads this variable when it is imported.
    if os.environ.pop("OPENBLAS_CORETYPE", None):
        os.execv(sys.executable, [sys.executable, "-m", __package__, *sys.argv[1:]])
    main()
