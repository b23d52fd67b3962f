"""From the options of a run to the arguments of a loader."""

import inspect

from ..engine.errors import look_up

__all__ = ["loaded"]

# What the options are called in loaders. A loader without `data_dir` needs no files of the user's.
KEYWORDS = {
    "data_dir": "data_dir",
    "text": "path",
    "context": "length",
    "stride": "stride",
    "streams": "num_streams",
}
REFUSED = ("text", "stride", "streams")  # where the loader does not take them


def loaded(loaders, settings):
    """The data set that the settings name, from a table of loaders."""
    name = settings["data"]
    loader = look_up("settings", loaders, name, "data")
    takes = inspect.signature(loader).parameters
    given = {option: settings[option] for option in KEYWORDS if settings.get(option) is not None}
    for option in REFUSED:
        if option in given and KEYWORDS[option] not in takes:
            raise ValueError(f"--data {name} takes no --{option}.")
    return loader(**{KEYWORDS[o]: value for o, value in given.items() if KEYWORDS[o] in takes})
