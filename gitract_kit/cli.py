"""The verbs of ``gitract``. The only room that prints and exits; each verb imports what it needs when it runs.

Results go to stdout, progress and messages to stderr. Exit codes: 0 done, 2 the input is at fault, 1 the kit is.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from gitract_kit import __version__
from gitract_kit.cli_kaggle import add_kaggle_verbs
from gitract_kit.cli_results import add_result_verbs
from gitract_kit.errors import GitractError

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb and return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        return options.run(options) or 0
    except GitractError as error:
        print(f"gitract {options.verb}: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        # the reader of a pipe has seen enough; say nothing, also not when stdout is closed
        sys.stdout = None
        return 0
    except KeyboardInterrupt:
        print(f"gitract {options.verb}: interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gitract",
        description="From a raw competition folder to a scored submission.csv, without a network.",
    )
    parser.add_argument("--version", action="version", version=f"gitract-kit {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    _add_phantom(verbs)
    _add_prepare(verbs)
    _add_train(verbs)
    _add_evaluate(verbs)
    _add_bundle(verbs)
    _add_predict(verbs)
    add_result_verbs(verbs)
    add_kaggle_verbs(verbs)
    return parser


def _add_phantom(verbs) -> None:
    verb = verbs.add_parser("phantom", help="write a made-up competition in the exact layout")
    verb.add_argument(
        "out", type=Path, metavar="OUT", help="a new folder; the truth of its test is OUT/solution.csv"
    )
    verb.add_argument("--seed", type=int, default=0)
    verb.add_argument("--cases", type=int, default=4, help="training cases")
    verb.add_argument("--test-cases", type=int, default=3, help="test cases that training never saw")
    verb.add_argument("--days", type=int, default=2, help="scans a training case")
    verb.add_argument("--slices", type=int, help="slices a scan, instead of 144 and 80")
    verb.add_argument("--variety", default="usual", help="usual; wide, for weights to start from; mixed")
    verb.set_defaults(run=_phantom)


def _phantom(options: argparse.Namespace) -> None:
    from gitract_kit.competition.phantom import write_phantom

    paths = write_phantom(
        options.out,
        seed=options.seed,
        cases=options.cases,
        test_cases=options.test_cases,
        days=options.days,
        slices=options.slices,
        variety=options.variety,
    )
    print(f"competition  {paths.root}\ntest's truth {paths.solution}")


def _add_prepare(verbs) -> None:
    verb = verbs.add_parser("prepare", help="index, folds and the cache of scans")
    verb.add_argument(
        "root", type=Path, metavar="ROOT", help="the competition folder: it holds train.csv and train/"
    )
    verb.add_argument("-o", "--out", type=Path, required=True, metavar="WORK")
    verb.add_argument(
        "--folds", type=int, default=5, help="number of folds, where WORK has none yet (default 5)"
    )
    verb.add_argument("--seed", type=int, default=0, help="seed of the folds")
    verb.add_argument("--layout", default="uw-madison", help="or image-mask: folders of pictures in ROOT")
    verb.add_argument("--classes", nargs="+", default=[], metavar="NAME[=VALUE]", help="of image-mask")
    verb.set_defaults(run=_prepare)


def _prepare(options: argparse.Namespace) -> None:
    from tqdm import tqdm

    from gitract_kit.data.prepare import prepare

    prepared = prepare(
        options.root,
        options.out,
        layout=options.layout,
        classes=options.classes,
        n_folds=options.folds,
        seed=options.seed,
        progress=lambda names, total: tqdm(names, total=total, desc="decoding scans", unit="scan"),
    )
    index = prepared.index
    print(prepared.layout)
    print(
        f"{len(index)} slices, {index['scan'].nunique()} scans, {index['case'].nunique()} cases in {options.out}"
    )
    for fold, rows in index.groupby("fold"):
        print(f"fold {fold}: {rows['case'].nunique()} cases, {len(rows)} slices")


def _add_train(verbs) -> None:
    verb = verbs.add_parser("train", help="train one fold")
    verb.add_argument("work", type=Path, metavar="WORK", help="what `gitract prepare` made")
    verb.add_argument("-o", "--out", type=Path, metavar="RUN", help="run folder (default runs/PRESET)")
    verb.add_argument(
        "--preset", default="baseline", help="a recipe; `gitract info` lists them (default baseline)"
    )
    verb.add_argument("--fold", type=int, required=True, metavar="K", help="the fold held out")
    verb.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="say, training.epochs=3"
    )
    verb.add_argument("--resume", action="store_true", help="go on from the newest checkpoint")
    verb.add_argument("--device", help="cpu, cuda, cuda:1 (default: a GPU where there is one)")
    verb.set_defaults(run=_train)


def _train(options: argparse.Namespace) -> None:
    from gitract_kit.settings import load_preset, override_settings
    from gitract_kit.training import is_main_process, train_fold

    settings = override_settings(load_preset(options.preset), options.set)
    run = options.out or Path("runs") / options.preset
    result = train_fold(
        options.work, run, settings, options.fold, resume=options.resume, device=options.device
    )
    if is_main_process():
        print(f"fold {options.fold}: {result}")


def _add_evaluate(verbs) -> None:
    verb = verbs.add_parser("evaluate", help="held-out score, and the settings that suit it")
    verb.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="several: their ensemble too")
    verb.add_argument(
        "--gate", type=Path, action="append", default=[], metavar="RUN", help="a run that is their slice gate"
    )
    verb.add_argument("--no-search", action="store_true", help="score the own settings alone")
    verb.add_argument("--seed", type=int, default=0, help="seed of the bootstrap")
    verb.set_defaults(run=_evaluate)


def _evaluate(options: argparse.Namespace) -> None:
    from tqdm import tqdm

    from gitract_kit.inference.evaluate import evaluate_runs

    found = evaluate_runs(
        options.runs, gates=options.gate, search=not options.no_search, seed=options.seed, progress=tqdm
    )
    print(found.to_text())


def _add_bundle(verbs) -> None:
    verb = verbs.add_parser("bundle", help="weights and settings for the notebook")
    verb.add_argument(
        "runs", type=Path, nargs="+", metavar="RUN", help="of `gitract train`; several: their folds together"
    )
    verb.add_argument("-o", "--out", type=Path, required=True, metavar="DIR", help="say, weights/NAME")
    verb.add_argument(
        "--folds", type=int, nargs="+", metavar="K", help="which folds (default: all there are)"
    )
    verb.add_argument(
        "--role", default="segment", choices=("segment", "gate"), help="what its members are for"
    )
    verb.add_argument(
        "--ensemble",
        type=Path,
        metavar="FILE",
        help="ensemble.json of RUN and others: its weight and settings",
    )
    verb.set_defaults(run=_bundle)


def _bundle(options: argparse.Namespace) -> None:
    from gitract_kit.shipping.bundle import load_bundle
    from gitract_kit.shipping.dataset import describe_bundle
    from gitract_kit.shipping.run_folders import bundle_runs, find_unfinished

    folder = bundle_runs(
        options.runs, options.out, folds=options.folds, role=options.role, ensemble=options.ensemble
    )
    describe_bundle(folder)
    for unfinished in find_unfinished(options.runs, options.folds):
        print(f"{unfinished}: its training has not ended, the best weights so far are in", file=sys.stderr)
    size = sum(file.stat().st_size for file in folder.iterdir())
    print(f"{folder}: {len(load_bundle(folder).members)} members, {size / 1e6:.1f} MB")


def _add_predict(verbs) -> None:
    verb = verbs.add_parser("predict", help="write submission.csv for a test set")
    verb.add_argument("root", type=Path, metavar="ROOT", help="the competition folder: it holds test/")
    verb.add_argument(
        "--bundle", type=Path, required=True, action="append", metavar="DIR", help="may be repeated"
    )
    verb.add_argument("-o", "--out", type=Path, default=Path("submission.csv"), metavar="FILE")
    verb.add_argument("--masks", type=Path, metavar="DIR", help="write the masks of image-mask as PNG, too")
    verb.add_argument("--split", default="test", choices=("test", "train"))
    verb.add_argument("--device", help="cpu, cuda, or several: cuda:0,cuda:1 (default: every GPU, else cpu)")
    verb.add_argument(
        "--budget-hours", type=float, metavar="H", help="stay within; what is left then is said"
    )
    verb.add_argument(
        "--allow-missing-members", action="store_true", help="go on with the members that are whole"
    )
    verb.set_defaults(run=_predict)


def _predict(options: argparse.Namespace) -> None:
    from gitract_kit.shipping.submit import predict_bundles

    summary = predict_bundles(
        options.bundle,
        options.root,
        options.out,
        split=options.split,
        masks=options.masks,
        device=options.device,
        budget_s=None if options.budget_hours is None else options.budget_hours * 3600,
        allow_missing_members=options.allow_missing_members,
    )
    print(summary)
