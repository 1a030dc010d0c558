"""The object a user holds, and how it is fitted."""

from drl_density.density.evaluation import Comparison, LikelihoodReport, compare
from drl_density.density.fit import Table, fit, prepare_table
from drl_density.density.fitted import Baselines, Density
from drl_density.density.settings import FitSettings

__all__ = [
    "Baselines",
    "Comparison",
    "Density",
    "FitSettings",
    "LikelihoodReport",
    "Table",
    "compare",
    "fit",
    "prepare_table",
]
