"""The exceptions the kit raises on purpose.

    GitractError                    anything the kit noticed itself
    ├── InputError (ValueError)     the user's input is at fault: the command line exits with 2
    │   ├── RLEError                a run-length string that is not one
    │   ├── DatasetError            a competition folder or table that is not in the layout
    │   ├── ScanError               a slice that cannot be decoded
    │   ├── SubmissionError         a submission Kaggle would refuse
    │   ├── SettingsError           an unknown or impossible setting
    │   ├── BundleError             weights that are missing, altered or of another kind
    │   └── PushError               what was to go to Kaggle is at fault, or Kaggle refused it
    │       └── SessionLimitError   as many sessions run already as Kaggle allows
    ├── KaggleError                 Kaggle or its client failed: the command line exits with 1
    ├── PredictionError             a submission that is not what was meant: the command line exits with 1
    └── TrainingError               a run that cannot go on: the command line exits with 1

A message says what was found, what was expected and what to do next.
"""

__all__ = [
    "BundleError",
    "DatasetError",
    "GitractError",
    "InputError",
    "KaggleError",
    "PredictionError",
    "PushError",
    "RLEError",
    "ScanError",
    "SessionLimitError",
    "SettingsError",
    "SubmissionError",
    "TrainingError",
]


class GitractError(Exception):
    """Base of every error the kit raises on purpose; ``exit_code`` is what the command line ends with."""

    exit_code = 1


class InputError(GitractError, ValueError):
    """The user's input is at fault, and the message says what to do about it."""

    exit_code = 2


class RLEError(InputError):
    """A run-length string is malformed; the message names the pair and the reason."""


class DatasetError(InputError):
    """A competition folder or table is not in the layout; the message names the file or id."""


class ScanError(InputError):
    """A slice cannot be decoded; the message names the file."""


class SubmissionError(InputError):
    """A submission would be refused; the message names the first offending row and the count."""


class SettingsError(InputError):
    """A setting is unknown or impossible; the message names the nearest known one."""


class BundleError(InputError):
    """A bundle is incomplete, altered or from another kit; the message names the file."""


class PushError(InputError):
    """What was to go to Kaggle breaks its rules, or Kaggle refused it; the message names each fault."""


class SessionLimitError(PushError):
    """Kaggle runs as many sessions for this account as it allows; the push can be repeated when one ends."""


class KaggleError(GitractError):
    """Kaggle, its client or a run on Kaggle failed; the message says what is known of it and what to try."""


class PredictionError(GitractError):
    """A prediction ended and its submission is not what was meant; the message says what stands there."""


class TrainingError(GitractError):
    """A training run cannot go on; the message names the last good checkpoint."""
