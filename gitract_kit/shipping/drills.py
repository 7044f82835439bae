"""What goes wrong on Kaggle, done on purpose: each drill spoils one thing, and the verdict on it must be right."""

from __future__ import annotations

import csv
import dataclasses
import json
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gitract_kit.errors import DatasetError, SettingsError
from gitract_kit.shipping.acts import Act, Limits
from gitract_kit.shipping.fresh_environment import Interpreter
from gitract_kit.shipping.install_wheels import MANIFEST as WHEELS_MANIFEST
from gitract_kit.shipping.manifest import read_manifest
from gitract_kit.shipping.mounts import Materials
from gitract_kit.shipping.rehearse import Rehearsal, check_rehearsal, complete_image, play_acts
from gitract_kit.shipping.verdict import HiddenTest, read_hidden_test

__all__ = ["DRILLS", "WHEEL_DRILLS", "DrillReport", "run_drill", "run_drills"]


@dataclass(frozen=True)
class _Spoilt:
    materials: Materials
    verdict: str
    """What the verdict has to say, a regular expression."""
    scored: bool = False
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True)
class DrillReport:
    """What a drill came to."""

    name: str
    rehearsal: Rehearsal
    expected: str
    """What the verdict had to say, a regular expression."""
    right: bool
    """Whether it did."""

    def __str__(self) -> str:
        judged = "right" if self.right else f"WRONG, expected /{self.expected}/"
        return f"{self.name:<20} {judged}: {self.rehearsal.verdict}"


def run_drill(
    name: str,
    materials: Materials,
    out: Path,
    *,
    limits: Limits | None = None,
    truth: Path | None = None,
    fresh: bool = False,
    python: str | Path | None = None,
) -> DrillReport:
    """Spoil a copy of ``materials`` as drill ``name`` does, play the hidden rerun on it and judge the verdict.

    The notebook is played in ``out``, which must be new; ``truth``, ``fresh`` and ``python`` are those of `rehearse`.
    Drills of the wheels need ``materials.wheels``, or a `DatasetError` says so; materials that are at fault before
    anything is spoilt are what `check_rehearsal` says of them.
    """
    options = {"limits": limits, "truth": truth, "fresh": fresh, "python": python}
    (report,) = _run_in({name: out}, materials, out, **options)
    return report


def run_drills(
    names: Iterable[str],
    materials: Materials,
    out: Path,
    *,
    progress: Callable[[str], None] = lambda _: None,
    **options: Any,
) -> Iterator[DrillReport]:
    """Yield what `run_drill` would for each of ``names``, each played in its folder of ``out``.

    ``all`` among them stands for every drill, but those of the wheels where there are none, which ``progress`` is
    told. Errors are those of `run_drill`, and nothing is played before all drills are known to be possible.
    """
    chosen = dict.fromkeys(names)
    if "all" in chosen:
        chosen = dict.fromkeys(DRILLS)
        for name in WHEEL_DRILLS if materials.wheels is None else ():
            progress(f"{name} is left out: it needs the wheels that `gitract wheels` makes")
            del chosen[name]
    yield from _run_in({name: out / name for name in chosen}, materials, out, progress=progress, **options)


