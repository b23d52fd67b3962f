"""Files that are whole or not there, what a killed process left of them, and folders in use.

A file is written beside its place under a temporary name and then renamed. The temporary name holds
the machine and the process, so that the next start can remove what a killed process left behind.
"""

import contextlib
import errno
import os
import platform
import re
import tempfile
from pathlib import Path

__all__ = ["in_use", "kept_aside", "remove_leftovers", "written_whole"]

# What folders on some network drives answer, and folders that may be written to and not be read.
CANNOT_SYNC = errno.EINVAL, errno.ENOTSUP, errno.EACCES


@contextlib.contextmanager
def written_whole(path):
    """A temporary path beside `path`, which takes its place when the block ends without an error.

    Until then, and after a full disk or a kill, what was at `path` stays as it was. Once the block has
    ended, a power cut does not take the new file away. An OSError names `path`, unless it names a file
    already.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(
            prefix=f".{path.stem}-{_this_process()}-", suffix=path.suffix, dir=path.parent
        )
        os.close(handle)
        yield Path(temporary)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        if error.errno is not None and str(error.filename) in ("None", temporary):
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


def _sync_folder(folder):
    """Put a folder's names onto the disk: else a power cut may give the old file its name back."""
    if os.name != "posix":  # Windows opens no folders
        return
    try:
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        if error.errno not in CANNOT_SYNC:
            raise


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _this_process(pid=None):
    """The machine and the process, as they stand in temporary names."""
    machine = re.sub(r"[^\w]+", "_", platform.node()) or "machine"
    return f"{machine}-{os.getpid() if pid is None else pid}"


def remove_leftovers(folder, stem="*"):
    """Remove the temporary files that killed processes of this machine left in a folder.

    stem: only those of files whose names begin so. The files of living processes stay, as do all files
    on systems that cannot tell whether a process lives.
    """
    if os.name != "posix":
        return
    pattern = re.compile(rf"\.(?P<stem>.*)-{_this_process(r'(?P<pid>[0-9]+)')}-[^-]*")
    for path in Path(folder).glob(".*"):
        found = pattern.fullmatch(path.name)
        if found and stem in ("*", found["stem"]) and not _lives(int(found["pid"])):
            with contextlib.suppress(FileNotFoundError):
                path.unlink()


def _lives(pid):
    try:
        os.kill(pid, 0)  # signal 0 is not sent; it only asks
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return not _is_zombie(pid)


def _is_zombie(pid):
    """Whether it has ended and nobody has noticed. In a container that may last. Only Linux tells."""
    try:
        state = Path(f"/proc/{pid}/stat").read_bytes()  # number (name) state ...
    except OSError:
        return False
    return state.rpartition(b")")[2].split()[:1] == [b"Z"]


def kept_aside(path):
    """Give a damaged file the ending '.damaged', so that it is neither used nor lost; its new path."""
    aside = Path(f"{path}.damaged")
    os.replace(path, aside)
    return aside


@contextlib.contextmanager
def in_use(folder):
    """Hold a folder, which is made if need be, for this block alone.

    Raises BlockingIOError at once if another block holds it, in this process or in another one. The
    operating system gives it free when its process ends, however it ends. Where folders cannot be
    locked (Windows, some network drives), nothing is held. A folder that was made here and is still
    empty at the end is removed.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file, expected a folder or a new name.")
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        try:
            yield
        finally:
            if is_new:
                with contextlib.suppress(OSError):  # it holds something
                    folder.rmdir()


@contextlib.contextmanager
def _locked(folder):
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BlockingIOError(
                f"{folder} is in use by another handgrad; expected to be its only user. Wait for it "
                "to end, or take another folder."
            ) from None
        except OSError:  # a network drive that cannot lock folders
            pass
        yield
    finally:
        os.close(handle)
