"""Networks and losses."""

from gitract_kit.models.factory import create_model
from gitract_kit.models.losses import create_loss

__all__ = ["create_loss", "create_model"]
