"""The verbs between here and Kaggle: wheels, verify, rehearse, push. Like those of `cli`, each imports when it runs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

__all__ = ["add_kaggle_verbs"]


def add_kaggle_verbs(verbs) -> None:
    """Add the verbs to the parser's ``verbs``."""
    _add_wheels(verbs)
    _add_verify(verbs)
    _add_rehearse(verbs)
    _add_push(verbs)


def _add_wheels(verbs) -> None:
    verb = verbs.add_parser("wheels", help="the offline wheel set with its hashed lock")
    verb.add_argument("-o", "--out", type=Path, required=True, metavar="DIR", help="a new folder")
    verb.add_argument(
        "--python", action="append", metavar="3.13", help="may be repeated (default: 3.12 and 3.13)"
    )
    verb.add_argument(
        "--source", type=Path, metavar="DIR", help="a clone of the kit (default: where it runs from)"
    )
    verb.set_defaults(run=_wheels)


def _wheels(options: argparse.Namespace) -> None:
    from gitract_kit.shipping.wheels import create_wheels

    print(create_wheels(options.out, options.python or ["3.12", "3.13"], source=options.source))


def _add_verify(verbs) -> None:
    verb = verbs.add_parser("verify", help="did a bundle or a wheel set arrive whole?")
    verb.add_argument("folder", type=Path, metavar="DIR")
    verb.set_defaults(run=_verify)


def _verify(options: argparse.Namespace) -> None:
    from gitract_kit.shipping.verify import verify_folder

    print(verify_folder(options.folder))


def _add_rehearse(verbs) -> None:
    verb = verbs.add_parser("rehearse", help="the hidden rerun, played through here, without a network")
    verb.add_argument(
        "competition",
        type=Path,
        nargs="?",
        metavar="ROOT",
        help="a filled test set (default: one is made up)",
    )
    verb.add_argument("--bundle", type=Path, action="append", metavar="DIR", help="may be repeated")
    verb.add_argument(
        "--output-of",
        type=Path,
        action="append",
        metavar="DIR",
        help="what a training kernel left, as a kernel source; may be repeated",
    )
    verb.add_argument("--kernel", type=Path, default=Path("kernels/inference"), metavar="DIR")
    verb.add_argument(
        "--wheels", type=Path, metavar="DIR", help="what `gitract wheels` made: installed first"
    )
    verb.add_argument(
        "--fast",
        action="store_true",
        help="install them beside the present packages, not in a fresh environment",
    )
    verb.add_argument(
        "--python",
        metavar="3.12",
        help="of the fresh environment: a version, whose packages are installed first, or the path of a Python that "
        "has them (default: the present one)",
    )
    verb.add_argument("--truth", type=Path, help="the test set's (default: solution.csv beside ROOT)")
    verb.add_argument(
        "--drill",
        action="append",
        default=[],
        metavar="NAME",
        help="what goes wrong on Kaggle, or 'all' of it; may be repeated",
    )
    verb.add_argument(
        "--once",
        action="store_true",
        help="the hidden rerun alone, in the mounts of 2026, as each drill is played anyway",
    )
    verb.add_argument("--limit-s", type=float, default=9 * 3600.0, help="a notebook's time (default 9 h)")
    verb.add_argument("--memory-gib", type=float, default=30.0, help="a notebook's memory (default 30)")
    verb.add_argument("-o", "--out", type=Path, required=True, metavar="DIR", help="a new folder")
    verb.set_defaults(run=_rehearse)


def _rehearse(options: argparse.Namespace) -> int:
    from gitract_kit.errors import SettingsError
    from gitract_kit.shipping.acts import Act, Limits
    from gitract_kit.shipping.rehearse import check_new, rehearse

    if not (options.bundle or options.output_of):
        raise SettingsError(
            "nothing to predict with: give --bundle DIR, or --output-of DIR of a training kernel"
        )
    limits = Limits(options.limit_s, int(options.memory_gib * 2**30))
    fresh = options.wheels is not None and not options.fast
    if options.competition is None:
        # before minutes go into a test set for nothing
        check_new(options.out / "played")
        options.competition = _make_up_test(options.out / "made-up")
        options.out = options.out / "played"
    if options.drill:
        return _drill(options, limits, fresh)
    rehearsal = rehearse(
        options.competition,
        options.bundle or [],
        options.kernel,
        options.out,
        wheels=options.wheels,
        outputs=options.output_of or [],
        truth=options.truth,
        fresh=fresh,
        python=options.python,
        limits=limits,
        acts=[Act("2026", rerun=True)] if options.once else None,
        progress=lambda act: _say(f"{act} ..."),
    )
    print(rehearsal)
    return 0 if rehearsal.scored else 1


def _make_up_test(out: Path) -> Path:
    from gitract_kit.competition.phantom import write_phantom

    # it appears whole: what a rehearsal that was refused left is this one
    for there in out.glob("*/sample_submission.csv"):
        return there.parent
    return write_phantom(out, seed=2022, cases=1, days=1, test_cases=3).root


def _drill(options: argparse.Namespace, limits, fresh: bool) -> int:
    from gitract_kit.shipping.drills import run_drills
    from gitract_kit.shipping.mounts import Materials

    bundles, outputs = tuple(options.bundle or ()), tuple(options.output_of or ())
    materials = Materials(options.competition, bundles, options.kernel, options.wheels, outputs)
    right = True
    how = {"limits": limits, "truth": options.truth, "fresh": fresh, "python": options.python}
    for report in run_drills(options.drill, materials, options.out, **how, progress=_say):
        print(report, flush=True)
        right &= report.right
    return 0 if right else 1


