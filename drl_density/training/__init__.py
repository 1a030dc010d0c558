"""Training: the objective, the validation criterion, the doctor, the state and the one loop."""

from drl_density.training.completion import CompletedBatches, CompletionSettings
from drl_density.training.cooperative import CooperativeRecovery, propose
from drl_density.training.doctor import Doctor
from drl_density.training.langevin_chains import LangevinChains, draw_pairs
from drl_density.training.langevin_recovery import LangevinRecovery
from drl_density.training.objectives import Batches, Objective, RecoveryLikelihood, classification_loss
from drl_density.training.score_matching import DenoisingScoreMatching
from drl_density.training.settings import TrainingSettings
from drl_density.training.state import SaveState, TrainingState, new_state
from drl_density.training.trainer import Evaluation, SelectionScore, history_dataset, train
from drl_density.training.validation import ValidationLoss, validation_loss

__all__ = [
    "Batches",
    "CompletedBatches",
    "CompletionSettings",
    "CooperativeRecovery",
    "DenoisingScoreMatching",
    "Doctor",
    "Evaluation",
    "LangevinChains",
    "LangevinRecovery",
    "Objective",
    "RecoveryLikelihood",
    "SaveState",
    "SelectionScore",
    "TrainingSettings",
    "TrainingState",
    "ValidationLoss",
    "classification_loss",
    "draw_pairs",
    "history_dataset",
    "new_state",
    "propose",
    "train",
    "validation_loss",
]
