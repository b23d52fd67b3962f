"""Matrices of real numbers out of MATLAB 5 files (.mat, up to version 7).

The file is a header of 128 bytes and elements. An element is a tag (its kind and its number of bytes)
and its data. A matrix is an element that consists of elements: flags, dimensions, name, numbers. It
may lie in a compressed element. Source of the format: MathWorks, "MAT-File Format".
"""

import itertools
import math
import zlib

import numpy as np

from .files import opened

__all__ = ["read_mat"]

LARGEST_MAT = 2**26  # bytes, packed and unpacked; the course's digits.mat unpacks to 2,827,368
MATRIX, COMPRESSED = 14, 15
NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
NUMERIC_CLASSES = range(6, 16)  # double, single and the integers; below: cells, structs, text, sparse
COMPLEX = 0x800


def read_mat(path, names):
    """Those matrices of a MATLAB 5 file that `names` lists: a dict of arrays in column order.

    A name that the file lacks is absent from the dict. The arrays have the type of number that the
    file stores, which may be smaller than that of MATLAB's variable.
    Raises ValueError if the file is damaged, has another format, unpacks to more than 67,108,864
    bytes, or if a matrix of one of the names is complex, sparse or not of numbers.
    """
    with opened(path, LARGEST_MAT) as file:
        raw = file.read()
    try:
        return dict(_matrices(raw, names))
    except ValueError as error:
        raise ValueError(f"{path}: not a whole MATLAB 5 file ({error}).") from error


def _matrices(raw, names):
    """Yield (name, array) for each matrix that `names` lists."""
    order = {b"\x00\x01IM": "<", b"\x01\x00MI": ">"}.get(raw[124:128])
    if order is None:
        raise ValueError("its header does not end with the version of such a file")
    room = LARGEST_MAT
    for kind, content in _elements(memoryview(raw)[128:], order):
        if kind == COMPRESSED:
            content = _unpacked(content, room)
            room -= len(content)
            kind, content = next(_elements(memoryview(content), order), (None, b""))
        if kind != MATRIX:
            raise ValueError(f"it has an element of kind {kind}, expected a matrix")
        parts = _elements(content, order)
        head = [part for _, part in itertools.islice(parts, 3)]
        if len(head) < 3:
            raise ValueError("it has a matrix without a name")
        flags, dimensions, name = head
        name = bytes(name).decode("latin1")
        if name in names:
            yield name, _matrix(name, flags, dimensions, next(parts, (None, b"")), order)


def _matrix(name, flags, dimensions, numbers, order):
    """The array of a matrix; `numbers` is an element: the kind of number, and the bytes."""
    bits = int.from_bytes(flags[:4], "little" if order == "<" else "big")
    if len(flags) != 8 or bits & 0xFF not in NUMERIC_CLASSES or bits & COMPLEX:
        raise ValueError(f"{name} is not a full matrix of real numbers")
    kind, content = numbers
    if kind not in NUMBERS:
        raise ValueError(f"{name} has numbers of the unknown kind {kind}")
    dtype = np.dtype(order + NUMBERS[kind])
    shape = _numbers(dimensions, np.dtype(order + "i4")).tolist()
    if len(shape) != 2 or min(shape) < 0 or math.prod(shape) * dtype.itemsize != len(content):
        raise ValueError(f"{name} has {len(content)} bytes of {dtype} for the shape {shape}")
    return _numbers(content, dtype).reshape(shape, order="F")


def _numbers(content, dtype):
    """The bytes as numbers; unlike NumPy alone, this takes no bytes at all, too."""
    return np.frombuffer(content, dtype) if len(content) else np.empty(0, dtype)


def _elements(raw, order):
    """Yield (kind, data) for the elements that fill `raw`, a memoryview."""
    at, word = 0, np.dtype(order + "u4")
    while at < len(raw):
        if len(raw) - at < 8:
            raise ValueError("it is cut short")
        kind, size = np.frombuffer(raw[at : at + 8], word).tolist()
        start = at + 8
        if kind >> 16:  # a small element: the size, the kind and up to four bytes share eight bytes
            kind, size, start = kind & 0xFFFF, kind >> 16, at + 4
            if size > 4:
                raise ValueError("it has a small element that is not small")
        if start + size > len(raw):
            raise ValueError("it is cut short")
        yield kind, raw[start : start + size]
        at = start + size if kind == COMPRESSED else -8 * (-(start + size) // 8)  # a multiple of 8


def _unpacked(content, most):
    """The data of a compressed element, if they are at most `most` bytes."""
    unpacker = zlib.decompressobj()
    try:
        raw = unpacker.decompress(content, most + 1)
    except zlib.error as error:
        raise ValueError(f"a compressed element is damaged: {error}") from error
    if len(raw) > most:
        raise ValueError(f"it unpacks to more than {LARGEST_MAT:,} bytes")
    if not unpacker.eof:
        raise ValueError("a compressed element is cut short")
    return raw
