"""Time handgrad against its peers, in turn:  python -m benchmarks [LABEL ...]

For each workload both sides run in processes of their own, a round of one, then a round of the other,
so that what else the machine does falls on both. Either side's round lasts a third of a second, since
it begins with waking up, and comes after a pause: threads spin for some 10 ms when their work is done
and would be in the other side's way. The ratio is the peer's time for a step over handgrad's in the
same round; above 1 handgrad is the faster. Each library runs with the kernels that it chooses:
OPENBLAS_CORETYPE, which would hold NumPy's to those of an older processor and PyTorch's not, is left
out. Needs the extra `bench` (pip install -e '.[bench]'). With --write the whole table goes to
docs/performance.md.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_info

from . import extras
from .workloads import REAL, WORKLOADS, flops

PAGE = Path(__file__).parent.parent / "docs" / "performance.md"
HEAD = "| workload | threads | peer | ratio | spread | goal | ours | unit | limit | MB ours | MB peer |"
PAUSE = 0.05  # seconds


class Side:
    """A child process that runs one side."""

    def __init__(self, name, threads):
        command = [sys.executable, "-m", "benchmarks.child", name, str(threads)]
        env = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env
        )

    def round(self, workload):
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


def measure(workload, peer, threads, rounds):
    """(seconds of ours a step, ratios, peak of ours, peak of the peer)."""
    with Side("ours", threads) as ours, Side(peer, threads) as theirs:
        pairs = []
        for _ in range(rounds + 1):
            (a, our_peak), (b, their_peak) = ours.round(workload), theirs.round(workload)
            pairs.append((a, b))
    times = np.array(pairs[1:])  # the first round warms both up
    return np.median(times[:, 0]), times[:, 1] / times[:, 0], our_peak, their_peak


def row(workload, peer, threads, rounds, gemm):
    seconds, ratios, our_peak, their_peak = measure(workload, peer, threads, rounds)
    low, median, high = np.quantile(ratios, [0.25, 0.5, 0.75])
    goal = 1.15 if peer == "sklearn" else workload.goal
    limit = ""
    if workload.kind in ("train", "predict"):
        speed, unit = f"{workload.batch / seconds:,.0f}", "images/s"
        limit = f"{gemm[threads] / flops(workload):,.0f}"
    else:
        speed, unit = f"{1e3 * seconds:.3f}", "ms"
    memory = (f"{our_peak:.0f}", f"{their_peak:.0f}") if workload.kind == "train" else ("", "")
    cells = (
        *(describe(workload), threads, peer, f"**{median:.2f}**", f"{low:.2f} to {high:.2f}", goal),
        *(speed, unit, limit, *memory),
    )
    return "| " + " | ".join(map(str, cells)) + " |"


def describe(workload):
    if workload.kind == "train":
        return f"{workload.label}: {workload.net}, batch {workload.batch}, {workload.rule}"
    return workload.label


def machine():
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = lines[0].split(":")[1].strip() if lines else cpu
    packages = ", ".join(f"{name} {version(name)}" for name in ("numpy", "torch", "scikit-learn"))
    kernels = {info["architecture"] for info in threadpool_info() if "architecture" in info}
    blas = f"NumPy's BLAS chose its kernels for {', '.join(kernels) or 'a processor it does not name'}"
    return f"{cpu}, {os.cpu_count()} cores; Python {platform.python_version()}, {packages}; {blas}."


def extras_text(gemm):
    lines = ["## Beside the peers", ""]
    for threads, speed in gemm.items():
        lines.append(f"- A large sgemm, {threads} thread(s): {speed / 1e9:.0f} Gflop/s.")
    lines.append(f"- `import handgrad` adds {extras.import_seconds():.3f} s to `import numpy`.")
    lines += [
        "",
        "| convolution, there and back, 1 thread | ours, ms | plain im2col, ms | the loops, ms |",
    ]
    lines.append("|---|---|---|---|")
    for name, *times in extras.conv_table():
        lines.append(f"| {name} | " + " | ".join(f"{1e3 * t:,.2f}" for t in times) + " |")
    lines += ["", "| a 3x3 convolution with 32 filters, as one size grows | x 1 | x 2 | x 4 |"]
    lines.append("|---|---|---|---|")
    for what, times in extras.growth_table():
        lines.append(f"| {what} | " + " | ".join(f"{1e3 * t:.2f} ms" for t in times) + " |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("labels", nargs="*", metavar="LABEL", help=f"of {', '.join(WORKLOADS)}")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, nargs="*", default=[2, 1])
    parser.add_argument("--write", action="store_true", help="put the table into docs/performance.md")
    args = parser.parse_args()
    chosen = [w for label, w in WORKLOADS.items() if not args.labels or label in args.labels]
    gemm = {threads: extras.sgemm_flops(threads) for threads in args.threads}
    table = [HEAD, "|---" * HEAD.count(" | ") + "|---|"]
    print("\n".join(table), flush=True)
    for workload in chosen:
        for threads in args.threads:
            for peer in workload.peers:
                table.append(row(workload, peer, threads, args.rounds, gemm))
                print(table[-1], flush=True)
    text = extras_text(gemm) if args.write or not args.labels else ""
    print(text)
    if args.write:
        write_page("\n".join(table), text, args.rounds)


def write_page(table, text, rounds):
    """The measured part of the page, between its marks; what is said around it stays."""
    begin, end = "<!-- measured -->", "<!-- end of measured -->"
    page = PAGE.read_text() if PAGE.exists() else f"# Performance\n\n{begin}\n{end}\n"
    before, rest = page.split(begin)
    after = rest.split(end)[1]
    command = f"`python -m {__package__} --write --rounds {rounds}`"
    data = "MNIST and CIFAR-10" if REAL else "noise in the shape of MNIST and CIFAR-10"
    measured = f"Written by {command} with {data}, on: {machine()}\n\n{table}\n\n{text}"
    PAGE.write_text(f"{before}{begin}\n{measured}\n{end}{after}")


if __name__ == "__main__":
    if os.environ.pop("OPENBLAS_CORETYPE", None):  # read when NumPy is imported: so once more
        os.execv(sys.executable, [sys.executable, "-m", __package__, *sys.argv[1:]])
    main()
