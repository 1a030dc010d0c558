"""Fitted densities: the object a user holds, what can be asked of it, and how it is fitted."""

from drl_density.density.classification.class_densities import ClassDensities
from drl_density.density.classification.fit_classes import fit_classes
from drl_density.density.conditioning.impute import Imputation
from drl_density.density.conditioning.marginal import MarginalDensity
from drl_density.density.conditioning.prediction import Prediction
from drl_density.density.density import Density, load_generator
from drl_density.density.derived.combine import Combination, combine
from drl_density.density.derived.distill import DistillSettings, Generator
from drl_density.density.derived.draw import DrawSettings
from drl_density.density.derived.posterior import Posterior
from drl_density.density.derived.reconstruct import Reconstruction, ReconstructSettings
from drl_density.density.evaluation.compare import Comparison, compare
from drl_density.density.evaluation.diagnose import DiagnoseSettings
from drl_density.density.evaluation.diagnosis import Diagnosis
from drl_density.density.evaluation.likelihood_report import LikelihoodReport
from drl_density.density.evaluation.outlier_scores import OutlierScores
from drl_density.density.fitted import FittedModel
from drl_density.density.fitting.fit import fit
from drl_density.density.provenance import Baselines, Provenance, Stage
from drl_density.density.settings import (
    AdjustedObjective,
    ColumnNetwork,
    ContrastObjective,
    CooperativeObjective,
    CosineSchedule,
    DenoisingObjective,
    FitSettings,
    LangevinObjective,
    LinearBetaSchedule,
    LogSpacedSchedule,
    MLPNetwork,
    NoNetwork,
    NormalObjective,
    PathObjective,
    RecoverySettings,
    ResidualNetwork,
    UNetNetwork,
)
from drl_density.density.tables import Scores

__all__ = [
    "AdjustedObjective",
    "Baselines",
    "ClassDensities",
    "ColumnNetwork",
    "Combination",
    "Comparison",
    "ContrastObjective",
    "CooperativeObjective",
    "CosineSchedule",
    "DenoisingObjective",
    "Density",
    "DiagnoseSettings",
    "Diagnosis",
    "DistillSettings",
    "DrawSettings",
    "FitSettings",
    "FittedModel",
    "Generator",
    "Imputation",
    "LangevinObjective",
    "LikelihoodReport",
    "LinearBetaSchedule",
    "LogSpacedSchedule",
    "MLPNetwork",
    "MarginalDensity",
    "NoNetwork",
    "NormalObjective",
    "OutlierScores",
    "PathObjective",
    "Posterior",
    "Prediction",
    "Provenance",
    "ReconstructSettings",
    "Reconstruction",
    "RecoverySettings",
    "ResidualNetwork",
    "Scores",
    "Stage",
    "UNetNetwork",
    "combine",
    "compare",
    "fit",
    "fit_classes",
    "load_generator",
]
