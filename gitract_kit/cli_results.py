"""The verbs of ``gitract`` that look at what is there and change nothing: a submission, a run, a bundle, this kit."""

from __future__ import annotations

import argparse
from pathlib import Path

__all__ = ["add_result_verbs"]


def add_result_verbs(verbs) -> None:
    """Add ``check``, ``score``, ``report``, ``compare`` and ``info``."""
    for add in (_add_check, _add_score, _add_report, _add_compare, _add_info):
        add(verbs)


def _add_check(verbs) -> None:
    verb = verbs.add_parser("check", help="would Kaggle accept this submission?")
    verb.add_argument("submission", type=Path, metavar="SUBMISSION.CSV")
    verb.add_argument("--sample", type=Path, required=True, metavar="SAMPLE_SUBMISSION.CSV")
    _add_sizes(verb, required=False)
    verb.set_defaults(run=_check)


def _check(options: argparse.Namespace) -> None:
    from gitract_kit.competition.submission import check_submission

    report = check_submission(options.submission, options.sample, _sizes(options))
    print(f"{options.submission}: Kaggle would accept it")
    print(f"{report.rows} rows of {report.slices} slices, {report.masks} masks")
    if report.sized_rows < report.rows:
        unsized = report.rows - report.sized_rows
        print(f"runs of {unsized} rows were not held to their slice's size: give --root or --sizes for that")


def _add_sizes(verb: argparse.ArgumentParser, *, required: bool) -> None:
    """How big the slices are: from the folder, or from a table where it is not at hand."""
    source = verb.add_mutually_exclusive_group(required=required)
    source.add_argument(
        "--root", type=Path, help="the competition folder, whose file names hold the slices' sizes"
    )
    source.add_argument(
        "--sizes", type=Path, metavar="CSV", help="or a table with id, width, height (or id, path)"
    )
    verb.add_argument(
        "--split", default="test", choices=("test", "train"), help="where in ROOT the slices are"
    )


def _sizes(options: argparse.Namespace):
    from gitract_kit.competition.index import build_index, read_sizes

    if options.sizes:
        return read_sizes(options.sizes)
    return build_index(options.root, options.split) if options.root else None


def _add_score(verbs) -> None:
    verb = verbs.add_parser("score", help="what would this submission score?")
    verb.add_argument("submission", type=Path, metavar="SUBMISSION.CSV")
    verb.add_argument("--truth", type=Path, required=True, help="train.csv, or the phantom's solution.csv")
    _add_sizes(verb, required=True)
    verb.add_argument("--variant", default="leaderboard", choices=("leaderboard", "page", "mle-bench"))
    verb.set_defaults(run=_score)


def _score(options: argparse.Namespace) -> None:
    from gitract_kit.competition.index import read_labels
    from gitract_kit.competition.layout import ORGANS
    from gitract_kit.competition.metric import competition_score
    from gitract_kit.competition.submission import read_submission

    truth = read_labels(options.truth).melt("id", list(ORGANS), "class", "segmentation")
    prediction = read_submission(options.submission)
    score = competition_score(truth, prediction, _sizes(options), options.variant, only_common=True)
    _print_score(score)
    for count, table in (
        (score.ids_only_in_truth, options.submission),
        (score.ids_only_in_prediction, options.truth),
    ):
        if count:
            print(f"left out: {count} ids that {table} lacks")


def _print_score(score) -> None:
    print(f"{'':<14}{'Dice':>8}{'Hausdorff':>11}{'score':>9}{'rows':>8}")
    for organ, row in score.by_organ.iterrows():
        counted = int(row["rows"] - row["rows_both_empty"]) if score.variant != "page" else int(row["rows"])
        print(f"{organ:<14}{row['dice']:8.4f}{row['hausdorff']:11.4f}{row['total']:9.4f}{counted:8d}")
    print(f"{'all':<14}{score.dice:8.4f}{score.hausdorff:11.4f}{score.total:9.4f}")
    print(
        f"variant {score.variant}: {score.scans} scans, {score.volumes} volumes, "
        f"{score.rows} rows of which {score.rows_both_empty} empty on both sides"
    )


