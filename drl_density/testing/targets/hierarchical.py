"""Hierarchical models, centred and not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from drl_density.testing.targets.quadrature import log_half_cauchy, log_normal_density, rule
from drl_density.testing.targets.record import LOG_TWO_PI, Builder, Definition, fixed, normal

SCHOOLS = ([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0], [15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])
"""Effects and their standard errors of the eight schools (Rubin 1981)."""
PUMP_FAILURES = [5.0, 1.0, 5.0, 14.0, 3.0, 19.0, 1.0, 1.0, 4.0, 22.0]
PUMP_HOURS = [94.32, 15.72, 62.88, 125.76, 5.24, 31.44, 1.048, 1.048, 2.096, 10.48]
"""Failures of ten pumps and thousands of hours (Gaver and O'Muircheartaigh 1987)."""


def normal_hierarchy(
    effects: Sequence[float],
    errors: Sequence[float],
    *,
    is_centred: bool,
    mean_scale: float = 5.0,
    tau_scale: float = 5.0,
    is_improper: bool = False,
) -> Definition:
    """``mu ~ N(0, mean_scale^2)``, ``tau`` half-Cauchy, effects ``N(mu, tau^2)`` seen with known errors.

    Coordinates are mu, log tau, and the effects, or their standardised deviations where not centred. Given tau all is
    Gaussian, so log Z is an integral over log tau. A flat prior on log tau makes it diverge at small tau.
    """
    y, s = torch.tensor(effects, dtype=torch.float64), torch.tensor(errors, dtype=torch.float64)
    dim = len(y)

    def log_density(x: Tensor) -> Tensor:
        mean, log_tau, last = x[..., 0], x[..., 1], x[..., 2:]
        tau = log_tau.exp()[..., None]
        own = last if is_centred else mean[..., None] + tau * last
        deviations = (last - mean[..., None]) / tau if is_centred else last
        prior = log_normal_density(deviations, 1.0).sum(-1) - (dim * log_tau if is_centred else 0.0)
        scale = 0.0 if is_improper else log_half_cauchy(log_tau, tau_scale)
        likelihood = log_normal_density(y.to(x) - own, s.square().to(x)).sum(-1)
        return log_normal_density(mean, mean_scale**2) + scale + prior + likelihood

    kind = "centred, with a neck at small tau" if is_centred else "non-centred"
    if is_improper:
        return Definition(log_density, (dim + 2,), math.inf, "flat prior on log tau: the integral diverges at tau = 0")
    grid = rule(-36.0, 36.0, 120)
    variances = s.square() + (2 * grid.points[:, None]).exp()
    # The mean is integrated by the rank-one update of a diagonal covariance.
    weights = 1 / variances
    pooled = 1 + mean_scale**2 * weights.sum(1)
    squares = (y.square() * weights).sum(1) - mean_scale**2 * (y * weights).sum(1).square() / pooled
    evidence = -0.5 * (dim * LOG_TWO_PI + variances.log().sum(1) + pooled.log() + squares)
    log_z = float((evidence + log_half_cauchy(grid.points, tau_scale) + grid.log_weights).logsumexp(0))
    return Definition(log_density, (dim + 2,), log_z, f"{kind}; log Z by quadrature over log tau")


def many_groups(num_groups: int, error: float, *, is_centred: bool) -> Definition:
    """Precisely measured groups, on which the centred form is the easy one."""
    effects = (2 + 1.5 * normal(num_groups, generator=fixed(31))).tolist()
    return normal_hierarchy(effects, [error] * num_groups, is_centred=is_centred)


def pumps() -> Definition:
    """Failure rates ``Gamma(1.8, beta)`` of ten pumps, ``beta ~ Gamma(0.1, 1)``, in logarithms of beta and of rates."""
    counts, hours = torch.tensor(PUMP_FAILURES).double(), torch.tensor(PUMP_HOURS).double()
    factorials = torch.lgamma(counts + 1).sum()
    shape = 1.8

    def log_prior(log_beta: Tensor) -> Tensor:
        return 0.1 * log_beta - log_beta.exp() - math.lgamma(0.1)

    def log_density(x: Tensor) -> Tensor:
        log_beta, log_rates = x[..., 0], x[..., 1:]
        rates = log_rates.exp()
        prior = shape * (log_beta[..., None] + log_rates) - log_beta.exp()[..., None] * rates - math.lgamma(shape)
        likelihood = counts.to(x) * (log_rates + hours.log().to(x)) - rates * hours.to(x)
        return log_prior(log_beta) + (prior + likelihood).sum(-1) - factorials.to(x)

    grid = rule(-30.0, 8.0, 60)
    total = shape + counts
    parts = torch.lgamma(total) - total * torch.log(grid.points.exp()[:, None] + hours) + counts * hours.log()
    parts = parts + shape * grid.points[:, None] - math.lgamma(shape)
    log_z = float((parts.sum(1) + log_prior(grid.points) + grid.log_weights).logsumexp(0) - factorials)
    return Definition(log_density, (11,), log_z, "Poisson counts of ten pumps; log Z by quadrature over beta")


def binomial_rates() -> Definition:
    """Success rates ``Beta(8 m, 8 (1 - m))`` of six groups with a uniform m, in log-odds."""
    successes = torch.tensor([1.0, 3.0, 0.0, 6.0, 2.0, 5.0]).double()
    trials = torch.tensor([10.0, 12.0, 9.0, 11.0, 8.0, 14.0]).double()
    strength = 8.0
    log_choose = torch.lgamma(trials + 1) - torch.lgamma(successes + 1) - torch.lgamma(trials - successes + 1)

    def log_beta(a: Tensor, b: Tensor) -> Tensor:
        return torch.lgamma(a) + torch.lgamma(b) - torch.lgamma(a + b)

    def log_jacobian(logits: Tensor) -> Tensor:
        return torch.nn.functional.logsigmoid(logits) + torch.nn.functional.logsigmoid(-logits)

    def log_density(x: Tensor) -> Tensor:
        mean = torch.sigmoid(x[..., :1])
        up, down = torch.nn.functional.logsigmoid(x[..., 1:]), torch.nn.functional.logsigmoid(-x[..., 1:])
        # Far out the sigmoids underflow to 0, where lgamma is infinite.
        first = strength * mean.clamp(min=torch.finfo(x.dtype).tiny)
        second = strength * torch.sigmoid(-x[..., :1]).clamp(min=torch.finfo(x.dtype).tiny)
        parts = (first + successes.to(x)) * up + (second + (trials - successes).to(x)) * down - log_beta(first, second)
        return log_jacobian(x[..., 0]) + (parts + log_choose.to(x)).sum(-1)

    grid = rule(0.0, 1.0, 40)
    first = strength * grid.points[:, None]
    second = strength - first
    parts = log_choose + log_beta(first + successes, second + trials - successes) - log_beta(first, second)
    log_z = float((parts.sum(1) + grid.log_weights).logsumexp(0))
    return Definition(log_density, (7,), log_z, "binomial counts of six groups; log Z by quadrature over their mean")


TARGETS: dict[str, Builder] = {
    "eight_schools_10d": partial(normal_hierarchy, *SCHOOLS, is_centred=False),
    "eight_schools_centred_10d": partial(normal_hierarchy, *SCHOOLS, is_centred=True),
    "groups_centred_22d": partial(many_groups, 20, 0.3, is_centred=True),
    "groups_22d": partial(many_groups, 20, 0.3, is_centred=False),
    "pumps_11d": pumps,
    "binomial_rates_7d": binomial_rates,
    "improper_schools_10d": partial(normal_hierarchy, *SCHOOLS, is_centred=False, is_improper=True),
}
