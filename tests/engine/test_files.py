"""Files that are whole or not there, and checkpoints that run no code."""

import io
import pickle
import zipfile

import hypothesis.strategies as st
import numpy as np
import pytest
from handgrad.engine.files import read_checkpoint, write_checkpoint, written_whole
from hypothesis import given


def test_written_whole(tmp_path):
    path = tmp_path / "new" / "file.txt"
    with written_whole(path) as temporary:
        temporary.write_text("one")
        assert not path.exists()
        assert temporary.suffix == ".txt"
    assert path.read_text() == "one"

    def fails_halfway():
        with written_whole(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fails_halfway()
    assert path.read_text() == "one"
    assert list(path.parent.iterdir()) == [path]


def test_whoever_reads_the_old_file_goes_on_reading_it(tmp_path):
    """The new file takes the name; the old one is never written into."""
    path = tmp_path / "file.txt"
    path.write_text("old")
    with open(path) as reader:
        with written_whole(path) as temporary:
            temporary.write_text("new")
        assert reader.read() == "old"
    assert path.read_text() == "new"


def test_a_checkpoint_there_and_back(tmp_path):
    arrays = {"params/W1": np.arange(6.0, dtype=np.float32).reshape(2, 3), "t": np.array(3)}
    write_checkpoint(tmp_path / "c.npz", arrays, {"epoch": 2, "name": "é"})
    back, meta = read_checkpoint(tmp_path / "c.npz")
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
def test_broken_and_hostile_checkpoints(tmp_path, capsys, kind):
    path = tmp_path / "c.npz"
    path.write_bytes(BROKEN[kind])
    with pytest.raises(ValueError, match=r"c.npz: not a whole checkpoint"):
        read_checkpoint(path)
    assert "ran this" not in capsys.readouterr().out


@given(st.integers(0, 900), st.integers(1, 255))
def test_one_flipped_byte_is_noticed_or_harmless(tmp_path_factory, at, by):
    raw = bytearray(checkpoint_bytes())
    raw[at % len(raw)] ^= by
    path = tmp_path_factory.mktemp("c") / "c.npz"
    path.write_bytes(raw)
    try:
        arrays, _ = read_checkpoint(path)
    except ValueError:
        return
    if "W" in arrays:
        np.testing.assert_array_equal(arrays["W"], np.arange(100.0))


def test_an_absent_checkpoint_is_said_to_be_absent(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_checkpoint(tmp_path / "none.npz")
