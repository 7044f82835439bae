"""What Kaggle accepts in ``kernel-metadata.json`` and ``dataset-metadata.json``: rules over plain dictionaries.

The client checks some of these before it sends, Kaggle some more after the upload, and a few nobody checks: a
missing ``enable_internet`` means on, and a misspelt one is missing. Rules and limits were read in the client
(kaggle 2.2) unless a line says otherwise.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from gitract_kit.errors import PushError
from gitract_kit.files import write_text_atomic

__all__ = [
    "DATASET_METADATA",
    "KERNEL_METADATA",
    "PLACEHOLDER_OWNER",
    "find_dataset_faults",
    "find_kernel_faults",
    "read_metadata",
    "slugify",
    "write_dataset_metadata",
]

DATASET_METADATA = "dataset-metadata.json"
KERNEL_METADATA = "kernel-metadata.json"
PLACEHOLDER_OWNER = "your-kaggle-name"
"""Stands in the kit's own metadata and notebooks where the user's Kaggle name belongs."""

_KERNEL_KEYS = {
    *(
        "id",
        "id_no",
        "title",
        "code_file",
        "language",
        "kernel_type",
        "is_private",
        "enable_gpu",
        "enable_tpu",
    ),
    *("enable_internet", "machine_shape", "dataset_sources", "competition_sources", "kernel_sources"),
    *("model_sources", "keywords", "docker_image", "docker_image_pinning_type"),
}
_DATASET_KEYS = {
    *("id", "id_no", "title", "subtitle", "description", "licenses", "keywords", "resources", "isPrivate"),
    *("collaborators", "data", "expectedUpdateFrequency", "userSpecifiedSources", "image"),
}
_SWITCHES = ("is_private", "enable_gpu", "enable_tpu", "enable_internet")
_RETIRED_MACHINES = ("NvidiaTeslaP100",)
_SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
# sources may be other people's, with slugs from times when Kaggle was less strict
_SOURCES = {
    "dataset_sources": (r"[\w-]+/[\w-]+(/\d+)?", "OWNER/SLUG or OWNER/SLUG/VERSION"),
    "competition_sources": (r"[a-z0-9-]+", "the competition's bare SLUG"),
    "kernel_sources": (r"[\w-]+/[\w-]{5,}(/\d+)?", "OWNER/SLUG, the slug at least 5 characters long"),
    "model_sources": (
        r"[\w-]+/[\w.-]+/[A-Za-z0-9]+/[\w.-]+(/\d+)?",
        "OWNER/MODEL/FRAMEWORK/VARIATION or the same with /VERSION",
    ),
}


def read_metadata(folder: Path, name: str) -> dict[str, Any]:
    """Return the JSON object in ``folder/name``; a `PushError` where there is none."""
    path = folder / name
    try:
        metadata = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PushError(
            f"{path}: cannot be read ({error.strerror}); give the folder that holds {name}"
        ) from error
    except ValueError as error:
        raise PushError(f"{path}: is not JSON ({error}); mend it") from error
    if not isinstance(metadata, dict):
        raise PushError(f"{path}: holds a {type(metadata).__name__}, expected a JSON object")
    return metadata


def write_dataset_metadata(
    folder: str | Path,
    slug: str,
    *,
    owner: str = PLACEHOLDER_OWNER,
    title: str | None = None,
    subtitle: str | None = None,
    licence: str = "CC0-1.0",
) -> Path:
    """Write ``dataset-metadata.json``, which makes ``folder`` a Kaggle dataset as it stands, and return its path.

    ``title`` is made of the slug where it is not given. With the placeholder as owner, the name is put in when the
    dataset is pushed. What Kaggle would refuse is a `PushError`, and nothing is written.
    """
    title = title or slug.replace("-", " ")
    metadata = {"title": title, "id": f"{owner}/{slug}", "licenses": [{"name": licence}]}
    if subtitle is not None:
        metadata["subtitle"] = subtitle
    named = {**metadata, "id": f"someone/{slug}"} if owner == PLACEHOLDER_OWNER else metadata
    path = Path(folder) / DATASET_METADATA
    faults = find_dataset_faults(named)
    if faults:
        raise PushError(f"{path} was not written: " + "; ".join(faults))
    write_text_atomic(path, json.dumps(metadata, indent=2) + "\n")
    return path


def slugify(title: str) -> str:
    """The slug that Kaggle makes of a title: lower case, anything but ASCII letters and digits a hyphen."""
    return re.sub(r"[^a-z0-9]+", "-", re.sub(r"(?<=\d),(?=\d)", "", title).lower()).strip("-")


def find_dataset_faults(metadata: Mapping[str, Any]) -> list[str]:
    """What Kaggle, or common sense, would refuse in a dataset's metadata; empty where it is sound."""
    return [
        *_find_unknown_keys(metadata, _DATASET_KEYS),
        *_find_id_faults(metadata, "dataset", 6),
        *_find_length_faults(metadata, "title", 6, 50),
        *_find_licence_faults(metadata),
        *(_find_length_faults(metadata, "subtitle", 20, 80) if metadata.get("subtitle") else ()),
        *_find_keyword_faults(metadata),
    ]


