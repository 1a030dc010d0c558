"""Regressions and linear Gaussian models."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from drl_density.testing.targets.discrete import spins
from drl_density.testing.targets.quadrature import log_half_cauchy, log_integral, log_normal_density, rule
from drl_density.testing.targets.record import LOG_TWO_PI, Builder, Definition, fixed, normal, rotation, uniform


def linear_gaussian(prior: Tensor, design: Tensor, y: Tensor, noise: float, notes: str) -> Definition:
    """``w ~ N(0, prior)``, ``y ~ N(design w, noise^2 I)``: log Z is the density of y, a Gaussian."""
    rows, dim = design.shape
    precision = torch.linalg.inv(prior)
    precision = 0.5 * (precision + precision.T)
    constant = -0.5 * float(torch.linalg.slogdet(prior)[1]) - 0.5 * (dim + rows) * LOG_TWO_PI - rows * math.log(noise)

    def log_density(w: Tensor) -> Tensor:
        residual = (y.to(w) - w @ design.T.to(w)) / noise
        return constant - 0.5 * (w * (w @ precision.to(w))).sum(-1) - 0.5 * residual.square().sum(-1)

    log_z = _log_normal(y, design @ prior @ design.T + noise**2 * torch.eye(rows).double())
    posterior = precision + design.T @ design / noise**2
    factor = torch.linalg.cholesky(posterior)
    mean = torch.cholesky_solve((design.T @ y / noise**2)[:, None], factor)[:, 0]

    def draws(count: int, generator: torch.Generator | None) -> Tensor:
        noises = normal(dim, count, generator=generator)
        return mean + torch.linalg.solve_triangular(factor.T, noises, upper=True).T

    return Definition(log_density, (dim,), log_z, notes, draws)


def _log_normal(y: Tensor, covariance: Tensor) -> float:
    return float(torch.distributions.MultivariateNormal(torch.zeros_like(y), covariance).log_prob(y))


def linear_regression(num_rows: int, dim: int, noise: float, correlation: float) -> Definition:
    """A linear regression on equally correlated columns with prior N(0, I)."""
    generator = fixed(21)
    shared = normal(num_rows, 1, generator=generator)
    design = correlation**0.5 * shared + (1 - correlation) ** 0.5 * normal(num_rows, dim, generator=generator)
    y = design.sum(1) / dim**0.5 + noise * normal(num_rows, generator=generator)
    notes = f"linear regression on {num_rows} rows, columns of correlation {correlation:g}; log Z in closed form"
    return linear_gaussian(torch.eye(dim).double(), design, y, noise, notes)


def state_space(num_steps: int) -> Definition:
    """States of a stationary autoregression observed with noise, which a Kalman filter integrates."""
    steps = torch.arange(num_steps).double()
    prior = 0.25 / (1 - 0.81) * 0.9 ** (steps[:, None] - steps).abs()
    y = torch.sin(0.3 * steps) + 0.7 * normal(num_steps, generator=fixed(22))
    notes = f"{num_steps} states of a linear Gaussian state-space model; log Z as a Kalman filter gives it"
    return linear_gaussian(prior, torch.eye(num_steps).double(), y, 0.7, notes)


def gaussian_process(num_points: int) -> Definition:
    """Values of a smooth Gaussian process, whose prior covariance is nearly singular."""
    places = torch.linspace(0, 1, num_points, dtype=torch.float64)
    prior = torch.exp(-0.5 * ((places[:, None] - places) / 0.2).square()) + 1e-4 * torch.eye(num_points).double()
    y = torch.sin(6 * places) + 0.3 * normal(num_points, generator=fixed(23))
    notes = "values of a smooth Gaussian process; log Z in closed form"
    return linear_gaussian(prior, torch.eye(num_points).double(), y, 0.3, notes)


def spike_and_slab_regression(dim: int, num_rows: int) -> Definition:
    """Linear regression whose weights have a narrow or a wide prior each, summed over all choices."""
    generator = fixed(24)
    design = normal(num_rows, dim, generator=generator)
    y = design[:, 0] + 1.5 * design[:, 1] + 0.5 * normal(num_rows, generator=generator)
    narrow, wide, noise = 0.05, 2.0, 0.5

    def log_density(w: Tensor) -> Tensor:
        prior = torch.logaddexp(log_normal_density(w, narrow**2), log_normal_density(w, wide**2)) - math.log(2)
        return prior.sum(-1) + log_normal_density(y.to(w) - w @ design.T.to(w), noise**2).sum(-1)

    variances = torch.where(spins(dim) > 0, wide**2, narrow**2)
    covariances = torch.einsum("ni,ki,mi->knm", design, variances.double(), design)
    covariances = covariances + noise**2 * torch.eye(num_rows).double()
    evidence = torch.distributions.MultivariateNormal(torch.zeros_like(y), covariances).log_prob(y)
    log_z = float(evidence.logsumexp(0)) - dim * math.log(2)
    return Definition(log_density, (dim,), log_z, f"log Z by enumerating {2**dim} choices of columns")


def _regression(log_likelihood: Callable[[Tensor], Tensor], spread: float, notes: str, num_panels: int) -> Definition:
    """Intercept and slope with priors N(0, spread^2); log Z by quadrature."""

    def log_density(w: Tensor) -> Tensor:
        return log_normal_density(w, spread**2).sum(-1) + log_likelihood(w)

    log_z = log_integral(log_density, [(-9 * spread, 9 * spread)] * 2, num_panels)
    return Definition(log_density, (2,), log_z, f"{notes}; log Z by quadrature")


def _line(w: Tensor, x: Tensor) -> Tensor:
    return w[..., :1] + w[..., 1:] * x.to(w)


def logistic_regression() -> Definition:
    """Logistic regression on 25 rows."""
    x = normal(25, generator=fixed(25))
    signs = torch.where(uniform(25, generator=fixed(26)) < torch.sigmoid(0.5 + 1.5 * x), 1.0, -1.0).double()
    return _regression(
        lambda w: torch.nn.functional.logsigmoid(signs.to(w) * _line(w, x)).sum(-1), 2.0, "logistic regression", 30
    )


def separable_logistic_regression() -> Definition:
    """Logistic regression on separable rows, whose likelihood has no maximum."""
    x = torch.tensor([-2.0, -1.5, -1.0, -0.4, 0.3, 0.8, 1.1, 2.2], dtype=torch.float64)
    signs = x.sign()
    notes = "logistic regression on separable rows, wide prior"
    return _regression(lambda w: torch.nn.functional.logsigmoid(signs.to(w) * _line(w, x)).sum(-1), 10.0, notes, 40)


def poisson_regression() -> Definition:
    """Poisson regression on 20 rows."""
    x = torch.linspace(-1, 1, 20, dtype=torch.float64)
    counts = torch.tensor([0, 1, 0, 0, 1, 2, 0, 1, 1, 3, 2, 1, 2, 4, 3, 2, 5, 4, 6, 7], dtype=torch.float64)
    factorials = torch.lgamma(counts + 1).sum()

    def log_likelihood(w: Tensor) -> Tensor:
        rate = _line(w, x)
        return (counts.to(w) * rate - rate.exp()).sum(-1) - factorials.to(w)

    return _regression(log_likelihood, 2.0, "Poisson regression", 30)


def robust_regression() -> Definition:
    """Regression with Cauchy noise, two groups of rows on two lines: the posterior has two modes."""
    x = torch.linspace(-1, 1, 14, dtype=torch.float64)
    y = torch.where(torch.arange(14) % 2 == 0, 4 * x, 1 - 4 * x)

    def log_likelihood(w: Tensor) -> Tensor:
        return -torch.log1p(((y.to(w) - _line(w, x)) / 0.5).square()).sum(-1)

    return _regression(log_likelihood, 3.0, "robust regression on rows from two lines", 50)


def grouped_logistic_regression(num_groups: int, spread: float) -> Definition:
    """Logistic regression on rotated indicators of groups.

    The columns look dense, but in other axes the posterior is a product of one-dimensional ones, each by quadrature.
    """
    generator = fixed(27)
    trials = torch.randint(3, 12, (num_groups,), generator=generator).double()
    successes = (uniform(num_groups, generator=generator) * (trials + 1)).floor()
    matrix = rotation(num_groups, 28)

    def by_group(w: Tensor) -> Tensor:
        up, down = torch.nn.functional.logsigmoid(w), torch.nn.functional.logsigmoid(-w)
        return log_normal_density(w, spread**2) + successes.to(w) * up + (trials - successes).to(w) * down

    def log_density(v: Tensor) -> Tensor:
        return by_group(v @ matrix.to(v)).sum(-1)

    grid = rule(-12 * spread, 12 * spread, 60)
    log_z = float((by_group(grid.points[:, None]) + grid.log_weights[:, None]).logsumexp(0).sum())
    notes = f"logistic regression with {num_groups} columns of orthogonal design; log Z by quadrature of one at a time"
    return Definition(log_density, (num_groups,), log_z, notes)


def horseshoe(num_rows: int, *, is_centred: bool) -> Definition:
    """Means of unit-variance rows under a horseshoe prior: coordinates ``log tau``, ``log lambda_i`` and the means.

    Means are ``lambda_i tau z_i`` with standard normal z as coordinates, or themselves where the prior is centred.
    """
    y = torch.tensor([0.2, -0.5, 4.0, 0.9, -0.1, -3.0, 0.4, 1.2][:num_rows], dtype=torch.float64)

    def log_density(x: Tensor) -> Tensor:
        log_tau, log_lambda, last = x[..., 0], x[..., 1 : num_rows + 1], x[..., num_rows + 1 :]
        log_scale = log_tau[..., None] + log_lambda
        means = last if is_centred else last * log_scale.exp()
        own = last * (-log_scale).exp() if is_centred else last
        prior = log_normal_density(own, 1.0).sum(-1) - (log_scale.sum(-1) if is_centred else 0.0)
        scales = log_half_cauchy(log_tau, 1.0) + log_half_cauchy(log_lambda, 1.0).sum(-1)
        return scales + prior + log_normal_density(y.to(x) - means, 1.0).sum(-1)

    grid = rule(-34.0, 34.0, 40)
    variances = 1 + (2 * (grid.points[:, None] + grid.points)).exp()
    local = log_half_cauchy(grid.points, 1.0) + grid.log_weights
    by_tau = sum(((log_normal_density(value, variances) + local).logsumexp(1) for value in y), torch.zeros(()))
    log_z = float((by_tau + local).logsumexp(0))
    kind = "centred" if is_centred else "non-centred"
    return Definition(log_density, (2 * num_rows + 1,), log_z, f"horseshoe prior, {kind}; log Z by nested quadrature")


def weibull_regression() -> Definition:
    """Weibull times of 25 rows, censored at 3: intercept, slope and the logarithm of the shape."""
    generator = fixed(71)
    x = normal(25, generator=generator)
    exponential = -uniform(25, generator=generator).log()
    log_times = exponential.log() / 1.7 + 0.4 + 0.8 * x
    is_censored = log_times > math.log(3.0)
    log_times = torch.where(is_censored, math.log(3.0), log_times)

    def log_density(w: Tensor) -> Tensor:
        log_shape = w[..., 2:]
        hazard = log_shape.exp() * (log_times.to(w) - _line(w[..., :2], x))
        seen = torch.where(is_censored, 0.0, log_shape - log_times.to(w) + hazard)
        prior = log_normal_density(w[..., :2], 4.0).sum(-1) + log_normal_density(w[..., 2], 1.0)
        return prior + (seen - hazard.exp()).sum(-1)

    log_z = log_integral(log_density, [(-1.0, 2.0), (-0.8, 2.6), (-1.3, 1.9)], 3)
    notes = "Weibull regression with censored rows; log Z by quadrature"
    return Definition(log_density, (3,), log_z, notes)


def frequency() -> Definition:
    """The frequency of a cosine seen at twelve irregular times, prior N(0, 25): hundreds of narrow modes, two heavy ones."""
    generator = fixed(73)
    times = 40 * uniform(12, generator=generator)
    y = torch.cos(2.3 * times) + 0.15 * normal(12, generator=generator)

    def log_density(w: Tensor) -> Tensor:
        return log_normal_density(w[..., 0], 25.0) + log_normal_density(y.to(w) - torch.cos(w * times.to(w)), 0.0225).sum(-1)

    log_z = log_integral(log_density, [(-40.0, 40.0)], 8000)
    return Definition(log_density, (1,), log_z, "a frequency, known to a thousandth up to its sign; log Z by quadrature")


TARGETS: dict[str, Builder] = {
    "linear_regression_10d": partial(linear_regression, 60, 10, 1.0, 0.2),
    "linear_regression_collinear_20d": partial(linear_regression, 100, 20, 0.5, 0.98),
    "linear_regression_many_rows_5d": partial(linear_regression, 800, 5, 1.0, 0.5),
    "state_space_20d": partial(state_space, 20),
    "state_space_100d": partial(state_space, 100),
    "gaussian_process_30d": partial(gaussian_process, 30),
    "spike_and_slab_regression_8d": partial(spike_and_slab_regression, 8, 12),
    "logistic_regression_2d": logistic_regression,
    "logistic_regression_separable_2d": separable_logistic_regression,
    "logistic_regression_20d": partial(grouped_logistic_regression, 20, 2.0),
    "logistic_regression_61d": partial(grouped_logistic_regression, 61, 2.0),
    "poisson_regression_2d": poisson_regression,
    "robust_regression_2d": robust_regression,
    "horseshoe_11d": partial(horseshoe, 5, is_centred=False),
    "horseshoe_centred_9d": partial(horseshoe, 4, is_centred=True),
    "weibull_regression_3d": weibull_regression,
    "frequency_1d": frequency,
}
