"""Density estimation with sequences of energy-based models learned by diffusion recovery likelihood.

Names are imported at their first use, so ``import drl_density`` takes next to no time. Rooms are reached in the same
way: ``drl_density.samplers.sample_ddim`` needs no import of its own.

>>> import drl_density as drl
>>> drl.NoiseSchedule.log_spaced(6).num_levels, drl.errors.Verdict is drl.Verdict
(6, True)
"""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from drl_density import (
        bases as bases,
        datasets as datasets,
        density as density,
        diagnostics as diagnostics,
        diffusion_sampler as diffusion_sampler,
        distillation as distillation,
        distributions as distributions,
        errors as errors,
        estimator as estimator,
        execution as execution,
        inverse_problems as inverse_problems,
        mcmc as mcmc,
        model as model,
        model_evidence as model_evidence,
        networks as networks,
        operators as operators,
        parallel as parallel,
        partition_function as partition_function,
        plots as plots,
        reports as reports,
        run_folder as run_folder,
        sample_quality as sample_quality,
        samplers as samplers,
        schedule as schedule,
        testing as testing,
        training as training,
        transforms as transforms,
        weights as weights,
    )
    from drl_density.bases import (
        AutoregressiveFlow,
        AutoregressiveFlowSettings,
        AutoregressivePixels,
        BlendedBase,
        LayeredBase,
        NoisedGaussianMixture,
        PixelSettings,
        PixelSteps,
        QuadraticBase,
        StackSettings,
    )
    from drl_density.datasets import Dataset, ReadOptions, Split, load_dataset, memorization_check
    from drl_density.density import (
        AdjustedObjective,
        ClassDensities,
        ColumnNetwork,
        Combination,
        Comparison,
        ContrastObjective,
        CooperativeObjective,
        CosineSchedule,
        DenoisingObjective,
        Density,
        DiagnoseSettings,
        Diagnosis,
        DistillSettings,
        DrawSettings,
        FitSettings,
        Generator,
        Imputation,
        LangevinObjective,
        LikelihoodReport,
        LinearBetaSchedule,
        LogSpacedSchedule,
        MarginalDensity,
        MLPNetwork,
        NoNetwork,
        NormalObjective,
        OutlierScores,
        PathObjective,
        Posterior,
        Prediction,
        Reconstruction,
        ReconstructSettings,
        RecoverySettings,
        ResidualNetwork,
        Scores,
        UNetNetwork,
        combine,
        compare,
        fit,
        fit_classes,
        load_generator,
    )
    from drl_density.diagnostics import as_arviz, from_pyro_mcmc
    from drl_density.diffusion_sampler import DiffusionSamplerSettings
    from drl_density.distillation import EMDistillationSettings, MMDSettings, WarmStartSettings
    from drl_density.distributions import (
        ChainSampler,
        EnergyDistribution,
        Mixture,
        RecoveryDistribution,
        excluding,
        guided,
        joint_density,
        product,
        tempered,
    )
    from drl_density.errors import DRLDensityWarning, Verdict
    from drl_density.estimator import DRLDensity
    from drl_density.inverse_problems import (
        AmbientSettings,
        ConditionalSettings,
        DPSSettings,
        MeasuredRowSettings,
        MeasuredSettings,
        MissingMoveSettings,
    )
    from drl_density.mcmc import HMC, MALA, ULA, RandomWalk, run_chain
    from drl_density.model import EnergySequence
    from drl_density.model_evidence import (
        ComparedModel,
        Decision,
        EvidenceComparison,
        EvidenceDifference,
        ModelEvidence,
        compare_evidence,
        evidence,
    )
    from drl_density.networks import ColumnTiltSettings, MLPSettings, ResidualSettings, UNetEnergySettings, UNetSettings
    from drl_density.partition_function import (
        AISSettings,
        OtherSideSettings,
        Sandwich,
        SandwichSettings,
        annealed_importance_sampling,
        geometric_path,
        sandwich,
        sequence_path,
    )
    from drl_density.sample_quality import ClassifierSettings
    from drl_density.samplers import (
        AncestralSettings,
        DDIMSettings,
        FlowSettings,
        PredictorCorrectorSettings,
        ProgressiveSettings,
        RefinementSettings,
        ShortRunSettings,
        TemperingSettings,
        sample_progressive,
    )
    from drl_density.schedule import NoiseSchedule
    from drl_density.training import RecoveryLikelihood, TrainingSettings
    from drl_density.weights import LogPartitionEstimate

