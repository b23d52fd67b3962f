"""Reading with a limit, and members of tar archives."""

import gzip
import io
import tarfile

import pytest
from handgrad.data.files import named, opened, tar_members


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_at_most_so_many_bytes(tmp_path, pack):
    path = tmp_path / "file"
    path.write_bytes(pack(b"0123456789"))
    with opened(path, 10) as file:
        assert (file.read(3), file.read(), file.read(), file.read(5)) == (b"012", b"3456789", b"", b"")
    with pytest.raises(ValueError, match="file: it holds more than 9 bytes"), opened(path, 9) as file:
        file.read()
    with pytest.raises(ValueError, match="file: it holds more than 9 bytes"), opened(path, 9) as file:
        assert [file.read(9), file.read(1)]


def test_an_error_of_the_system_names_the_file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"")
    with pytest.raises(OSError, match="Input/output error.*file"), opened(path, 9):
        raise OSError(5, "Input/output error")
    with pytest.raises(OSError, match="Full.*other"), opened(path, 9):
        raise OSError(28, "Full", "other")


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_as_tarfile_writes_them(form):
    content = {"a": b"", "b": bytes(range(256)) * 2, "large": bytes(3_000_001), "c": b"c" * 513}
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=form) as archive:
        for name, data in content.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            if form == tarfile.PAX_FORMAT:
                member.mtime = 1.5  # a fraction needs a header of its own
            archive.addfile(member, io.BytesIO(data))
        archive.addfile(tarfile.TarInfo("folder/" + "long" * 10))
    for wanted in (["a", "b", "c"], ["c"], list(content), []):
        raw.seek(0)
        found = dict(tar_members(raw, wanted, 3_000_001))
        assert found == {name: content[name] for name in wanted}
        assert raw.read() == b""
    raw.seek(0)
    with pytest.raises(ValueError, match="its member b has 512 bytes, expected at most 511"):
        list(tar_members(raw, ["b"], 511))


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (KeyError("a"), "file: damaged: 'a'"),
        (MemoryError(), "file: damaged: MemoryError"),
        (OSError("cut short"), "file: damaged: cut short"),
    ],
)
def test_whatever_a_reader_stumbles_over_names_the_file(error, message):
    with pytest.raises(ValueError, match=message), named("file", "damaged: "):
        raise error
    with pytest.raises(IsADirectoryError, match="other"), named("file"):
        raise IsADirectoryError(21, "Is a folder", "other")
