"""Preflight: everything that is wrong with a dataset or a kernel, said before anything is uploaded.

What Kaggle does to files, and therefore what must not be in a dataset: archives are unpacked on arrival, and so is
whatever begins like a zip, which torch's ``.pt`` and ``.pth`` files do; wheels are left alone. Subfolders are dropped
unless they travel as archives.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gitract_kit.errors import PushError
from gitract_kit.shipping.credentials import find_credentials
from gitract_kit.shipping.kaggle_metadata import (
    DATASET_METADATA,
    KERNEL_METADATA,
    find_dataset_faults,
    find_kernel_faults,
    read_metadata,
)
from gitract_kit.shipping.kernel import find_notebook_faults, read_notebook, sets_fold

__all__ = ["DIR_MODES", "Parcel", "check_dataset", "check_kernel"]

DIR_MODES = ("skip", "zip", "tar")
"""What becomes of subfolders: the client drops them, or packs each into an archive that Kaggle unpacks."""

MAX_FILES = 1000
"""Entries of a dataset's folder; one more is answered "The file count exceeds the maximum" (a public report)."""
MAX_DATASET_BYTES = 200 * 10**9
MAX_CODE_BYTES = 10**6
_WEIGHTS = {".pt", ".pth", ".ckpt"}
_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".7z", ".rar")
# what the client keeps back without a word (kaggle 2.2)
_KEPT_BACK = {
    *(DATASET_METADATA, KERNEL_METADATA, "datapackage.json"),
    *("model-metadata.json", "model-instance-metadata.json"),
    *(f"dataset-cover-image{suffix}" for suffix in (".png", ".jpg", ".jpeg", ".webp")),
}


@dataclass(frozen=True)
class Parcel:
    """What would go to Kaggle; as text, what ``--dry-run`` prints."""

    kind: str
    """``dataset`` or ``kernel``."""
    id: str
    """``owner/slug``."""
    title: str
    folder: Path
    sent: tuple[Path, ...]
    """Files, and with ``-r`` folders, under ``folder``."""
    stays: tuple[str, ...]
    """Names of what is in the folder and does not go."""
    facts: tuple[str, ...]
    """What else Kaggle is told, a line each."""

    @property
    def size(self) -> int:
        """Bytes that go, before any packing."""
        return sum(file.stat().st_size for path in self.sent for file in _files_under(path))

    def __str__(self) -> str:
        lines = [f"{self.kind} {self.id} ({self.title!r}), {self.size:,} bytes"]
        lines += [f"  {fact}" for fact in self.facts]
        lines += [f"  sends {path.name}{'/' if path.is_dir() else ''}" for path in self.sent]
        lines += [f"  keeps back {name}" for name in self.stays]
        return "\n".join(lines)


def check_dataset(
    folder: str | Path, *, dir_mode: str = "skip", original: str | Path | None = None
) -> Parcel:
    """Return what a push of the dataset in ``folder`` would send; a `PushError` lists every fault there is.

    ``original`` is the folder that messages name, where ``folder`` is a rendered copy of it.
    """
    if dir_mode not in DIR_MODES:
        raise PushError(f"-r is {dir_mode!r}, expected zip or tar")
    folder = Path(folder)
    metadata = read_metadata(folder, DATASET_METADATA)
    there = sorted(folder.iterdir())
    sent = tuple(path for path in there if path.name not in _KEPT_BACK)
    faults = [
        *find_dataset_faults(metadata),
        *_find_content_faults(sent, dir_mode),
        *_find_credential_faults(folder, there),
    ]
    _refuse("dataset", original or folder, faults)
    return Parcel(
        "dataset",
        metadata["id"],
        metadata["title"],
        folder,
        sent,
        tuple(path.name for path in there if path not in sent and path.name != DATASET_METADATA),
        (f"licence {metadata['licenses'][0]['name']}, private",),
    )


