"""The sources of the docs site: notebooks as they should be, links that lead somewhere, docstrings."""

import json
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"
PAGES = sorted(p for p in DOCS.glob("**/*.md") if "_build" not in p.parts)
NOTEBOOKS = sorted((DOCS / "tutorials").glob("*.ipynb"))


@pytest.fixture
def extensions(monkeypatch):
    monkeypatch.syspath_prepend(DOCS / "extensions")


def text_of(path):
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        text = "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    return text


@pytest.mark.parametrize("path", [*PAGES, *NOTEBOOKS], ids=lambda path: path.name)
def test_links_to_files_lead_somewhere(path):
    text = re.sub(r"^```.*?^```$|`[^`\n]+`", "", text_of(path), flags=re.MULTILINE | re.DOTALL)
    targets = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", text)
    assert [t for t in targets if not (path.parent / t).exists()] == []


# ---------------------------------------------------------------------------- tutorials


def cells_of(path, kind):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == kind]


def test_tutorials_are_numbered_and_lead_on():
    assert len(NOTEBOOKS) == 13
    for number, path in enumerate(NOTEBOOKS, 1):
        texts = cells_of(path, "markdown")
        assert path.name.startswith(f"{number:02}_")
        assert texts[0].startswith(f"# {number}. ")
        following = NOTEBOOKS[number : number + 1]
        assert all(f"]({other.name})" in texts[-1] for other in following)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_tutorial_ends_with_three_exercises(path):
    last = cells_of(path, "markdown")[-1]
    assert last.startswith("## Exercises\n")
    numbers = re.findall(
        r"^\*\*(\d)\.\*\* .*?^<details><summary>Answer</summary>\n\n", last, re.M | re.S
    )
    assert numbers == ["1", "2", "3"]
    assert last.count("\n\n</details>\n") == last.count("<details>") == 3


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_tutorial_is_kept_without_its_results(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert [c for c in code if c["outputs"] or c["execution_count"]] == []
    assert max(len(source.splitlines()) for source in cells_of(path, "code")) <= 36


def test_hidden_answers_are_found(extensions):
    pytest.importorskip("nbformat")
    from hidden_answers import answers, read

    text = "```python\nshown\n```\n<details>\n\n```python\nx = 1\n```\n\n</details>\n"
    assert answers(text) == ["x = 1\n"]
    notebook = {"cells": [{"cell_type": "markdown", "metadata": {}, "id": "a", "source": text}]}
    notebook |= {"metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    _, hidden = read(json.dumps(notebook)).cells
    assert (hidden.source, hidden.metadata.tags) == ("x = 1\n", ["remove-cell"])


# ---------------------------------------------------------------------------- the site's own code


@pytest.mark.parametrize(
    ("page", "fault"),
    [
        ('<a href="b.html#here">', ""),
        ('<a href="https://x.org">', ""),
        ('<a href="#">', ""),
        ('<img src="data:image/png;base64,AA">', ""),
        ('<a href="c.html">', "c.html does not exist"),
        ('<img src="sub/none.png">', "sub/none.png does not exist"),
        ('<a href="b.html#there">', "names a place"),
        ('<a href="#there">', "names a place"),
        ('<script src="https://x.org/a.js">', "is fetched from elsewhere"),
        ('<link href="//x.org/a.css">', "is fetched from elsewhere"),
    ],
)
def test_broken_links_are_found(tmp_path, extensions, page, fault):
    from links import broken_links

    (tmp_path / "a.html").write_text(page)
    (tmp_path / "b.html").write_text('<h1 id="here">')
    lines = list(broken_links(tmp_path))
    assert len(lines) == bool(fault)
    assert all(line.startswith("a.html: ") and fault in line for line in lines)


@pytest.mark.parametrize(
    ("docstring", "rst"),
    [
        ("A line with x_n * w and |x|.", "A line with x\\_n \\* w and \\|x\\|."),
        ("LeNet's 6@5x5", "LeNet's 6\\@5x5"),
        ("See `relu` and `relu(x)`.", "See :py:obj:`relu` and ``relu(x)``."),
        ("The rule's *state* is kept.", "The rule's *state* is kept."),
        ("w: (D, M).  b: (M,).", "w: (D, M).  b: (M,)."),
        (">>> x_\n1", ">>> x_\n1"),
        ("    - one,\n      more\n    - two", "- one,\n  more\n- two"),
        (
            "Two:\n    p      the share\n    seed   any_thing\n           more",
            "Two:\n\n.. list-table::\n   :class: names\n\n   * - ``p``\n     - the share\n"
            "   * - ``seed``\n     - any\\_thing\n       more",
        ),
        (
            "    long name   what it is\n    p   too far left",
            ".. code-block:: none\n   :class: plain\n\n   long name   what it is\n   p   too far left",
        ),
        (
            "    a   = b   c_\n    dx  = d",
            ".. code-block:: none\n   :class: plain\n\n   a   = b   c_\n   dx  = d",
        ),
    ],
)
def test_docstrings_become_rst(extensions, docstring, rst):
    from docstrings import as_rst

    assert as_rst(docstring) == rst


def test_every_public_name_is_in_the_reference(tmp_path, extensions):
    from reference_pages import public_modules, write_pages

    (tmp_path / "gone.rst").write_text("of a module that is no more")
    write_pages(tmp_path)
    modules = {module.__name__.removeprefix("handgrad."): module for module in public_modules()}
    assert {path.stem for path in tmp_path.iterdir()} == set(modules) >= {"layers", "models", "solver"}
    for name, module in modules.items():
        page = (tmp_path / f"{name}.rst").read_text()
        entry = r"^(?:\.\. (?:auto|py:)(?:function|class|data):: |``)(\w+)(?:$|`` is )"
        assert sorted(re.findall(entry, page, re.MULTILINE)) == sorted(module.__all__)
    page = (tmp_path / "layers.rst").read_text()
    assert page.index(" conv_forward_naive\n") < page.index(" conv_forward\n")
