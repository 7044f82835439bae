"""What the README promises is there."""

import re
from pathlib import Path

import pandas as pd

from gitract_kit.competition.layout import ORGANS
from gitract_kit.competition.rle import rle_decode
from gitract_kit.competition.submission import check_submission, read_submission

REPOSITORY = Path(__file__).resolve().parents[1]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def test_the_readme_is_short_and_has_the_headings_of_a_course_report():
    headings = re.findall(r"^#+ (.+)$", README, re.MULTILINE)

    assert len(README.splitlines()) <= 250
    wanted = ["Problem statement", "Related works", "The proposed method", "Implementation"]
    wanted += ["Dataset", "Model", "Configurations", "Train", "Evaluate"]
    assert [heading for heading in headings if heading in wanted] == wanted


def test_every_file_the_readme_links_to_is_there():
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", README)

    assert links
    for link in links:
        assert (REPOSITORY / link).exists(), link


def test_every_make_target_the_readme_names_is_there():
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^make (\w+)", README, re.MULTILINE))

    assert {"submission", "test"} <= targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_the_template_is_a_submission_of_one_slice_and_stands_in_the_readme():
    template = REPOSITORY / "submission_template.csv"
    rows = read_submission(template)

    assert rows["class"].tolist() == list(ORGANS)
    assert rows["id"].nunique() == 1
    check_submission(template, pd.DataFrame(rows).assign(predicted=""))
    assert rle_decode(rows["predicted"].iloc[1], (266, 266)).sum() == 10
    assert template.read_text(encoding="utf-8").strip() in README
