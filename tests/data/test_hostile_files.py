"""Files that were made to do harm: each is read in a process of its own, whose memory is limited.

A crash of the process, more than a gigabyte of memory, a traceback or a MemoryError fails the test.
The file must be refused with a message that names it and gives the reason.
"""

import gzip
import io
import os
import pickle
import re
import struct
import subprocess
import sys
import tarfile
import zlib
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/statm").exists(), reason="limits memory by means that only Linux has"
)

CHILD = """
import resource, sys
from handgrad import data_utils
pages = int(open("/proc/self/statm").read().split()[0])
most = pages * resource.getpagesize() + 2**30
resource.setrlimit(resource.RLIMIT_AS, (most, most))
try:
    getattr(data_utils, sys.argv[1])(sys.argv[2])
except (ValueError, OSError) as error:
    print(type(error).__name__, error, sep=": ")
"""


def in_a_child(code, reader, path):
    """Run the code in a new process; one that never ends is killed and raises TimeoutExpired."""
    command = [sys.executable, "-c", code, reader, str(path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def refused(reader, path, reason, named=None):
    """Read the path in a new process; its refusal must name the file and give the reason."""
    done = in_a_child(CHILD, reader, path)
    assert (done.returncode, done.stderr) == (0, "")
    assert str(named or path) in done.stdout
    assert "MemoryError" not in done.stdout
    assert re.search(reason, done.stdout), done.stdout


# ---------------------------------------------------------------------------- pickles


def text(value):
    return pickle.SHORT_BINSTRING + bytes([len(value)]) + value.encode()


def word(value):
    return pickle.BININT + struct.pack("<i", value)


def tuple_of(*parts):
    return pickle.MARK + b"".join(parts) + pickle.TUPLE


def list_of(*parts):
    return pickle.EMPTY_LIST + pickle.MARK + b"".join(parts) + pickle.APPENDS


def named(module, name):
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


def batch(labels, data=pickle.NONE):
    parts = text("labels") + labels + text("data") + data
    return b"\x80\x02" + pickle.EMPTY_DICT + pickle.MARK + parts + pickle.SETITEMS + pickle.STOP


def dtype(letters, *state):
    made = named("numpy", "dtype") + tuple_of(text(letters), word(0), word(1)) + pickle.REDUCE
    return made + (tuple_of(*state) + pickle.BUILD if state else b"")


def array(shape, of, content, function="_reconstruct"):
    """An array as NumPy pickles it."""
    made = named("numpy.core.multiarray", function) + tuple_of(
        named("numpy", "ndarray"), tuple_of(word(0)), text("b")
    )
    state = tuple_of(word(1), tuple_of(*map(word, shape)), of, pickle.NEWFALSE, content)
    return made + pickle.REDUCE + state + pickle.BUILD


POINTERS = text("A" * 16)  # two addresses of the author's choosing
NDARRAY = named("numpy", "ndarray")
BUFFER = pickle.SHORT_BINBYTES + b"\x10" + b"A" * 16
FORGED = tuple_of(tuple_of(word(2)), dtype("O"), BUFFER)
UNSET = (pickle.NONE, pickle.NONE, pickle.NONE)
OBJECTS = (word(3), text("|"), *UNSET, word(-1), word(-1), word(63))  # 63: the flags of objects
FIELD = pickle.EMPTY_DICT + text("f") + tuple_of(dtype("u8"), word(0)) + pickle.SETITEM
RECORD = (word(3), text("|"), pickle.NONE, tuple_of(text("f")), FIELD, word(8), word(1), word(27))
RECONSTRUCT = named("numpy.core.multiarray", "_reconstruct")

MEMORY_CORRUPTING = {
    "an object array over chosen bytes": (NDARRAY + FORGED + pickle.REDUCE, "plain kind"),
    "plain numbers over chosen bytes": (
        NDARRAY + tuple_of(tuple_of(word(2)), dtype("u8"), BUFFER) + pickle.REDUCE,
        "calls something",
    ),
    "made by NEWOBJ": (NDARRAY + tuple_of(tuple_of(word(2))) + pickle.NEWOBJ, "not admitted"),
    "made by NEWOBJ_EX": (
        NDARRAY + tuple_of(tuple_of(word(2))) + pickle.EMPTY_DICT + pickle.NEWOBJ_EX,
        "not admitted",
    ),
    "made by OBJ": (pickle.MARK + NDARRAY + tuple_of(word(2)) + pickle.OBJ, "not admitted"),
    "made by INST": (pickle.MARK + tuple_of(word(2)) + b"inumpy\nndarray\n", "not admitted"),
    "made by a number of the registry": (pickle.EXT1 + b"\1", "not admitted"),
    "an object that lies elsewhere": (pickle.NONE + pickle.BINPERSID, "not admitted"),
    "objects by the letters of the type": (array([2], dtype("O"), POINTERS), "plain kind"),
    "objects by the state of the type": (array([2], dtype("u8", *OBJECTS), POINTERS), "labels are not"),
    "a record": (array([2], dtype("V8", *RECORD), POINTERS), "plain kind"),
    "fields in the state of a number": (array([2], dtype("u8", *RECORD), POINTERS), "unknown form"),
    "a type that is a tuple": (
        named("numpy", "dtype") + tuple_of(tuple_of(text("O"))) + pickle.REDUCE,
        "calls something",
    ),
    "a type that is a list": (
        named("numpy", "dtype") + tuple_of(list_of(text("O"))) + pickle.REDUCE,
        "calls something",
    ),
    "a subclass of arrays": (RECONSTRUCT + tuple_of(named("numpy", "memmap")), "numpy.memmap"),
    "a class in place of an array": (
        RECONSTRUCT + tuple_of(dtype("u1"), tuple_of(word(0)), text("b")) + pickle.REDUCE,
        "calls something",
    ),
    "2^28 objects made by _reconstruct": (
        RECONSTRUCT + tuple_of(NDARRAY, tuple_of(word(2**28)), text("O")) + pickle.REDUCE,
        "labels are not",
    ),
    "a larger shape than the bytes": (array([2, 9], dtype("u1"), POINTERS), "in 16 bytes"),
    "a smaller shape than the bytes": (array([2, 7], dtype("u1"), POINTERS), "in 16 bytes"),
    "a shape that wraps round": (array([-1, -16], dtype("u1"), POINTERS), "impossible shape"),
    "a shape of many dimensions": (array([1] * 99, dtype("u1"), text("A")), "impossible shape"),
    "objects as content": (array([2], dtype("u8"), list_of(word(1), word(2))), "unknown form"),
    "a state for the class": (NDARRAY + tuple_of(word(1)) + pickle.BUILD, "cannot be filled"),
    "a state for a list": (pickle.EMPTY_LIST + FIELD + pickle.BUILD, "cannot be filled"),
    "items for a class": (NDARRAY + list_of() + pickle.APPEND, "cannot be filled"),
}


def in_a_list(labels):
    """The labels as the only entry of a list: NumPy looks into each entry of a list."""
    return pickle.EMPTY_LIST + labels + pickle.APPEND


@pytest.mark.parametrize(("labels", "reason"), MEMORY_CORRUPTING.values(), ids=MEMORY_CORRUPTING)
def test_no_pickle_builds_what_it_likes(tmp_path, labels, reason):
    path = tmp_path / "data_batch_1"
    path.write_bytes(batch(in_a_list(labels)))
    refused("load_CIFAR_batch", path, f"ValueError.*{reason}")


EIGHT_GB = struct.pack("<Q", 2**33)
PUT, GET = pickle.BINPUT + b"\0", pickle.BINGET + b"\0"
DOUBLED = pickle.EMPTY_TUPLE + 40 * (PUT + GET + pickle.TUPLE2)
NESTED = word(1) + 27 * (PUT + GET + pickle.TUPLE2)
GREEDY = {
    "8 GB of bytes": (pickle.BINBYTES8 + EIGHT_GB, "not admitted"),
    "8 GB of text": (pickle.BINUNICODE8 + EIGHT_GB, "not admitted"),
    "8 GB in a bytearray": (pickle.BYTEARRAY8 + EIGHT_GB, "not admitted"),
    "a number of 2 GB": (pickle.LONG4 + b"\xff\xff\xff\x7f", "not admitted"),
    "4 GB of bytes": (pickle.BINBYTES + b"\xff\xff\xff\xff", "cut short"),
    "4 GB of text": (pickle.BINUNICODE + b"\xff\xff\xff\xff", "cut short"),
    "2 GB of old text": (pickle.BINSTRING + b"\xff\xff\xff\x7f", "cut short"),
    "a frame of 8 GB": (pickle.FRAME + EIGHT_GB + pickle.NONE, "labels are a NoneType"),
    "the last place of the memo": (
        pickle.NONE + pickle.LONG_BINPUT + b"\xfe\xff\xff\x3f",
        "labels are a NoneType",
    ),
    "2^40 things in a key": (
        pickle.EMPTY_DICT + DOUBLED + pickle.NONE + pickle.SETITEM,
        "keys are not text",
    ),
    "2^27 labels in tuples of tuples": (in_a_list(NESTED), "labels are not"),
    "30 million lists": (pickle.EMPTY_LIST * (30 * 2**20), "more than 200,000 instructions"),
    "an array again and again": (
        text("A" * 200) + PUT + 99 * array([200], dtype("u1"), GET),
        "arrays hold more than the file",
    ),
}


@pytest.mark.parametrize(("labels", "reason"), GREEDY.values(), ids=GREEDY)
def test_no_pickle_takes_more_memory_than_its_file(tmp_path, labels, reason):
    path = tmp_path / "data_batch_1"
    path.write_bytes(batch(labels))
    refused("load_CIFAR_batch", path, f"ValueError.*{reason}")


# ---------------------------------------------------------------------------- large and endless files


def gzipped_zeros(gigabytes, start=b""):
    """A small .gz file that unpacks to `start` and then to so many gigabytes of zeros."""
    return gzip.compress(start) + gzip.compress(bytes(2**24)) * (64 * gigabytes)


def sparse_file(path, start, size):
    """A file that claims `size` bytes and takes no room on the disk."""
    path.write_bytes(start)
    os.truncate(path, size)


IDX_HEADER = b"\0\0\x08\x03" + struct.pack(">III", 60000, 28, 28)


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (IDX_HEADER, r"asks for 47,040,000 bytes, but more follow"),
        (b"\0\0\x08\x01\xff\xff\xff\xff", "asks for too much"),
        (b"\0\0\x08\xff", "asks for too much"),
        (b"", "expected the magic number"),
    ],
)
@pytest.mark.parametrize("packed", [True, False])
def test_an_idx_file_is_read_as_far_as_its_header_says(tmp_path, header, reason, packed):
    path = tmp_path / "train-images-idx3-ubyte"
    if packed:
        path.write_bytes(gzipped_zeros(3, header))
    else:
        sparse_file(path, header, 3 * 2**30)
    refused("read_idx", path, reason)


