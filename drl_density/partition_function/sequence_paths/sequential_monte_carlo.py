"""log Z of a sequence by particles that go down its noise levels and are resampled, with a record of the estimate."""

from __future__ import annotations

import torch
from torch import Tensor

from drl_density.autograd import outside_inference_mode
from drl_density.mcmc import MALA, Kernel
from drl_density.model import EnergySequence
from drl_density.partition_function.annealing.path import check_integrable
from drl_density.partition_function.sequence_paths.particles import particles_down
from drl_density.partition_function.sequence_paths.plan import plan_paths
from drl_density.weights import LogPartitionEstimate, PathSummary, assess_weights


@outside_inference_mode
def resampled_log_z(
    model: EnergySequence,
    *,
    data: Tensor | None = None,
    num_particles: int = 32,
    num_replicates: int = 8,
    steps_per_level: int = 30,
    kernel: Kernel | None = None,
    generator: torch.Generator | None = None,
) -> LogPartitionEstimate:
    """Estimate log Z of level 0 by sequential Monte Carlo down the noise levels, in one pass.

    The mean weight is unbiased for Z, so the estimate is a stochastic lower bound of log Z. Unlike annealing it does not
    collapse in many dimensions, where its reverse kernels follow the score of the levels. For an interval with both sides
    use :func:`sequence_sandwich`, which costs six times as much.

    Args:
        model: sequence whose level 0 is the target.
        data: clean rows ``(n, *event)`` in model space that plan the kernels; without 32 of them, the model's own chains do.
        num_particles: particles of every replicate.
        num_replicates: independent replicates, at least 2, whose spread is the standard error.
        steps_per_level: steps of the grid per level.
        kernel: adjusted kernel of the model's own chains; MALA when not given.

    Raises:
        NumericalError: an improper model, or weights that are not finite.

    >>> from drl_density.testing import GaussianMixtureSequence
    >>> system = GaussianMixtureSequence.example()
    >>> generator = torch.Generator().manual_seed(0)
    >>> rows = system.sample(64, None, generator=generator)
    >>> found = resampled_log_z(system.model, data=rows, steps_per_level=4, generator=generator)
    >>> abs(found.log_z - float(system.log_z(0))) < 0.5
    True
    """
    check_integrable(model)
    num_steps = model.num_levels * steps_per_level
    plan = plan_paths(model, kernel=kernel or MALA(), num_steps=num_steps, data=data, generator=generator)
    run = particles_down(plan.kernels, (num_replicates, num_particles), generator=generator)
    path = PathSummary(num_densities=num_steps, least_ess_share=float(run.ess_shares.min()), is_resampled=True)
    return assess_weights(run.log_weights, bias="lower", path=path)
