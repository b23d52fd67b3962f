"""Docstrings as reStructuredText: sentences as paragraphs, columns as tables, formulas as they stand.

A paragraph of a docstring is prose up to its first line that is indented or has a gap of two spaces or
more within a sentence. What follows is a list, if its lines begin with '- '; a table, if they are names
and what they mean, in two columns; else it is shown letter by letter.
"""

import re
import textwrap

__all__ = ["as_rst", "setup", "table"]

GAP = re.compile(r"[^\s.:] {2,}\S|\S {3,}\S")  # two spaces may part two sentences


def setup(app):
    app.connect("autodoc-process-docstring", _process)
    return {"parallel_read_safe": True}


def _process(app, what, name, obj, options, lines):
    lines[:] = [*as_rst("\n".join(lines)).splitlines(), ""]


def as_rst(text):
    """A docstring, without its indentation, as reStructuredText."""
    paragraphs = re.split(r"\n\s*\n", text.strip("\n"))
    return "\n\n".join(block for paragraph in paragraphs for block in _blocks(paragraph))


def _blocks(paragraph):
    if paragraph.startswith(">>>"):
        yield paragraph  # a session with Python is one in reStructuredText, too
        return
    lines = paragraph.splitlines()
    first = next((k for k, line in enumerate(lines) if line[:1] == " " or GAP.search(line)), len(lines))
    if first:
        yield _prose("\n".join(lines[:first]))
    if first < len(lines):
        yield _aligned(textwrap.dedent("\n".join(lines[first:])).splitlines())


def _aligned(lines):
    if lines[0].startswith("- ") and all(line.startswith(("- ", "  ")) for line in lines):
        return _prose("\n".join(lines))
    rows = _two_columns(lines)
    return table(rows) if rows else _as_it_stands(lines)


def _two_columns(lines):
    """[name, text] of each name, or [] if the lines are something else."""
    first = re.match(r"\S+ {2,}", lines[0])
    rows = []
    for line in lines:
        entry = re.fullmatch(r"(\S+(?: \S+)*) {2,}(\S.*)", line)
        if not first or re.search(r"\S {2,}\S", entry[2] if entry else line):
            return []
        if entry and entry.start(2) >= first.end():
            rows.append([entry[1], entry[2]])
        elif rows and line[: first.end()].isspace() and line[first.end()] != " ":
            rows[-1][1] += "\n" + line.strip()
        else:
            return []
    return rows


def table(rows):
    """Names and what they mean, as a table in reStructuredText."""
    lines = [".. list-table::", "   :class: names", ""]
    for name, text in rows:
        lines += [f"   * - ``{name}``", f"     - {_prose(text)}".replace("\n", "\n       ")]
    return "\n".join(lines)


def _as_it_stands(lines):
    return ".. code-block:: none\n   :class: plain\n\n" + textwrap.indent("\n".join(lines), "   ")


def _prose(text):
    """Text with `names` as links or literals, *words* stressed, all other characters as they are."""
    pieces = text.split("`")
    return "".join(_name(piece) if k % 2 else _plain(piece) for k, piece in enumerate(pieces))


def _name(text):
    return f":py:obj:`{text}`" if text.isidentifier() else f"``{text}``"


def _plain(text):
    escaped = re.sub(r"([\\*_|@])", r"\\\1", text)
    return re.sub(r"(?<!\S)\\\*(\w+)\\\*", r"*\1*", escaped)
