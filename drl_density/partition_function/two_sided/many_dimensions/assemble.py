"""The record of a sandwich in many dimensions, from everything that was walked; no randomness and no warning."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from drl_density.partition_function.bridge import ReplicatedBridge, bridged
from drl_density.partition_function.sequence_paths.segments import gaps_between
from drl_density.partition_function.two_sided.estimates import (
    Estimates,
    Estimator,
    mean_inverse_weight,
    mean_log_weight,
    mean_reverse_log_weight,
)
from drl_density.partition_function.two_sided.many_dimensions.verdict import PathEvidence, tolerance_of, verdict
from drl_density.partition_function.two_sided.many_dimensions.walks import SequenceWalks
from drl_density.partition_function.two_sided.margins import Bracket, Margins, Point, Precision
from drl_density.partition_function.two_sided.record import CERTIFICATE_FACTOR, PathFigures, Sandwich
from drl_density.partition_function.two_sided.settings import SandwichSettings
from drl_density.weights import Estimate, assess_weights, combine_replicates, log_mean_exp


def assemble_many_dimensions(
    walks: SequenceWalks,
    *,
    settings: SandwichSettings,
    others: Estimates | None = None,
    seconds: float = math.nan,
) -> Sandwich:
    """Everything that walks along a sequence of many dimensions show about log Z.

    Args:
        walks: everything that was walked.
        settings: sizes and tolerance.
        others: estimates by further estimators, each with runs of its own.
        seconds: time that the walks took.
    """
    forward, reverse = walks.forward.log_weights, walks.reverse.log_weights
    from_data = None if walks.reverse_from_data is None else walks.reverse_from_data.log_weights
    bridge, data_bridge = bridged(forward, reverse), None if from_data is None else bridged(forward, from_data)
    lower, upper = combine_replicates(walks.resampled.log_z), mean_inverse_weight(walks.conditional.log_z[:, None])
    # Where the directions are crossed there is no ratio. The lower bound takes its place with an overlap of 0, and the
    # verdict is unknown.
    shown = bridge or ReplicatedBridge(lower.log_z, lower.standard_error, 0.0, 0.0, len(forward))
    annealing = walks.annealing
    annealed = assess_weights(annealing.run.log_weights, bias="lower", path=annealing.run.summary(annealing.settings))
    bracket = Bracket(mean_log_weight(forward), mean_reverse_log_weight(reverse))
    estimates: dict[Estimator, Estimate] = {
        Estimator.RESAMPLED: lower,
        Estimator.FORWARD: combine_replicates(log_mean_exp(forward, 1)),
        Estimator.REVERSE: mean_inverse_weight(reverse),
        Estimator.LOWER: bracket.lower,
        Estimator.BENNETT: Estimate(shown.log_z, shown.standard_error),
        Estimator.CONDITIONAL: upper,
        Estimator.UPPER_NOISE: bracket.upper,
    }
    resampled = bridged(walks.resampled.log_z[:, None], walks.conditional.log_z[:, None])
    if resampled is not None:
        estimates[Estimator.BENNETT_RESAMPLED] = Estimate(resampled.log_z, resampled.standard_error)
    if from_data is not None:
        estimates[Estimator.UPPER_DATA] = mean_reverse_log_weight(from_data)
    if data_bridge is not None:
        estimates[Estimator.BENNETT_DATA] = Estimate(data_bridge.log_z, data_bridge.standard_error)
    if walks.reverse_from_rows is not None:
        estimates[Estimator.UPPER_ROWS] = mean_reverse_log_weight(walks.reverse_from_rows.log_weights)
    estimates[Estimator.NOISE] = Estimate(annealed.log_z, annealed.larger_error)
    if annealing.equilibrium is not None:
        estimates[Estimator.MULTISTATE_LOWER] = annealing.equilibrium.multistate
    estimates |= others or {}
    kernels = walks.plan.kernels
    back = walks.reverse if walks.reverse_from_rows is None else walks.reverse_from_rows
    gaps = gaps_between(kernels.grid, kernels.model.num_levels, walks.forward, back)
    evidence = PathEvidence(
        estimates=estimates,
        point=None if bridge is None else Point(bridge),
        num_paths=forward.numel(),
        num_replicates=len(forward),
        acceptance=walks.acceptance,
        tolerance=tolerance_of(settings.tolerance, kernels.model.event_shape.numel()),
        gaps=gaps,
    )
    judgement = verdict(evidence)
    points = (Point(shown),) if data_bridge is None else (Point(shown), Point(data_bridge))
    margins = Margins(points, bracket, evidence.starts_differ)
    low, high = margins.interval(judgement.verdict)
    return Sandwich(
        log_z=shown.log_z,
        standard_error=shown.standard_error,
        lower=low,
        upper=high,
        bracket=bracket.ends(),
        certificate=lower.log_z - math.log(CERTIFICATE_FACTOR),
        overlap=shown.overlap,
        verdict=judgement.verdict,
        advice=judgement.advice,
        estimates=estimates,
        annealing=annealed,
        forward=forward,
        reverse=reverse,
        reverse_from_data=from_data,
        margins=margins,
        path=PathFigures(
            levels=annealing.levels,
            ess_shares=tuple(annealing.run.ess_by_density.mean(1).tolist()),
            acceptance_rates=annealing.run.acceptance_rates,
            overlap=_overlap(walks),
        ),
        precision=Precision(evidence.tolerance, shown.half_width(), 0.0, forward.numel(), seconds),
        draws=walks.draws.flatten(2),
        segments=gaps,
    )


def _overlap(walks: SequenceWalks) -> Tensor:
    """Overlap of the annealing densities; the identity where they share no mass."""
    if walks.annealing.equilibrium is not None:
        return walks.annealing.equilibrium.overlap
    return torch.eye(len(walks.annealing.levels) + 1, dtype=torch.float64)
