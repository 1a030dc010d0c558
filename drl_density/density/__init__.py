"""The object a user holds, and how it is fitted."""

from drl_density.density.conditioning.condition import MarginalDensity
from drl_density.density.conditioning.impute import Imputation
from drl_density.density.conditioning.predict import Prediction
from drl_density.density.derived.combine import Combination, combine
from drl_density.density.derived.distill import DistillSettings, Generator, distill, load_generator
from drl_density.density.derived.draw import METHODS, draw
from drl_density.density.derived.posterior import Posterior
from drl_density.density.derived.reconstruct import Reconstruction, reconstruct
from drl_density.density.evaluation.compare import Comparison, compare
from drl_density.density.evaluation.diagnose import Diagnosis
from drl_density.density.evaluation.evaluate import dequantized_rows
from drl_density.density.evaluation.likelihood_report import LikelihoodReport
from drl_density.density.evaluation.run_page import diagnosis_name, run_page, write_run_page
from drl_density.density.fitted import Baselines, Density
from drl_density.density.fitting.fit import fit
from drl_density.density.fitting.memory import Footprint, check_memory, footprint
from drl_density.density.fitting.table import Table, prepare_table
from drl_density.density.settings.fit_settings import FitSettings
from drl_density.density.settings.image_settings import ImageSettings
from drl_density.density.storage import run_stage

__all__ = [
    "METHODS",
    "Baselines",
    "Combination",
    "Comparison",
    "Density",
    "Diagnosis",
    "DistillSettings",
    "FitSettings",
    "Footprint",
    "Generator",
    "ImageSettings",
    "Imputation",
    "LikelihoodReport",
    "MarginalDensity",
    "Posterior",
    "Prediction",
    "Reconstruction",
    "Table",
    "check_memory",
    "combine",
    "compare",
    "dequantized_rows",
    "diagnosis_name",
    "distill",
    "draw",
    "fit",
    "footprint",
    "load_generator",
    "prepare_table",
    "reconstruct",
    "run_page",
    "run_stage",
    "write_run_page",
]
