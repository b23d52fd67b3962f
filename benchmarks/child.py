"""One side, in its own process. It reads requests and answers with seconds a step and peak memory.

    python -m benchmarks.child ours|torch|sklearn THREADS

A request is a line with the label of a workload. The first request for a label builds it and warms up.
"""

import importlib
import json
import math
import resource
import sys
import time
from pathlib import Path

from .workloads import WORKLOADS

SIDES = {"ours": "ours", "torch": "peer_torch", "sklearn": "peer_sklearn"}
ROUND = 0.3  # seconds


def main():
    side = importlib.import_module(f"{__package__}.{SIDES[sys.argv[1]]}")
    with side.session(int(sys.argv[2])):
        label, run, steps = None, None, 0
        for line in sys.stdin:
            if line.strip() != label:
                label = line.strip()
                run = side.build(WORKLOADS[label])
                run(3)
                steps = math.ceil(ROUND / seconds_a_step(run, 3))
            seconds = seconds_a_step(run, steps)
            print(json.dumps({"seconds": seconds, "peak_mb": peak_mb()}), flush=True)


def seconds_a_step(run, steps):
    started = time.perf_counter()
    run(steps)
    return (time.perf_counter() - started) / steps


def peak_mb():
    """The most memory that was held at once, helper processes included."""
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for children in Path("/proc/self/task").glob("*/children"):
        for child in children.read_text().split():
            status = Path(f"/proc/{child}/status").read_text()
            kilobytes += int(status.split("VmHWM:")[1].split()[0])
    return kilobytes / 1024


if __name__ == "__main__":
    main()
