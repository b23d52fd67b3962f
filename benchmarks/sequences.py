"""Time nets for sequences against PyTorch:  python -m benchmarks.sequences [NET ...] [--threads N ...]

For training, both sides take steps in turn, in one process, on the same batches: forward, backward, an
update by AdamW. Before each step there is a pause, because threads keep spinning after their work. A
ratio is PyTorch's time of a step over handgrad's, a median over the steps: above 1 handgrad is faster.
`generate` times 1,000 characters of GPT with its cache.

With --memory it measures what a process and its helper processes hold at most in some steps of
training: first less what it holds before, when all is imported, then in all. This needs Linux.

Needs the extra `bench`, and HANDGRAD_DATA for Shakespeare; else the sonnets that come with handgrad are
the text.
"""

import argparse
import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from .pages import line, table

NETS = {"gpt": (12, 150), "rnn": (64, 100), "gru": (64, 60), "lstm": (64, 60)}  # batch, steps
STEPS, WIDTH, HEADS, DEPTH, HIDDEN = 64, 128, 4, 4, 256
SIDES = ("ours", "torch")
PAUSE = 0.02  # seconds
WARM = 1.5  # seconds of work until helper processes are there
GLANCE = 2e-3  # seconds between two looks at memory


def text():
    """The words of a text, and how many there are."""
    from handgrad.data_utils import load_shakespeare, load_text

    data = load_shakespeare(STEPS) if os.environ.get("HANDGRAD_DATA") else load_text(length=STEPS)
    return data["X_train"], data["y_train"], len(data["vocabulary"])


def batches(X, y, N, seed=0):
    rng = np.random.default_rng(seed)
    while True:
        index = rng.integers(len(X), size=N)
        yield X[index].astype(np.int64), y[index].astype(np.int64)


# ---------------------------------------------------------------------------- handgrad


def our_net(net, V):
    from handgrad.models import GPT, LanguageModel

    return GPT(V, seed=0) if net == "gpt" else LanguageModel(V, HIDDEN, cell=net, seed=0)


def our_step(net, V):
    """step(X, y) -> loss."""
    from handgrad.optim import adamw

    model = our_net(net, V)
    configs = {name: {} for name in model.params}

    def step(X, y):
        loss, grads = model.loss(X, y)
        updated = {k: adamw(w, grads[k], configs[k]) for k, w in model.params.items()}
        model.params = {k: w for k, (w, _) in updated.items()}
        configs.update({k: config for k, (_, config) in updated.items()})
        return float(loss)

    return step


# ---------------------------------------------------------------------------- PyTorch


def their_net(net, V):
    from .peer_torch_sequences import GPT, LanguageModel

    return GPT(V, STEPS, WIDTH, DEPTH, HEADS) if net == "gpt" else LanguageModel(V, HIDDEN, net)


def their_step(net, V):
    """step(X, y) -> loss."""
    import torch
    import torch.nn.functional as F

    model = their_net(net, V)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

    def step(X, y):
        optimizer.zero_grad()
        scores = model(torch.from_numpy(X)).reshape(-1, V)
        loss = F.cross_entropy(scores, torch.from_numpy(y).reshape(-1))
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


@contextlib.contextmanager
def threads(count):
    """Both libraries use so many threads."""
    import torch
    from handgrad import workers

    torch.set_num_threads(count)
    with workers(count):
        yield


# ---------------------------------------------------------------------------- what is measured


def timed(function, args, clock):
    time.sleep(PAUSE)
    started = clock()
    function(*args)
    return clock() - started


def clock_of(count):
    """With one thread the processor's time, which other programs disturb less."""
    return time.process_time if count == 1 else time.perf_counter


def training(net, count):
    """Seconds of each step of both sides, (steps, 2)."""
    (N, n), (X, y, V) = NETS[net], text()
    with threads(count):
        ours, theirs = our_step(net, V), their_step(net, V)
        source, worked, times, clock = batches(X, y, N), 0.0, [], clock_of(count)
        while len(times) < n:
            batch, first = next(source), len(times) % 2  # who begins, changes
            pair = {side: timed(side, batch, clock) for side in ((ours, theirs), (theirs, ours))[first]}
            worked += pair[ours]
            if worked > WARM:
                times.append((pair[ours], pair[theirs]))
    return np.array(times)