def _run_in(
    places: Mapping[str, Path],
    materials: Materials,
    out: Path,
    *,
    limits: Limits | None = None,
    truth: Path | None = None,
    fresh: bool = False,
    python: str | Path | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Iterator[DrillReport]:
    found = None
    for name, place in places.items():
        _check_drill(name, materials)
        # before anything is spoilt: what a drill does to the wheels is for the notebook to find
        found = check_rehearsal(materials, place, fresh=fresh, python=python)
    hidden = read_hidden_test(materials.competition, truth)
    image = complete_image(found, out, progress)
    for name, place in places.items():
        yield _play_drill(name, materials, place, hidden, image, limits)


def _check_drill(name: str, materials: Materials) -> None:
    if name not in DRILLS:
        raise SettingsError(f"no drill is called {name!r}; there are {', '.join(DRILLS)}")
    if not materials.bundles:
        raise DatasetError("a drill spoils a bundle, and none was given; make one with `gitract bundle`")
    if name in WHEEL_DRILLS:
        _require_wheels(materials)


def _require_wheels(materials: Materials) -> Path:
    if materials.wheels is None:
        raise DatasetError(
            "a drill of the wheels needs wheels; make them with `gitract wheels` and name them"
        )
    return materials.wheels


def _play_drill(
    name: str,
    materials: Materials,
    out: Path,
    hidden: HiddenTest,
    image: Interpreter | None,
    limits: Limits | None,
) -> DrillReport:
    copies = out / "spoilt"
    copies.mkdir(parents=True)
    spoilt = DRILLS[name](materials, copies)
    rehearsal = play_acts(
        [Act("2026", rerun=True)],
        spoilt.materials,
        out / "played",
        # graded by what the test set was before
        dataclasses.replace(hidden, sample=spoilt.materials.competition / "sample_submission.csv"),
        limits=limits,
        image=image,
        environment=spoilt.environment,
    )
    told = str(rehearsal)
    right = rehearsal.scored == spoilt.scored and bool(re.search(spoilt.verdict, told, re.DOTALL))
    return DrillReport(name, rehearsal, spoilt.verdict, right)


def _miss_a_wheel(materials: Materials, copies: Path) -> _Spoilt:
    wheels = _copy_wheels(materials, copies)
    missing = next(path for path in sorted(wheels.glob("*.whl")) if not path.name.startswith("gitract_kit-"))
    missing.unlink()
    return _Spoilt(
        dataclasses.replace(materials, wheels=wheels),
        rf"Notebook Threw Exception: WheelsError: .* lacks {re.escape(missing.name)}",
    )


def _mistake_the_python(materials: Materials, copies: Path) -> _Spoilt:
    wheels = _copy_wheels(materials, copies)
    path = wheels / WHEELS_MANIFEST
    manifest = json.loads(path.read_text(encoding="utf-8"))
    manifest["pythons"] = ["3.8"]
    path.write_text(json.dumps(manifest), encoding="utf-8")
    return _Spoilt(
        dataclasses.replace(materials, wheels=wheels),
        r"Notebook Threw Exception: WheelsError: this notebook runs Python \S+, the wheels are for 3\.8: make them "
        r"again with `gitract wheels",
    )


def _copy_wheels(materials: Materials, copies: Path) -> Path:
    return shutil.copytree(_require_wheels(materials), copies / "wheels")


def _corrupt_weights(materials: Materials, copies: Path) -> _Spoilt:
    bundle = shutil.copytree(materials.bundles[0], copies / "bundle")
    path = sorted(bundle.glob("*.safetensors"))[0]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    return _Spoilt(
        dataclasses.replace(materials, bundles=(bundle, *materials.bundles[1:])),
        rf"Notebook Threw Exception: BundleError: .*{re.escape(path.name)}: its sha256 is",
    )


def _truncate_an_image(materials: Materials, copies: Path) -> _Spoilt:
    competition = _copy_competition(materials, copies)
    path = sorted((competition / "test").rglob("*.png"))[0]
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    scans = len({one.parent for one in (competition / "test").rglob("*.png")})
    limit = read_manifest(materials.bundles[0])["prediction"]["max_failed_share"]
    scored = limit * scans >= 1
    # either way the file is named: in the verdict, or in a remark
    told = path.name if scored else f"PredictionError: 1 of {scans} scans failed.*{path.name}"
    return _Spoilt(dataclasses.replace(materials, competition=competition), told, scored)


def _empty_the_test_folder(materials: Materials, copies: Path) -> _Spoilt:
    competition = _copy_competition(materials, copies)
    shutil.rmtree(competition / "test")
    (competition / "test").mkdir()
    # the sample still asks for the rows: what every scan failing looks like
    return _Spoilt(
        dataclasses.replace(materials, competition=competition),
        r"Notebook Threw Exception: PredictionError: (\d+) of \1 scans failed",
    )


def _reorder_the_sample(materials: Materials, copies: Path) -> _Spoilt:
    competition = _copy_competition(materials, copies)
    path = competition / "sample_submission.csv"
    with path.open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        # by organ, and the last slice first
        writer.writerows([header, *sorted(rows, key=lambda row: (row[1], row[0]), reverse=True)])
    return _Spoilt(
        dataclasses.replace(materials, competition=competition), "would have been scored", scored=True
    )


def _run_short_of_time(materials: Materials, copies: Path) -> _Spoilt:
    return _Spoilt(
        materials,
        r"scans: empty rows: no time left.*would have been scored",
        scored=True,
        environment={"GITRACT_BUDGET_S": "0.001"},
    )


def _copy_competition(materials: Materials, copies: Path) -> Path:
    """Test set and sample copied, the training set linked."""
    place = copies / "competition"
    place.mkdir()
    source = materials.competition.resolve()
    shutil.copytree(source / "test", place / "test")
    shutil.copyfile(source / "sample_submission.csv", place / "sample_submission.csv")
    for name in ("train", "train.csv"):
        if (source / name).exists():
            (place / name).symlink_to(source / name)
    return place


DRILLS: Mapping[str, Callable[[Materials, Path], _Spoilt]] = {
    "wheel-missing": _miss_a_wheel,
    "wheel-other-python": _mistake_the_python,
    "weights-corrupted": _corrupt_weights,
    "image-truncated": _truncate_an_image,
    "test-empty": _empty_the_test_folder,
    "sample-reordered": _reorder_the_sample,
    "time-short": _run_short_of_time,
}
"""By name; each takes materials and a folder for spoilt copies."""

WHEEL_DRILLS = ("wheel-missing", "wheel-other-python")
"""Those that cannot be without wheels."""