__all__ = [
    "HMC",
    "MALA",
    "ULA",
    "AISSettings",
    "AdjustedObjective",
    "AmbientSettings",
    "AncestralSettings",
    "AutoregressiveFlow",
    "AutoregressiveFlowSettings",
    "AutoregressivePixels",
    "BlendedBase",
    "ChainSampler",
    "ClassDensities",
    "ClassifierSettings",
    "ColumnNetwork",
    "ColumnTiltSettings",
    "Combination",
    "ComparedModel",
    "Comparison",
    "ConditionalSettings",
    "ContrastObjective",
    "CooperativeObjective",
    "CosineSchedule",
    "DDIMSettings",
    "DPSSettings",
    "DRLDensity",
    "DRLDensityWarning",
    "Dataset",
    "Decision",
    "DenoisingObjective",
    "Density",
    "DiagnoseSettings",
    "Diagnosis",
    "DiffusionSamplerSettings",
    "DistillSettings",
    "DrawSettings",
    "EMDistillationSettings",
    "EnergyDistribution",
    "EnergySequence",
    "EvidenceComparison",
    "EvidenceDifference",
    "FitSettings",
    "FlowSettings",
    "Generator",
    "Imputation",
    "LangevinObjective",
    "LayeredBase",
    "LikelihoodReport",
    "LinearBetaSchedule",
    "LogPartitionEstimate",
    "LogSpacedSchedule",
    "MLPNetwork",
    "MLPSettings",
    "MMDSettings",
    "MarginalDensity",
    "MeasuredRowSettings",
    "MeasuredSettings",
    "MissingMoveSettings",
    "Mixture",
    "ModelEvidence",
    "NoNetwork",
    "NoiseSchedule",
    "NoisedGaussianMixture",
    "NormalObjective",
    "OtherSideSettings",
    "OutlierScores",
    "PathObjective",
    "PixelSettings",
    "PixelSteps",
    "Posterior",
    "Prediction",
    "PredictorCorrectorSettings",
    "ProgressiveSettings",
    "QuadraticBase",
    "RandomWalk",
    "ReadOptions",
    "ReconstructSettings",
    "Reconstruction",
    "RecoveryDistribution",
    "RecoveryLikelihood",
    "RecoverySettings",
    "RefinementSettings",
    "ResidualNetwork",
    "ResidualSettings",
    "Sandwich",
    "SandwichSettings",
    "Scores",
    "ShortRunSettings",
    "Split",
    "StackSettings",
    "TemperingSettings",
    "TrainingSettings",
    "UNetEnergySettings",
    "UNetNetwork",
    "UNetSettings",
    "Verdict",
    "WarmStartSettings",
    "annealed_importance_sampling",
    "as_arviz",
    "combine",
    "compare",
    "compare_evidence",
    "evidence",
    "excluding",
    "fit",
    "fit_classes",
    "from_pyro_mcmc",
    "geometric_path",
    "guided",
    "joint_density",
    "load_dataset",
    "load_generator",
    "memorization_check",
    "product",
    "run_chain",
    "sample_progressive",
    "sandwich",
    "sequence_path",
    "tempered",
]

_NAMES = {
    "bases": (
        "AutoregressiveFlow AutoregressiveFlowSettings AutoregressivePixels BlendedBase LayeredBase NoisedGaussianMixture "
        "PixelSettings PixelSteps QuadraticBase StackSettings"
    ),
    "datasets": "Dataset ReadOptions Split load_dataset memorization_check",
    "density": (
        "AdjustedObjective ClassDensities ColumnNetwork Combination Comparison ContrastObjective CooperativeObjective "
        "CosineSchedule DenoisingObjective "
        "Density DiagnoseSettings Diagnosis DistillSettings DrawSettings FitSettings Generator Imputation "
        "LangevinObjective LikelihoodReport LinearBetaSchedule LogSpacedSchedule MLPNetwork "
        "MarginalDensity NoNetwork NormalObjective OutlierScores PathObjective Posterior Prediction ReconstructSettings "
        "Reconstruction RecoverySettings ResidualNetwork Scores UNetNetwork combine compare fit fit_classes "
        "load_generator"
    ),
    "diagnostics": "as_arviz from_pyro_mcmc",
    "diffusion_sampler": "DiffusionSamplerSettings",
    "distillation": "EMDistillationSettings MMDSettings WarmStartSettings",
    "distributions": (
        "ChainSampler EnergyDistribution Mixture RecoveryDistribution excluding guided joint_density product tempered"
    ),
    "errors": "DRLDensityWarning Verdict",
    "estimator": "DRLDensity",
    "inverse_problems": "AmbientSettings ConditionalSettings DPSSettings MeasuredRowSettings MeasuredSettings "
    "MissingMoveSettings",
    "mcmc": "HMC MALA RandomWalk ULA run_chain",
    "model": "EnergySequence",
    "model_evidence": (
        "ComparedModel Decision EvidenceComparison EvidenceDifference ModelEvidence compare_evidence evidence"
    ),
    "networks": "ColumnTiltSettings MLPSettings ResidualSettings UNetEnergySettings UNetSettings",
    "partition_function": (
        "AISSettings OtherSideSettings Sandwich SandwichSettings annealed_importance_sampling geometric_path sandwich "
        "sequence_path"
    ),
    "sample_quality": "ClassifierSettings",
    "samplers": (
        "AncestralSettings DDIMSettings FlowSettings PredictorCorrectorSettings ProgressiveSettings "
        "RefinementSettings ShortRunSettings TemperingSettings sample_progressive"
    ),
    "schedule": "NoiseSchedule",
    "training": "RecoveryLikelihood TrainingSettings",
    "weights": "LogPartitionEstimate",
}
"""Public names by the room that they are imported from."""

_ROOMS = (
    "bases datasets density diagnostics diffusion_sampler distillation distributions errors estimator "
    "execution inverse_problems mcmc model model_evidence networks operators parallel partition_function plots reports "
    "run_folder sample_quality samplers schedule testing training transforms weights"
)
"""Modules and packages that are reached as attributes."""

_HOMES = {name: room for room, names in _NAMES.items() for name in names.split()}

# Hidden from type checkers, which would otherwise take every misspelt name for a lazy one.
if not TYPE_CHECKING:

    def __getattr__(name):
        if name in _HOMES:
            found = getattr(import_module(f"drl_density.{_HOMES[name]}"), name)
        elif name in _ROOMS.split():
            found = import_module(f"drl_density.{name}")
        else:
            raise AttributeError(f"module 'drl_density' has no attribute {name!r}")
        globals()[name] = found
        return found

    def __dir__():
        return sorted({*globals(), *__all__, *_ROOMS.split()})
