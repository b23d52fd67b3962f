"""The counts in docs/reliability.md: a table between two marks, a row for each attack."""

from pathlib import Path

from . import ATTACKS

__all__ = ["write"]

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
BEGIN, END = "<!-- counts -->", "<!-- end of counts -->"
HEAD = [
    "| attack | what is promised | cases | failed | what came out |",
    "| --- | --- | ---: | ---: | --- |",
]


def write(results):
    """Put the results, {attack: Result}, into the table. The rows of other attacks stay."""
    text = PAGE.read_text()
    before, _, rest = text.partition(BEGIN)
    table, _, after = rest.partition(END)
    rows = {line.split("`")[1]: line for line in table.splitlines() if line.startswith("| `")}
    rows |= {name: row(name, result) for name, result in results.items()}
    lines = [BEGIN, *HEAD, *(rows[name] for name in ATTACKS if name in rows), END]
    PAGE.write_text(before + "\n".join(lines) + after)


def row(name, result):
    outcomes = ", ".join(f"{count:,} {word}" for word, count in sorted(result.outcomes.items()))
    counts = f"{result.cases:,} | {len(result.failures):,}"
    return f"| `{name}` | {ATTACKS[name].promise} | {counts} | {outcomes} |"