def _add_report(verbs) -> None:
    verb = verbs.add_parser("report", help="one HTML file: curves, tables, every slice with its outlines")
    verb.add_argument(
        "source", type=Path, metavar="RUN", help="a run folder, or a submission with --truth and --root"
    )
    verb.add_argument(
        "-o", "--out", type=Path, metavar="FILE", help="default: report.html beside what it is about"
    )
    verb.add_argument(
        "--work", type=Path, help="the prepared folder, where it is not where the run was trained from"
    )
    verb.add_argument("--truth", type=Path, help="of a submission: train.csv, or the phantom's solution.csv")
    verb.add_argument("--root", type=Path, help="of a submission: the competition folder")
    verb.add_argument(
        "--split", default="test", choices=("test", "train"), help="where in ROOT the slices are"
    )
    verb.add_argument(
        "--max-scans", type=int, default=20, help="scans in the slice browser, worst first (default 20)"
    )
    verb.set_defaults(run=_report)


def _report(options: argparse.Namespace) -> None:
    from gitract_kit.errors import SettingsError
    from gitract_kit.report.html import write_report, write_submission_report

    if (options.truth is None) != (options.root is None):
        raise SettingsError("the report of a submission needs both --truth and --root")
    if options.truth is None:
        path = write_report(options.source, options.out, work=options.work, max_scans=options.max_scans)
    else:
        out = options.out or options.source.with_name("report.html")
        path = write_submission_report(
            options.source, options.truth, options.root, out, split=options.split, max_scans=options.max_scans
        )
    print(f"report       {path}")


def _add_compare(verbs) -> None:
    verb = verbs.add_parser("compare", help="runs side by side: a table, a picture, a page")
    verb.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run folders of one prepared folder")
    verb.add_argument(
        "-o", "--out", type=Path, required=True, metavar="DIR", help="for compare.md, .png and .html"
    )
    verb.add_argument(
        "--work", type=Path, help="the prepared folder, where it is not where they were trained from"
    )
    verb.add_argument("--slices", type=int, default=5, help="slices in the picture (default 5)")
    verb.set_defaults(run=_compare)


def _compare(options: argparse.Namespace) -> None:
    from gitract_kit.report.compare import compare_runs, markdown_table

    comparison, written = compare_runs(options.runs, options.out, work=options.work, slices=options.slices)
    print(markdown_table(comparison))
    print("\n".join(f"written: {path}" for path in written))


def _add_info(verbs) -> None:
    verb = verbs.add_parser("info", help="versions, devices, presets, and what a bundle holds")
    verb.add_argument("bundle", type=Path, nargs="?", metavar="BUNDLE")
    verb.set_defaults(run=_info)


def _info(options: argparse.Namespace) -> None:
    if options.bundle:
        _print_bundle(options.bundle)
    else:
        _print_installation()


def _print_bundle(folder: Path) -> None:
    from gitract_kit.settings import settings_to_dict
    from gitract_kit.shipping.bundle import load_bundle

    bundle = load_bundle(folder)
    print(f"{bundle.name}: {len(bundle.members)} members for {', '.join(bundle.organs)} ({bundle.layout})")
    for member in bundle.members:
        settings = settings_to_dict(member.settings)
        print(f"\n{member.name}, weight {member.weight:g}")
        for concern in ("model", "window", "geometry", "intensity"):
            print(f"  {concern:<10} {_in_a_line(settings[concern])}")
    print(f"\nprediction   {_in_a_line(settings['prediction'])}")


def _in_a_line(values: dict) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items())


def _print_installation() -> None:
    import torch

    from gitract_kit.settings import preset_names
    from gitract_kit.versions import package_versions

    for name, version in package_versions().items():
        print(f"{name} {version}")
    gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    print(f"devices: cpu with {torch.get_num_threads()} threads" + "".join(f", {gpu}" for gpu in gpus))
    print(f"presets: {', '.join(preset_names())}")
