from __future__ import annotations

import os

import pytest

from gitract_kit.files import atomic_path, write_bytes_atomic, write_text_atomic


def test_a_file_takes_its_place_when_the_block_ends(tmp_path):
    path = tmp_path / "new" / "table.csv"
    with atomic_path(path) as temporary:
        temporary.write_text("whole")
        assert not path.exists()
        assert temporary.parent == path.parent
        assert temporary.suffix == ".csv"
    assert path.read_text() == "whole"
    assert os.listdir(path.parent) == ["table.csv"]


@pytest.mark.parametrize("interruption", [ValueError, KeyboardInterrupt])
def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(tmp_path, interruption):
    path = tmp_path / "table.csv"
    path.write_text("old")

    def write_half():
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise interruption

    with pytest.raises(interruption):
        write_half()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["table.csv"]


def test_an_empty_file_replaces_the_old_one(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("old")
    with atomic_path(path):
        pass
    assert path.read_text() == ""


def test_a_written_file_has_the_rights_that_the_umask_leaves(tmp_path):
    umask = os.umask(0o027)
    try:
        write_text_atomic(tmp_path / "table.csv", "whole")
    finally:
        os.umask(umask)
    assert (tmp_path / "table.csv").stat().st_mode & 0o777 == 0o640


def test_text_is_written_as_utf8_with_its_line_ends(tmp_path):
    write_text_atomic(tmp_path / "text", "1.50 mm ± 0\r\n")
    assert (tmp_path / "text").read_bytes() == "1.50 mm ± 0\r\n".encode()


def test_bytes_are_written_as_they_are(tmp_path):
    write_bytes_atomic(tmp_path / "weights.safetensors", bytes(range(256)))
    assert (tmp_path / "weights.safetensors").read_bytes() == bytes(range(256))
