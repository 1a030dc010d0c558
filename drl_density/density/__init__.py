"""The object a user holds, and how it is fitted."""

from drl_density.density.combination import Combination, combine
from drl_density.density.comparison import Comparison, compare
from drl_density.density.conditional import MarginalDensity
from drl_density.density.diagnosis import Diagnosis
from drl_density.density.draws import METHODS, draw
from drl_density.density.evaluation import dequantized_rows
from drl_density.density.fit import fit
from drl_density.density.fitted import Baselines, Density
from drl_density.density.footprint import Footprint, check_memory, footprint
from drl_density.density.generators import DistillSettings, Generator, distill, load_generator
from drl_density.density.image_settings import ImageSettings
from drl_density.density.imputation import Imputation
from drl_density.density.likelihood_report import LikelihoodReport
from drl_density.density.posterior import Posterior
from drl_density.density.prediction import Prediction
from drl_density.density.reconstruction import Reconstruction, reconstruct
from drl_density.density.run_page import diagnosis_file, run_page, write_run_page
from drl_density.density.settings import FitSettings
from drl_density.density.store import run_stage
from drl_density.density.table import Table, prepare_table

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
    "diagnosis_file",
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