def check_kernel(folder: str | Path, *, original: str | Path | None = None) -> Parcel:
    """The same for the kernel in ``folder``: its metadata, its code file, and nothing beside them."""
    folder = Path(folder)
    metadata = read_metadata(folder, KERNEL_METADATA)
    code = folder / str(metadata.get("code_file"))
    there = sorted(folder.iterdir())
    faults = [
        *find_kernel_faults(metadata, trains=code.is_file() and sets_fold(code)),
        *_find_code_file_faults(code),
        *_find_credential_faults(folder, there),
    ]
    _refuse("kernel", original or folder, faults)
    stays = tuple(path.name for path in there if path.name not in (code.name, KERNEL_METADATA))
    return Parcel("kernel", metadata["id"], metadata["title"], folder, (code,), stays, _describe(metadata))


def _describe(metadata: dict) -> tuple[str, ...]:
    switches = [
        key for key in ("is_private", "enable_gpu", "enable_tpu", "enable_internet") if key in metadata
    ]
    lists = [key for key in metadata if key.endswith("_sources") and metadata[key]]
    return (
        *(f"{key} {str(metadata[key]).lower()}" for key in switches),
        *(f"{key} {', '.join(metadata[key])}" for key in lists),
        *([f"machine_shape {metadata['machine_shape']}"] if metadata.get("machine_shape") else []),
    )


def _refuse(kind: str, folder: str | Path, faults: list[str]) -> None:
    if faults:
        listed = "".join(f"\n  - {fault}" for fault in faults)
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        raise PushError(f"the {kind} in {folder} was not pushed, {count}:{listed}")


def _find_content_faults(sent: tuple[Path, ...], dir_mode: str) -> Iterator[str]:
    folders = [path for path in sent if path.is_dir()]
    if not sent:
        yield "no files: a dataset holds at least one besides its metadata"
    if folders and dir_mode == "skip":
        names = ", ".join(path.name for path in folders)
        yield f"subfolders are dropped without a word: {names}; push with -r zip, or lay the files flat"
    for hidden in (path.name for path in folders if path.name.startswith(".")):
        yield f"the hidden folder {hidden} may be kept back by the client: remove it"
    if len(sent) > MAX_FILES:
        yield f"{len(sent)} files, expected at most {MAX_FILES}: put them into subfolders and push with -r zip"
    files = [file for path in sent for file in _files_under(path)]
    size = sum(file.stat().st_size for file in files)
    if size > MAX_DATASET_BYTES:
        yield f"{size / 1e9:.0f} GB, expected at most {MAX_DATASET_BYTES / 1e9:.0f} GB"
    for path in sent:
        if not path.exists():
            yield f"{path.name} leads nowhere: restore what it links to, or remove it"
    for file in files:
        yield from _find_unpacked(file)


def _find_unpacked(file: Path) -> Iterator[str]:
    if file.suffix == ".whl":
        return
    with file.open("rb") as opened:
        head = opened.read(265)
    if file.suffix in _WEIGHTS:
        yield f"{file.name}: Kaggle takes {file.suffix} files apart; ship .safetensors, as `gitract bundle` does"
    elif file.name.lower().endswith(_ARCHIVES) or head[257:262] == b"ustar":
        yield f"{file.name}: Kaggle unpacks archives; ship what is in it"
    elif head.startswith(b"PK"):
        yield f"{file.name}: begins like a zip, so Kaggle unpacks it; ship another format"


def _find_code_file_faults(code: Path) -> Iterator[str]:
    if not code.is_file():
        yield f"the code_file {code.name} is not in the folder"
        return
    size = code.stat().st_size
    if size > MAX_CODE_BYTES:
        yield f"{code.name} has {size:,} bytes, expected at most {MAX_CODE_BYTES:,}: move data into a dataset"
    if code.suffix == ".ipynb":
        yield from find_notebook_faults(read_notebook(code))
        return
    siblings = sorted(path.name for path in code.parent.glob("*.py") if path != code)
    if siblings:
        yield f"a script kernel is one file, but {', '.join(siblings)} stand beside it and would stay here"
    lines = code.read_text(encoding="utf-8").splitlines()
    if any(line.lstrip().startswith(("!", "%")) for line in lines):
        yield f"{code.name}: lines with ! or % work in notebooks alone; use subprocess"


def _find_credential_faults(folder: Path, there: list[Path]) -> Iterator[str]:
    for file in (file for path in there for file in _files_under(path)):
        for credential in find_credentials(file):
            yield f"{file.relative_to(folder)}: {credential}; remove it, and revoke it if it was ever shared"


def _files_under(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if file.is_file())
    return [path] if path.is_file() else []
