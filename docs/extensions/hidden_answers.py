"""Answers of exercises are hidden, but run: code in <details> is executed, unseen."""

import re

import nbformat

__all__ = ["answers", "read", "setup"]

FENCE = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
DETAILS = re.compile(r"<details>.*?</details>", re.DOTALL)


def setup(app):
    return {"parallel_read_safe": True}


def read(text):
    """A notebook from its file, with a cell that is not shown after each cell that has answers."""
    notebook = nbformat.reads(text, as_version=4)
    notebook.cells = [new for cell in notebook.cells for new in (cell, *_hidden(cell))]
    return notebook


def answers(markdown):
    """The code in the hidden answers of a text."""
    return [code for hidden in DETAILS.findall(markdown) for code in FENCE.findall(hidden)]


def _hidden(cell):
    if cell.cell_type != "markdown":
        return []
    tags = {"tags": ["remove-cell"]}
    return [nbformat.v4.new_code_cell(code, metadata=tags) for code in answers(cell.source)]
