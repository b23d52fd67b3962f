"""One side in a process of its own: reads requests, answers with seconds a step and peak memory.

    python -m benchmarks.child ours|torch|sklearn THREADS

A request is the label of a workload, on a line; the first one for a label builds it and warms up.
"""

import importlib
import json
import math
import resource
import sys
import time

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
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(json.dumps({"seconds": seconds, "peak_mb": peak}), flush=True)


def seconds_a_step(run, steps):
    started = time.perf_counter()
    run(steps)
    return (time.perf_counter() - started) / steps


if __name__ == "__main__":
    main()
