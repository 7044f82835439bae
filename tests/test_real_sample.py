"""The road on real slices, at reduced size, where they are at hand; nothing of them is kept."""

import pandas as pd

from gitract_kit.cli import main
from gitract_kit.data.prepare import load_prepared

SMALL = [
    "--set=window.slices=3",
    "--set=geometry={height: 64, width: 64}",
    "--set=model.encoder_depth=3",
    "--set=model.decoder_channels=[16, 8, 8]",
    "--set=training={epochs: 2, batch_size: 8, workers: 0, samples_per_epoch: 80, learning_rate: 0.003}",
]


def test_the_road_runs_on_real_slices_of_four_sizes(shared_data, tmp_path, capsys):
    sample = shared_data / "sample"
    work, run, weights, out = (str(tmp_path / name) for name in ("work", "run", "weights", "submission.csv"))

    assert main(["prepare", str(sample), "-o", work, "--folds", "2"]) == 0
    index = load_prepared(work).index
    assert len(index) == 2 * 144 + 36
    assert main(["train", work, "-o", run, "--preset", "tiny", "--fold", "0", *SMALL]) == 0
    assert main(["bundle", run, "-o", weights]) == 0
    assert main(["predict", str(sample), "--bundle", weights, "-o", out]) == 0
    listed = str(sample / "sample_submission.csv")
    assert main(["check", out, "--sample", listed, "--root", str(sample)]) == 0

    printed = capsys.readouterr().out
    assert "Kaggle would accept it" in printed
    pd.testing.assert_frame_equal(pd.read_csv(out)[["id", "class"]], pd.read_csv(listed)[["id", "class"]])
    losses = pd.read_csv(tmp_path / "run" / "fold_0" / "metrics.csv")["train_loss"]
    assert losses.iloc[-1] < losses.iloc[0]
