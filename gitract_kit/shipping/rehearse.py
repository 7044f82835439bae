"""Kaggle's hidden rerun, and the first save before it, played through here: the notebook as it is pushed, no network.

OUT/
    rerun-2026/  rerun-older/  save-2026/  save-older/      one folder an act:
        input/            what /kaggle/input would be
        working/          what /kaggle/working would be, submission.csv in it
        executed.ipynb    the notebook with its outputs
    working               the first act's
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gitract_kit.errors import DatasetError, SettingsError
from gitract_kit.shipping.acts import Act, Limits, play_act
from gitract_kit.shipping.fresh_environment import (
    Interpreter,
    create_fresh_environment,
    create_image_environment,
    find_interpreter,
)
from gitract_kit.shipping.install_wheels import MANIFEST
from gitract_kit.shipping.kaggle_metadata import KERNEL_METADATA, PLACEHOLDER_OWNER, find_kernel_faults
from gitract_kit.shipping.manifest import read_json
from gitract_kit.shipping.mounts import MOUNT_LAYOUTS, Materials, read_kernel_metadata
from gitract_kit.shipping.verdict import HIDDEN_CASES, ActReport, HiddenTest, judge_act, read_hidden_test

__all__ = [
    "Limits",
    "Rehearsal",
    "check_new",
    "check_rehearsal",
    "complete_image",
    "default_acts",
    "play_acts",
    "rehearse",
]


@dataclass(frozen=True)
class Rehearsal:
    """What the acts of a rehearsal came to."""

    reports: tuple[ActReport, ...]
    packages: str
    """Where the notebook's packages came from."""

    @property
    def scored(self) -> bool:
        """Whether Kaggle would have scored it: every act passed."""
        return all(report.fault is None for report in self.reports)

    @property
    def submission(self) -> Path:
        """The first act's ``submission.csv``."""
        return self.reports[0].played.submission

    @property
    def score(self) -> float | None:
        """Of the first hidden rerun, where the truth is known."""
        return next((report.score for report in self.reports if report.score is not None), None)

    @property
    def verdict(self) -> str:
        """One line: would it have been scored, and if not, what would have stood in the way."""
        for report in self.reports:
            if report.fault:
                return f"would NOT have been scored. {report.played.act}: {_one_line(report.fault)}"
        score = "" if self.score is None else f", {self.score:.4f} on this test set"
        remarks = any(report.remarks for report in self.reports)
        return f"would have been scored{score}" + (", with the remarks above" if remarks else "")

    def __str__(self) -> str:
        return "\n".join([*self._lines(), f"verdict      {self.verdict}"])

    def _lines(self) -> Iterator[str]:
        first = self.reports[0].played
        yield f"packages     {self.packages}"
        yield (
            f"network      {'a namespace without one' if first.isolated else 'Python sockets refused'}; "
            + (
                ", ".join(dict.fromkeys(host for report in self.reports for host in report.played.network))
                or "nothing tried it"
            )
        )
        yield f"input        {'mounted read-only' if first.read_only else 'compared before and after'}"
        for report in self.reports:
            yield _describe(report)
            yield from (f"             {remark}" for remark in report.remarks)
        hidden = next(filter(None, (report.hidden_seconds for report in self.reports)), None)
        if hidden is not None:
            yield (
                f"at this rate {HIDDEN_CASES} cases take {hidden / 3600:.1f} h on this machine "
                f"({os.cpu_count()} cores)"
            )
        yield f"submission   {self.submission}"


