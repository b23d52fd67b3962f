"""Reading files of any origin: every read has a limit, and every error names the file.

A few bytes can ask for gigabytes: a .gz file unpacks to a thousand times its size, and a length in a
header can be any number. The readers therefore state how many bytes a file of their format can have.
"""

import contextlib
import gzip
import zlib
from pathlib import Path

__all__ = ["LimitedFile", "TooLongError", "most_bytes", "named", "opened", "tar_members"]

BLOCK = 512  # a tar archive consists of blocks of this many bytes
PIECE = 2**20  # bytes that are skipped at a time


class TooLongError(ValueError):
    """A file holds more bytes than its format allows."""


class LimitedFile:
    """An open binary file that raises TooLongError when more than `most` bytes are read from it."""

    def __init__(self, file, most):
        self._file, self._most, self._left = file, most, most

    def read(self, size=None):
        """The next `size` bytes, or all that are left; fewer at the end of the file."""
        wanted = self._left + 1 if size is None else min(size, self._left + 1)
        raw = self._file.read(wanted)
        self._left -= len(raw)
        if self._left < 0:
            raise TooLongError(f"it holds more than {self._most:,} bytes, which its format never needs")
        return raw


@contextlib.contextmanager
def opened(path, most):
    """Open a file for reading at most `most` bytes; a gzipped file is unpacked on the way.

    Yields a LimitedFile. Raises ValueError if the file holds more than that or if its gzip data are
    damaged, and OSError if the system cannot read it. Both name the path.
    """
    with open(path, "rb") as raw:
        gzipped = raw.peek(2)[:2] == b"\x1f\x8b"
        try:
            yield LimitedFile(gzip.GzipFile(fileobj=raw) if gzipped else raw, most)
        except TooLongError as error:
            raise ValueError(f"{path}: {error}.") from error
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(f"{path}: not a whole .gz file ({error}).") from error
        except OSError as error:
            if error.filename is None:
                raise OSError(error.errno, error.strerror, str(path)) from error
            raise


def most_bytes(path, unpacked):
    """How many bytes a file of any size may have: as many as it takes on the disk, or `unpacked`.

    For tables and arrays, which may be as large as their owner likes, but not expand at will.
    """
    return max(Path(path).stat().st_size, unpacked)


@contextlib.contextmanager
def named(path, what=""):
    """Turn whatever a file makes its reader stumble over into a ValueError that names the file.

    what: words to put before the reason.  An OSError that names the file already stays as it is.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError) and error.filename is not None:
            raise
        raise ValueError(f"{path}: {what}{str(error) or type(error).__name__}") from error


def tar_members(file, names, most):
    """Yield (name, bytes) for those members of a tar archive that `names` lists.

    file: the archive, open for reading; it is read once, from start to end.  most: how many bytes a
    member can have. Links, sparse files and all other kinds of members are refused if they bear one
    of the names, and skipped otherwise: nothing is followed, and nothing is written to the disk.
    Raises ValueError if the archive is damaged. Source of the format: POSIX.1-1988 (ustar).
    """
    while (header := _exactly(file, BLOCK)).strip(b"\0"):  # a block of zeros ends the archive
        name, kind, size = _tar_header(header)
        stored = size + -size % BLOCK
        if name not in names:
            _skip(file, stored)
            continue
        if kind not in b"0\0":
            raise ValueError(f"its member {name} is not a plain file")
        if size > most:
            raise ValueError(f"its member {name} has {size:,} bytes, expected at most {most:,}")
        yield name, _exactly(file, stored)[:size]
    while file.read(PIECE):  # gzip compares its sum at the end
        pass


def _tar_header(header):
    """Name, kind (one byte) and size of the member that a tar header announces."""
    name = header[:100].split(b"\0")[0].decode("latin1")
    kind = header[156:157]
    expected = sum(header) - sum(header[148:156]) + 8 * ord(" ")
    if _octal(header[148:156]) != expected:
        raise ValueError("a header in the archive has a wrong sum")
    has_no_data = kind in b"123456"  # links, devices, folders
    return name, kind, 0 if has_no_data else _octal(header[124:136])


def _octal(field):
    digits = field.strip(b" \0") or b"0"
    if not digits.isdigit():
        raise ValueError("a header in the archive has a number that is not octal")
    return int(digits, 8)


def _exactly(file, size):
    raw = file.read(size)
    if len(raw) < size:
        raise ValueError("the archive is cut short")
    return raw


def _skip(file, size):
    for start in range(0, size, PIECE):
        _exactly(file, min(PIECE, size - start))
