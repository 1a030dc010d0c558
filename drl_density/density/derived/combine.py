r"""Products, powers and mixtures of fitted densities: their draws, and the logarithm of their integral.

All fits are densities in data units, so they may have different transforms and levels. Particles start at draws of the
mixture of all fits. It covers whatever the combination covers: the weight of a product of two against it is at most twice
the smaller density. The particles move over geometric bridges by adjusted steps in the first fit's model space and are
weighted. They end in adjusted chains on the combination itself.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from drl_density.autograd import outside_inference_mode
from drl_density.datasets import Column
from drl_density.density.fitted import FittedModel, fresh_draws
from drl_density.density.seeds import random_generator
from drl_density.density.tables import check_same_columns
from drl_density.diagnostics import bulk_ess, split_r_hat
from drl_density.distributions import EnergyDistribution, Mixture, product
from drl_density.distributions.experts import log_density_of
from drl_density.errors import DataError
from drl_density.inverse_problems import sample_path
from drl_density.mcmc import LogDensity
from drl_density.partition_function import AISSettings, place_bridges
from drl_density.records.brief import brief
from drl_density.records.given import given_or_default
from drl_density.records.intervals import normal_interval
from drl_density.shapes import is_integer
from drl_density.weights import LogPartitionEstimate

How = Literal["product", "mixture"]
LARGEST_R_HAT, LEAST_ESS = 1.05, 100
"""Split R-hat and bulk ESS beyond which draws are doubtful. At an ESS of 100 a mean is known to 0.1 of its spread."""
ROUNDING = 1e-9
"""Share of the length of an interval that rounding inside a transform may move its ends by."""
LEAST_CHAINS = 16
"""Chains at the end whatever the number of draws: as many as R-hat and ESS are computed from at most."""
SIZES = AISSettings(num_transitions=4)
"""Four kernel steps on each bridge: a combination lies further from its start than a level from the next."""


@dataclass(frozen=True, eq=False)
class Combination:
    """Draws of a combination of densities, and how far they can be trusted.

    Attributes:
        distribution: the combination itself, unnormalised.
        columns: columns of the draws; a column whose rounding grids differ between fits has no grid.
        draws: draws ``(num_samples, *event)`` in data units, each the end of an adjusted chain from a weighted particle.
        log_z: logarithm of the integral of the combination of the normalised densities, nats.
        standard_error: error of ``log_z``, which includes those of the densities' own log Z.
        estimate: record of the annealing run, for the unnormalised densities.
        r_hat: split R-hat of every column over up to 16 chains, ``(d,)``.
        ess: bulk effective sample size of every column over the same chains, ``(d,)``.
        acceptance_rate: mean acceptance of the final chains.
    """

    distribution: EnergyDistribution
    columns: tuple[Column, ...]
    draws: Tensor
    log_z: float
    standard_error: float
    estimate: LogPartitionEstimate
    r_hat: Tensor
    ess: Tensor
    acceptance_rate: float

    __repr__ = brief

    def interval(self, probability: float = 0.95) -> tuple[float, float]:
        """Ends of the normal interval of ``log_z`` by its standard error, nats.

        Args:
            probability: chance in (0, 1) that the interval covers the truth.
        """
        return normal_interval(self.log_z, self.standard_error, probability)

    @property
    def is_doubtful(self) -> bool:
        """True when chains disagree, have few effective draws, or the verdict on the weights is not ``RELIABLE``."""
        return not (
            float(self.r_hat.max()) < LARGEST_R_HAT and float(self.ess.min()) >= LEAST_ESS and self.estimate.is_reliable
        )

    def summary(self) -> str:
        """A few lines for a person."""
        num_particles = self.estimate.log_weights.shape[1]
        return (
            f"log of the integral {self.log_z:.4f} +- {self.standard_error:.4f} (verdict on log Z: {self.estimate.verdict}: "
            f"{self.estimate.advice})\n"
            f"chains: largest R-hat {float(self.r_hat.max()):.3f}, least bulk ESS {float(self.ess.min()):.0f}, acceptance "
            f"{self.acceptance_rate:.2f}; particles: ESS {self.estimate.weight_ess:.0f} of {num_particles}"
        )


@outside_inference_mode
def combine(
    densities: Sequence[FittedModel],
    *,
    how: How = "product",
    weights: Sequence[float] | None = None,
    temperature: float = 1.0,
    num_samples: int = 1000,
    settings: AISSettings | None = None,
    seed: int | None = None,
) -> Combination:
    r"""Draws of a product :math:`\prod_k p_k^{w_k / \tau}` or a mixture :math:`(\sum_k w_k p_k / \sum_k w_k)^{1 / \tau}`.

    Args:
        densities: fits with the same columns in name, order, labels and bounds.
        how: "product" of experts, the first formula, or "mixture", the second.
        weights: weight w of each density; 1 each when None. In a product, a negative weight divides.
        temperature: tau in the formulas, below 1 sharper and above 1 flatter.

    Raises:
        DataError: one density instead of a list, no densities, an unknown ``how``, fewer than 1 draw, or fits of other
            columns.
        ValueError: another number of weights than densities, or a temperature that is not positive.
        NumericalError: a combination without a known finite integral; see :func:`~drl_density.product`.
    """
    if isinstance(densities, FittedModel):
        raise DataError("expected a list of densities, got one density: give combine([density, other])")
    if how not in ("product", "mixture"):
        raise DataError(f"there is no combination {how!r}: choose product or mixture")
    if not is_integer(num_samples) or num_samples < 1:
        raise DataError(f"num_samples must be a positive integer, got {num_samples!r}")
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    columns = common_columns(densities)
    experts = [density.distribution() for density in densities]
    weights = [1.0] * len(experts) if weights is None else list(weights)
    parts, powers = (experts, weights) if how == "product" else ([Mixture(experts, weights)], [1.0])
    target = product(parts, weights=[weight / temperature for weight in powers])
    own_constants = [
        (weight / temperature, density.estimate)
        for weight, density in zip(weights, densities, strict=True)
        if how == "product"
    ]
    generator = random_generator(seed)
    into = densities[0]
    base = _Start(into, tuple(densities), Mixture(experts, [1.0] * len(experts)))
    settings = given_or_default(settings, AISSettings, default=SIZES)
    path = place_bridges(base, _ModelSpace(into, log_density_of(target)), settings, generator=generator)
    # R-hat and ESS compare chains, so a single draw has companions too.
    found = sample_path(path, max(num_samples, LEAST_CHAINS), settings=settings, generator=generator)
    chains = found.chains
    errors = [weight * estimate.standard_error for weight, estimate in own_constants]
    return Combination(
        distribution=target,
        columns=columns,
        draws=into.to_points(found.draws[:num_samples]),
        log_z=found.estimate.log_z - math.fsum(weight * estimate.log_z for weight, estimate in own_constants),
        standard_error=math.hypot(found.estimate.standard_error, *errors),
        estimate=found.estimate,
        r_hat=split_r_hat(chains),
        ess=bulk_ess(chains),
        acceptance_rate=found.acceptance_rate,
    )


def common_columns(densities: Sequence[FittedModel]) -> tuple[Column, ...]:
    """The columns of several fits, without a grid where theirs differ.

    Raises:
        DataError: no fits, or fits whose columns differ in name, order, labels or bounds.
    """
    if not densities:
        raise DataError("expected at least one density to combine, got none")
    check_same_columns({f"density {number}": density for number, density in enumerate(densities, 1)})
    first = densities[0]
    for number, other in enumerate(densities[1:], 2):
        for index, (column, twin) in enumerate(zip(first.columns, other.columns, strict=True)):
            if column.values != twin.values:
                raise DataError(
                    f"column {column.name!r} has the values {twin.values} in density {number} and {column.values} in the "
                    'first one, () meaning any number: declare the same "values" for both fits'
                )
            ends, own_ends = (_ends(density, index) for density in (first, other))
            if not _are_equal(ends, own_ends):
                raise DataError(
                    f"column {column.name!r} lies in {own_ends} in density {number} and in {ends} in the first one: "
                    "declare the same bounds for both fits (--bounds NAME=LOWER:UPPER)"
                )
    together = zip(*(density.columns for density in densities), strict=True)
    grids = [{(column.width, column.offset) for column in twins} for twins in together]
    return tuple(
        column if len(grid) == 1 else dataclasses.replace(column, width=0.0, offset=0.0, values=())
        for column, grid in zip(first.columns, grids, strict=True)
    )


def _ends(density: FittedModel, index: int) -> tuple[float, float]:
    """Ends between which the density of a column is positive."""
    lower, upper = density.bounds.select(index)
    return float(lower), float(upper)


def _are_equal(ends: tuple[float, float], others: tuple[float, float]) -> bool:
    """Whether two intervals are the same, up to rounding inside a transform as a share of their length."""
    if not all(map(math.isfinite, ends)):
        return ends == others
    slack = ROUNDING * (ends[1] - ends[0])
    return all(abs(end - other) <= slack for end, other in zip(ends, others, strict=True))


@dataclass(frozen=True)
class _ModelSpace:
    """A log density in data units as one over model-space rows ``(n, d)`` of a fit, -inf where x is not inside."""

    density: FittedModel
    log_density: LogDensity

    def __call__(self, u: Tensor) -> Tensor:
        transform = self.density.transform
        x = transform.inv(u)
        is_inside = x.isfinite().all(1) & transform.bounds.contains(x)
        some = self.density.pool[0].to(x)  # any inside row, so that the masked branch has a gradient
        x = torch.where(is_inside[:, None], x, some)
        values = self.log_density(x.reshape(-1, *self.density.event_shape))
        return torch.where(is_inside, values - transform.log_abs_det_jacobian(x, u), -math.inf)


@dataclass(frozen=True)
class _Start:
    """The mixture of all densities in the model space of the first one, as the base of a path."""

    density: FittedModel
    densities: tuple[FittedModel, ...]
    mixture: Mixture

    def log_prob(self, u: Tensor) -> Tensor:
        """Normalised as far as the densities are."""
        return _ModelSpace(self.density, self.mixture.log_prob)(u)

    def draw(self, num_rows: int, generator: torch.Generator | None) -> Tensor:
        """A density by its weight, then a fresh draw of it by its own sampler."""
        chosen = torch.randint(len(self.densities), (num_rows,), generator=generator)
        u = torch.empty(num_rows, len(self.density.columns), dtype=torch.float64)
        for index, density in enumerate(self.densities):
            place = (chosen == index).nonzero().flatten()
            if len(place):
                x = fresh_draws(density, len(place), generator=generator).draws
                u[place] = self.density.to_model(x.double().flatten(1))
        return u