def rehearse(
    competition: Path,
    bundle: Path | Sequence[Path],
    kernel: Path,
    out: Path,
    *,
    wheels: Path | None = None,
    outputs: Sequence[Path] = (),
    truth: Path | None = None,
    fresh: bool = False,
    python: str | Path | None = None,
    limits: Limits | None = None,
    acts: Sequence[Act] | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Rehearsal:
    """Execute the notebook of ``kernel`` in every way that Kaggle does, and return what would come of it there.

    ``competition`` stands for the hidden test (`gitract phantom` makes one); ``truth`` is its solution, None looks for
    ``solution.csv`` beside the folder. ``bundle``, or several, are mounted as the kernel's dataset sources in their
    order, ``outputs`` of training kernels as its kernel sources, ``wheels`` as the dataset whose name ends in
    ``wheels``; without them the present package is used.
    With ``fresh`` each act runs in a new virtual environment of the image's packages alone, which needs ``wheels``;
    otherwise in the present one, and what the notebook installs goes to a folder of its own. ``python`` is of the
    fresh ones: a version such as 3.12, for which the image's packages are installed first, from the network, or the
    path of an interpreter that has them. ``out`` must be new.
    ``acts`` are the hidden rerun and the first save in both mount layouts, unless named; ``progress`` is told each act
    as it begins.

    A notebook that fails is no error: the verdict says it. What `check_rehearsal` refuses is an error.
    """
    bundles = (bundle,) if isinstance(bundle, Path) else tuple(bundle)
    materials = Materials(competition, bundles, kernel, wheels, tuple(outputs))
    found = check_rehearsal(materials, out, fresh=fresh, python=python)
    hidden = read_hidden_test(competition, truth)
    image = complete_image(found, out, progress)
    return play_acts(
        acts or default_acts(), materials, out, hidden, limits=limits, image=image, progress=progress
    )


def check_rehearsal(
    materials: Materials, out: Path, *, fresh: bool = False, python: str | Path | None = None
) -> Interpreter | None:
    """Return the Python of a rehearsal's fresh environments, None where the present environment plays it.

    What a rehearsal could not be played with, or what Kaggle would not take however it went, is an error: a
    `DatasetError` for materials that are not there, a kernel whose metadata has faults, internet left on say, and an
    ``out`` that is not new; a `SettingsError` for a Python that is not here or that the wheels are not for.
    """
    materials.check()
    _check_kernel(materials.kernel)
    if fresh and materials.wheels is None:
        raise DatasetError("a fresh environment lacks the kit: name the wheels that `gitract wheels` made")
    if python is not None and not fresh:
        raise SettingsError("another Python is one of a fresh environment: name wheels, and leave --fast out")
    _check_out(out, materials)
    if materials.wheels is None:
        return None
    found = find_interpreter(sys.executable if python is None else python)
    _check_python(found, materials.wheels, fresh)
    return found if fresh else None


def complete_image(
    found: Interpreter | None, out: Path, progress: Callable[[str], None]
) -> Interpreter | None:
    """Return ``found`` where it has the image's packages, or is None, else one in ``out`` that they were added to."""
    if found is None or "torch" in found.packages:
        return found
    place = (out / "python" / "image").resolve()
    progress(f"installing the image's packages for Python {found.version}, several GB, in {place}")
    return create_image_environment(place, found)


def play_acts(
    acts: Sequence[Act],
    materials: Materials,
    out: Path,
    hidden: HiddenTest,
    *,
    limits: Limits | None = None,
    image: Interpreter | None = None,
    environment: Mapping[str, str] | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Rehearsal:
    """Play ``acts`` on ``materials`` in ``out``, which `check_rehearsal` has passed, judged by ``hidden``.

    Each is in a fresh environment of ``image``, None takes the present one. ``environment`` is put before the
    notebook's own.
    """
    limits = limits or Limits()
    reports = []
    for act in acts:
        progress(str(act))
        own = create_fresh_environment((out / "python" / act.name).resolve(), image) if image else None
        played = play_act(act, materials, out / act.name, limits, python=own, environment=environment)
        reports.append(judge_act(played, hidden, limits))
    _link_first(out, reports[0])
    return Rehearsal(tuple(reports), _describe_packages(image, materials.wheels))


def default_acts() -> list[Act]:
    """The hidden rerun and the first save, each in both mount layouts."""
    return [Act(layout, rerun) for rerun in (True, False) for layout in MOUNT_LAYOUTS]


def _check_kernel(kernel: Path) -> None:
    """Raise where Kaggle, or a push, would refuse the kernel; the owner's name is put in when it is pushed."""
    metadata = json.dumps(read_kernel_metadata(kernel)).replace(f'"{PLACEHOLDER_OWNER}/', '"someone/')
    faults = find_kernel_faults(json.loads(metadata), trains=False)
    if faults:
        listed = "".join(f"\n  - {fault}" for fault in faults)
        raise DatasetError(
            f"{kernel / KERNEL_METADATA}: a notebook that went well would not have been scored for all that, mend "
            f"the metadata first:{listed}"
        )


def check_new(out: Path) -> None:
    """Raise a `DatasetError` where ``out`` cannot be made a new folder."""
    there = next(path for path in (out, *out.parents) if path.exists() or path.is_symlink())
    if not there.is_dir():
        raise DatasetError(f"{there} is not a folder; give a new one")
    if there == out and any(out.iterdir()):
        raise DatasetError(f"{out} is not empty; give a new folder or remove it")


def _check_out(out: Path, materials: Materials) -> None:
    check_new(out)
    for folder in materials.folders:
        if out.resolve().is_relative_to(folder.resolve()):
            raise DatasetError(
                f"{out} is inside {folder}, which is mounted read-only; give a folder beside it"
            )


def _link_first(out: Path, report: ActReport) -> None:
    (out / "working").symlink_to(Path(report.played.act.name) / "working", target_is_directory=True)


def _check_python(found: Interpreter, wheels: Path, fresh: bool) -> None:
    """The notebook would say so too, but here no image is at fault: this machine's Python was never Kaggle's."""
    pythons, own = _read_pythons(wheels), found.version.rpartition(".")[0]
    if own not in pythons:
        another = f"--python {pythons[-1]}" + ("" if fresh else " without --fast")
        raise SettingsError(
            f"{found.path} is Python {own}, the wheels of {wheels} are for {', '.join(pythons)}: rehearse with one of "
            f"these, {another}, or leave the wheels out and install nothing"
        )


def _read_pythons(wheels: Path) -> list[str]:
    remedy = "give the folder that `gitract wheels` wrote"
    pythons = read_json(wheels / MANIFEST, remedy).get("pythons")
    if not isinstance(pythons, list) or not pythons or not all(isinstance(one, str) for one in pythons):
        raise DatasetError(f"{wheels / MANIFEST} does not list the Pythons it is for; {remedy}")
    return pythons


def _describe_packages(image: Interpreter | None, wheels: Path | None) -> str:
    where = f"a fresh environment of {image.describe()}" if image else "the present environment"
    return (
        f"{where}, {f'and the wheels of {wheels}' if wheels else 'without wheels: no installation rehearsed'}"
    )


def _describe(report: ActReport) -> str:
    played = report.played
    memory = f", {played.run.peak_bytes / 2**30:.1f} GiB" if played.run.peak_bytes else ""
    score = f", score {report.score:.4f}" if report.score is not None else ""
    passed = "passed" if report.fault is None else "FAILED"
    line = f"{passed:<12} {played.act} ({played.run.seconds:.0f} s{memory}{score})"
    return line if report.fault is None else f"{line}: {_one_line(report.fault)}; see {played.notebook}"


def _one_line(text: str) -> str:
    return " ".join(text.split())
