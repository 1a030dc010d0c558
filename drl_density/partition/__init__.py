"""Normalising constants of unnormalised densities."""

from drl_density.partition.ais import (
    AISPlan,
    AISSettings,
    AnnealingPath,
    anneal,
    annealed_importance_sampling,
    geometric_path,
    place_bridges,
    plan_annealing,
    reverse_anneal,
    sequence_path,
)
from drl_density.partition.bridge import (
    BridgeEstimate,
    MultistateEstimate,
    bennett,
    multistate_bennett,
    thermodynamic_integration,
)
from drl_density.partition.probability_flow import flow_log_likelihood
from drl_density.partition.reverse_path import ReversePath, forward_weights, plan_reverse_path, reverse_weights
from drl_density.partition.sandwich import Sandwich, SandwichSettings, sandwich, sequence_sandwich

__all__ = [
    "AISPlan",
    "AISSettings",
    "AnnealingPath",
    "BridgeEstimate",
    "MultistateEstimate",
    "ReversePath",
    "Sandwich",
    "SandwichSettings",
    "anneal",
    "annealed_importance_sampling",
    "bennett",
    "flow_log_likelihood",
    "forward_weights",
    "geometric_path",
    "multistate_bennett",
    "place_bridges",
    "plan_annealing",
    "plan_reverse_path",
    "reverse_anneal",
    "reverse_weights",
    "sandwich",
    "sequence_path",
    "sequence_sandwich",
    "thermodynamic_integration",
]
