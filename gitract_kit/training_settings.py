"""The part of the settings that training alone reads: the random changes of its input, and how a fold is trained."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field

from gitract_kit.errors import SettingsError
from gitract_kit.strict import nearest, require

__all__ = ["AugmentationSettings", "TrainingSettings"]


@dataclass(frozen=True)
class AugmentationSettings:
    """Random changes of a training input, the same for every channel of a window and for its mask."""

    hflip: float = 0.5
    """Probability of a left-right flip."""
    affine: float = 0.7
    """Probability of a shift, scaling and rotation."""
    shift: float = 0.08
    """Largest shift, as a share of the input's side."""
    scale: float = 0.2
    """Largest scaling, as a share: 0.2 is 0.8 to 1.2."""
    rotate_deg: float = 15.0
    """Largest rotation in degrees."""
    elastic: float = 0.2
    """Probability of one of the distortions."""
    distortions: tuple[str, ...] = ("elastic", "grid")
    """The distortions that one is drawn from: ``elastic``, ``grid``, ``optical``."""
    distortion_strength: float = 1.0
    """Factor on how far the distortions reach."""
    intensity: float = 0.5
    """Probability of a change of brightness, contrast or gamma."""
    dropout: float = 0.2
    """Probability of blanked rectangles."""

    def __post_init__(self) -> None:
        for name in ("hflip", "affine", "elastic", "intensity", "dropout"):
            require(0 <= getattr(self, name) <= 1, f"augmentation.{name}", getattr(self, name), "0 to 1")
        known = {"elastic", "grid", "optical"}
        require(
            bool(self.distortions) and known.issuperset(self.distortions),
            "augmentation.distortions",
            self.distortions,
            f"one or more of {', '.join(sorted(known))}; set augmentation.elastic to 0 for no distortion",
        )
        require(
            0 < self.distortion_strength <= 4,
            "augmentation.distortion_strength",
            self.distortion_strength,
            "over 0 and at most 4",
        )

    @staticmethod
    def named(name: str) -> AugmentationSettings:
        """Return the augmentation that ``augmentation: NAME`` means; an unknown name is a `SettingsError`."""
        if name not in _AUGMENTATIONS:
            raise SettingsError(f"no augmentation is called {name!r}{nearest(name, _AUGMENTATIONS)}")
        return _AUGMENTATIONS[name]


