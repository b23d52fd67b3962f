"""The command line of the attacks; see __init__.py."""

import argparse
import importlib
import sys
import time

from . import ATTACKS, carried_out, page

MODULES = ("numbers", "files", "disk", "kill", "neighbours", "time_passes")


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.faults")
    parser.add_argument("names", nargs="*", help="modules or attacks (default: all)")
    parser.add_argument("--long", action="store_true", help="the long form")
    parser.add_argument("--case", type=int, help="only the case of this number")
    parser.add_argument("--write", action="store_true", help="write the counts into the page")
    args = parser.parse_args()
    for module in MODULES:
        importlib.import_module(f".{module}", __package__)
    chosen = [attack for attack in ATTACKS.values() if is_meant(attack.name, args.names)]
    if not chosen:
        parser.error(f"no attack is called {args.names}; expected some of {list(ATTACKS)}")
    results = {attack.name: shown(attack, numbers_of(attack, args)) for attack in chosen}
    if args.write:
        page.write(results)
    return 1 if any(result.failures for result in results.values()) else 0


def is_meant(name, names):
    return not names or name in names or name.partition(".")[0] in names


def numbers_of(attack, args):
    """The numbers of the cases to be tried."""
    if args.case is not None:
        return [args.case]
    return range(attack.long if args.long else attack.short)


def shown(attack, cases):
    """Carry it out, and print what came out and how a failure is repeated."""
    started = time.perf_counter()
    result = carried_out(attack, cases)
    for number, trace in result.failures.items():
        print(f"{trace}FAILED: python -m tests.faults {attack.name} --case {number}\n")
    outcomes = "".join(f", {count} {word}" for word, count in sorted(result.outcomes.items()))
    seconds = time.perf_counter() - started
    counts = f"{result.cases} cases, {len(result.failures)} failed{outcomes}"
    print(f"{attack.name}: {counts} ({seconds:.0f} s)", flush=True)
    return result


if __name__ == "__main__":
    sys.exit(main())
