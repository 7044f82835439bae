"""An input tree as Kaggle mounts it: both layouts, the hidden rerun's test set or the first save's empty one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gitract_kit.errors import DatasetError, PushError
from gitract_kit.shipping.kaggle_metadata import read_metadata

__all__ = ["MOUNT_LAYOUTS", "Materials", "build_input_tree", "read_kernel_metadata"]

MOUNT_LAYOUTS = ("2026", "older")
"""``competitions/SLUG`` and ``datasets/OWNER/SLUG`` since 2026; before, and still live, ``SLUG`` for both."""

# and nothing else: whatever lies beside them, the truth of the test set say, is not on Kaggle
_COMPETITION_FILES = ("train", "train.csv", "test", "sample_submission.csv")


@dataclass(frozen=True)
class Materials:
    """What goes into a rehearsal."""

    competition: Path
    """A competition folder with a filled ``test/`` and ``sample_submission.csv``."""
    bundles: tuple[Path, ...]
    """Mounted as the kernel's dataset sources, in their order."""
    kernel: Path
    """A kernel's folder: ``kernel-metadata.json`` and the notebook."""
    wheels: Path | None = None
    """Mounted as the dataset source whose name ends in ``wheels``; None where the present packages are used."""
    outputs: tuple[Path, ...] = ()
    """What training kernels left, mounted as the kernel's kernel sources, in their order."""

    @property
    def folders(self) -> tuple[Path, ...]:
        """All that is mounted."""
        return (self.competition, *self.bundles, *self.outputs, *([self.wheels] if self.wheels else []))

    def check(self) -> None:
        """Raise a `DatasetError` where a folder is not there."""
        for folder in self.folders:
            if not folder.is_dir():
                raise DatasetError(f"{folder} is not a folder; give the folder itself")
        for name in ("test", "sample_submission.csv"):
            if not (self.competition / name).exists():
                raise DatasetError(
                    f"{self.competition} has no {name}; give a competition folder with a filled test set, "
                    "which `gitract phantom` makes"
                )


def read_kernel_metadata(kernel: Path) -> dict[str, Any]:
    """Return ``kernel-metadata.json`` of ``kernel``; a `DatasetError` where it cannot be mounted by."""
    path = kernel / "kernel-metadata.json"
    try:
        metadata = read_metadata(kernel, path.name)
    except PushError as error:
        raise DatasetError(str(error)) from error
    for key in ("code_file", "competition_sources"):
        if not metadata.get(key):
            raise DatasetError(f"{path} has no {key}; the rehearsal mounts what it lists")
    _check_kinds(metadata, path)
    if not (kernel / metadata["code_file"]).is_file():
        raise DatasetError(f"{path} names the notebook {metadata['code_file']}, which is not beside it")
    return metadata


def _check_kinds(metadata: Mapping[str, Any], path: Path) -> None:
    if not isinstance(metadata["code_file"], str):
        raise DatasetError(
            f"{path}: code_file is {metadata['code_file']!r}, expected the name of the notebook beside it"
        )
    for key in ("competition_sources", "dataset_sources", "kernel_sources"):
        sources = metadata.get(key, [])
        if not isinstance(sources, list) or not all(isinstance(source, str) for source in sources):
            raise DatasetError(f"{path}: {key} is {sources!r:.80}, expected a list of names, [] for none")


def build_input_tree(place: Path, materials: Materials, layout: str, *, empty_test: bool) -> list[Path]:
    """Make the new folder ``place`` what ``/kaggle/input`` would be; return the folders that stand behind its links.

    ``layout`` is one of `MOUNT_LAYOUTS`. With ``empty_test`` the test folder is empty, in the older layout not there,
    and the sample a mere header, as when a notebook is saved.
    """
    metadata = read_kernel_metadata(materials.kernel)
    slug = metadata["competition_sources"][0]
    mounted = _mount_point(place, "competitions", slug, layout)
    _mount_competition(materials.competition, mounted, layout, empty_test)
    behind = [materials.competition]
    datasets = _assign_datasets(metadata.get("dataset_sources", []), materials)
    kernels = _assign_kernels(metadata.get("kernel_sources", []), materials)
    for kind, source, folder in [*datasets, *kernels]:
        mounted = _mount_point(place, kind, source, layout)
        mounted.parent.mkdir(parents=True, exist_ok=True)
        mounted.symlink_to(folder.resolve(), target_is_directory=True)
        behind.append(folder)
    return [folder.resolve() for folder in behind]


def _mount_point(place: Path, kind: str, source: str, layout: str) -> Path:
    return place / kind / source if layout == "2026" else place / source.rpartition("/")[2]


def _mount_competition(competition: Path, place: Path, layout: str, empty_test: bool) -> None:
    place.mkdir(parents=True)
    for name in _COMPETITION_FILES:
        if empty_test and name == "test":
            # a mount of files alone knows no empty folders: both are played
            if layout == "2026":
                (place / name).mkdir()
        elif empty_test and name == "sample_submission.csv":
            (place / name).write_text("id,class,predicted\n", encoding="utf-8")
        elif (competition / name).exists():
            (place / name).symlink_to((competition / name).resolve())


def _assign_datasets(sources: Sequence[str], materials: Materials) -> list[tuple[str, str, Path]]:
    wheels = [source for source in sources if source.endswith("wheels")]
    weights = [source for source in sources if source not in wheels]
    if len(weights) != len(materials.bundles):
        raise DatasetError(
            f"{materials.kernel / 'kernel-metadata.json'} lists {len(weights)} datasets of weights "
            f"({', '.join(weights)}), given were {len(materials.bundles)}: one bundle for each, in that order"
        )
    if materials.wheels and not wheels:
        raise DatasetError(
            f"{materials.kernel / 'kernel-metadata.json'} lists no dataset for the wheels; add one whose name "
            "ends in wheels"
        )
    assigned = [("datasets", *pair) for pair in zip(weights, materials.bundles, strict=True)]
    return assigned + [("datasets", source, materials.wheels) for source in wheels[:1] if materials.wheels]


def _assign_kernels(sources: Sequence[str], materials: Materials) -> list[tuple[str, str, Path]]:
    if len(sources) != len(materials.outputs):
        raise DatasetError(
            f"{materials.kernel / 'kernel-metadata.json'} lists {len(sources)} kernel sources "
            f"({', '.join(sources) or 'none'}), given were {len(materials.outputs)}: what each left, in that order"
        )
    return [("notebooks", *pair) for pair in zip(sources, materials.outputs, strict=True)]
