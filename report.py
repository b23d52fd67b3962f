"""The report on a classifier: accuracy with an interval, class by class, and the confusion matrix."""

from dataclasses import dataclass

import numpy as np

from .engine import html

__all__ = ["ClassReport", "class_report", "confusion_matrix", "wilson_interval"]


def wilson_interval(right, total, confidence=0.95):
    """The interval of an accuracy of `right` out of `total` (Wilson 1927): (low, high).

    right, total: whole numbers, 0 <= right <= total, total at least 1.  confidence: the share of such
    intervals that hold the true accuracy (0.95).
    """
    from scipy.stats import binomtest  # when first needed: it costs time at import

    interval = binomtest(int(right), int(total)).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


@dataclass(frozen=True)
class ClassReport:
    """How a classifier did on examples whose classes are known. It prints as a table; a table in
    notebooks, too.

    counts  (C, C): entry (i, j) is how many of class i were taken for class j
    """

    counts: np.ndarray
    class_names: tuple

    @property
    def total(self):
        """The number of examples."""
        return int(self.counts.sum())

    @property
    def right(self):
        """The number of examples whose class was predicted."""
        return int(np.trace(self.counts))

    @property
    def accuracy(self):
        """The share of examples whose class was predicted."""
        return self.right / self.total

    @property
    def interval(self):
        """The 95 % interval of the accuracy."""
        return wilson_interval(self.right, self.total)

    def rows(self):
        """(name, examples, recall, precision, taken most often for) of each class."""
        for k, name in enumerate(self.class_names):
            of_class, taken = self.counts[k].sum(), self.counts[:, k].sum()
            others = np.where(np.arange(len(self.counts)) == k, -1, self.counts[k])
            worst = self.class_names[others.argmax()] if others.max() > 0 else "-"
            recall, precision = (self.counts[k, k] / n if n else None for n in (of_class, taken))
            yield name, int(of_class), recall, precision, worst

    @property
    def caption(self):
        """The accuracy and its interval, in one line."""
        low, high = self.interval
        right = f"{self.right} of {self.total} right"
        return f"accuracy {self.accuracy:.4f}, {right}, 95 % interval {low:.4f} to {high:.4f}"

    def __repr__(self):
        width = max(12, *(len(str(name)) for name in self.class_names))
        lines = [
            self.caption,
            f"{'class':{width}} {'examples':>8} {'recall':>8} {'precision':>9}  taken most often for",
        ]
        for name, examples, recall, precision, worst in self.rows():
            shown = [f"{v:.4f}" if v is not None else "-" for v in (recall, precision)]
            lines.append(f"{name!s:{width}} {examples:8} {shown[0]:>8} {shown[1]:>9}  {worst}")
        return "\n".join(lines)

    def _repr_html_(self):
        head = ("class", "examples", "recall", "precision", "taken most often for")
        return html.table(head, [map(html.shown, row) for row in self.rows()], self.caption)


def confusion_matrix(y, predicted, num_classes):
    """counts (C, C): entry (i, j) is how many of class i were taken for class j.

    y, predicted: labels (N,), integers in [0, num_classes). Raises ValueError for any other.
    """
    y, predicted = _checked_labels("confusion_matrix", y, predicted)
    for name, labels in (("y", y), ("predicted", predicted)):
        if labels.size and not (0 <= labels.min() and labels.max() < num_classes):
            raise ValueError(
                f"confusion_matrix: {name} holds labels from {labels.min()} to {labels.max()}, "
                f"expected 0 to {num_classes - 1}."
            )
    counts = np.zeros((num_classes, num_classes), int)
    np.add.at(counts, (y.astype(np.intp), predicted.astype(np.intp)), 1)  # bools would be a mask
    return counts


def _checked_labels(who, y, predicted):
    """Both as arrays (N,) of labels."""
    y, predicted = np.asarray(y), np.asarray(predicted)
    if y.shape != predicted.shape or y.ndim != 1:
        raise ValueError(
            f"{who}: y has shape {y.shape} and predicted {predicted.shape}, expected as many labels in "
            "both, (N,)."
        )
    for name, labels in (("y", y), ("predicted", predicted)):
        if labels.size and labels.dtype.kind not in "biu":
            raise ValueError(
                f"{who}: {name} has dtype {labels.dtype}, expected labels, integers from 0."
            )
    return y, predicted


def class_report(y, predicted, class_names=None):
    """A ClassReport of labels y and predicted labels, both (N,), integers from 0, N at least 1.

    class_names: a word for each class (None: the numbers up to the largest label). Raises ValueError
    for other shapes, other dtypes, and labels without a name.
    """
    y, predicted = _checked_labels("class_report", y, predicted)
    if not y.size:
        raise ValueError("class_report: there are no labels, expected at least one.")
    C = int(max(y.max(), predicted.max())) + 1 if class_names is None else len(class_names)
    names = tuple(range(C)) if class_names is None else tuple(class_names)
    return ClassReport(confusion_matrix(y, predicted, C), names)
