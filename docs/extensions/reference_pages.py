"""A page of the reference for each public module: reference/NAME.rst, made when the site is built."""

import ast
import functools
import importlib
import inspect
import pkgutil
import textwrap
from pathlib import Path

import handgrad
from docstrings import table

__all__ = ["public_modules", "setup", "write_pages"]

INSIDE = {"engine", "tests", "benchmarks", "experiments", "examples", "docs", "setup", "__main__"}


def setup(app):
    app.connect("config-inited", _write)
    return {"parallel_read_safe": True}


def _write(app, config):
    from sphinx.util import logging

    write_pages(Path(app.srcdir) / "reference")
    for module in modules_at_the_top():
        if isinstance(module, ImportError):
            logging.getLogger(__name__).warning(f"no page in the reference: {module}")


def public_modules():
    """The modules at the top of the package that offer something: handgrad.layers and its like."""
    return [module for module in modules_at_the_top() if getattr(module, "__all__", None)]


@functools.cache
def modules_at_the_top():
    """The modules for users; in the place of one whose extra is missing the ImportError."""
    names = [module.name for module in pkgutil.iter_modules(handgrad.__path__)]
    return [_imported(f"handgrad.{name}") for name in names if name not in INSIDE]


def _imported(name):
    try:
        return importlib.import_module(name)
    except ImportError as error:
        return error


def write_pages(folder):
    """Pages that have not changed are left alone, so that Sphinx need not read them again."""
    folder.mkdir(exist_ok=True)
    pages = {f"{_short(module)}.rst": _page(module) for module in public_modules()}
    for path in folder.iterdir():
        if path.name not in pages:
            path.unlink()
    for name, text in pages.items():
        path = folder / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def _short(module):
    return module.__name__.removeprefix("handgrad.")


def _page(module):
    title = _short(module).replace("_", r"\_")
    head = f"{title}\n{'=' * len(title)}\n\n.. automodule:: {module.__name__}"
    return "\n\n".join([head, *(_entry(module, name) for name in in_order(module))]) + "\n"


def in_order(module):
    """The names in a module's __all__ in the order of its file, those that it imports at the end."""
    imported, defined = [], []
    for node in ast.parse(inspect.getsource(module)).body:
        imported += [a.asname or a.name for a in getattr(node, "names", [])]
        targets = [name for target in getattr(node, "targets", []) for name in ast.walk(target)]
        defined += [name.id for name in targets if isinstance(name, ast.Name)]
        defined += [node.name] if hasattr(node, "name") else []
    return sorted(module.__all__, key=[*defined, *imported].index)


def _entry(module, name):
    thing = getattr(module, name)
    home = getattr(thing, "__module__", module.__name__)
    if home in {m.__name__ for m in public_modules()} - {module.__name__}:
        return f"``{name}`` is :py:obj:`~{home}.{name}`."
    if inspect.isclass(thing):
        # scikit-learn gives its estimators a method of its own, about a score's weights
        return f".. autoclass:: {name}\n   :members:\n   :exclude-members: set_score_request"
    if not callable(thing):
        return f".. py:data:: {name}\n\n" + textwrap.indent(_content(thing), "   ")
    if thing.__name__ != name:
        return f".. py:function:: {name}\n\n   The same as :py:func:`{thing.__name__}`."
    return f".. autofunction:: {name}"


def _content(thing):
    """What a table or a constant holds."""
    if isinstance(thing, dict) and all(isinstance(text, str) for text in thing.values()):
        return table([[repr(key), text] for key, text in thing.items()])
    if isinstance(thing, dict):
        return "A dict with the keys " + ", ".join(f"``{key!r}``" for key in thing) + "."
    if isinstance(thing, list | tuple) and not all(isinstance(entry, str | int) for entry in thing):
        return f"A {type(thing).__name__} of {len(thing)} entries."
    return f"``{thing!r:.70}``"
