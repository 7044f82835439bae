"""The rows that a submission must have, in their order, and what has been predicted for them so far."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from gitract_kit.competition.tables import read_rows
from gitract_kit.errors import SubmissionError
from gitract_kit.files import atomic_path

__all__ = ["SubmissionRows", "write_fallback"]

_COLUMNS = ["id", "class", "predicted"]


class SubmissionRows:
    """Rows of (id, class), each with a run-length string that is empty until it is predicted."""

    def __init__(self, ids: Iterable[str], classes: Iterable[str]) -> None:
        self._keys = list(zip(ids, classes, strict=True))
        self._predicted = dict.fromkeys(self._keys, "")

    @classmethod
    def read(cls, sample: str | Path, organs: Sequence[str]) -> SubmissionRows:
        """Return the rows of a ``sample_submission.csv``, in its order.

        Rows that repeat others, and classes that are none of ``organs``, are a `SubmissionError`.
        """
        table = read_rows(sample, ("id", "class"), SubmissionError)
        unknown = ~table["class"].isin(organs)
        if unknown.any():
            raise SubmissionError(
                f"{sample}: {int(unknown.sum())} rows have a class that is not one of {', '.join(organs)}; the "
                f"first is {table['class'][unknown].iloc[0]!r}: take weights for this competition's classes"
            )
        repeated = table.duplicated(["id", "class"])
        if repeated.any():
            first = table[repeated].iloc[0]
            raise SubmissionError(
                f"{sample}: {int(repeated.sum())} rows repeat another; the first is {first['id']}, "
                f"{first['class']}: take the competition's own file"
            )
        return cls(table["id"], table["class"])

    @classmethod
    def of_slices(cls, ids: Iterable[str], organs: Sequence[str]) -> SubmissionRows:
        """Return one row for each of ``organs`` of each id, in order."""
        keys = [(slice_id, organ) for slice_id in ids for organ in organs]
        return cls([slice_id for slice_id, _ in keys], [organ for _, organ in keys])

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def ids(self) -> list[str]:
        """The ids, each once, as they first appear."""
        return list(dict.fromkeys(slice_id for slice_id, _ in self._keys))

    def fill(self, ids: Iterable[str], organ: str, rles: Iterable[str]) -> None:
        """Note the run-length strings of ``organ``; ids that have no row are passed over."""
        for slice_id, rle in zip(ids, rles, strict=True):
            if (slice_id, organ) in self._predicted:
                self._predicted[slice_id, organ] = rle

    def write(self, path: str | Path) -> None:
        """Write ``id,class,predicted``, whole or not at all."""
        rows = [(*key, self._predicted[key]) for key in self._keys]
        with atomic_path(path) as temporary:
            pd.DataFrame(rows, columns=_COLUMNS).to_csv(temporary, index=False, lineterminator="\n")


def write_fallback(
    root: str | Path,
    output: str | Path,
    organs: Sequence[str],
    *,
    split: str = "test",
    sample: str | Path | None = None,
) -> SubmissionRows:
    """Write the submission that holds nothing yet, every row of the sample empty, and return its rows.

    The sample is ``sample``, else for the test split ``root/sample_submission.csv``; without one it is the header
    alone. Call it before anything that can fail, such as loading weights: whatever happens then, ``output`` is a
    file that Kaggle takes.
    """
    own = Path(root) / "sample_submission.csv"
    if sample is None and split == "test" and own.is_file():
        sample = own
    rows = SubmissionRows([], []) if sample is None else SubmissionRows.read(sample, organs)
    rows.write(output)
    return rows
