"""The tables in docs/, written between marks. The text around the marks stays as it is."""

import os
import platform
from importlib.metadata import version
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_info

from . import extras
from .workloads import REAL, flops

DOCS = Path(__file__).parent.parent / "docs"
FULL = (
    *("label", "workload", "threads", "peer", "ratio", "quartiles", "handgrad", "unit"),
    *("limit", "MB handgrad", "MB peer"),
)
CONV = ("convolution, forward and backward, 1 thread", "handgrad, ms", "plain im2col, ms", "loops, ms")
GROWTH = ("a 3x3 convolution with 32 filters as this size grows", "x 1", "x 2", "x 4")


def write(results, gemm, rounds):
    """Write the table of trainings into performance.md and all tables into benchmarks.md."""
    said = written_by(rounds)
    write_between(DOCS / "performance.md", "trainings", f"{trainings(results)}\n\n{said}")
    everything = [said, full_table(results, gemm), speeds(gemm), conv_table(), growth_table()]
    write_between(DOCS / "benchmarks.md", "measured", "\n\n".join(everything))


def write_between(page, name, text):
    """Put the text between the marks `<!-- name -->` and `<!-- end of name -->` of a page."""
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    before, rest = page.read_text().split(begin)
    page.write_text(f"{before}{begin}\n{text}\n{end}{rest.split(end)[1]}")


def written_by(rounds):
    """The command, the data and the machine."""
    data = "MNIST and CIFAR-10" if REAL else "noise in the shape of MNIST and CIFAR-10"
    command = f"`python -m {__package__} --write --rounds {rounds}`"
    packages = ", ".join(f"{name} {version(name)}" for name in ("numpy", "torch", "scikit-learn"))
    kernels = {info["architecture"] for info in threadpool_info() if "architecture" in info}
    blas = f" NumPy's BLAS uses its kernels for {', '.join(kernels)}." if kernels else ""
    return (
        f"Written by {command} with {data}. Machine: {processor()}, {os.cpu_count()} cores; "
        f"Python {platform.python_version()}, {packages}.{blas}"
    )


def processor():
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def table(head, rows):
    return "\n".join([line(head), line(["---"] * len(head)), *map(line, rows)])


def line(cells):
    return "| " + " | ".join(map(str, cells)) + " |"


# ---------------------------------------------------------------------------- trainings


def trainings(results):
    """One row for each training and peer: the ratio and the speed by number of threads."""
    counts = list(dict.fromkeys(m.threads for m in results))
    named = [f"{n} thread{'s' * (n > 1)}" for n in counts]
    head = ["training", *named, *(f"images a second, {name}" for name in named)]
    grouped = {}
    for m in results:
        if m.workload.kind == "train":
            beside = "" if m.peer == "torch" else " (scikit-learn)"
            grouped.setdefault(m.workload.title + beside, {})[m.threads] = m
    rows = (
        [
            *(title, *(f"**{np.median(by[n].ratios):.2f}**" for n in counts)),
            *(f"{images_per_second(by[n]):,.0f}" for n in counts),
        ]
        for title, by in grouped.items()
    )
    return table(head, rows)


def images_per_second(measured):
    return measured.workload.batch / measured.seconds


# ---------------------------------------------------------------------------- everything

FULL_HEAD = table(FULL, [])


def full_table(results, gemm):
    return table(FULL, []) + "\n" + "\n".join(full_row(m, gemm) for m in results)


def full_row(measured, gemm):
    """gemm: floating-point operations a second by number of threads."""
    workload, threads = measured.workload, measured.threads
    low, median, high = np.quantile(measured.ratios, [0.25, 0.5, 0.75])
    speed, unit, limit = f"{1e3 * measured.seconds:.3f}", "ms", ""
    if workload.batch:
        speed, unit = f"{images_per_second(measured):,.0f}", "images/s"
        limit = f"{gemm[threads] / flops(workload):,.0f}"
    is_training = workload.kind == "train"
    memory = [f"{mb:.0f}" if is_training else "" for mb in (measured.our_mb, measured.peer_mb)]
    ratio = (f"**{median:.2f}**", f"{low:.2f} to {high:.2f}")
    return line(
        [workload.label, workload.title, threads, measured.peer, *ratio, speed, unit, limit, *memory]
    )


def speeds(gemm):
    lines = [f"- A large sgemm, threads {n}: {speed / 1e9:.0f} Gflop/s." for n, speed in gemm.items()]
    lines.append(f"- `import handgrad` adds {extras.import_seconds():.3f} s to `import numpy`.")
    return "\n".join(lines)


def conv_table():
    rows = extras.conv_table()
    return table(CONV, ([name, *(f"{1e3 * t:,.2f}" for t in times)] for name, *times in rows))


def growth_table():
    rows = extras.growth_table()
    return table(GROWTH, ([what, *(f"{1e3 * t:.2f} ms" for t in times)] for what, times in rows))
