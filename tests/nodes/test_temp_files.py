"""The viewer's files in ComfyUI's temp folder: named by content, bounded, and known when they are gone."""

import os
import stat
from pathlib import Path

import folder_paths
import pytest

from i2am_pack.nodes import temp_files
from i2am_pack.nodes.temp_files import TempFiles


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_paths, "get_temp_directory", lambda: str(tmp_path / "temp"))
    return tmp_path / "temp"


@pytest.fixture
def files(folder, monkeypatch):
    monkeypatch.setattr(temp_files, "KEPT_FILES", 2)
    monkeypatch.setattr(temp_files, "KEPT_BYTES", 40)
    return TempFiles("test_", ".bin")


def there(folder):
    return {path.name for path in folder.iterdir()}


def test_equal_content_is_one_file_and_other_content_another(files, folder):
    first, again, other = (files.write(data) for data in (b"1" * 10, b"1" * 10, b"2" * 10))
    assert first == again != other and there(folder) == {first, other}
    assert (folder / first).read_bytes() == b"1" * 10


def test_a_name_tells_nothing_of_the_content(files, folder):
    assert TempFiles("test_", ".bin").write(b"1") != files.write(b"1")


def test_the_oldest_go_where_all_are_too_large(files, folder):
    names = [files.write(bytes([number]) * 10) for number in range(4)]
    assert there(folder) == set(names) and files.count_gone() == 0
    names.append(files.write(b"x" * 10))
    assert there(folder) == set(names[1:]) and files.count_gone() == 1


def test_what_is_written_again_is_young_again(files, folder):
    names = [files.write(bytes([number]) * 10) for number in range(4)]
    assert files.write(bytes([0]) * 10) == names[0]
    files.write(b"x" * 10)
    assert names[0] in there(folder) and names[1] not in there(folder)


def test_the_last_files_stay_however_large(files, folder):
    names = [files.write(bytes([number]) * 100) for number in range(5)]
    assert there(folder) == set(names[-2:]) and files.count_gone() == 3


def test_a_file_that_cannot_be_deleted_goes_the_next_time(files, folder, monkeypatch):
    """Windows deletes none that a page is just loading."""
    names = [files.write(bytes([number]) * 10) for number in range(4)]

    def loading(path, missing_ok=False):
        raise PermissionError(13, "in use")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", loading)
        patched.setattr(temp_files, "_write_whole", lambda path, data: path.write_bytes(data))
        names.append(files.write(b"x" * 10))
    assert there(folder) == set(names) and files.count_gone() == 0
    names.append(files.write(b"y" * 10))
    assert there(folder) == set(names[2:]) and files.count_gone() == 2


def test_a_file_that_someone_deleted_counts_once_and_is_written_again(files, folder):
    name = files.write(b"1")
    (folder / name).unlink()
    assert files.count_gone() == files.count_gone() == 1
    assert files.write(b"1") == name and there(folder) == {name}


def test_a_file_that_was_cut_off_is_written_again(files, folder):
    name = files.write(b"whole")
    (folder / name).write_bytes(b"wh")
    files.write(b"whole")
    assert (folder / name).read_bytes() == b"whole"


def test_permissions_are_the_users(files, folder):
    before = os.umask(0o022)
    try:
        name = files.write(b"1")
    finally:
        os.umask(before)
    assert stat.S_IMODE((folder / name).stat().st_mode) == 0o644


def test_a_folder_that_takes_no_file_is_a_sentence(files, folder, monkeypatch):
    def full(path, data):
        Path.touch(path)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ValueError, match=r"temp folder \(No space left on device\): free space there"):
        files.write(b"1")
    assert there(folder) == set()
