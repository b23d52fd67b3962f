"""Optional packages, imported where they are needed."""

import importlib

__all__ = ["need"]


def need(who, module, extra):
    """The module, or an ImportError that says which `pip install` brings it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ImportError(
            f"{who} needs {error.name}, which is not installed: pip install 'handgrad[{extra}]'"
        ) from error
