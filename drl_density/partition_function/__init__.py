"""Normalising constants of unnormalised densities."""

from drl_density.partition_function.annealing.bridges import place_bridges
from drl_density.partition_function.annealing.path import AnnealingPath, geometric_path, sequence_path
from drl_density.partition_function.annealing.plan import AISPlan, plan_annealing
from drl_density.partition_function.annealing.progress import Progress
from drl_density.partition_function.annealing.replicated import replicated_annealing
from drl_density.partition_function.annealing.reverse import annealing_log_likelihood, reverse_anneal
from drl_density.partition_function.annealing.run import anneal
from drl_density.partition_function.annealing.settings import AISSettings
from drl_density.partition_function.bridge import BridgeEstimate, bennett
from drl_density.partition_function.equilibrium import EquilibriumEstimates, equilibrium_estimates
from drl_density.partition_function.importance import importance_sampling
from drl_density.partition_function.multistate import MultistateEstimate, multistate_bennett, thermodynamic_integration
from drl_density.partition_function.one_sided.annealed_importance_sampling import annealed_importance_sampling
from drl_density.partition_function.one_sided.other_side import OtherSideSettings
from drl_density.partition_function.probability_flow import flow_field, flow_log_likelihood
from drl_density.partition_function.recursion import level_recursion
from drl_density.partition_function.reverse_path import ReversePath, forward_weights, plan_reverse_path, reverse_weights
from drl_density.partition_function.sequence_paths.segments import SegmentGaps, segment_gaps
from drl_density.partition_function.sequence_paths.sequential_monte_carlo import resampled_log_z
from drl_density.partition_function.two_sided.record import Sandwich
from drl_density.partition_function.two_sided.sandwich import sandwich
from drl_density.partition_function.two_sided.sequence import sequence_sandwich
from drl_density.partition_function.two_sided.settings import SandwichSettings

__all__ = [
    "AISPlan",
    "AISSettings",
    "AnnealingPath",
    "BridgeEstimate",
    "EquilibriumEstimates",
    "MultistateEstimate",
    "OtherSideSettings",
    "Progress",
    "ReversePath",
    "Sandwich",
    "SandwichSettings",
    "SegmentGaps",
    "anneal",
    "annealed_importance_sampling",
    "annealing_log_likelihood",
    "bennett",
    "equilibrium_estimates",
    "flow_field",
    "flow_log_likelihood",
    "forward_weights",
    "geometric_path",
    "importance_sampling",
    "level_recursion",
    "multistate_bennett",
    "place_bridges",
    "plan_annealing",
    "plan_reverse_path",
    "replicated_annealing",
    "resampled_log_z",
    "reverse_anneal",
    "reverse_weights",
    "sandwich",
    "segment_gaps",
    "sequence_path",
    "sequence_sandwich",
    "thermodynamic_integration",
]
