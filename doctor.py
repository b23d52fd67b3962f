"""What is wrong with a gradient: causes, each tested in numbers.

`gradient_check` calls `diagnose` for the arrays whose gradient is wrong. The functions are black boxes:
nothing is read from names or source. Each cause is a hypothesis about the numbers: written equals
-numeric; written, transposed, equals numeric; adding is replaced by assigning, and written comes out.
A numeric Jacobian (the derivative of every output by every entry) tells what such a gradient would be.

The causes:
    sign            the gradient, or the wrong part of it, is the negative of the right one
    factor          a constant ratio
    transposed      axes in another order, or reversed
    order           the gradients are returned in another order
    sum             not summed over the batch, or over the wrong axis
    mask            the gradient passes where forward did not, or the reverse
    statistics      mean or variance treated as constant
    overwritten     overlapping windows that assign instead of adding
    border          wrong at the edges: padding or stride off by one, a window too few
    detached        zero where it should not be, or a path that is left out
    input changed   forward or backward wrote into its arguments
    stale           backward uses something of the last forward call instead of its cache
    random          two calls differ
    precision       float32 where float64 came in
    kink            no fault: the point lies on a kink of the function; move it
    regularisation  in models: the gradient of the penalty is missing, doubled, or put on biases
    unknown
"""

import re
from dataclasses import dataclass, replace

import numpy as np

from .causes.case import Case, Finding, as_numbers, count
from .causes.norms import statistics, wrong_axis
from .causes.paths import detached, mask
from .causes.penalties import regularisation, scaled_data_term, turned_data_term
from .causes.places import order, sums, transposed
from .causes.ratios import factor, precision, sign
from .causes.steps import one_step_only
from .causes.windows import border, overwritten

__all__ = ["CAUSES", "Diagnosis", "diagnose", "of_layers", "of_numbered_layers"]


@dataclass(frozen=True)
class Diagnosis:
    """Why the gradient of one array is wrong: a cause, the evidence in numbers, and what to do."""

    array: str
    cause: str
    evidence: str
    advice: str

    def __str__(self):
        return f"{self.array}: {self.cause}. {self.evidence} {self.advice}"


# ---------------------------------------------------------------------------- the table


def unknown(case):
    """What can be said where no hypothesis fits."""
    w, n = case.written, case.numeric
    if not case.fits:
        came = "no numbers" if w is None else f"the shape {w.shape}"
        return Finding(
            f"The gradient has {came}, expected {n.shape}.", "Return one number for each entry.", 0
        )
    bad = ~np.isfinite(w)
    if bad.any():
        return Finding(
            f"{count(bad)} are not finite: {case.at(bad)}.",
            "Look for a division by 0, a log of 0, or an exp that overflows.",
            0,
        )
    if not case.known.any():
        return Finding(
            "Forward is not finite here, or a step away.", "Choose a point where it is finite.", 0
        )
    words = f"{count(case.wrong)} are wrong{case.where(case.wrong)}: {case.at(case.wrong)}."
    advice = "Derive the gradient of this entry again, on paper, for the smallest shapes."
    return Finding(words + _direction(case) + _by_output(case) + _not_linear(case), advice, 0)


def _direction(case):
    w, n = case.written[case.known], case.numeric[case.known]
    lengths = np.linalg.norm(w) * np.linalg.norm(n)
    return (
        f" The cosine between written and numeric is {float(w @ n) / lengths:.3f}." if lengths else ""
    )


def _by_output(case):
    """A sentence if backward's Jacobian has the right rows, each times a number of its own."""
    right, written = case.jacobian, case.written_jacobian
    if right is None or written is None or not case.known.all():
        return ""
    with np.errstate(all="ignore"):
        c = np.sum(written * right, axis=1) / np.sum(right * right, axis=1)
    if not np.all(np.isfinite(c)) or not case.same(c[:, None] * right, written):
        return ""
    return (
        f" Backward has each output's derivative times a number, from {c.min():.4g} to {c.max():.4g}: "
        "look at the derivative of the last function before out, such as tanh."
    )


