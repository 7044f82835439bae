"""One fold: trained, checkpointed, scored on the scans it did not see."""

from gitract_kit.training.processes import is_main_process
from gitract_kit.training.trainer import FoldResult, train_fold

__all__ = ["FoldResult", "is_main_process", "train_fold"]
