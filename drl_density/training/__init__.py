"""Training: objectives, settings, state, validation, the doctor, and the loop."""

from drl_density.training.doctor import Doctor
from drl_density.training.evaluation import Evaluation, SelectionScore
from drl_density.training.history import history_dataset
from drl_density.training.objectives.classification import classification_loss
from drl_density.training.objectives.cooperative import CooperativeRecovery, propose
from drl_density.training.objectives.draw_pool import DrawPool
from drl_density.training.objectives.langevin_chains import LangevinChains
from drl_density.training.objectives.langevin_recovery import LangevinRecovery
from drl_density.training.objectives.objective import Batches, Objective
from drl_density.training.objectives.pairs import ChainEnds, draw_pairs
from drl_density.training.objectives.paths.matching import PathMatching
from drl_density.training.objectives.paths.meter import PathMeter
from drl_density.training.objectives.paths.particles import LevelParticles
from drl_density.training.objectives.recovery_likelihood import RecoveryLikelihood
from drl_density.training.objectives.reference_contrast import ReferenceContrast
from drl_density.training.objectives.score_matching import DenoisingScoreMatching
from drl_density.training.settings import TrainingSettings
from drl_density.training.state import SavedState, SaveState, TrainingState, new_state
from drl_density.training.trainer import TrainingHooks, train
from drl_density.training.validation import ObjectiveFigures, ValidationLoss, recovery_figures, validation_loss

__all__ = [
    "Batches",
    "ChainEnds",
    "CooperativeRecovery",
    "DenoisingScoreMatching",
    "Doctor",
    "DrawPool",
    "Evaluation",
    "LangevinChains",
    "LangevinRecovery",
    "LevelParticles",
    "Objective",
    "ObjectiveFigures",
    "PathMatching",
    "PathMeter",
    "RecoveryLikelihood",
    "ReferenceContrast",
    "SaveState",
    "SavedState",
    "SelectionScore",
    "TrainingHooks",
    "TrainingSettings",
    "TrainingState",
    "ValidationLoss",
    "classification_loss",
    "draw_pairs",
    "history_dataset",
    "new_state",
    "propose",
    "recovery_figures",
    "train",
    "validation_loss",
]
