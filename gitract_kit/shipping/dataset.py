"""What makes a folder a Kaggle dataset: its metadata, a README, and rules that its upload would break over.

The rules were found out by running Kaggle's client 2.2: subfolders are dropped without a word, archives are unpacked
on arrival, and ``.pt`` or ``.pth`` files are archives by their first bytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gitract_kit.errors import DatasetError
from gitract_kit.files import write_text_atomic

__all__ = ["DATASET_METADATA", "OWNER", "find_dataset_faults", "write_dataset_files"]

DATASET_METADATA = "dataset-metadata.json"
OWNER = "your-kaggle-name"
"""Stands for the user's Kaggle name until a push fills it in."""

_SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")
_ZIP_START = b"PK\x03\x04"
# wheels are zip files too, but are kept as they are by their name; where they once were not, the notebook copes
_KEPT_ZIPS = (".whl",)


def write_dataset_files(
    folder: str | Path, slug: str, about: str, *, owner: str = OWNER, licence: str = "other"
) -> None:
    """Write ``dataset-metadata.json`` and ``README.md`` into ``folder``: then it is a Kaggle dataset as it stands.

    ``slug`` is the dataset's name in its address, 6 to 50 of a-z, 0-9 and single hyphens; the title is the slug in
    words. ``about`` is the README's text. ``licence`` is one of Kaggle's names: ``other`` leaves it to the README.
    """
    metadata = {
        "title": slug.replace("-", " "),
        "id": f"{owner}/{slug}",
        "licenses": [{"name": licence}],
    }
    faults = list(_metadata_faults(metadata))
    if faults:
        raise DatasetError(f"{folder}: {faults[0]}")
    write_text_atomic(Path(folder) / DATASET_METADATA, json.dumps(metadata, indent=2) + "\n")
    write_text_atomic(Path(folder) / "README.md", f"# {metadata['title']}\n\n{about.strip()}\n")


def find_dataset_faults(folder: str | Path) -> list[str]:
    """Return what an upload of ``folder`` as a Kaggle dataset would break over, a sentence each."""
    folder = Path(folder)
    path = folder / DATASET_METADATA
    try:
        metadata = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        faults = [f"{path}: cannot be read ({error.strerror}); write the folder again"]
    except ValueError as error:
        faults = [f"{path}: is not JSON ({error}); mend it"]
    else:
        faults = [f"{path}: {fault}" for fault in _metadata_faults(metadata)]
    return faults + list(_file_faults(folder))


def _metadata_faults(metadata: Any) -> Iterator[str]:
    if not isinstance(metadata, dict):
        yield f"holds a {type(metadata).__name__}, expected a JSON object"
        return
    owner, _, slug = str(metadata.get("id", "")).partition("/")
    if not owner or not 6 <= len(slug) <= 50 or not _SLUG.fullmatch(slug):
        yield (
            f"id is {metadata.get('id')!r}, expected OWNER/SLUG with a slug of 6 to 50 characters of a-z, 0-9 and "
            "single hyphens"
        )
    if not 6 <= len(str(metadata.get("title", ""))) <= 50:
        yield f"title is {metadata.get('title')!r}, expected 6 to 50 characters"
    licences = metadata.get("licenses")
    if not (isinstance(licences, list) and len(licences) == 1 and isinstance(licences[0], dict)):
        yield f'licenses is {licences!r}, expected exactly one, say [{{"name": "CC0-1.0"}}]'
    elif not licences[0].get("name"):
        yield f"the licence is {licences[0]!r}, expected a name"
    subtitle = metadata.get("subtitle")
    if subtitle and not 20 <= len(subtitle) <= 80:
        yield f"subtitle has {len(subtitle)} characters, expected 20 to 80"


def _file_faults(folder: Path) -> Iterator[str]:
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            if path.name != "__pycache__":
                yield f"{path} is a folder, which the upload drops; keep all files side by side"
        elif path.name.endswith(_ARCHIVES):
            yield f"{path} is an archive, which Kaggle unpacks; put in what it holds"
        elif not path.name.endswith(_KEPT_ZIPS) and _begins_like_zip(path):
            yield f"{path} begins like a zip file, so that Kaggle unpacks it; save weights as .safetensors"


def _begins_like_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_ZIP_START)) == _ZIP_START
