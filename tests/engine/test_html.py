"""HTML tables, read back by the standard library's parser."""

from html.parser import HTMLParser

from handgrad.engine.html import table


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
