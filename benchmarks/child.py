"""One side in a process of its own: reads requests, answers with seconds and peak memory.

    python -m benchmarks.child ours|torch|sklearn THREADS

A request is a line of JSON, {"label": ..., "steps": ...}; the first one for a label builds and warms.
"""

import importlib
import json
import resource
import sys
import time

from .workloads import WORKLOADS

SIDES = {"ours": "ours", "torch": "peer_torch", "sklearn": "peer_sklearn"}


def main():
    side = importlib.import_module(f"{__package__}.{SIDES[sys.argv[1]]}")
    with side.session(int(sys.argv[2])):
        label, run = None, None
        for line in sys.stdin:
            request = json.loads(line)
            if request["label"] != label:
                label = request["label"]
                run = side.build(WORKLOADS[label])
                run(3)
            started = time.perf_counter()
            run(request["steps"])
            seconds = time.perf_counter() - started
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(json.dumps({"seconds": seconds, "peak_mb": peak}), flush=True)


if __name__ == "__main__":
    main()
