"""A competition of plain pictures, each with a mask picture, and no table.

    ROOT/Train/Image/NAME.png    grayscale, 8 or 16 bits
    ROOT/Train/Mask/NAME.png     of the same name and size: 0 is background, any other value a class
    ROOT/Test/Image/NAME.png

Files are PNG, JPEG or TIFF; capitals count neither in endings nor in the folders' names. A picture is a scan of one
slice and a case of its own, and its id is its file's name without the ending. Colour is refused, because no one
conversion of it to gray is right for all data.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from gitract_kit.competition.layout import IMAGE_MASK, INDEX_COLUMNS, Layout
from gitract_kit.competition.pictures import (
    NAME,
    is_jpeg,
    list_pictures,
    read_gray,
    read_mask,
    read_pictures,
    refuse,
)
from gitract_kit.competition.rle import rle_decode, rle_encode
from gitract_kit.errors import DatasetError, SettingsError
from gitract_kit.files import write_bytes_atomic

__all__ = ["build_picture_index", "choose_classes", "require_mask_pictures", "write_mask_pictures"]

_FOLDERS = {"train": "Train/Image", "test": IMAGE_MASK.test_folder}
_MASKS = "Train/Mask"
_MOST_CLASSES = 32
_NOT_FOR_CLASSES = {*INDEX_COLUMNS, "fold", "class", "segmentation", "predicted"}


def choose_classes(root: str | Path, classes: Sequence[str] = ()) -> Layout:
    """The layout of the pictures in ``root``: its classes are the values that the training masks hold beside 0.

    One value is one class, called "mask"; of several each is one, called "class_VALUE". ``classes`` names them instead:
    "NAME" each, in ascending order of the values, or "NAME=VALUE" each, and then no other value may be there.
    `DatasetError` where the masks hold no value but 0, or over 32 of them; `SettingsError` for names that do not fit.
    """
    files = list_pictures(root, _MASKS)
    masks, where = _read_masks(files), f"the masks of {Path(root) / _MASKS}"
    found = sorted(frozenset().union(*(mask.held for mask in masks.values())))
    if not found:
        raise DatasetError(
            f"{where} hold 0 alone, which is background: expected another value on one at least"
        )
    if len(found) > _MOST_CLASSES:
        fullest = max(masks, key=lambda name: len(masks[name].held))
        raise DatasetError(
            f"{where} hold {len(found)} values beside 0, {files[fullest]} alone {len(masks[fullest].held)}: expected "
            f"one, or one for each of at most {_MOST_CLASSES} classes; if they were resized or smoothed, threshold them"
        )
    names, values = _name_classes(found, classes, where)
    layout = replace(IMAGE_MASK, organs=names, mask_values=values)
    _refuse_other_values(files, masks, layout)
    return layout


def build_picture_index(
    root: str | Path, split: str, layout: Layout, faults: list[DatasetError] | None = None
) -> pd.DataFrame:
    """One row a picture of ``root``, in natural order of their names; the columns are those of `build_index`.

    Every picture is its own ``case`` and ``scan``, as slice 1 of day 0. :class:`DatasetError` names the first file at
    fault and counts them: not one whole gray picture, a name twice, a picture without its mask or a mask without its
    picture, sizes that differ, a mask with a value that is none of ``layout.mask_values``. Given a list as ``faults``,
    pictures that cannot be read are left out and the error appended to it.
    """
    pictures = list_pictures(root, _FOLDERS[split])
    shapes = read_pictures(pictures, lambda content: read_gray(content).shape, faults)
    rows = [
        (name, name, 0, name, 1, str(pictures[name]), width, height, 1.0, 1.0, False)
        for name, (height, width) in shapes.items()
    ]
    index = pd.DataFrame(rows, columns=list(INDEX_COLUMNS))
    return index if split == "test" else _join_masks(index, list_pictures(root, _MASKS), layout)


def write_mask_pictures(
    folder: str | Path, index: pd.DataFrame, rles: Callable[[str], Sequence[str]], layout: Layout
) -> None:
    """Write ``folder/ID.png`` for each slice of ``index``: 0 is background, an organ's pixels have its mask value.

    ``rles`` gives the run-length strings of an id, in the order of ``layout.organs``; where organs share a pixel, the
    later one is written. A layout whose masks are no pictures is a `SettingsError`, an id that is more than a name a
    `DatasetError`; then nothing is written.
    """
    require_mask_pictures(layout)
    refuse(
        (one for one in index["id"] if not NAME.fullmatch(one)), "is an id that cannot name a file: rename it"
    )
    kind = np.uint8 if max(layout.mask_values) < 2**8 else np.uint16
    for slice_id, height, width in index[["id", "height", "width"]].itertuples(index=False):
        picture = np.zeros((height, width), dtype=kind)
        for rle, value in zip(rles(slice_id), layout.mask_values, strict=True):
            picture[rle_decode(rle, picture.shape)] = value
        _, encoded = cv2.imencode(".png", picture)
        write_bytes_atomic(Path(folder) / f"{slice_id}.png", encoded.tobytes())


def require_mask_pictures(layout: Layout) -> None:
    """Raise a `SettingsError` where masks of ``layout`` cannot be pictures."""
    if not layout.mask_values:
        raise SettingsError(
            f"masks of the layout {layout.name} are run lengths, and its organs may share pixels: a picture holds one "
            "value a pixel; ask for the table alone"
        )


@dataclass(frozen=True)
class _Mask:
    """What is kept of a mask's file."""

    shape: tuple[int, int]
    held: frozenset[int]
    """Its values beside 0."""
    is_jpeg: bool
    rles: list[str]
    """A run-length string for each value that was asked for."""


