"""Normalising constants of unnormalised densities."""

from drl_density.partition.ais import (
    AISPlan,
    AISSettings,
    AnnealingPath,
    anneal,
    annealed_importance_sampling,
    geometric_path,
    plan_annealing,
    sequence_path,
)

__all__ = [
    "AISPlan",
    "AISSettings",
    "AnnealingPath",
    "anneal",
    "annealed_importance_sampling",
    "geometric_path",
    "plan_annealing",
    "sequence_path",
]