def _add_push(verbs) -> None:
    verb = verbs.add_parser("push", help="preflight, then the official Kaggle client")
    kinds = verb.add_subparsers(dest="kind", required=True, metavar="dataset|kernel|submission")
    _add_push_dataset(kinds)
    _add_push_kernel(kinds)
    _add_push_submission(kinds)


def _add_push_dataset(kinds) -> None:
    kind = kinds.add_parser("dataset", help="a folder with dataset-metadata.json, say a bundle or the wheels")
    kind.add_argument("folder", type=Path, metavar="DIR")
    kind.add_argument("-m", "--message", help="what changed: sends a new version of a dataset that is there")
    kind.add_argument(
        "-r", "--dir-mode", default="skip", choices=("zip", "tar"), help="send subfolders, packed"
    )
    _add_push_options(kind, owner=True, wait="until kernels can mount it")
    kind.set_defaults(run=_push_dataset)


def _add_push_kernel(kinds) -> None:
    kind = kinds.add_parser("kernel", help="a folder with kernel-metadata.json; it runs once it is pushed")
    kind.add_argument("folder", type=Path, metavar="DIR")
    kind.add_argument("--fold", nargs="+", metavar="K", help="one kernel a fold: 0, or 0..4")
    kind.add_argument(
        "--resume", action="store_true", help="go on from what the kernel's last run left, which it mounts"
    )
    kind.add_argument("--output", type=Path, metavar="DIR", help="with --wait: what the runs left goes here")
    _add_push_options(kind, owner=True, wait="until all runs are complete, two at a time")
    kind.set_defaults(run=_push_kernel)


def _add_push_submission(kinds) -> None:
    kind = kinds.add_parser("submission", help="a kernel's version, to be run on the hidden test")
    kind.add_argument("--competition", default="uw-madison-gi-tract-image-segmentation", metavar="SLUG")
    kind.add_argument("--kernel", required=True, metavar="OWNER/SLUG")
    kind.add_argument(
        "--version", type=int, required=True, metavar="N", help="as `gitract push kernel` printed it"
    )
    kind.add_argument("-m", "--message", required=True, help="what is submitted, in a few words")
    kind.add_argument(
        "-f", "--file", default="submission.csv", help="the kernel's output (default submission.csv)"
    )
    _add_push_options(kind, owner=False, wait="until the kernel's run is complete, then submit")
    kind.set_defaults(run=_push_submission)


def _add_push_options(kind: argparse.ArgumentParser, *, owner: bool, wait: str) -> None:
    if owner:
        kind.add_argument("--owner", metavar="NAME", help="your Kaggle name, where your-kaggle-name stands")
    kind.add_argument("--wait", action="store_true", help=f"wait {wait}")
    kind.add_argument("--dry-run", action="store_true", help="print what would go, and send nothing")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _push_dataset(options: argparse.Namespace) -> None:
    from gitract_kit.shipping.kaggle import packed_dataset, push_dataset
    from gitract_kit.shipping.kernel_runs import wait_for_dataset

    if options.dry_run:
        with packed_dataset(options.folder, owner=options.owner, dir_mode=options.dir_mode) as parcel:
            print(parcel)
        return
    pushed = push_dataset(
        options.folder, owner=options.owner, message=options.message, dir_mode=options.dir_mode
    )
    print(pushed)
    if options.wait:
        wait_for_dataset(pushed.id, version=pushed.version, say=_say)


def _push_kernel(options: argparse.Namespace) -> None:
    from gitract_kit.errors import PushError
    from gitract_kit.shipping.fold_runs import parse_folds, push_folds
    from gitract_kit.shipping.kaggle import packed_kernel, push_kernel
    from gitract_kit.shipping.kernel_runs import make_output_folder, wait_for_kernel

    if options.output and not options.wait:
        raise PushError("--output collects what a run left, once it is over: give --wait too")
    folds = None if options.fold is None else parse_folds(options.fold)
    how = {"owner": options.owner, "resume": options.resume}
    if options.dry_run:
        for fold in [None] if folds is None else folds:
            with packed_kernel(options.folder, **how, fold=fold) as parcel:
                print(parcel)
        return
    if folds is not None:
        for pushed in push_folds(
            options.folder, folds, **how, wait=options.wait, output=options.output, say=_say
        ):
            print(pushed)
        return
    if options.output:
        # one that cannot be is better known before the run than after it
        make_output_folder(options.output)
    pushed = push_kernel(options.folder, **how)
    print(pushed)
    if options.wait:
        wait_for_kernel(pushed.id, output=options.output, say=_say)


def _push_submission(options: argparse.Namespace) -> None:
    from gitract_kit.shipping.kaggle import check_submission_request, push_submission
    from gitract_kit.shipping.kernel_runs import wait_for_kernel

    request = (options.competition, options.kernel, options.version, options.message)
    check_submission_request(*request)
    if options.dry_run:
        print(
            f"submission of {options.file} from {options.kernel} version {options.version} to {options.competition}"
        )
        return
    if options.wait:
        wait_for_kernel(options.kernel, say=_say)
    print(push_submission(*request, file=options.file))
