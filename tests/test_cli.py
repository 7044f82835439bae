"""The verbs, from the outside: what they print, where, and what they end with."""

import json
import shutil

import pandas as pd
import pytest

from gitract_kit.cli import main


def test_the_whole_road_from_a_raw_folder_to_a_score(phantom, tmp_path, capsys):
    """Every verb in order, each on what the one before left."""
    work, run, weights = (str(tmp_path / name) for name in ("work", "run", "weights"))
    submission = str(tmp_path / "submission.csv")
    sample = str(phantom.root / "sample_submission.csv")
    small = [
        "--set=window.slices=3",
        "--set=geometry={height: 64, width: 64}",
        "--set=model.encoder_depth=3",
        "--set=model.decoder_channels=[16, 8, 8]",
        "--set=training={epochs: 1, batch_size: 4, workers: 0}",
    ]

    assert main(["prepare", str(phantom.root), "-o", work, "--folds", "3"]) == 0
    assert main(["train", work, "-o", run, "--preset", "tiny", "--fold", "0", *small]) == 0
    assert main(["bundle", run, "-o", weights]) == 0
    assert main(["info", weights]) == 0
    assert main(["predict", str(phantom.root), "--bundle", weights, "-o", submission]) == 0
    assert main(["check", submission, "--sample", sample, "--root", str(phantom.root)]) == 0
    assert main(["score", submission, "--truth", str(phantom.solution), "--root", str(phantom.root)]) == 0

    printed = capsys.readouterr().out
    assert "fold 0: 1 cases" in printed
    assert "1 members" in printed
    assert "Kaggle would accept it" in printed
    assert "variant leaderboard: 2 scans" in printed
    columns = ["id", "class"]
    pd.testing.assert_frame_equal(pd.read_csv(submission)[columns], pd.read_csv(sample)[columns])


def test_predicting_twice_gives_the_same_file(phantom, bundle, tmp_path):
    for name in ("first.csv", "second.csv"):
        assert main(["predict", str(phantom.root), "--bundle", str(bundle), "-o", str(tmp_path / name)]) == 0

    assert (tmp_path / "first.csv").read_bytes() == (tmp_path / "second.csv").read_bytes()


def test_the_truth_itself_scores_one(phantom, tmp_path, capsys):
    truth = pd.read_csv(phantom.solution, dtype=str, keep_default_na=False)
    perfect = tmp_path / "perfect.csv"
    truth.rename(columns={"segmentation": "predicted"}).to_csv(perfect, index=False)

    assert main(["score", str(perfect), "--truth", str(phantom.solution), "--root", str(phantom.root)]) == 0

    everything = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("all"))
    assert everything.split()[1:] == ["1.0000", "0.0000", "1.0000"]


def test_ids_that_one_table_lacks_are_counted(phantom, tmp_path, capsys):
    truth = pd.read_csv(phantom.solution, dtype=str, keep_default_na=False)
    part = tmp_path / "part.csv"
    truth.iloc[6:].rename(columns={"segmentation": "predicted"}).to_csv(part, index=False)

    assert main(["score", str(part), "--truth", str(phantom.solution), "--root", str(phantom.root)]) == 0

    assert f"left out: 2 ids that {part} lacks" in capsys.readouterr().out


def test_sizes_may_come_from_a_table(phantom, tmp_path, capsys):
    sizes = tmp_path / "sizes.csv"
    truth = pd.read_csv(phantom.solution, dtype=str, keep_default_na=False)
    perfect = tmp_path / "perfect.csv"
    truth.rename(columns={"segmentation": "predicted"}).to_csv(perfect, index=False)
    paths = sorted(path.relative_to(phantom.root) for path in (phantom.root / "test").rglob("*.png"))
    ids = [f"{path.parts[2]}_{'_'.join(path.name.split('_')[:2])}" for path in paths]
    pd.DataFrame({"id": ids, "path": [str(path) for path in paths]}).to_csv(sizes, index=False)

    assert main(["score", str(perfect), "--truth", str(phantom.solution), "--sizes", str(sizes)]) == 0

    assert "1.0000" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["prepare", "{tmp}/nowhere", "-o", "{tmp}/w"], "is not a folder"),
        (["train", "{tmp}", "--fold", "0"], "make it with `gitract prepare ROOT -o"),
        (["train", "{tmp}", "--fold", "0", "--preset", "tinny"], "did you mean 'tiny'"),
        (["train", "{tmp}", "--fold", "0", "--set", "training.epoch=1"], "did you mean 'epochs'"),
        (["bundle", "{tmp}", "-o", "{tmp}/b"], "{tmp}"),
        (["info", "{tmp}/no-bundle"], "bundle.json"),
        (["phantom", "{tmp}/p", "--cases", "0"], "cases is 0"),
    ],
)
def test_input_at_fault_ends_with_2_and_a_sentence_on_stderr(arguments, message, tmp_path, capsys):
    assert main([argument.format(tmp=tmp_path) for argument in arguments]) == 2

    captured = capsys.readouterr()
    assert message.format(tmp=tmp_path) in captured.err
    assert captured.err.startswith(f"gitract {arguments[0]}: ")
    assert captured.out == ""


def test_a_submission_kaggle_would_refuse_ends_with_2(phantom, tmp_path, capsys):
    sample = phantom.root / "sample_submission.csv"
    broken = tmp_path / "broken.csv"
    broken.write_text("\n".join(sample.read_text().splitlines()[:-1]) + "\n")

    assert main(["check", str(broken), "--sample", str(sample)]) == 2

    assert "1 row" in capsys.readouterr().err


def test_an_altered_bundle_ends_with_2(phantom, bundle, tmp_path, capsys):
    altered = tmp_path / "altered"
    shutil.copytree(bundle, altered)
    manifest = json.loads((altered / "bundle.json").read_text())
    weights = altered / manifest["members"][0]["weights"]
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)

    assert main(["predict", str(phantom.root), "--bundle", str(altered), "-o", str(tmp_path / "s.csv")]) == 2

    assert weights.name in capsys.readouterr().err


def test_info_names_versions_devices_and_presets(capsys):
    assert main(["info"]) == 0

    printed = capsys.readouterr().out
    for expected in ("gitract-kit", "torch", "devices: cpu", "presets:", "tiny"):
        assert expected in printed


def test_no_verb_is_a_usage_error(capsys):
    with pytest.raises(SystemExit) as ended:
        main([])

    assert ended.value.code == 2
    assert "VERB" in capsys.readouterr().err
