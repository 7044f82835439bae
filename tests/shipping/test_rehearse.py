"""The rehearsal judges as Kaggle would, whatever the notebook does."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import nbformat
import pytest

from gitract_kit.errors import DatasetError
from gitract_kit.shipping.acts import Act, Limits, Played
from gitract_kit.shipping.mounts import MOUNT_LAYOUTS, Materials
from gitract_kit.shipping.rehearse import check_rehearsal, default_acts, rehearse
from gitract_kit.shipping.sandbox import WatchedRun, namespace_command, run_watched
from gitract_kit.shipping.verdict import judge_act, read_hidden_test

SLUG = "uw-madison-gi-tract-image-segmentation"
MISSING = object()
RERUN = Act("2026", rerun=True)
COPY_SAMPLE = f"""import os, shutil
root = os.environ["GITRACT_INPUT"] + "/competitions/{SLUG}"
shutil.copyfile(root + "/sample_submission.csv", "submission.csv")"""
REACH_OUT = """import socket
try:
    socket.create_connection(("192.0.2.1", 443), timeout=1)
except OSError:
    pass"""


@pytest.fixture
def make_kernel(tmp_path: Path):
    def make(*cells: str, **changes) -> Path:
        kernel = tmp_path / "kernel"
        kernel.mkdir()
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        nbformat.write(notebook, kernel / "made-up.ipynb")
        metadata = {
            "id": "your-kaggle-name/made-up-kernel",
            "title": "made-up kernel",
            "code_file": "made-up.ipynb",
            "language": "python",
            "kernel_type": "notebook",
            "enable_internet": False,
            "competition_sources": [SLUG],
            "dataset_sources": ["me/weights", "me/wheels"],
            **changes,
        }
        metadata = {key: value for key, value in metadata.items() if value is not MISSING}
        (kernel / "kernel-metadata.json").write_text(json.dumps(metadata))
        return kernel

    return make


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "bundle.json").write_text("{}")
    return folder


@pytest.fixture
def play(phantom, weights, make_kernel, tmp_path):
    def play(*cells: str, acts=(RERUN,), **options):
        return rehearse(phantom.root, weights, make_kernel(*cells), tmp_path / "out", acts=acts, **options)

    return play


def test_a_valid_submission_would_be_scored_and_its_score_is_told(play, phantom, tmp_path):
    result = play(COPY_SAMPLE)

    assert result.scored
    # every mask empty: Dice 0, and each distance 1
    assert result.score == 0
    assert result.verdict == "would have been scored, 0.0000 on this test set"
    assert result.submission.read_bytes() == (phantom.root / "sample_submission.csv").read_bytes()
    assert (tmp_path / "out" / "working" / "submission.csv").samefile(result.submission)
    assert nbformat.read(result.reports[0].played.notebook, as_version=4).cells[0].execution_count == 1


def test_the_notebook_sees_kaggles_variables_mounts_and_an_empty_home(play, tmp_path):
    cell = (
        "import json, os, pathlib\n"
        "root = pathlib.Path(os.environ['GITRACT_INPUT'])\n"
        "seen = dict(tree=sorted(str(p.relative_to(root)) for p in root.rglob('*') if p.is_symlink()),\n"
        "    rerun=os.environ.get('KAGGLE_IS_COMPETITION_RERUN'), cwd=os.getcwd(),\n"
        "    home=os.listdir(pathlib.Path.home()),\n"
        "    user=[k for k in os.environ if k == 'USER'])\n"
        "pathlib.Path('seen.json').write_text(json.dumps(seen))"
    )
    result = play(cell)
    working = tmp_path / "out" / "working"
    seen = json.loads((working / "seen.json").read_text())

    competition = [
        f"competitions/{SLUG}/{name}" for name in ("sample_submission.csv", "test", "train", "train.csv")
    ]
    assert seen["tree"] == [*competition, "datasets/me/weights"]
    assert seen["rerun"] == "1"
    assert Path(seen["cwd"]).samefile(working)
    assert [name for name in seen["home"] if not name.startswith(".")] == []
    assert seen["user"] == []
    assert not result.scored
    assert "Submission CSV Not Found" in result.verdict


def test_older_mounts_are_flat(play, tmp_path):
    play(
        "import os; open('seen', 'w').write(' '.join(os.listdir(os.environ['GITRACT_INPUT'])))",
        acts=[Act("older", True)],
    )

    assert sorted((tmp_path / "out" / "working" / "seen").read_text().split()) == [SLUG, "weights"]


@pytest.mark.parametrize(
    ("layout", "place"),
    [("2026", "notebooks/me/gitract-train-fold-{}"), ("older", "gitract-train-fold-{}")],
)
def test_what_training_kernels_left_is_mounted_as_kernel_sources(
    layout, place, phantom, make_kernel, tmp_path
):
    sources = ["me/gitract-train-fold-0", "me/gitract-train-fold-1"]
    outputs = [tmp_path / "left" / str(fold) for fold in (0, 1)]
    for output in outputs:
        (output / "run").mkdir(parents=True)
        (output / "run" / "which").write_text(output.name)
    cell = (
        "import os, pathlib\n"
        f"places = [pathlib.Path(os.environ['GITRACT_INPUT'], {place!r}.format(fold)) for fold in (0, 1)]\n"
        "pathlib.Path('seen').write_text(' '.join((one / 'run' / 'which').read_text() for one in places))"
    )
    kernel = make_kernel(cell, dataset_sources=[], kernel_sources=sources)
    out = tmp_path / "out"
    rehearse(phantom.root, [], kernel, out, outputs=outputs, acts=[Act(layout, rerun=True)])

    assert (out / "working" / "seen").read_text() == "0 1"
    with pytest.raises(
        DatasetError, match=r"lists 2 kernel sources \(me/gitract-train-fold-0, .*given were 1"
    ):
        rehearse(phantom.root, [], kernel, tmp_path / "again", outputs=outputs[:1])


def test_the_first_save_has_an_empty_test_folder_and_no_rerun(play):
    cell = (
        COPY_SAMPLE
        + "\nassert os.listdir(root + '/test') == [] and 'KAGGLE_IS_COMPETITION_RERUN' not in os.environ"
    )
    result = play(cell, acts=[Act("2026", rerun=False)])

    assert result.scored
    assert result.score is None
    assert result.submission.read_text() == "id,class,predicted\n"


FAULTS = {
    "raises": (["1 / 0"], "Notebook Threw Exception: ZeroDivisionError: division by zero"),
    "dies": (["import os; os._exit(3)"], "Notebook Threw Exception: DeadKernelError"),
    "no file": (["pass"], "Submission CSV Not Found"),
    "bad file": (
        ["open('submission.csv', 'w').write('id,class\\n')"],
        "Submission Scoring Error: .* found the columns id, class",
    ),
    "lost rows": (
        ["open('submission.csv', 'w').write('id,class,predicted\\n')"],
        "Submission Scoring Error: .*rows",
    ),
    "network": (
        [COPY_SAMPLE, REACH_OUT],
        r"it reached for the network, which is not there: 192\.0\.2\.1 \(socket\.",
    ),
    "network, from a child": (
        [
            COPY_SAMPLE,
            "import subprocess, sys\n"
            "subprocess.run([sys.executable, '-c', 'import socket; socket.gethostbyname(\"example.org\")'])",
        ],
        r"it reached for the network, which is not there: example\.org",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_kaggle_would_not_score_is_said_in_its_words(play, fault):
    cells, message = FAULTS[fault]
    result = play(*cells)

    assert not result.scored
    assert result.score is None
    assert result.verdict.startswith("would NOT have been scored. hidden rerun, mounts of 2026: ")
    assert "\n" not in result.verdict
    assert re.search(message, result.verdict)


def test_a_notebook_that_takes_too_long_is_ended(play):
    result = play("import time; time.sleep(600)", limits=Limits(seconds=1.0))

    assert "Notebook Timeout: it ran longer than 1 s" in result.verdict
    assert result.reports[0].played.run.seconds < 30


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_a_notebook_that_takes_too_much_memory_is_ended(play):
    cell = "import time; held = bytearray(b'1') * (400 * 2**20); time.sleep(600)"
    result = play(cell, limits=Limits(seconds=120.0, memory_bytes=300 * 2**20))

    assert "Exceeded Allowed Compute: it held more than 0.3 GiB" in result.verdict


def test_input_cannot_be_written_or_is_found_changed(play, weights):
    result = play(
        COPY_SAMPLE,
        "open(os.environ['GITRACT_INPUT'] + '/datasets/me/weights/bundle.json', 'a').write(' ')",
    )

    assert not result.scored
    played = result.reports[0].played
    if played.read_only:
        assert "Read-only file system" in result.verdict
        assert (weights / "bundle.json").read_text() == "{}"
    else:
        assert "it wrote to its input, which is read-only: " in result.verdict


def test_every_act_must_pass(play):
    cell = COPY_SAMPLE + "\nassert os.environ.get('KAGGLE_IS_COMPETITION_RERUN')"
    result = play(cell, acts=[RERUN, Act("2026", rerun=False)])

    assert [report.fault is None for report in result.reports] == [True, False]
    assert (
        "first save, empty test, mounts of 2026: Notebook Threw Exception: AssertionError" in result.verdict
    )
    assert not result.scored


def test_by_default_both_saves_are_played_in_both_layouts():
    assert [(act.layout, act.rerun) for act in default_acts()] == [
        (layout, rerun) for rerun in (True, False) for layout in MOUNT_LAYOUTS
    ]


def test_a_folder_in_use_is_refused(phantom, weights, make_kernel, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(DatasetError, match="is not empty; give a new folder or remove it"):
        rehearse(phantom.root, weights, make_kernel("pass"), tmp_path / "out")


def test_a_file_where_the_folder_would_go_is_refused(phantom, weights, make_kernel, tmp_path):
    (tmp_path / "file").touch()
    kernel = make_kernel("pass")
    for out in (tmp_path / "file", tmp_path / "file" / "out"):
        with pytest.raises(DatasetError, match=r"file is not a folder; give a new one"):
            rehearse(phantom.root, weights, kernel, out)


def test_a_folder_inside_the_input_is_refused(phantom, weights, make_kernel):
    with pytest.raises(DatasetError, match=r"is inside .*, which is mounted read-only"):
        rehearse(phantom.root, weights, make_kernel("pass"), weights / "out")


def test_as_many_bundles_as_the_kernel_lists_are_asked_for(phantom, weights, make_kernel, tmp_path):
    with pytest.raises(DatasetError, match=r"lists 1 datasets of weights \(me/weights\), given were 2"):
        rehearse(phantom.root, [weights, weights], make_kernel("pass"), tmp_path / "out")


def test_a_folder_without_a_test_set_is_refused(weights, make_kernel, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="has no test; give a competition folder with a filled test set"):
        rehearse(tmp_path / "empty", weights, make_kernel("pass"), tmp_path / "out")


def test_a_kernel_without_metadata_is_refused(phantom, weights, tmp_path):
    (tmp_path / "kernel").mkdir()
    with pytest.raises(DatasetError, match=r"give the folder that holds kernel-metadata.json"):
        rehearse(phantom.root, weights, tmp_path / "kernel", tmp_path / "out")
    (tmp_path / "kernel" / "kernel-metadata.json").write_text("[]")
    with pytest.raises(DatasetError, match=r"holds a list, expected a JSON object"):
        rehearse(phantom.root, weights, tmp_path / "kernel", tmp_path / "out")


KERNEL_FAULTS = {
    "internet on": ({"enable_internet": True}, "enable_internet is true, but the competition takes"),
    "internet not stated": ({"enable_internet": MISSING}, "enable_internet is missing, which means ON"),
    "an id of none": ({"id": "made-up-kernel"}, "id is 'made-up-kernel', expected 'OWNER/SLUG'"),
    "code file": ({"code_file": 1}, "code_file is 1, expected the name of the notebook"),
    "datasets": ({"dataset_sources": None}, "dataset_sources is None, expected a list"),
    "kernels": ({"kernel_sources": None}, "kernel_sources is None, expected a list"),
    "competition": ({"competition_sources": 1}, "competition_sources is 1, expected a list"),
    "competition's items": ({"competition_sources": [1]}, r"competition_sources is \[1\], expected a list"),
}


@pytest.mark.parametrize("fault", KERNEL_FAULTS)
def test_a_kernel_that_kaggle_would_not_take_is_refused_before_it_is_played(
    fault, phantom, weights, make_kernel, tmp_path
):
    changes, message = KERNEL_FAULTS[fault]
    with pytest.raises(DatasetError, match=rf"kernel-metadata\.json: (?s:.*){message}"):
        rehearse(phantom.root, weights, make_kernel("pass", **changes), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_placeholder_owner_is_no_fault_of_a_rehearsal(phantom, weights, make_kernel, tmp_path):
    kernel = make_kernel("pass", dataset_sources=["your-kaggle-name/weights"])
    assert check_rehearsal(Materials(phantom.root, (weights,), kernel), tmp_path / "out") is None


@pytest.mark.parametrize(
    "content",
    [
        "[1, 2]",
        "{half",
        "\udcff",
        '{"scans": 1}',
        '{"seconds": 1, "scans": [1], "faults": []}',
        "[" * 100_000,
    ],
    ids=["a list", "no JSON", "no text", "other keys", "other scans", "too deep"],
)
def test_a_run_json_of_the_notebooks_own_counts_as_none(content, phantom, tmp_path):
    played = Played(RERUN, tmp_path, WatchedRun(0, None, 1.0, None, ""), None, (), True, True)
    played.working.mkdir()
    shutil.copyfile(phantom.root / "sample_submission.csv", played.submission)
    (played.working / "run.json").write_bytes(content.encode(errors="surrogateescape"))
    report = judge_act(played, read_hidden_test(phantom.root, None), Limits())

    assert report.fault is None
    assert (report.record, report.remarks, report.hidden_seconds) == ({}, [], None)


@pytest.mark.skipif(not namespace_command(), reason="the system lets us have no network namespace")
def test_a_namespace_has_no_way_out_even_past_python(tmp_path):
    run = run_watched(
        [*namespace_command(), "cat", "/proc/self/net/dev"],
        {"PATH": "/usr/bin:/bin"},
        tmp_path / "log",
        limit_s=30,
        limit_bytes=2**30,
    )

    assert run.exit_code == 0
    interfaces = [line.partition(":")[0].strip() for line in run.errors.splitlines()[2:]]
    assert interfaces == ["lo"]
