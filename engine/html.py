"""Tables in HTML, as notebooks show them."""

from html import escape

__all__ = ["shown", "table"]


def shown(value):
    """A value as a cell: four digits of a float, '-' for None."""
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def table(head, rows, caption=""):
    """A table of cells, which are shown as text: what looks like HTML in them is escaped."""
    caption = f"<caption>{escape(caption)}</caption>" if caption else ""
    lines = "".join(_line("td", row) for row in rows)
    return f"<table>{caption}<thead>{_line('th', head)}</thead><tbody>{lines}</tbody></table>"


def _line(tag, cells):
    return "<tr>" + "".join(f"<{tag}>{escape(str(cell))}</{tag}>" for cell in cells) + "</tr>"
