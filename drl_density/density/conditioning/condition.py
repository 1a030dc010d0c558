"""The distribution of some columns given the others, without retraining."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from drl_density.density.conditioning.cells import cell_nodes
from drl_density.density.conditioning.given import Given, read_given
from drl_density.density.conditioning.rows import check_given, sample_row
from drl_density.density.data_units import StartAt
from drl_density.density.fitted import FittedModel
from drl_density.density.integrability import largest_power
from drl_density.distributions import EnergyDistribution, FittedSupport, SampleResult
from drl_density.inverse_problems import ConditionalSettings
from drl_density.mcmc import LogDensity
from drl_density.model import EnergySequence
from drl_density.records.given import given_or_default
from drl_density.transforms import DataTransform
from drl_density.weights import LogPartitionEstimate, PathSummary, judge_estimate


class SliceLogDensity:
    r"""Log density over the missing columns in data units with the others fixed, unnormalised:
    :math:`F_0(T(x)) + \sum_i \log\lvert u_i'(x_i)\rvert` over the missing columns. A picklable callable over ``(n, m)``.

    Where given columns hold labels, it is the mean over points ``given`` ``(N, d)`` in their cells, each with its Jacobian.
    """

    def __init__(
        self, model: EnergySequence, transform: DataTransform, given: Tensor, is_missing: Tensor, in_cell: Tensor
    ) -> None:
        self.model, self.transform, self.given, self.is_missing = model, transform, given, is_missing
        self.counted = (is_missing | in_cell).nonzero().flatten()

    def __call__(self, x: Tensor) -> Tensor:
        place, count = self.is_missing.nonzero().flatten(), len(self.given)
        full = self.given.to(x.dtype).repeat(len(x), 1).index_copy(1, place, x.repeat_interleave(count, 0))
        u, slopes = self.transform.with_column_log_jacobian(full)
        values = self.model.log_density(u, 0) + slopes[:, self.counted].sum(1)
        values = torch.where(self.transform.bounds.contains(full), values, -math.inf)
        return values if count == 1 else values.reshape(len(x), count).logsumexp(1) - math.log(count)

    def parameters(self) -> Iterator[nn.Parameter]:
        """Parameters of the energy."""
        return self.model.network.parameters()


class SliceSampler:
    """The sampler of a conditional: weighted draws of the base's own, or sequential Monte Carlo down the noise levels."""

    def __init__(self, density: FittedModel, given: Tensor, is_missing: Tensor, settings: ConditionalSettings) -> None:
        self.density, self.given, self.is_missing, self.settings = density, given, is_missing, settings

    def __call__(self, log_density: LogDensity, initial: Tensor, generator: torch.Generator | None) -> SampleResult:
        """One draw per row of ``initial``."""
        count = len(initial)
        if not count:
            return SampleResult(initial)
        settings = dataclasses.replace(self.settings, num_particles=max(self.settings.num_particles, count))
        options = {"num_samples": count, "settings": settings, "generator": generator}
        result = sample_row(self.density, self.given, self.is_missing, **options)
        draws = self.density.to_data(result.draws[0])[:, self.is_missing]
        return SampleResult(
            draws.to(initial),
            {"acceptance_rate": result.acceptance_rate, "r_hat": result.r_hat, "ess": result.least_ess},
        )


def condition(
    density: FittedModel,
    given: Given | Any,
    *,
    observed: Tensor | None = None,
    normalize: bool = False,
    settings: ConditionalSettings | None = None,
    generator: torch.Generator | None = None,
) -> EnergyDistribution:
    """See :meth:`drl_density.density.Density.condition`."""
    row, is_missing = read_given(density, given, observed)
    check_given(density, row[None], is_missing[None], torch.arange(1))
    places, in_cell = cell_nodes(density.columns, row, is_missing)
    usual = ConditionalSettings(num_particles=256, num_replicates=8 if bool(in_cell.any()) else 2)
    settings = given_or_default(settings, ConditionalSettings, default=usual)
    num_missing = int(is_missing.sum())
    target = EnergyDistribution(
        SliceLogDensity(density.model, density.transform, places, is_missing, in_cell),
        (num_missing,),
        support=FittedSupport(density.transform.select(is_missing.nonzero().flatten()), torch.Size([num_missing])),
        sampler=SliceSampler(density, row, is_missing, settings),
        initial=StartAt(density.middle[is_missing]),
        is_integrable=density.model.is_integrable,
        largest_power=largest_power(density.model, density.transform),
    )
    if not normalize:
        return target
    return target.normalize(slice_estimate(density, row, is_missing, settings=settings, generator=generator))


def slice_estimate(
    density: FittedModel,
    row: Tensor,
    is_missing: Tensor,
    *,
    settings: ConditionalSettings,
    generator: torch.Generator | None = None,
) -> LogPartitionEstimate:
    """Log normaliser of one slice in model space, with error and verdict, from at least 8 independent replicates."""
    many = dataclasses.replace(settings, num_replicates=max(8, settings.num_replicates))
    result = sample_row(density, row, is_missing, num_samples=2, settings=many, generator=generator)
    path = PathSummary(least_ess_share=float(result.least_ess[0]))
    return judge_estimate(result.log_weights[0], bias="lower", path=path)
