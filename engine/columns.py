"""Tables as text."""

__all__ = ["in_columns"]


def in_columns(lines, right=()):
    """Rows of cells, text, in columns of the width of their widest cell.

    right: the numbers of the columns that are aligned to the right, from 0.
    """
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    sides = [str.rjust if k in right else str.ljust for k in range(len(widths))]
    return "\n".join(
        "  ".join(side(cell, w) for side, cell, w in zip(sides, line, widths, strict=True)).rstrip()
        for line in lines
    )