def generating(count, n=1000, rounds=15):
    """The same for `n` characters of GPT."""
    from .peer_torch_sequences import generate

    V = text()[2]
    model, theirs = our_net("gpt", V), their_net("gpt", V)
    with threads(count):
        calls = (lambda: model.generate([0], n, seed=0)), (lambda: generate(theirs, 0, n, STEPS))
        times = [[timed(call, (), clock_of(count)) for call in calls] for _ in range(rounds + 1)]
    return np.array(times[1:])


def memory(net, side, count):
    """MB that a process and its helpers hold: at most in some steps, and before the first."""
    command = [sys.executable, "-m", "benchmarks.sequences", net, "--child", side]
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with subprocess.Popen([*command, "--threads", str(count)], **pipes) as process:
        process.stdout.readline()  # all is imported
        before = most = held_mb(process.pid)
        process.stdin.close()
        while process.poll() is None:
            most = max(most, held_mb(process.pid))
            time.sleep(GLANCE)
    if process.returncode:
        raise RuntimeError(f"{net}, {side}: the process ended with exit code {process.returncode}.")
    return most, before


def held_mb(pid):
    """MB of a process and those that it started. What several share is divided among them (PSS)."""
    try:
        started = " ".join(p.read_text() for p in Path(f"/proc/{pid}/task").glob("*/children"))
        shares = Path(f"/proc/{pid}/smaps_rollup").read_text().split("\nPss:")[1]
    except (OSError, IndexError):  # it ends just now
        return 0
    return int(shares.split()[0]) / 1024 + sum(map(held_mb, started.split()))


def child(net, side, count):
    """Import all, wait, and take some steps."""
    V, make = 65, {"ours": our_step, "torch": their_step}[side]
    X, y = np.random.default_rng(0).integers(V, size=(2, NETS[net][0], STEPS))
    if side == "torch":
        import torch

        torch.set_num_threads(count)
        opened = contextlib.nullcontext()
    else:
        from handgrad import workers

        opened = workers(count)
    make("rnn", V)(X[:1, :1], y[:1, :1])
    print("ready", flush=True)
    sys.stdin.read()
    with opened:
        step, until = make(net, V), time.perf_counter() + WARM
        while time.perf_counter() < until:
            step(X, y)
        for _ in range(5):
            step(X, y)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    choices = [*NETS, "generate"]
    parser.add_argument("nets", nargs="*", metavar="NET", help=f"of {', '.join(choices)}")
    parser.add_argument("--threads", type=int, nargs="+", default=[2, 1])
    parser.add_argument("--memory", action="store_true", help="measure memory, not speed")
    parser.add_argument("--child", choices=SIDES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    choices = list(NETS) if args.memory else choices
    if unknown := set(args.nets) - set(choices):
        parser.error(f"unknown nets {sorted(unknown)}, expected some of {choices}")
    if args.child:
        child(args.nets[0], args.child, args.threads[0])
        return
    head, row = (MEMORY, memory_row) if args.memory else (SPEED, speed_row)
    print(table(head, []), flush=True)
    for net in args.nets or choices:
        for count in args.threads:
            print(line(row(net, count)), flush=True)


SPEED = "net", "threads", "ratio", "quartiles", "handgrad, ms", "PyTorch, ms"
MEMORY = "net", "threads", "handgrad, MB", "in all", "PyTorch, MB", "in all"


def speed_row(net, count):
    times = generating(count) if net == "generate" else training(net, count)
    low, median, high = np.quantile(times[:, 1] / times[:, 0], [0.25, 0.5, 0.75])
    medians = (f"{1e3 * t:.1f}" for t in np.median(times, axis=0))
    return net, count, f"**{median:.2f}**", f"{low:.2f} to {high:.2f}", *medians


def memory_row(net, count):
    sides = [memory(net, side, count) for side in SIDES]
    return net, count, *(f"{mb:.0f}" for most, before in sides for mb in (most - before, most))


if __name__ == "__main__":
    if os.environ.pop("OPENBLAS_CORETYPE", None):  # each library shall choose its own kernels
        os.execv(sys.executable, [sys.executable, "-m", "benchmarks.sequences", *sys.argv[1:]])
    main()
