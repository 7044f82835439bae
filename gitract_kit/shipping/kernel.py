"""A kernel's folder read, and rendered: a user's name put in, one kernel a fold."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gitract_kit.errors import PushError
from gitract_kit.files import write_text_atomic
from gitract_kit.shipping.kaggle_metadata import KERNEL_METADATA, PLACEHOLDER_OWNER, read_metadata

__all__ = ["find_notebook_faults", "put_owner", "read_notebook", "render_kernel", "sets_fold"]

_FOLD = re.compile(r"^FOLD\s*=\s*\d+", re.MULTILINE)


def render_kernel(
    folder: str | Path,
    out: str | Path,
    *,
    owner: str | None = None,
    fold: int | None = None,
    resume: bool = False,
) -> Path:
    """Write the kernel in ``folder`` to ``out`` as it is to be pushed, and return ``out``.

    ``owner`` takes the placeholder's place in the id, the sources and the notebook's constants. ``fold`` is set in
    the notebook's one line ``FOLD = ...``, and ends the slug and the title (``-fold-0``, ``fold 0``). With ``resume``
    the kernel's own output is one of its sources. The notebook's JSON is compact and its sources are single texts, as
    the official client sends them: what is in the file is what Kaggle gets. A kernel without a place for the owner,
    the fold or its own output is a `PushError`.
    """
    folder, out = Path(folder), Path(out)
    metadata = read_metadata(folder, KERNEL_METADATA)
    if owner is not None:
        metadata = put_owner(metadata, owner, folder / KERNEL_METADATA)
    if fold is not None:
        metadata = {**metadata, **_name_fold(metadata, fold)}
    code = folder / str(metadata.get("code_file"))
    rendered = _render_code(code, owner, fold)
    if resume:
        metadata = _add_own_output(metadata, rendered, code)
    write_text_atomic(out / KERNEL_METADATA, json.dumps(metadata, indent=2) + "\n")
    write_text_atomic(out / code.name, rendered)
    return out


def put_owner(metadata: dict[str, Any], owner: str, path: Path) -> dict[str, Any]:
    """``metadata`` with ``owner`` where the placeholder stood; a `PushError` where somebody else's name stands."""
    if not re.fullmatch(r"[A-Za-z0-9_-]+", owner):
        raise PushError(
            f"--owner {owner!r} is no Kaggle name: it is what follows kaggle.com/ on your profile"
        )
    there = str(metadata.get("id")).partition("/")[0]
    if there not in (PLACEHOLDER_OWNER, owner):
        raise PushError(
            f"{path}: the id's owner is {there!r}, not {owner!r}; leave --owner out, or edit the id"
        )
    return json.loads(json.dumps(metadata).replace(f'"{PLACEHOLDER_OWNER}/', f'"{owner}/'))


def _name_fold(metadata: dict[str, Any], fold: int) -> dict[str, str]:
    names = {}
    for key, joint in (("id", "-"), ("title", " ")):
        names[key] = f"{_without_fold(str(metadata.get(key)), joint)}{joint}fold{joint}{fold}"
    return names


def _without_fold(name: str, joint: str) -> str:
    return re.sub(rf"{joint}fold{joint}\d+$", "", name)


def _add_own_output(metadata: dict[str, Any], code: str, path: Path) -> dict[str, Any]:
    own, sources = str(metadata.get("id")), metadata.get("kernel_sources", [])
    if not isinstance(sources, list):
        raise PushError(
            f"{path.with_name(KERNEL_METADATA)}: kernel_sources is {sources!r:.80}, expected a list of OWNER/SLUG, "
            "[] for none"
        )
    stem = _without_fold(own, "-")
    if stem not in code:
        raise PushError(
            f"{path}: nowhere looks for the output of {own}, which --resume mounts: name it in a cell, say "
            f'EARLIER = f"{stem}-fold-{{FOLD}}"'
        )
    return {**metadata, "kernel_sources": [*sources, *([own] if own not in sources else [])]}


def _render_code(path: Path, owner: str | None, fold: int | None) -> str:
    if path.suffix != ".ipynb":
        return _render_source(_read_text(path), path, owner, fold)
    notebook = read_notebook(path)
    if fold is not None and len(list(_fold_cells(notebook))) != 1:
        raise PushError(
            f"{path}: {len(list(_fold_cells(notebook)))} cells set FOLD, expected exactly one line like 'FOLD = 0'"
        )
    cells = []
    for cell in notebook["cells"]:
        source = _join(cell)
        if cell.get("cell_type") == "code":
            setting = fold if _FOLD.search(source) else None
            source = _render_source(source, path, owner, setting)
        cells.append({**cell, "source": source})
    return json.dumps({**notebook, "cells": cells})


def _render_source(source: str, path: Path, owner: str | None, fold: int | None) -> str:
    if owner is not None:
        source = source.replace(PLACEHOLDER_OWNER, owner)
    if fold is None:
        return source
    source, count = _FOLD.subn(f"FOLD = {fold}", source)
    if count != 1:
        raise PushError(f"{path}: {count} lines set FOLD, expected exactly one like 'FOLD = 0'")
    return source


def sets_fold(path: Path) -> bool:
    """Whether the code file has a line ``FOLD = ...`` of its own, which makes it a training kernel."""
    if path.suffix != ".ipynb":
        return bool(_FOLD.search(_read_text(path)))
    return any(True for _ in _fold_cells(read_notebook(path)))


def _fold_cells(notebook: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for cell in notebook["cells"]:
        if cell.get("cell_type") == "code" and _FOLD.search(_join(cell)):
            yield cell


def read_notebook(path: Path) -> dict[str, Any]:
    """The notebook's JSON, its cells a list of objects; a `PushError` where it is none of format 4."""
    try:
        notebook = json.loads(_read_text(path))
    except ValueError as error:
        raise PushError(f"{path}: is not a notebook ({error}); save it again") from error
    cells = notebook.get("cells") if isinstance(notebook, dict) else None
    if not isinstance(cells, list) or not all(isinstance(cell, dict) for cell in cells):
        raise PushError(f"{path}: has no list of cells; save it again in Jupyter's format 4")
    if notebook.get("nbformat") != 4:
        raise PushError(
            f"{path}: has the notebook format {notebook.get('nbformat')!r}, expected 4: save it again"
        )
    return notebook


def find_notebook_faults(notebook: dict[str, Any]) -> list[str]:
    """What must not travel in a notebook: outputs and counts of an earlier run, and the placeholder owner."""
    cells = [cell for cell in notebook["cells"] if cell.get("cell_type") == "code"]
    faults = []
    if ran := sum(bool(cell.get("outputs")) or cell.get("execution_count") is not None for cell in cells):
        faults.append(
            f"{ran} cells hold outputs of an earlier run: strip them, say with "
            "`jupyter nbconvert --clear-output --inplace`"
        )
    if any(PLACEHOLDER_OWNER in _join(cell) for cell in cells):
        faults.append(f"a cell names the placeholder owner {PLACEHOLDER_OWNER!r}: push with --owner NAME")
    return faults


def _join(cell: dict[str, Any]) -> str:
    source = cell.get("source", "")
    return "".join(source) if isinstance(source, list) else str(source)


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise PushError(
            f"{path}: cannot be read ({error.strerror}); the metadata names it as code_file"
        ) from error
    except UnicodeDecodeError as error:
        raise PushError(f"{path}: is not UTF-8 ({error.reason}); save it as UTF-8") from error
