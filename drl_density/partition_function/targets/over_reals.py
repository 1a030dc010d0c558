"""Log densities of distributions that need no change of coordinates."""

from __future__ import annotations

from drl_density.distributions.experts import log_density_of
from drl_density.distributions.supports import is_whole_space
from drl_density.mcmc import LogDensity
from drl_density.partition_function.targets.contract import Target, require_one_target, support_of


def log_density_over_reals(target: Target) -> LogDensity:
    """The unnormalised log density of a distribution without batch shape, over all reals.

    Args:
        target: distribution with ``unnormalized_log_prob`` or ``log_prob``.

    Raises:
        ValueError: a batch shape, or a support that is not all reals.

    >>> import pyro.distributions as dist
    >>> import torch
    >>> log_density_over_reals(dist.Normal(torch.zeros(2), 1.0).to_event(1))(torch.zeros(3, 2)).shape
    torch.Size([3])
    """
    require_one_target(target)
    support = support_of(target)
    if support is not None and not is_whole_space(support):
        raise ValueError(
            f"expected a target over all reals, got support {support}: transform it to the reals first, with its Jacobian"
        )
    return log_density_of(target)
