"""HTML tables, read back by the standard library's parser."""

from html.parser import HTMLParser

import pytest
from handgrad.engine.html import shown, table


class Cells(HTMLParser):
    def __init__(self):
        super().__init__()
        self.cells, self.tags = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)

    def handle_data(self, data):
        self.cells.append((self.tags[-1], data))


def test_cells_come_back_as_they_were():
    reader = Cells()
    reader.feed(table(["name", "shape"], [["W1", (3, 4)], ["<b>", "a & b"]], caption="a < b"))
    expected = [("caption", "a < b"), ("th", "name"), ("th", "shape"), ("td", "W1"), ("td", "(3, 4)")]
    assert reader.cells == [*expected, ("td", "<b>"), ("td", "a & b")]
    assert "b" not in reader.tags


@pytest.mark.parametrize(
    ("value", "cell"), [(None, "-"), (0.123456, "0.1235"), (3, "3"), ("a", "a"), (1e-9, "1e-09")]
)
def test_cells(value, cell):
    assert shown(value) == cell
