"""Whatever stands in a file or folder, reading it ends in a result or in an error of the kit's own."""

from __future__ import annotations

import shutil
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gitract_kit.competition.index import build_index
from gitract_kit.competition.layout import ORGANS
from gitract_kit.competition.submission import check_submission, read_submission, write_submission
from gitract_kit.competition.tables import read_labels
from gitract_kit.errors import InputError

IDS = ("case9_day2_slice_0001", "case10_day0_slice_0002")
ROWS = [
    f"{slice_id},{organ},{'1 2 9 3' if organ != 'stomach' else ''}" for slice_id in IDS for organ in ORGANS
]
TABLE = "\n".join(["id,class,{}", *ROWS, ""])
PREDICTIONS = dict.fromkeys(IDS, ("", "1 1", ""))
SHARED_FOLDER = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])

READERS = {
    "labels": ("segmentation", lambda path, sound: read_labels(path)),
    "submission": ("predicted", lambda path, sound: read_submission(path)),
    "checked submission": ("predicted", lambda path, sound: check_submission(path, sound, {IDS[0]: (4, 4)})),
    "sample to check by": ("predicted", lambda path, sound: check_submission(sound, path)),
    "sample to write by": (
        "predicted",
        lambda path, sound: write_submission(PREDICTIONS, path, f"{path}.out"),
    ),
}
ODDITIES = [
    *(
        b"\0",
        b'"',
        b"\xff",
        b",",
        b",,,",
        b"\r",
        b"\r\n",
        b"\n\n",
        b"\xef\xbb\xbf",
        b"\xe2\x80\xa8",
        b"\xd9\xa7",
    ),
    *(b"nan", b"9" * 30, b" ", b"-1", b"1e5", b"0", b"\t", b"\\", b"#", b"id", b"class", b"predicted", b"_"),
]


@st.composite
def damaged(draw, whole):
    """``whole`` with some spans cut out, doubled or overwritten."""
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(whole)))
        end = min(len(whole), start + draw(st.integers(0, 60)))
        middle = draw(st.sampled_from([b"", whole[start:end] * 2, *ODDITIES]) | st.binary(max_size=4))
        whole = whole[:start] + middle + whole[end:]
    return whole


@pytest.mark.parametrize("reader", READERS)
@SHARED_FOLDER
@given(data=st.data())
def test_a_damaged_table_is_read_or_refused(tmp_path, reader, data):
    column, read = READERS[reader]
    sound, path = tmp_path / "sound.csv", tmp_path / "damaged.csv"
    sound.write_text(TABLE.format("predicted"))
    path.write_bytes(data.draw(damaged(TABLE.format(column).encode()) | st.binary(max_size=80)))
    with suppress(InputError):
        read(path, sound)


NAMES = [
    *("case9", "case9_day2", "scans", "slice_0001_4_4_1.50_1.50.png", "slice_0001_5_4_1.50_1.50.png"),
    *("train", "train.csv", "case10_day0", ".hidden", "x\n", "\udcff"),
]
CHANGES = {
    "remove": lambda path, name: shutil.rmtree(path) if path.is_dir() else path.unlink(),
    "rename": lambda path, name: path.rename(path.with_name(name)),
    "folder": lambda path, name: (path / name).mkdir(),
    "file": lambda path, name: path.with_name(name).write_bytes(b"\x89PNG" * 9),
    "dangling": lambda path, name: path.with_name(name).symlink_to("nowhere"),
    "loop": lambda path, name: path.with_name(name).symlink_to("."),
}


@pytest.fixture
def plant(tmp_path):
    def plant():
        root = tmp_path / "root"
        shutil.rmtree(root, ignore_errors=True)
        for split in ("train", "test"):
            for scan, name in (("case9_day2", "slice_0001"), ("case10_day0", "slice_0002")):
                path = root / split / scan.split("_")[0] / scan / "scans" / f"{name}_4_4_1.50_1.50.png"
                path.parent.mkdir(parents=True)
                path.touch()
        (root / "train.csv").write_text(TABLE.format("segmentation"))
        return root

    return plant


def test_the_folder_is_sound_before_it_is_damaged(plant):
    assert build_index(plant())["id"].tolist() == list(IDS)


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("isolated", [False, True])
@SHARED_FOLDER
@given(data=st.data())
def test_a_damaged_folder_is_indexed_or_refused(plant, split, isolated, data):
    root = plant()
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(sorted(root.rglob("*")) or [root]))
        # a change that the file system refuses is none
        with suppress(OSError):
            CHANGES[data.draw(st.sampled_from(sorted(CHANGES)))](path, data.draw(st.sampled_from(NAMES)))
    with suppress(InputError):
        build_index(root, split, faults=[] if isolated else None)
