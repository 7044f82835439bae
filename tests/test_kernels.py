"""The notebooks: valid, glue only, and run here as Kaggle would run them."""

import json
import os
import shutil
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from gitract_kit.cli import main
from gitract_kit.shipping.acts import Act
from gitract_kit.shipping.mounts import MOUNT_LAYOUTS
from gitract_kit.shipping.rehearse import rehearse
from gitract_kit.shipping.submit import predict_bundles

KERNELS = Path(__file__).resolve().parents[1] / "kernels"
NAMES = ("train", "inference")


def read_notebook(name):
    return nbformat.read(KERNELS / name / f"{name}.ipynb", as_version=4)


def read_metadata(name):
    return json.loads((KERNELS / name / "kernel-metadata.json").read_text())


def code_lines(notebook):
    sources = (cell.source for cell in notebook.cells if cell.cell_type == "code")
    lines = (line.strip() for source in sources for line in source.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_valid_glue_without_outputs(name):
    notebook = read_notebook(name)

    nbformat.validate(notebook)
    assert len(code_lines(notebook)) <= 40
    assert all(
        not cell.outputs and cell.execution_count is None for cell in notebook.cells if "outputs" in cell
    )


@pytest.mark.parametrize("name", NAMES)
def test_metadata_names_the_notebook_and_says_whether_there_is_internet(name):
    metadata = read_metadata(name)

    assert (KERNELS / name / metadata["code_file"]).is_file()
    # a missing key would mean on
    assert metadata["enable_internet"] is (name == "train")
    assert metadata["competition_sources"] == ["uw-madison-gi-tract-image-segmentation"]
    slug = metadata["id"].split("/")[1]
    assert 5 <= len(metadata["title"]) <= 50
    assert metadata["title"].replace(" ", "-") == slug


@pytest.mark.parametrize("name", NAMES)
def test_what_a_notebook_mounts_its_metadata_lists(name):
    metadata, source = read_metadata(name), "\n".join(code_lines(read_notebook(name)))

    for dataset in metadata["dataset_sources"]:
        assert f'"{dataset}"' in source


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "place", ["datasets/Alice/gitract-wheels", "datasets/alice/gitract-wheels", "gitract-wheels"]
)
def test_a_source_is_found_wherever_kaggle_mounts_it(name, place, tmp_path, monkeypatch):
    monkeypatch.setenv("GITRACT_INPUT", str(tmp_path))
    for key in ("NO_ALBUMENTATIONS_UPDATE", "HF_HUB_OFFLINE"):
        monkeypatch.setenv(key, "1")
    (cell,) = [cell.source for cell in read_notebook(name).cells if "def mounted" in cell.source]
    (tmp_path / place).mkdir(parents=True)
    own: dict[str, object] = {"WHEELS": "nobody/nothing"}
    exec(cell, own)

    assert own["mounted"]("datasets", "Alice/gitract-wheels").samefile(tmp_path / place)
    with pytest.raises(FileNotFoundError, match=r"nobody/nothing is not mounted, looked for .*add it to"):
        own["mounted"]("datasets", "nobody/nothing")


def test_the_fold_stands_in_a_cell_of_its_own():
    cells = [cell.source for cell in read_notebook("train").cells if cell.cell_type == "code"]

    assert cells[0] == "FOLD = 0"


def test_the_inference_notebook_writes_the_samples_rows(phantom, bundle, tmp_path):
    out = tmp_path / "kaggle"

    assert (
        main(
            [
                "rehearse",
                str(phantom.root),
                "--bundle",
                str(bundle),
                "--kernel",
                str(KERNELS / "inference"),
                "--once",
                "-o",
                str(out),
            ]
        )
        == 0
    )

    written = (out / "working" / "submission.csv").read_text().splitlines()
    sample = (phantom.root / "sample_submission.csv").read_text().splitlines()
    assert [row.rsplit(",", 1)[0] for row in written] == [row.rsplit(",", 1)[0] for row in sample]