def _not_linear(case):
    """A sentence if twice dout does not give twice the gradient."""
    if case.box.kind != "layer":
        return ""
    try:
        twice = as_numbers(case.box.gradients(case.box.point, 2 * case.box.dout)[case.name])
    except Exception:  # the code under examination
        return ""
    if np.allclose(twice, 2 * case.written):
        return ""
    if np.allclose(twice, case.written):
        return " Twice dout gives the same gradient: backward does not multiply by dout."
    return " Twice dout does not give twice the gradient, but backward must be linear in dout."


# The strongest finding wins, and of equal ones the first. First come hypotheses that explain all
# numbers by one fact: they are in another place, cut off, or have one ratio. Then those that look at
# entries one by one, which could explain more by chance. All predict the written numbers themselves.
CAUSES = [
    ("order", order),
    ("detached", detached),
    ("sign", sign),
    ("sum", sums),
    ("transposed", transposed),
    ("regularisation", regularisation),
    ("sign", turned_data_term),
    ("factor", factor),
    ("factor", scaled_data_term),
    ("precision", precision),
    ("overwritten", overwritten),
    ("overwritten", one_step_only),
    ("border", border),
    ("statistics", statistics),
    ("sum", wrong_axis),
    ("mask", mask),
    ("unknown", unknown),
]


def strongest(case):
    """(cause, Finding) of the hypothesis that explains the written gradient best."""
    if case.written is None or not np.all(np.isfinite(case.written)) or not case.known.any():
        return "unknown", unknown(case)
    if case.fits and not case.wrong.any():
        return "precision", Finding(
            f"The numbers are right, but only to {_off(case):.0e} of the largest entry.",
            "Keep the dtype of the arguments in every step, and avoid differences of large numbers.",
        )
    best = None
    for cause, hypothesis in CAUSES:
        finding = hypothesis(case)
        if finding and (best is None or finding.strength > best[1].strength):
            best = cause, finding
        if best and best[1].strength >= 1:
            break
    return best


def _off(case):
    off = np.abs(case.written - case.numeric)[case.known]
    return float(np.max(off)) / max(case.scale, np.finfo(float).tiny)


# ---------------------------------------------------------------------------- diagnoses

ADVICE = {  # for what engine/blackbox.py sees by itself
    "input changed": "Work on a copy: out = x.copy(), or an expression that makes a new array.",
    "precision": "Keep the dtype of the arguments: np.zeros_like(x), no astype(np.float32).",
    "random": "Draw from a generator with a fixed seed, and keep the mask in the cache.",
    "stale": "Take everything backward needs from its cache, not from globals or attributes.",
    "unknown": "Call backward by itself on small arrays, and look at this line.",
}


def diagnose(box, written, rows, facts):
    """A Diagnosis for each array that failed, and for what is wrong besides.

    written: what backward gave, by array.  rows: of the report.  facts: from the box.
    """
    cases = {}
    cases |= {name: Case(box, name, written.get(name), cases) for name in box.point}
    found = {f.array: Diagnosis(f.array, f.cause, f.evidence, ADVICE[f.cause]) for f in facts}
    for row in rows:
        known = found.get(row.name)
        if row.passed and row.kink != "":
            found[row.name] = _kink(row)
        elif not row.passed and (known is None or known.cause == "precision"):
            found[row.name] = _diagnosis(cases[row.name], known)
    if box.kind == "layer":
        _share(found)
    for name in set(written) - set(box.point):
        found[name] = Diagnosis(
            name,
            "unknown",
            f"This gradient is one too many: {len(box.point)} arrays are expected.",
            f"Return one gradient for each of {', '.join(box.point)}.",
        )
    return list(found.values())


SHARED = ("detached", "factor", "mask", "overwritten", "sign", "statistics", "sum", "transposed")