def find_kernel_faults(metadata: Mapping[str, Any], *, trains: bool) -> list[str]:
    """The same for a kernel; one that ``trains`` may reach the internet, any other must state that it does not."""
    return [
        *_find_unknown_keys(metadata, _KERNEL_KEYS),
        *_find_id_faults(metadata, "kernel", 5),
        *_find_length_faults(metadata, "title", 5, 50),
        *_find_title_faults(metadata),
        *_find_code_faults(metadata),
        *_find_switch_faults(metadata),
        *_find_internet_faults(metadata, trains),
        *_find_machine_faults(metadata),
        *_find_source_faults(metadata),
        *_find_keyword_faults(metadata),
    ]


def _find_unknown_keys(metadata: Mapping[str, Any], known: Iterable[str]) -> Iterator[str]:
    for key in sorted(metadata.keys() - set(known)):
        near = difflib.get_close_matches(key, known, n=1)
        yield f"unknown key {key!r}, which Kaggle ignores" + (f": did you mean {near[0]!r}?" if near else "")


def _find_id_faults(metadata: Mapping[str, Any], kind: str, shortest: int) -> Iterator[str]:
    owner, _, slug = str(metadata.get("id") or "").partition("/")
    if not owner or not slug:
        yield f"id is {metadata.get('id')!r}, expected 'OWNER/SLUG'"
        return
    if owner == PLACEHOLDER_OWNER:
        yield f"id has the placeholder owner {owner!r}: give your Kaggle name with --owner NAME"
    elif not re.fullmatch(r"[A-Za-z0-9_-]+", owner):
        yield f"id has the owner {owner!r}, expected a Kaggle name: letters, digits and hyphens"
    if not _SLUG.fullmatch(slug):
        yield f"id has the slug {slug!r}, expected lower-case letters and digits joined by single hyphens"
    if not shortest <= len(slug) <= 50:
        yield f"the {kind}'s slug has {len(slug)} characters, expected {shortest} to 50"


def _find_length_faults(metadata: Mapping[str, Any], key: str, shortest: int, longest: int) -> Iterator[str]:
    text = metadata.get(key)
    if not isinstance(text, str):
        yield f"{key} is {text!r}, expected a text of {shortest} to {longest} characters"
    elif not shortest <= len(text) <= longest:
        yield f"{key} has {len(text)} characters, expected {shortest} to {longest}"


def _find_title_faults(metadata: Mapping[str, Any]) -> Iterator[str]:
    title, slug = metadata.get("title"), str(metadata.get("id")).partition("/")[2]
    if not isinstance(title, str) or not slug:
        return
    if not title.isascii():
        yield f"title {title!r} has letters beyond ASCII, which Kaggle turns into others: write it without"
    elif slugify(title) != slug:
        yield f"title {title!r} makes the slug {slugify(title)!r}, but the id says {slug!r}: change one"