@pytest.mark.parametrize("packed", [True, False])
def test_a_batch_of_gigabytes(tmp_path, packed):
    path = tmp_path / "data_batch_1"
    if packed:
        path.write_bytes(gzipped_zeros(3))
    else:
        sparse_file(path, b"\x80\x02", 3 * 2**30)
    refused("load_CIFAR_batch", path, "more than 33,554,432 bytes")


def tar_header(name, size, kind=b"0", link=""):
    """One block of a tar archive, with its sum."""
    size = b"%011o\0" % size if size < 8**11 else b"\x80" + size.to_bytes(11, "big")
    fields = [name.encode().ljust(100, b"\0"), b"0000644\0", 2 * b"0000000\0", size, b"00000000000\0"]
    rest = kind + link.encode().ljust(100, b"\0") + b"ustar\0" + b"00"
    block = (b"".join(fields) + b" " * 8 + rest).ljust(512, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def old_sparse(size):
    """GNU's old sparse member: nothing stored, so many bytes when it is read."""
    block = bytearray(tar_header(MEMBER, 0, b"S"))
    block[257:265] = b"ustar  \0"
    block[386:410] = b"%011o\0" % (size - 1) + b"%011o\0" % 0
    block[483:495] = b"%011o\0" % size
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + bytes(1024)


MEMBER = "cifar-10-batches-py/data_batch_1"
ARCHIVES = {
    "a sparse member of 6 GB": (gzip.compress(old_sparse(6 * 2**30)), "not a plain file"),
    "a member of 6 GB": (
        gzipped_zeros(3, tar_header(MEMBER, 6 * 2**30)),
        "expected at most 33,554,432",
    ),
    "a member of 2^80 bytes": (gzip.compress(tar_header(MEMBER, 2**80)), "not octal"),
    "another member of 3 GB": (
        gzipped_zeros(3, tar_header("cifar-10-batches-py/readme.html", 3 * 2**30)),
        "more than 268,435,456",
    ),
    "a long name of 3 GB": (
        gzipped_zeros(3, tar_header("././@LongLink", 3 * 2**30, b"L")),
        "more than 268,435,456",
    ),
    "settings of 3 GB": (gzipped_zeros(3, tar_header("pax", 3 * 2**30, b"x")), "more than 268,435,456"),
    "zeros": (gzipped_zeros(3), "more than 268,435,456"),
    "a link to itself": (
        gzip.compress(tar_header(MEMBER, 0, b"1", MEMBER) + bytes(1024)),
        "not a plain file",
    ),
    "a symbolic link to itself": (
        gzip.compress(tar_header(MEMBER, 0, b"2", "data_batch_1") + bytes(1024)),
        "not a plain file",
    ),
    "a folder": (gzip.compress(tar_header(MEMBER, 0, b"5") + bytes(1024)), "not a plain file"),
}


@pytest.mark.parametrize(("raw", "reason"), ARCHIVES.values(), ids=ARCHIVES)
def test_archives(tmp_path, raw, reason):
    path = tmp_path / "cifar-10-python.tar.gz"
    path.write_bytes(raw)
    refused("load_CIFAR10", path, f"ValueError.*{reason}")


def test_an_archive_in_another_packing(tmp_path):
    for mode in ("w:xz", "w:bz2"):
        path = tmp_path / "cifar-10-python.tar.gz"
        with tarfile.open(path, mode) as archive:
            archive.addfile(tarfile.TarInfo(MEMBER), io.BytesIO())
        refused("load_CIFAR10", path, "ValueError.*not the whole")
        path.write_bytes(path.read_bytes()[:40])
        refused("load_CIFAR10", path, "ValueError.*not the whole")


@pytest.mark.parametrize("reader", ["read_idx", "load_CIFAR_batch", "load_CIFAR10"])
def test_a_link_to_itself_and_a_folder_in_place_of_a_file(tmp_path, reader):
    link = tmp_path / "link"
    link.symlink_to(link)
    refused(reader, link, "OSError")
    (tmp_path / "folder" / "data_batch_1").mkdir(parents=True)
    refused(reader, tmp_path / "folder", "IsADirectoryError")


# ---------------------------------------------------------------------------- digits.mat


def element(kind, content):
    return struct.pack("<II", kind, len(content)) + content + bytes(-len(content) % 8)


def matrix(name="X", rows=2, columns=256, content=bytes(512), flags=6, kind=2, claimed=None):
    parts = element(6, struct.pack("<II", flags, 0)) + element(5, struct.pack("<ii", rows, columns))
    parts += element(1, name.encode()) + element(kind, content)
    return struct.pack("<II", 14, len(parts) if claimed is None else claimed) + parts


def packed(content, gigabytes=0):
    """A compressed element that goes on with so many gigabytes of zeros."""
    packer = zlib.compressobj()
    raw = packer.compress(content) + packer.flush(zlib.Z_FULL_FLUSH)
    if gigabytes:
        zeros = packer.compress(bytes(2**24)) + packer.flush(zlib.Z_FULL_FLUSH)
        raw += zeros * (64 * gigabytes)
    raw += packer.flush()
    return struct.pack("<II", 15, len(raw)) + raw


MAT_HEADER = b"MATLAB 5.0 MAT-file".ljust(124) + b"\0\x01IM"
CELLS = element(6, struct.pack("<II", 1, 0)) + element(5, struct.pack("<ii", 2**15, 2**15))
MATS = {
    "3 GB of zeros": (packed(matrix(), 3), "unpacks to more than"),
    "3 GB in a matrix": (packed(matrix(rows=3 * 2**22)[:64], 3), "unpacks to more than"),
    "50 MB and 50 MB": (2 * packed(matrix("other", content=bytes(50 * 10**6))), "unpacks to more than"),
    "a length beyond the file": (matrix(claimed=2**31), "cut short"),
    "a shape of 2^30": (matrix(rows=2**30, columns=1), r"512 bytes of uint8 for the shape"),
    "a shape of 2^60": (matrix(rows=2**30, columns=2**30), r"512 bytes of uint8 for the shape"),
    "a negative shape": (matrix(rows=-2, columns=-256), r"512 bytes of uint8 for the shape"),
    "2^30 cells": (element(14, CELLS + element(1, b"X")), "not a full matrix of real numbers"),
    "an object": (matrix(flags=3), "not a full matrix of real numbers"),
    "complex numbers": (matrix(flags=0x806), "not a full matrix of real numbers"),
    "text as numbers": (matrix(kind=16), "unknown kind 16"),
}


@pytest.mark.parametrize(("raw", "reason"), MATS.values(), ids=MATS)
def test_digits_mat(tmp_path, raw, reason):
    (tmp_path / "digits.mat").write_bytes(MAT_HEADER + raw)
    refused("load_digits_mat", tmp_path, f"ValueError.*{reason}", tmp_path / "digits.mat")


def test_digits_mat_of_gigabytes(tmp_path):
    sparse_file(tmp_path / "digits.mat", MAT_HEADER, 3 * 2**30)
    refused("load_digits_mat", tmp_path, "more than 67,108,864", tmp_path / "digits.mat")


def test_the_limit_of_memory_is_in_force(tmp_path):
    """A child that takes the memory all the same is found out."""
    code = CHILD.replace("getattr", "bytearray(2**30 + 2**24) or getattr")
    done = in_a_child(code, "read_idx", tmp_path)
    assert done.returncode == 1
    assert "MemoryError" in done.stderr