def _share(found):
    """Give what is not explained by itself the cause of another array: both may have one reason."""
    known = next((d for d in found.values() if d.cause in SHARED), None)
    for name, d in found.items() if known else ():
        if d.cause == "unknown":
            words = f"{d.evidence} {known.array} is wrong, too, and a gradient inside may spoil both."
            advice = f"Mend {known.array} first, see there."
            found[name] = replace(known, array=name, evidence=words, advice=advice)


def _kink(row):
    at = "along a random direction" if row.kink == "direction" else f"at {row.kink}"
    return Diagnosis(
        row.name,
        "kink",
        f"The derivatives to the left and to the right differ {at}; written is one that fits.",
        "This is no fault: move the point a little to check these entries, too.",
    )


def _diagnosis(case, known):
    """The best explanation; what is known already stands unless another explains the numbers."""
    if case.raw is None:
        return Diagnosis(
            case.name,
            "detached",
            "No gradient came for it.",
            "Return one gradient for each array, in the order of forward's arguments.",
        )
    with np.errstate(all="ignore"):
        cause, finding = strongest(case)
        if known is not None and (cause in ("unknown", "precision") or _nearly_right(case)):
            return known
    kind = "" if isinstance(case.raw, np.ndarray) else f"It came as a {type(case.raw).__name__}. "
    return Diagnosis(case.name, cause, kind + finding.evidence, finding.advice)


def _nearly_right(case):
    """Whether written is as near to numeric as float32 lets one see."""
    w, n = case.written[case.known], case.numeric[case.known]
    return case.derivative.single and np.linalg.norm(w - n) < 0.4 * np.linalg.norm(n)


# ---------------------------------------------------------------------------- models, layer by layer


def of_layers(report, layers):
    """Complete a model's report by the first of its layers, from the loss down, that is wrong itself.

    layers: (title, names of its input and parameters, report) of each, from the loss down. What fails
    in that layer gets the layer's own diagnosis, what fails below that of its input.
    """
    above = set()
    for title, names, found in layers:
        if not found:
            _adopt(report, title, names, found, above)
            return
        above |= set(names)


def _adopt(report, title, names, found, above):
    """Take over the diagnoses found in one layer, but for the parameters above it."""
    report.layer = title
    own = dict(zip([row.name for row in found.rows], names, strict=False))
    faults = [d for d in found.diagnoses if d.cause != "kink"]
    inside = {own.get(d.array): replace(d, evidence=f"{title}: {d.evidence}") for d in faults}
    reaching = inside.get(names[0]) or replace(faults[0], evidence=f"{title}: {faults[0].evidence}")
    report.diagnoses = [
        d if d.array in above else replace(inside.get(d.array, reaching), array=d.array)
        for d in report.diagnoses
    ]


def of_numbered_layers(report):
    """Name the first wrong layer of a model by the numbers in its parameters' names."""
    failed = {row.name for row in report.rows if not row.passed}
    numbers = {row.name: int(m[0]) for row in report.rows if (m := re.findall(r"\d+", row.name)[-1:])}
    wrong = [n for name, n in numbers.items() if name in failed]
    if not wrong:
        return
    number = max(wrong)
    _hand_down(report, {name for name, n in numbers.items() if n == number})
    own = [name for name, n in numbers.items() if n == number]
    right = [name for name in own if name not in failed]
    above = [name for name, n in numbers.items() if n > number]
    names = " and ".join(name for name in own if name in failed)
    if right:
        report.layer = f"layer {number}, in {names} itself: {' and '.join(right)} is right"
    elif above:
        report.layer = (
            f"layer {number} ({names}), or what lies between it and layer {number + 1}: "
            f"{' and '.join(above)} are right"
        )
    else:
        report.layer = f"layer {number} ({names}), the last one, or the loss"


def _hand_down(report, first):
    """Give what is not explained by itself the cause found in the first wrong layer."""
    found = next((d for d in report.diagnoses if d.array in first and d.cause != "unknown"), None)
    if found:
        words = f"What reaches it from above is wrong, see {found.array}: {found.evidence}"
        report.diagnoses = [
            replace(found, array=d.array, evidence=words) if d.cause == "unknown" else d
            for d in report.diagnoses
        ]
