"""Tables as text, by hand."""

import pytest
from handgrad.engine.columns import in_columns

LINES = [("", "layer", "size"), ("1", "relu", "12"), ("10", "affine 3", "-")]
ROWS = [  # columns aligned to the right, the table
    ((), ["    layer     size", "1   relu      12", "10  affine 3  -"]),
    ((0, 2), ["    layer     size", " 1  relu        12", "10  affine 3     -"]),
]


@pytest.mark.parametrize(("right", "expected"), ROWS)
def test_columns_by_hand(right, expected):
    assert in_columns(LINES, right).splitlines() == expected


def test_a_row_that_lacks_a_cell_is_refused():
    with pytest.raises(ValueError, match="zip"):
        in_columns([("a", "b"), ("c",)])