def _find_licence_faults(metadata: Mapping[str, Any]) -> Iterator[str]:
    match metadata.get("licenses"):
        case [{"name": str(name)}] if name:
            return
        case [_]:
            yield 'the licence has no name, expected [{"name": "CC0-1.0"}] or another'
        case list(licences):
            yield f"{len(licences)} licences, expected exactly one"
        case _:
            yield 'no licenses, expected [{"name": "CC0-1.0"}] or another'


def _find_code_faults(metadata: Mapping[str, Any]) -> Iterator[str]:
    kind, name = metadata.get("kernel_type"), metadata.get("code_file")
    if metadata.get("language") != "python":
        yield f"language is {metadata.get('language')!r}, expected 'python'"
    suffix = {"notebook": ".ipynb", "script": ".py"}.get(str(kind))
    if suffix is None:
        yield f"kernel_type is {kind!r}, expected 'notebook' or 'script'"
    elif not isinstance(name, str) or Path(name).name != name or Path(name).suffix != suffix:
        yield f"code_file is {name!r}, expected the name of a {suffix} file beside the metadata"


def _find_switch_faults(metadata: Mapping[str, Any]) -> Iterator[str]:
    for key in _SWITCHES:
        if key in metadata and _as_switch(metadata[key]) is None:
            yield f"{key} is {metadata[key]!r}, expected true or false"
    if _as_switch(metadata.get("enable_gpu")) and _as_switch(metadata.get("enable_tpu")):
        yield "enable_gpu and enable_tpu are both true, a session has one of them"


def _as_switch(value: Any) -> bool | None:
    if isinstance(value, str):
        return {"true": True, "false": False}.get(value.lower())
    return value if isinstance(value, bool) else None


def _find_internet_faults(metadata: Mapping[str, Any], trains: bool) -> Iterator[str]:
    if "enable_internet" not in metadata:
        yield "enable_internet is missing, which means ON: state it, false for inference"
    elif _as_switch(metadata["enable_internet"]) and not trains:
        yield (
            "enable_internet is true, but the competition takes submissions only from kernels without it: set it to "
            "false (only a training kernel, one with a cell that sets FOLD, may have it)"
        )


def _find_machine_faults(metadata: Mapping[str, Any]) -> Iterator[str]:
    shape = metadata.get("machine_shape")
    if shape is not None and not isinstance(shape, str):
        yield f"machine_shape is {shape!r}, expected a name like 'NvidiaTeslaT4'"
    elif shape in _RETIRED_MACHINES:
        yield f"machine_shape {shape!r} is retired: 'NvidiaTeslaT4' gives two T4"


def _find_source_faults(metadata: Mapping[str, Any]) -> Iterator[str]:
    for key, (form, meaning) in _SOURCES.items():
        sources = metadata.get(key, [])
        if not isinstance(sources, list):
            yield f"{key} is {sources!r}, expected a list of {meaning}"
            continue
        for source in sources:
            if not isinstance(source, str) or not re.fullmatch(form, source):
                yield f"{key} has {source!r}, expected {meaning}"
            elif source.startswith(f"{PLACEHOLDER_OWNER}/"):
                yield f"{key} has {source!r} with the placeholder owner: give your Kaggle name with --owner NAME"
            elif key == "dataset_sources" and source == metadata.get("id"):
                yield f"the kernel shares its id {source!r} with a dataset: give one another slug"


def _find_keyword_faults(metadata: Mapping[str, Any]) -> Iterator[str]:
    keywords = metadata.get("keywords", [])
    if not isinstance(keywords, list) or not all(isinstance(word, str) and word for word in keywords):
        yield f"keywords is {keywords!r}, expected a list of texts"
