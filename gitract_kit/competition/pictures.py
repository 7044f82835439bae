"""Files of pictures: what a folder of them holds, and the one way in which a file is decoded, whole or not at all."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np

from gitract_kit.competition.names import natural_key
from gitract_kit.errors import DatasetError

__all__ = [
    "NAME",
    "decode_picture",
    "find_folder",
    "is_jpeg",
    "list_pictures",
    "read_gray",
    "read_mask",
    "read_pictures",
    "refuse",
]

NAME = re.compile(r"\w[\w .()+-]*")
"""What a picture may be called: its name becomes an id, a file's name and a cell of a table."""
_NAME_IN_WORDS = "a letter, digit or _ and then those, spaces or . ( ) + -"
_LONGEST_NAME = 200  # bytes; file systems take 255, and something is put around it
_ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
_PNG, _JPEG, _TIFF = b"\x89PNG", b"\xff\xd8\xff", (b"II", b"MM")
_JPEG_SCAN, _JPEG_END = b"\xff\xda", b"\xff\xd9"
# what a JPEG makes of 0 and 255 is outside of it, but for edges narrower than the area
_BETWEEN, _AREA = (32, 224), np.ones((5, 5), dtype=np.uint8)

_R = TypeVar("_R")


def decode_picture(content: np.ndarray) -> np.ndarray | None:
    """The picture in a file's bytes (n,) uint8 as (h, w) or (h, w, channels), in the file's own type and range.

    None where it is no picture, or not a whole one.
    """
    if not len(content) or not _is_whole(content):
        return None
    try:
        return cv2.imdecode(content, cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None


def _is_whole(content: np.ndarray) -> bool:
    # OpenCV may decode what is there of a torn file without an error and leave the rest black
    if content[:4].tobytes() == _PNG:
        return b"IEND" in content[-12:].tobytes()
    if is_jpeg(content):
        # neither mark can stand within the compressed data
        everything = content.tobytes()
        return everything.rfind(_JPEG_END) > everything.rfind(_JPEG_SCAN)
    return True


def is_jpeg(content: np.ndarray) -> bool:
    """Whether a file's bytes are a JPEG's, whatever its name says."""
    return content[:3].tobytes() == _JPEG


class _Unfit(Exception):
    """Why a file is not used; ``kind`` is in words that are the same for all files that fail alike."""

    def __init__(self, kind: str, detail: str = "") -> None:
        super().__init__(kind, detail)
        self.kind, self.detail = kind, detail


def read_pictures(
    files: Mapping[str, Path], read: Callable[[np.ndarray], _R], faults: list[DatasetError] | None = None
) -> dict[str, _R]:
    """What ``read`` (`read_gray`, or something that calls it) makes of each file's bytes, by name.

    A `DatasetError` names the first file that is unfit and counts those that are so alike; given a list as ``faults``,
    it is appended there, and the unfit are left out.
    """

    def attempt(path: Path) -> _R | _Unfit:
        try:
            return read(_read_bytes(path))
        except _Unfit as fault:
            return fault

    # OpenCV decodes outside the interpreter's lock
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = dict(zip(files, pool.map(attempt, files.values()), strict=True))
    unfit = {name: one for name, one in results.items() if isinstance(one, _Unfit)}
    try:
        for first in list(unfit.values())[:1]:
            alike = [files[name] for name, one in unfit.items() if one.kind == first.kind]
            refuse(alike, first.kind + first.detail)
    except DatasetError as error:
        if faults is None:
            raise
        faults.append(error)
    return {name: one for name, one in results.items() if name not in unfit}


def _read_bytes(path: Path) -> np.ndarray:
    try:
        return np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise _Unfit(f"cannot be read ({error.strerror}): restore the file") from error


def read_gray(content: np.ndarray) -> np.ndarray:
    """The picture in a file's bytes as (h, w) uint8 or uint16; anything but one whole gray picture is unfit.

    Gray that is stored as three equal channels is gray, and how opaque a pixel is does not count.
    """
    picture = decode_picture(content)
    if picture is None:
        raise _Unfit("is not a whole PNG, JPEG or TIFF picture: fetch the file again")
    if content[:2].tobytes() in _TIFF and len(cv2.imdecodemulti(content, cv2.IMREAD_UNCHANGED)[1]) > 1:
        raise _Unfit("is a TIFF of several pages: write each page as a file of its own")
    if picture.dtype not in (np.uint8, np.uint16):
        raise _Unfit("has not 8 or 16 bits a pixel, without a sign: convert it", f" from {picture.dtype}")
    if picture.ndim == 2:
        return picture
    colours = picture[..., :3]
    if (colours != colours[..., :1]).any():
        raise _Unfit("is in colour, or has a palette: expected gray; convert it")
    return np.ascontiguousarray(colours[..., 0])


def read_mask(content: np.ndarray) -> np.ndarray:
    """The mask in a file's bytes as (h, w) uint8 or uint16, a JPEG's with the values 0 and 255 alone.

    JPEG blurs values. Masks of 0 and 255 outlive that and are read as what is at least 128 (measured on discs, lines
    and specks: exact from quality 50 up). Class values do not: a JPEG is unfit where an area of 5 x 5 pixels has values
    between, or nothing in it is bright.
    """
    mask = read_gray(content)
    if not is_jpeg(content):
        return mask
    low, high = _BETWEEN
    between = cv2.erode(((mask >= low) & (mask < high)).astype(np.uint8), _AREA) > 0
    if between.any() or 0 < mask.max() < high:
        value = mask[between][0] if between.any() else mask.max()
        raise _Unfit(
            "is a JPEG and not of 0 and 255 alone, and JPEG blurs class values: write PNG from the source",
            f" (it has pixels of about {value})",
        )
    return np.where(mask >= 128, np.uint8(255), np.uint8(0))


def find_folder(root: str | Path, relative: str) -> Path | None:
    """``root/relative``, or the only one that is called so but for capitals; None where there is none, or several."""
    folder = Path(root)
    for part in relative.split("/"):
        alike = [folder / part]
        if not alike[0].is_dir():
            alike = [one for one in _entries(folder) if one.name.lower() == part.lower() and one.is_dir()]
        if len(alike) != 1:
            return None
        folder = alike[0]
    return folder


def list_pictures(root: str | Path, relative: str) -> dict[str, Path]:
    """The files of ``root/relative`` by their names without the ending, in natural order.

    A `DatasetError` where there is none, or one is no PNG, JPEG or TIFF by its name, cannot be an id, or is called as
    another but for the ending.
    """
    folder = find_folder(root, relative)
    files = _entries(folder) if folder else []
    if not files:
        held = ", ".join(path.name for path in _entries(Path(root))[:8]) or "nothing"
        raise DatasetError(
            f"{Path(root) / relative} holds no picture, and {root} holds {held}: give the folder that holds {relative}"
        )
    refuse(
        [path for path in files if path.suffix.lower() not in _ENDINGS or path.is_dir()],
        f"is not among the pictures that are read: expected files that end in {', '.join(_ENDINGS)}; move it away",
    )
    refuse(
        [path for path in files if not NAME.fullmatch(path.stem) or len(path.stem.encode()) > _LONGEST_NAME],
        f"has a name that cannot be an id: expected {_NAME_IN_WORDS}, {_LONGEST_NAME} bytes at most; rename it",
    )
    named: dict[str, Path] = {}
    twice = [path for path in files if named.setdefault(path.stem, path) != path]
    refuse(twice, "is called as another picture but for the ending: keep one of the two")
    return {name: named[name] for name in sorted(named, key=natural_key)}


def _entries(folder: Path) -> list[Path]:
    """What a folder holds; dot-files are the file system's own business."""
    names = os.listdir(folder) if folder.is_dir() else []
    return [folder / name for name in sorted(names) if not name.startswith(".")]


def refuse(files: Iterable[str | Path], what: str) -> None:
    """Raise a `DatasetError` that names the first of ``files`` and counts them, where there are any."""
    files = list(files)
    if files:
        count = f" (the first of {len(files)})" if len(files) > 1 else ""
        raise DatasetError(f"{files[0]}{count} {what}")