@pytest.mark.slow
@pytest.mark.parametrize("layout", MOUNT_LAYOUTS)
def test_the_inference_notebook_takes_folds_from_their_kernels(layout, phantom, run, bundle, tmp_path):
    kernel = shutil.copytree(KERNELS / "inference", tmp_path / "kernel")
    sources = [f"your-kaggle-name/gitract-train-fold-{fold}" for fold in (0, 1)]
    metadata = {**read_metadata("inference"), "dataset_sources": [], "kernel_sources": sources}
    (kernel / "kernel-metadata.json").write_text(json.dumps(metadata))
    notebook = kernel / "inference.ipynb"
    edited = read_notebook("inference")
    settings = edited.cells[1].source
    settings = settings.replace('BUNDLES = ["your-kaggle-name/gitract-weights"]', "BUNDLES = []")
    edited.cells[1].source = settings.replace("RUNS = []", f"RUNS = {sources}")
    nbformat.write(edited, notebook)
    outputs = [tmp_path / "left" / str(fold) for fold in (0, 1)]
    for fold, output in enumerate(outputs):
        shutil.copytree(run / f"fold_{fold}", output / "run" / f"fold_{fold}")

    act = Act(layout, rerun=True)
    apart = rehearse(phantom.root, [], kernel, tmp_path / "apart", outputs=outputs, acts=[act])

    assert apart.scored, apart
    # the same members, so the same submission
    predict_bundles([bundle], phantom.root, tmp_path / "together.csv", progress=False)
    assert apart.submission.read_bytes() == (tmp_path / "together.csv").read_bytes()


def test_the_training_notebook_goes_on_from_its_own_output(phantom, work, run, tmp_path, capfd):
    source, working = tmp_path / "input", tmp_path / "working"
    working.mkdir()
    mount(source / "competitions" / "uw-madison-gi-tract-image-segmentation", phantom.root)
    earlier = tmp_path / "earlier" / "run"
    shutil.copytree(run / "fold_0", earlier / "fold_0")
    mount(source / "notebooks" / "your-kaggle-name" / "gitract-train-fold-0", earlier.parent)
    for path in earlier.rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    # three cases make no five folds: those that are there are kept
    shutil.copytree(work, tmp_path / "work")
    notebook = read_notebook("train")
    # what a user would set in the notebook's own cells, and a folder of this test's own for the decoded scans
    small = [
        "window.slices=3",
        "geometry={height: 64, width: 64}",
        "model.encoder_depth=3",
        "model.decoder_channels=[16, 8, 8]",
        "training={epochs: 3, batch_size: 4, workers: 0, ema_decay: 0.5, learning_rate: 0.003}",
    ]
    for cell in notebook.cells:
        cell.source = (
            cell.source.replace('PRESET = "baseline"', 'PRESET = "tiny"')
            .replace("CHANGES = []", f"CHANGES = {small!r}")
            .replace('"/tmp/gitract-work"', f"{str(tmp_path / 'work')!r}")
        )
    client = NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(working)}})

    client.execute(env={**os.environ, "GITRACT_INPUT": str(source)})

    told = "".join(output.get("text", "") for output in notebook.cells[-1].outputs)
    assert f"going on from {source}" in told
    assert "checkpoint_0002.pt" in told
    assert "fold 0 is trained: run/fold_0" in told
    # the bar is drawn when it begins and ends, not at every step; in a test what is started writes past the notebook
    assert 1 <= capfd.readouterr().err.count("fold 0 epoch 3: ") <= 3
    epochs = [
        line.split(",")[0] for line in (working / "run" / "fold_0" / "metrics.csv").read_text().splitlines()
    ]
    assert epochs == ["epoch", "1", "2", "3"]
    assert (working / "run" / "fold_0" / "oof" / "index.csv").is_file()


def mount(place, folder):
    place.parent.mkdir(parents=True)
    place.symlink_to(folder)