@dataclass(frozen=True)
class TrainingSettings:
    """How one fold is trained."""

    epochs: int = 15
    samples_per_epoch: int | None = None
    """Slices drawn an epoch; None is every training slice once."""
    batch_size: int = 16
    """Slices a batch, all processes of a run together."""
    learning_rate: float = 1e-3
    """The highest rate, reached at the end of the warm-up."""
    weight_decay: float = 1e-2
    optimizer: str = "adamw"
    """``adamw``, ``adam`` or ``sgd``; in the latter two the weight decay is an L2 penalty."""
    schedule: str = "cosine"
    """``cosine`` after a linear warm-up; ``one-cycle``, up and down once; ``plateau``, lowered whenever the held-out
    score has not risen for a while."""
    warmup_epochs: float = 1.0
    """Epochs of linear warm-up before the cosine."""
    plateau_factor: float = 0.5
    """What the rate is multiplied with on a plateau."""
    plateau_patience: int = 3
    """Epochs without a better score that the plateau schedule bears."""
    early_stop: int = 0
    """Epochs without a better score after which the run ends; 0 runs all epochs."""
    accumulate: int = 1
    """Batches whose gradients are averaged into one step."""
    loss: Mapping[str, float] = field(default_factory=lambda: {"bce": 0.5, "dice": 0.5})
    """Weight of each loss by name: ``bce``, ``dice``, ``focal``, ``lovasz``, ``tversky``."""
    slices: str = "all"
    """Which slices are drawn: ``all``; ``labelled``, those with an organ; ``no-tail``, all but those past the last
    one of their scan with an organ."""
    empty_share: float | None = None
    """Share of drawn slices that hold no organ; None leaves it as it is in the data."""
    ema_decay: float = 0.0
    """Decay of the moving average of the weights that is scored and saved; 0 keeps the weights themselves."""
    swa_epochs: int = 0
    """Number of last epochs whose weights are averaged at the end; the average is kept where it scores best."""
    mixup: float = 0.0
    """Probability that a batch is blended with itself in another order."""
    cutmix: float = 0.0
    """Probability that a rectangle of a batch is replaced by that of another order, masks and all."""
    mix_alpha: float = 1.0
    """Both parameters of the Beta distribution that the blended share is drawn from; 1 makes all shares as likely,
    less prefers shares near 0 and 1."""
    gradient_clip: float = 1.0
    """Largest norm of a step's gradient; 0 does not clip."""
    drop_bad_scans: bool = True
    """Leave out the scans whose labels the host lists as wrong."""
    workers: int = 2
    """Processes that prepare batches; 0 prepares them in the training process."""
    precision: str = "auto"
    """``fp32``, ``fp16``, ``bf16``; ``auto`` takes bf16 or fp16 on a GPU and fp32 elsewhere."""
    compile: bool = False
    """Compile the network with torch.compile: minutes at the start, quicker steps after."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "accumulate"):
            require(getattr(self, name) >= 1, f"training.{name}", getattr(self, name), "1 or more")
        require(
            self.samples_per_epoch is None or self.samples_per_epoch >= 1,
            "training.samples_per_epoch",
            self.samples_per_epoch,
            "1 or more, or null for every training slice once",
        )
        for name, weight in self.loss.items():
            require(
                weight > 0, f"training.loss.{name}", weight, "over 0; leave a loss out that is not wanted"
            )
        for name in (
            "seed",
            "plateau_patience",
            "early_stop",
            "warmup_epochs",
            "weight_decay",
            "gradient_clip",
        ):
            require(getattr(self, name) >= 0, f"training.{name}", getattr(self, name), "0 or more")
        self._check_choices()
        self._check_averages_and_mixes()
        require(self.learning_rate > 0, "training.learning_rate", self.learning_rate, "over 0")
        require(self.workers >= 0, "training.workers", self.workers, "0 or more")
        require(0 <= self.ema_decay < 1, "training.ema_decay", self.ema_decay, "at least 0 and below 1")
        require(
            self.empty_share is None or 0 <= self.empty_share <= 1,
            "training.empty_share",
            self.empty_share,
            "0 to 1",
        )

    def _check_choices(self) -> None:
        choices = {
            "optimizer": ("adamw", "adam", "sgd"),
            "schedule": ("cosine", "one-cycle", "plateau"),
            "slices": ("all", "labelled", "no-tail"),
            "precision": ("auto", "fp32", "fp16", "bf16"),
        }
        for name, known in choices.items():
            value = getattr(self, name)
            require(value in known, f"training.{name}", value, f"one of {', '.join(known)}")
        require(
            0 < self.plateau_factor < 1, "training.plateau_factor", self.plateau_factor, "over 0 and below 1"
        )

    def _check_averages_and_mixes(self) -> None:
        require(
            0 <= self.swa_epochs <= self.epochs,
            "training.swa_epochs",
            self.swa_epochs,
            "0 to training.epochs",
        )
        require(
            not (self.swa_epochs and self.early_stop),
            "training.swa_epochs",
            self.swa_epochs,
            "0 with training.early_stop, which may end the run before its last epochs",
        )
        for name in ("mixup", "cutmix"):
            require(
                getattr(self, name) >= 0 and self.mixup + self.cutmix <= 1,
                f"training.{name}",
                getattr(self, name),
                "0 or more, and training.mixup and training.cutmix together at most 1",
            )
        require(self.mix_alpha > 0, "training.mix_alpha", self.mix_alpha, "over 0")


# last, because the checks of their values stand above
_NO_AUGMENTATION = AugmentationSettings(hflip=0.0, affine=0.0, elastic=0.0, intensity=0.0, dropout=0.0)
_AUGMENTATIONS = {
    "none": _NO_AUGMENTATION,
    "flip": dataclasses.replace(_NO_AUGMENTATION, hflip=0.5),
    "light": AugmentationSettings(
        affine=0.5, shift=0.05, scale=0.1, rotate_deg=10.0, elastic=0.0, intensity=0.3, dropout=0.0
    ),
    "medium": AugmentationSettings(),
    "strong": AugmentationSettings(
        affine=0.8,
        shift=0.1,
        rotate_deg=20.0,
        elastic=0.4,
        distortions=("elastic", "grid", "optical"),
        distortion_strength=1.5,
        dropout=0.3,
    ),
}
