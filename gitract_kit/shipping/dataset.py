"""What makes a folder a Kaggle dataset as it stands: metadata that Kaggle accepts, and a README."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gitract_kit.files import write_text_atomic
from gitract_kit.shipping.kaggle_metadata import DATASET_METADATA, read_metadata, write_dataset_metadata
from gitract_kit.shipping.manifest import read_manifest

__all__ = ["describe_bundle", "write_dataset_files"]

README = "README.md"


def write_dataset_files(folder: str | Path, slug: str, about: str, *, licence: str = "other") -> None:
    """Write ``dataset-metadata.json`` and ``README.md`` into ``folder``.

    ``slug`` names the dataset in its address; ``about`` is the README's text; ``licence`` is one of Kaggle's names, of
    which ``other`` leaves it to the README. A slug that Kaggle refuses is a `PushError`, and nothing is written.
    """
    write_dataset_metadata(folder, slug, licence=licence)
    write_text_atomic(Path(folder) / README, f"# {slug.replace('-', ' ')}\n\n{about.strip()}\n")


def describe_bundle(folder: str | Path, *, slug: str | None = None, licence: str = "other") -> None:
    """Make the bundle in ``folder`` a Kaggle dataset: `write_dataset_files` with what its manifest tells.

    Without a ``slug`` it is the one that ``folder`` has already, else ``gitract-weights``, of gates ``gitract-gate``:
    bundles that are predicted with together must not be pushed over each other.
    """
    manifest = read_manifest(folder)
    slug = slug or _slug_there(Path(folder)) or _slug_of(manifest["members"])
    about = (
        f"{manifest['name']}: weights for {', '.join(manifest['organs'])} ({manifest['layout']}), to be mounted by "
        f"gitract-kit's inference notebook.\n\n{_member_table(manifest['members'])}\n\n"
        "`bundle.json` holds the settings and the sha256 of each file; `gitract verify DIR` compares them."
    )
    write_dataset_files(folder, slug, about, licence=licence)


def _slug_there(folder: Path) -> str | None:
    if not (folder / DATASET_METADATA).is_file():
        return None
    return str(read_metadata(folder, DATASET_METADATA).get("id")).rpartition("/")[2]


def _slug_of(members: Sequence[dict[str, Any]]) -> str:
    return "gitract-gate" if all(entry["role"] == "gate" for entry in members) else "gitract-weights"


def _member_table(members: Sequence[dict[str, Any]]) -> str:
    rows = [
        f"| {entry['weights']} | {entry['role']} | {entry['fold']} | {entry['epoch']} | {_score(entry['score'])} |"
        for entry in members
    ]
    return "\n".join(
        ["| file | role | fold | epoch | score held out |", "| --- | --- | --- | --- | --- |", *rows]
    )


def _score(score: dict[str, Any]) -> str:
    return f"{score['total']:.4f}" if isinstance(score.get("total"), float) else "unknown"
