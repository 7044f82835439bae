"""How a run ends that cannot go on: with what happened, the last good checkpoint, and what to do."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from gitract_kit.errors import SettingsError, TrainingError
from gitract_kit.training.checkpoint import newest_checkpoint

__all__ = ["clear_ending", "where_to_go_on"]

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
# how torch's loader reports a worker that is gone, or one that found no shared memory for its batch
_WORKER = ("DataLoader worker", "unable to allocate shared memory", "unable to write to file </torch")


def where_to_go_on(folder: Path) -> str:
    """Return the sentence that names the last good checkpoint of ``folder``, if there is one."""
    path = newest_checkpoint(folder)
    if path is None:
        return "no epoch was finished yet: start again with --resume"
    return f"the last good checkpoint is {path}: go on from it with --resume"


@contextmanager
def clear_ending(folder: Path) -> Iterator[None]:
    """Turn what ends a run from outside into a `TrainingError`: a full disk, lost processes, no memory, no compiler."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise TrainingError(
            f"the disk of {folder} is full ({os.strerror(error.errno)}); make room; {where_to_go_on(folder)}"
        ) from error
    except torch.cuda.OutOfMemoryError as error:
        raise TrainingError(
            f"the GPU's memory ran out ({_first_line(error)}); lower training.batch_size, and raise "
            f"training.accumulate as much; {where_to_go_on(folder)}"
        ) from error
    except ValueError as error:
        if "Expected more than 1 value per channel" not in str(error):
            raise
        raise SettingsError(
            "batch normalisation has nothing to average over where a batch of one slice comes down to one pixel; "
            "set training.batch_size to 2 or more a process, or enlarge the input"
        ) from error
    except RuntimeError as error:
        # not by its class, whose import takes seconds that only a compiled run should pay
        if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            raise TrainingError(
                f"the network cannot be compiled here ({_first_line(error)}); set training.compile=false; "
                f"{where_to_go_on(folder)}"
            ) from error
        reason = _why_loading_ended(error)
        if reason is None:
            raise
        raise TrainingError(
            f"a process that prepares batches was lost ({reason}); often memory is short, the shared memory of "
            f"/dev/shm too: lower training.workers, 0 prepares in the training process; {where_to_go_on(folder)}"
        ) from error


def _why_loading_ended(error: BaseException) -> str | None:
    text = str(error)
    # a worker's own error also comes with a worker's name: that one speaks for itself
    if not any(sign in text for sign in _WORKER) or ("Caught " in text and "shared memory" not in text):
        return None
    return _first_line(error)


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0]
