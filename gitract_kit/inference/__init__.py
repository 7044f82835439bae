"""From scans to masks: members, their ensemble, clean-up, and the submission."""

from gitract_kit.inference.ensemble import Ensemble
from gitract_kit.inference.member import Member, NetworkMember
from gitract_kit.inference.predictor import PredictionSummary, Predictor
from gitract_kit.inference.rows import start_submission

__all__ = ["Ensemble", "Member", "NetworkMember", "PredictionSummary", "Predictor", "start_submission"]
