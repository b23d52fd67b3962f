"""The report's numbers, counted by hand."""

import numpy as np
import pytest
from handgrad import vis_utils
from handgrad.report import class_report, confusion_matrix, wilson_interval


def test_wilson_interval_of_the_books():
    """3 errors in 1000 and 95 in 10,000, as the field quotes them."""
    low, high = wilson_interval(997, 1000)
    assert (1 - high, 1 - low) == pytest.approx((0.0010, 0.0088), abs=5e-5)
    low, high = wilson_interval(9905, 10000)
    assert (1 - high, 1 - low) == pytest.approx((0.0078, 0.0116), abs=5e-5)


def test_counts_by_hand():
    report = class_report([0, 0, 0, 1, 2, 2], [0, 1, 1, 1, 2, 0], ["cat", "dog", "frog"])
    assert (report.right, report.total, report.accuracy) == (3, 6, 0.5)
    rows = list(report.rows())
    assert rows[0] == ("cat", 3, pytest.approx(1 / 3), 0.5, "dog")
    assert rows[1] == ("dog", 1, 1.0, pytest.approx(1 / 3), "-")
    assert rows[2] == ("frog", 2, 0.5, 1.0, "cat")
    lines = str(report).splitlines()
    assert lines[0].startswith("accuracy 0.5000, 3 of 6 right, 95 % interval 0.1")
    assert lines[2].split() == ["cat", "3", "0.3333", "0.5000", "dog"]


def test_long_names_stay_in_their_column():
    lines = str(class_report([0, 1], [0, 1], ["a", "Pembroke Welsh corgi"])).splitlines()
    assert len({line.index("1.0000") for line in lines[2:]}) == 1
    assert lines[3].startswith("Pembroke Welsh corgi ")


def test_a_class_that_never_came():
    assert list(class_report([0, 0], [0, 0], "ab").rows())[1] == ("b", 0, None, None, "-")
    assert "-" in str(class_report([0], [0], "ab"))


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64])
def test_labels_of_any_dtype_are_counted(dtype):
    y, predicted = np.array([1, 0, 1], dtype), np.array([1, 1, 1], dtype)
    for n in (2, 3):
        counts = [[0, 1], [0, n - 1]]
        np.testing.assert_array_equal(confusion_matrix(y[:n], predicted[:n], 2), counts)


def test_errors():
    with pytest.raises(ValueError, match=r"y has shape \(2,\) and predicted \(3,\)"):
        class_report([0, 1], [0, 1, 1])
    with pytest.raises(ValueError, match="at least one"):
        class_report(np.empty(0, int), np.empty(0, int))
    with pytest.raises(ValueError, match=r"class_report: y has shape \(2, 1\) and predicted \(2, 1\)"):
        class_report([[0], [1]], [[0], [1]])
    with pytest.raises(ValueError, match=r"confusion_matrix: y has shape \(3,\) and predicted \(1,\)"):
        confusion_matrix([0, 1, 2], [0], 3)  # which NumPy would broadcast


def test_the_confusion_matrix_has_its_old_place_too():
    assert vis_utils.confusion_matrix is confusion_matrix


def test_the_report_shows_itself_as_a_table():
    report = class_report([0, 0, 1], [0, 1, 1], ["<cat>", "dog"])
    assert repr(report) == str(report)
    page = report._repr_html_()
    assert "<caption>accuracy 0.6667, 2 of 3 right" in page
    assert "<td>&lt;cat&gt;</td><td>2</td><td>0.5</td><td>1</td><td>dog</td>" in page
