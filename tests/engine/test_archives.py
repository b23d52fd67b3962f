"""Files run no code, cost no memory, and are whole or refused."""

import io
import pickle
import tracemalloc
import zipfile

import hypothesis.strategies as st
import numpy as np
import pytest
from handgrad.engine.archives import read_archive, write_archive
from hypothesis import given


def test_there_and_back(tmp_path):
    arrays = {"params/W1": np.arange(6.0, dtype=np.float32).reshape(2, 3), "t": np.array(3)}
    write_archive(tmp_path / "c.npz", arrays, {"epoch": 2, "name": "é"})
    back, meta = read_archive(tmp_path / "c.npz")
    assert meta == {"epoch": 2, "name": "é"}
    assert back.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(back[name], array)
        assert back[name].dtype == array.dtype


def checkpoint_bytes():
    file = io.BytesIO()
    np.savez(file, W=np.arange(100.0), meta=np.frombuffer(b"{}", np.uint8))
    return file.getvalue()


class RunsCode:
    def __reduce__(self):
        return print, ("handgrad ran this",)


def with_objects():
    file = io.BytesIO()
    np.savez(file, W=np.array([RunsCode()], dtype=object), meta=np.frombuffer(b"{}", np.uint8))
    return file.getvalue()


def other_zip():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("W.npy", "text")
    return file.getvalue()


def no_meta():
    file = io.BytesIO()
    np.savez(file, W=np.ones(3))
    return file.getvalue()


BROKEN = {
    "cut": checkpoint_bytes()[:-30],
    "cut early": checkpoint_bytes()[:40],
    "empty": b"",
    "text": b"not a checkpoint",
    "pickle": pickle.dumps(RunsCode()),
    "objects": with_objects(),
    "other zip": other_zip(),
    "no meta": no_meta(),
    "one array": checkpoint_bytes()[50:],
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_and_hostile_files(tmp_path, capsys, kind):
    path = tmp_path / "c.npz"
    path.write_bytes(BROKEN[kind])
    with pytest.raises(ValueError, match=r"c.npz: not a whole checkpoint"):
        read_archive(path)
    assert "ran this" not in capsys.readouterr().out


@given(st.integers(0, 900), st.integers(1, 255))
def test_one_flipped_byte_is_noticed_or_harmless(tmp_path_factory, at, by):
    raw = bytearray(checkpoint_bytes())
    raw[at % len(raw)] ^= by
    path = tmp_path_factory.mktemp("c") / "c.npz"
    path.write_bytes(raw)
    try:
        arrays, _ = read_archive(path)
    except ValueError:
        return
    if "W" in arrays:
        np.testing.assert_array_equal(arrays["W"], np.arange(100.0))


def test_an_absent_file_is_said_to_be_absent(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_archive(tmp_path / "none.npz")


# ---------------------------------------------------------------------------- files that lie


def with_header(shape, entries=b"", compression=zipfile.ZIP_STORED):
    """A checkpoint whose member W says that it has a shape."""
    member, file = io.BytesIO(), io.BytesIO()
    header = {"descr": "<f8", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(member, header)
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr("W.npy", member.getvalue() + entries)
    with zipfile.ZipFile(file, "a") as archive:
        meta = io.BytesIO()
        np.save(meta, np.frombuffer(b"{}", np.uint8))
        archive.writestr("meta.npy", meta.getvalue())
    return file.getvalue()


BOMBS = {
    "3 GB of zeros, compressed": with_header((10**7,), bytes(8 * 10**7), zipfile.ZIP_DEFLATED),
    "3 GB that are not there": with_header((4 * 10**8,)),
    "a negative shape": with_header((-4, -2), bytes(64)),
    "more than it says": with_header((2,), bytes(24)),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_a_file_that_lies_costs_no_memory(tmp_path, kind):
    path = tmp_path / "c.npz"
    path.write_bytes(BOMBS[kind])
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"c.npz: not a whole checkpoint"):
            read_archive(path)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_a_large_meta_is_neither_written_nor_read(tmp_path):
    with pytest.raises(ValueError, match="c.npz: not written"):
        write_archive(tmp_path / "c.npz", {}, {"history": "x" * 2**25})
    np.savez(tmp_path / "c.npz", meta=np.zeros(2**25 + 1, np.uint8))
    with pytest.raises(ValueError, match="c.npz: not a whole checkpoint .*meta has 33554433 entries"):
        read_archive(tmp_path / "c.npz")


@pytest.mark.parametrize("text", [b"[1]", b"3", b'"x"', b"[" * 10**5, b"{", b"\xff"])
def test_a_meta_that_is_no_dict(tmp_path, text):
    np.savez(tmp_path / "c.npz", meta=np.frombuffer(text, np.uint8))
    with pytest.raises(ValueError, match="c.npz: not a whole checkpoint"):
        read_archive(tmp_path / "c.npz")
