"""How handgrad refuses: who, what came, what was expected, and the cure if it is known."""

import difflib

import numpy as np


def suggestion(name, known):
    """' Did you mean ...?' for the known name nearest to a wrong one, '' if none is near."""
    near = difflib.get_close_matches(str(name), [str(k) for k in known], n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def refuse_unknown(who, given, known, kind="keys", error=ValueError):
    """Raise if `given` holds a name that is not in `known`."""
    unknown = [name for name in given if name not in known]
    if unknown:
        raise error(
            f"{who}: unknown {kind} {unknown}; it knows {sorted(known)}."
            + suggestion(unknown[0], known)
        )


def refuse_settings(who, name, given, known):
    """Raise unless settings are a dict, with known keys only."""
    if not isinstance(given, dict):
        raise ValueError(f"{who}: {name} = {given!r}, expected a dict with some of {sorted(known)}.")
    refuse_unknown(who, given, known, f"keys of {name}")


def look_up(who, table, name, kind):
    """`table[name]`, or a ValueError that lists the names and the nearest one."""
    if not isinstance(name, str) or name not in table:
        raise ValueError(
            f"{who}: unknown {kind} {name!r}; expected one of {sorted(table)}."
            + suggestion(name, table)
        )
    return table[name]


def check_range(who, name, value, low, high, *, open_low=False, open_high=False, hint=""):
    """Raise unless `value` is a real number in the range."""
    try:
        above = value > low if open_low else value >= low
        inside = above and (value < high if open_high else value <= high)
    except TypeError:
        inside = False
    if not inside:
        left, right = "(" if open_low else "[", ")" if open_high else "]"
        raise ValueError(
            f"{who}: {name} = {value!r}, expected a number in {left}{low}, {high}{right}.{hint}"
        )


def check_count(name, value, low=1, optional=False, who="Solver"):
    """Raise ValueError unless `value` is a whole number from `low` up; optional: or None."""
    if optional and value is None:
        return
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < low:
        raise ValueError(f"{who}: {name} = {value!r}, expected a whole number from {low} up.")
