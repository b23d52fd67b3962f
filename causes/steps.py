"""Recurrences: what one step alone adds to the weights that all steps share."""

import itertools

from .case import Finding

__all__ = ["one_step_only"]


def one_step_only(case):
    """Written is what the first step adds: a loop from the last step to the first assigns."""
    box = case.box
    if box.kind != "layer" or box.out.ndim != 3 or not case.fits:
        return None
    N, T, H = box.out.shape
    sequences = [name for name, a in box.point.items() if a.ndim == 3 and a.shape[:2] == (N, T)]
    states = [name for name, a in box.point.items() if a.shape == (N, H)]
    for x, h0 in itertools.product(sequences, states):
        if T > 1 and case.name not in (x, h0) and _is_first_step(case, x, h0):
            return Finding(
                "Written is what the first step alone adds; the other steps use these numbers, too.",
                "Write += instead of = in the loop: what every step uses adds up what comes back.",
            )
    return None


def _is_first_step(case, x, h0):
    """Whether written is the first step's share, if out is a recurrence over x that begins with h0."""
    box, point = case.box, case.box.point
    later = {**point, x: point[x][:, 1:], h0: box.out[:, 0]}
    try:
        carried = case.cases[h0].gradient_of(box.value, later, box.dout[:, 1:])
        dh = box.dout[:, 0] + carried
        first = {**point, x: point[x][:, :1]}
        return case.is_written(case.gradient_of(box.value, first, dh[:, None]))
    except Exception:  # the code under examination may refuse shorter sequences
        return False
