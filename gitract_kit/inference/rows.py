"""The rows that a submission must have, in their order, and what has been predicted for them so far."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from pathlib import Path

import pandas as pd

from gitract_kit.competition.layout import UW_MADISON, Layout
from gitract_kit.competition.submission import Sizes, read_submission, write_submission
from gitract_kit.errors import SubmissionError
from gitract_kit.inference.faults import FaultLog

__all__ = ["SubmissionRows", "start_submission"]


class SubmissionRows:
    """The rows of ``sample`` (id, class), each with a run-length string that is empty until it is predicted."""

    def __init__(self, sample: pd.DataFrame, layout: Layout = UW_MADISON) -> None:
        self._layout = layout
        self._sample = sample.assign(predicted="")
        keys = zip(sample["id"], sample["class"], strict=True)
        self._predicted: dict[tuple[str, str], str] = dict.fromkeys(keys, "")

    @classmethod
    def of_slices(cls, ids: Iterable[str], layout: Layout = UW_MADISON) -> SubmissionRows:
        """Return one row for each organ of each id, in order."""
        return cls(
            pd.DataFrame(list(product(ids, layout.organs)), columns=["id", "class"], dtype=object), layout
        )

    def __len__(self) -> int:
        return len(self._sample)

    @property
    def ids(self) -> list[str]:
        """The ids, each once, as they first appear."""
        return self._sample["id"].unique().tolist()

    def fill(self, ids: Iterable[str], organ: str, rles: Iterable[str]) -> None:
        """Note the run-length strings of ``organ``; ids that have no row are passed over."""
        for slice_id, rle in zip(ids, rles, strict=True):
            if (slice_id, organ) in self._predicted:
                self._predicted[slice_id, organ] = rle

    def rles_of(self, slice_id: str) -> list[str]:
        """Return the run-length strings of a slice, one an organ; "" where there is no row."""
        return [self._predicted.get((slice_id, organ), "") for organ in self._layout.organs]

    def write(self, path: str | Path, sizes: Sizes | None = None) -> None:
        """Write ``id,class,predicted``, whole or not at all; ``sizes`` as `check_submission` takes them."""
        filled = self._sample.assign(predicted=list(self._predicted.values()))
        write_submission(filled, self._sample, path, sizes=sizes, layout=self._layout)


def start_submission(
    root: str | Path,
    output: str | Path,
    layout: Layout = UW_MADISON,
    *,
    split: str = "test",
    sample: str | Path | None = None,
    faults: FaultLog | None = None,
) -> SubmissionRows:
    """Write the submission that holds nothing yet, every row of the sample empty, and return its rows.

    The sample is ``sample``, else for the test split the ``layout``'s own in ``root``; without one it is the header
    alone. Call it before anything that can fail, such as loading weights: whatever happens then, ``output`` is a
    file that Kaggle takes. A sample that is not one is a `SubmissionError`; one of no bytes says nothing, and where
    ``faults`` bear it the run goes on as without any.
    """
    if sample is None and split == "test" and layout.sample and (Path(root) / layout.sample).is_file():
        sample = Path(root) / layout.sample
    if faults is not None and sample is not None and _is_blank(sample):
        error = SubmissionError(f"{sample} holds nothing, not even id,class,predicted; fetch it again")
        faults.note(error, lost=False)
        sample = None
    rows = SubmissionRows.of_slices([], layout)
    if sample is not None:
        rows = SubmissionRows(read_submission(sample, layout), layout)
    rows.write(output)
    return rows


def _is_blank(path: str | Path) -> bool:
    path = Path(path)
    return path.is_file() and path.stat().st_size == 0