def _read_masks(files: Mapping[str, Path], values: Sequence[int] = ()) -> dict[str, _Mask]:
    def read(content: np.ndarray) -> _Mask:
        mask = read_mask(content)
        held = frozenset(np.unique(mask).tolist()) - {0}
        return _Mask(mask.shape, held, is_jpeg(content), [rle_encode(mask == value) for value in values])

    return read_pictures(files, read)


def _name_classes(
    found: Sequence[int], classes: Sequence[str], where: str
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Names and values of the classes, by ascending value."""
    if not classes:
        return ("mask",) if len(found) == 1 else tuple(f"class_{value}" for value in found), tuple(found)
    named = all("=" in one for one in classes)
    names = [one.partition("=")[0] for one in classes] if named else list(classes)
    values = [_parse_value(one) for one in classes] if named else list(found)
    for name in names:
        _check_class_name(name)
    if not len(names) == len(values) == len(set(names)) == len(set(values)):
        raise SettingsError(
            f"the classes are {', '.join(classes)}, and {where} hold {', '.join(map(str, found))} beside 0: expected "
            "one name for each value, all different, as NAME or as NAME=VALUE"
        )
    values, names = zip(*sorted(zip(values, names, strict=True)), strict=True)
    return names, values


def _parse_value(text: str) -> int:
    value = text.partition("=")[2]
    if not re.fullmatch("[1-9][0-9]{0,4}", value) or int(value) >= 2**16:
        raise SettingsError(
            f"the class {text!r:.60} has no value of 1 to 65535: write NAME=VALUE, say liver=128"
        )
    return int(value)


def _check_class_name(name: str) -> None:
    if not NAME.fullmatch(name) or name in _NOT_FOR_CLASSES:
        raise SettingsError(
            f"{name!r:.60} cannot be a class's name: expected letters, digits, _, and within it spaces and . ( ) + -, "
            f"and none of {', '.join(sorted(_NOT_FOR_CLASSES))}"
        )


def _join_masks(index: pd.DataFrame, files: Mapping[str, Path], layout: Layout) -> pd.DataFrame:
    """The index with a column of run-length strings an organ."""
    pictures = dict(zip(index["id"], index["path"], strict=True))
    refuse(
        [path for name, path in pictures.items() if name not in files],
        f"has no mask of the same name in {_MASKS}: add it, or take the picture out",
    )
    refuse(
        [path for name, path in files.items() if name not in pictures],
        f"is a mask without a picture of the same name in {_FOLDERS['train']}: add it, or take the mask out",
    )
    masks = _read_masks(files, layout.mask_values)
    sizes = dict(zip(index["id"], zip(index["height"], index["width"], strict=True), strict=True))
    refuse(
        [files[name] for name, mask in masks.items() if mask.shape != sizes[name]],
        "is not as wide and high as its picture: give the mask that belongs to it",
    )
    _refuse_other_values(files, masks, layout)
    columns = {organ: [masks[name].rles[k] for name in index["id"]] for k, organ in enumerate(layout.organs)}
    return index.assign(**columns)


def _refuse_other_values(files: Mapping[str, Path], masks: Mapping[str, _Mask], layout: Layout) -> None:
    known = ", ".join(
        f"{value} ({organ})" for organ, value in zip(layout.organs, layout.mask_values, strict=True)
    )
    others = {name: mask.held.difference(layout.mask_values) for name, mask in masks.items()}
    found = ", ".join(map(str, sorted(frozenset().union(*others.values()))[:8]))
    refuse(
        [files[name] for name, values in others.items() if values],
        f"holds a value that is no class: {found}; expected 0 and {known}: mend the mask, or name all classes",
    )
    if layout.mask_values != (255,):
        refuse(
            [files[name] for name, mask in masks.items() if mask.is_jpeg],
            f"is a JPEG, which blurs class values, and the classes are {known}: write PNG from the source",
        )
