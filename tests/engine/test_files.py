"""Files that are whole or not there, what killed processes left, folders with one user."""

import contextlib
import errno
import os
import platform
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from handgrad.engine.files import in_use, kept_aside, remove_leftovers, written_whole


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


def test_the_contents_are_on_the_disk_before_the_name_and_the_name_at_the_end(tmp_path, monkeypatch):
    """A power cut finds the old file or the new one, and after the end the new one."""
    done, fsync, replace = [], os.fsync, os.replace

    def noted_fsync(handle):
        done.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        fsync(handle)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", lambda *paths: done.append("replace") or replace(*paths))
    with written_whole(tmp_path / "file.txt") as temporary:
        temporary.write_text("new")
    assert done == ["file", "replace", "folder"]


@pytest.mark.parametrize(("code", "is_raised"), [(errno.EINVAL, False), (errno.EIO, True)])
def test_a_folder_that_cannot_be_synced(tmp_path, monkeypatch, code, is_raised):
    def refuse(*args):
        raise OSError(code, "refused")

    original = os.open
    monkeypatch.setattr(
        os, "open", lambda path, *a: refuse() if path == tmp_path else original(path, *a)
    )
    outcome = pytest.raises(OSError, match="file.txt") if is_raised else contextlib.nullcontext()
    with outcome, written_whole(tmp_path / "file.txt") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "file.txt").read_text() == "new"


def test_an_error_of_the_disk_names_the_file(tmp_path):
    """Not the temporary one, which nobody knows."""
    path = tmp_path / "file.txt"

    def fails(error):
        with written_whole(path):
            raise error

    with pytest.raises(OSError, match="No space left on device: '.*file.txt'"):
        fails(OSError(28, "No space left on device"))
    with pytest.raises(OSError, match="elsewhere"):
        fails(OSError(28, "No space left on device", "elsewhere"))
    path.touch()
    with pytest.raises(OSError, match="file.txt"), written_whole(path / "below"):
        pytest.fail("a file is no folder")


HOLDS = """
import sys, time
from handgrad.engine.files import in_use, written_whole
with {what} as temporary:
    print("begun", flush=True)
    time.sleep(60)
"""


def holding(what):
    """A process that is inside `with what`."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS.format(what=what)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "begun\n"
    return process


def ended(process):
    process.kill()
    process.wait()
    process.stdout.close()


def test_what_a_killed_process_left_is_removed_and_no_more(tmp_path):
    mine = tmp_path / f".run-{platform.node()}-notes.npz"
    mine.write_text("somebody's own")
    process = holding(f"written_whole({str(tmp_path / 'run.npz')!r})")
    with written_whole(tmp_path / "other.npz") as living:
        remove_leftovers(tmp_path)
        assert len(list(tmp_path.iterdir())) == 3
        ended(process)
        remove_leftovers(tmp_path)
        assert sorted(tmp_path.iterdir()) == sorted([mine, living])
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([mine.name, "other.npz"])


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="asks the system as Linux answers")
def test_a_process_that_has_ended_unnoticed_does_not_live(tmp_path):
    """It keeps its number until its parent asks for it, which in a container may be late or never."""
    process = holding(f"written_whole({str(tmp_path / 'run.npz')!r})")
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    remove_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == []
    ended(process)


def test_a_folder_has_one_user_in_all_processes(tmp_path):
    folder = tmp_path / "a" / "run"
    process = holding(f"in_use({str(folder)!r})")
    with pytest.raises(BlockingIOError, match="run is in use by another handgrad"), in_use(folder):
        pytest.fail("two users")
    ended(process)
    with in_use(folder):
        with pytest.raises(BlockingIOError, match="in use"), in_use(folder):
            pytest.fail("two users in one process")
        assert list(folder.iterdir()) == []


def test_a_folder_that_was_there_or_is_filled_stays(tmp_path):
    with in_use(tmp_path / "new"):
        (tmp_path / "new" / "file").touch()
    (tmp_path / "old").mkdir()
    with in_use(tmp_path / "old"):
        pass
    with in_use(tmp_path / "empty"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "old"]
    with (
        pytest.raises(NotADirectoryError, match="file is a file, expected a folder"),
        in_use(tmp_path / "new" / "file"),
    ):
        pytest.fail("a file is no folder")


def test_kept_aside(tmp_path):
    path = tmp_path / "run.json"
    for text in ("one", "two"):
        path.write_text(text)
        assert kept_aside(path).read_text() == text
    assert [path.name for path in tmp_path.iterdir()] == ["run.json.damaged"]
